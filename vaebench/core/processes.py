"""Which process this is, as a launcher (``accelerate launch``, ``torchrun``) says it in the environment."""

import os


def process_index() -> int:
    """Number of this process, 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """How many processes were launched together, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
