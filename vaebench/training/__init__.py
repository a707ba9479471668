"""Floor 4: the resumable training loop, and the training of tokenizers on it."""
