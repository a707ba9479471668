"""Floor 5: the I/O edge. A stage takes a typed configuration and input artefacts and leaves one artefact folder.

``STAGES`` names every kind. Importing this package loads nothing heavy.
"""

from vaebench.core.registry import Registry

# Raise a kind's version with every change of code that changes its results: old artefacts are then computed anew.
# The table stands here, apart from the code it describes, so that a finished study is recognised without importing it.
VERSIONS = {
    "data": 1,
    "features": 1,
    "reference": 1,
    "train": 2,
    "extract": 1,
    "reconstruct": 2,
    "probe": 1,
    "score": 2,
    "sit": 1,
    "generate": 2,
    "gallery": 1,
    "nearest": 1,
}

# The folder from which an interrupted stage goes on, within its own.
CHECKPOINTS = "checkpoints"

STAGES = Registry("stage", "vaebench.stages")
for _kind in VERSIONS:
    _name = "SiT" if _kind == "sit" else _kind.capitalize()
    STAGES.register(_kind, f"vaebench.stages.{_kind}:{_name}Stage")
