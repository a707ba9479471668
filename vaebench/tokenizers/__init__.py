"""Tokenizers: the contract (`base`, `method`), the registry, loading, and the diffusers autoencoders."""
