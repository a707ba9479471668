"""timm, without what it imports in passing.

Where Weights & Biases is installed, ``timm.utils`` imports it: half a second for every process of a study, and two
temporary folders that a killed process leaves behind.
"""

import sys

_absent = "wandb" not in sys.modules
if _absent:
    sys.modules["wandb"] = None  # type: ignore[assignment]
try:
    import timm
finally:
    if _absent:
        del sys.modules["wandb"]

__all__ = ["timm"]
