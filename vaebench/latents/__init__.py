"""The latent file: posterior means and standard deviations of one split, with their provenance, in one HDF5 file.

Example:
    >>> from vaebench.latents import LatentFile, extract_latents, verify
    >>> latents = extract_latents(tokenizer, data.splits["train"], "train.h5", data_info=data.info)  # doctest: +SKIP
    >>> normalisation = latents.normalisation("file")  # doctest: +SKIP
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "LatentFile": "file",
    "Batch": "reading",
    "LatentInfo": "schema",
    "Provenance": "schema",
    "Transform": "schema",
    "LatentWriter": "writer",
    "write_latents": "writer",
    "extract_latents": "extract",
    "estimated_bytes": "extract",
    "verify": "verification",
    "require_match": "match",
    "require_tokenizer": "match",
    "require_normalisation": "match",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
