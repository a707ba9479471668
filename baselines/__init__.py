"""Tokenizers to compare with, one module each. They enter through the same entry points as anyone's package."""
