"""Tokenizers: the contract (`base`, `method`), the registry, loading, and the autoencoders on diffusers.

This module lists what is registered without importing any of it; torch arrives with the first tokenizer.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.core.registry import Registry

if TYPE_CHECKING:
    from vaebench.tokenizers.base import Tokenizer
    from vaebench.tokenizers.method import Method

# Both kinds share one door: methods that train a tokenizer, and ready-made tokenizers.
TOKENIZERS = Registry("tokenizer", "vaebench.tokenizers")


def load_tokenizer(ref: str | Path, device: str = "cpu", **options: Any) -> "Tokenizer":
    """Load any tokenizer; see `vaebench.tokenizers.loading.load_tokenizer`."""
    from vaebench.tokenizers.loading import load_tokenizer as load

    return load(ref, device, **options)


def load_method(ref: str, config: Any = None) -> "Method":
    """Configure a method that trains tokenizers; see `vaebench.tokenizers.loading.load_method`."""
    from vaebench.tokenizers.loading import load_method as load

    return load(ref, config)
