"""vaebench: a benchmark and analysis toolkit for the latent spaces of image tokenizers.

The functions of :mod:`vaebench.api` and :func:`load_tokenizer` are available here; they load on first use, so that
``import vaebench`` is cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaebench.api import (
        card,
        describe,
        export_npz,
        extract,
        generate,
        make_report,
        prepare_data,
        probe,
        reconstruct,
        run_study,
        score,
        train,
    )
    from vaebench.core.registry import register
    from vaebench.data import open_data
    from vaebench.latents import LatentFile
    from vaebench.stages.base import Context
    from vaebench.tokenizers import load_tokenizer
    from vaebench.tokenizers.check import check_tokenizer

_HOMES = {
    "Context": "vaebench.stages.base",
    "LatentFile": "vaebench.latents",
    "card": "vaebench.api",
    "check_tokenizer": "vaebench.tokenizers.check",
    "describe": "vaebench.api",
    "export_npz": "vaebench.api",
    "extract": "vaebench.api",
    "generate": "vaebench.api",
    "load_tokenizer": "vaebench.tokenizers",
    "make_report": "vaebench.api",
    "open_data": "vaebench.data",
    "prepare_data": "vaebench.api",
    "probe": "vaebench.api",
    "register": "vaebench.core.registry",
    "reconstruct": "vaebench.api",
    "run_study": "vaebench.api",
    "score": "vaebench.api",
    "train": "vaebench.api",
}

__all__ = [
    "Context",
    "LatentFile",
    "card",
    "check_tokenizer",
    "describe",
    "export_npz",
    "extract",
    "generate",
    "load_tokenizer",
    "make_report",
    "open_data",
    "prepare_data",
    "probe",
    "reconstruct",
    "register",
    "run_study",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vaebench' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
