"""One switch that forbids downloads."""

import os
import sys


def go_offline() -> None:
    """Forbid downloads from the Hugging Face hub in this process and those it starts, as HF_HUB_OFFLINE=1 does.

    What is not in the local cache is then a `MissingWeights` at once. Works also after the hub's library was imported,
    which reads the variable only then.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def offline() -> bool:
    """Whether downloads are forbidden, by :func:`go_offline` or by the hub's own variable."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
