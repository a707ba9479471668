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
# A folder of a tokenizer holds one of these: of training, of vaebench, of diffusers, of a pipeline of it.
_MARKS = ("tokenizer", "tokenizer.json", "config.json", "vae", "stage.json")


def means_path(ref: str | Path) -> bool:
    """Whether a reference is what lies at that path. A folder that only bears the name of a registered tokenizer, as
    the sources of a package do, is not meant."""
    path = Path(ref).expanduser()
    return path.exists() and (str(ref) not in TOKENIZERS or any((path / mark).exists() for mark in _MARKS))


def load_tokenizer(ref: str | Path, device: str = "cpu", **options: Any) -> "Tokenizer":
    """Load any tokenizer; see `vaebench.tokenizers.loading.load_tokenizer`."""
    from vaebench.tokenizers.loading import load_tokenizer as load

    return load(ref, device, **options)


def load_method(ref: str, config: Any = None) -> "Method":
    """Configure a method that trains tokenizers; see `vaebench.tokenizers.loading.load_method`."""
    from vaebench.tokenizers.loading import load_method as load

    return load(ref, config)
