"""Floor 0: what every room uses. Nothing here imports torch at import time."""
