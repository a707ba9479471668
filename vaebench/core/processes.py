"""Which process this is, as a launcher (``accelerate launch``, ``torchrun``) says it in the environment."""

import os
import sys


def process_index() -> int:
    """Number of this process, 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """How many processes were launched together, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_process_count() -> int:
    """How many processes were launched together on this machine, 1 without a launcher."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def core_count() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_group() -> None:
    """End torch's process group, if there is one: gloo's threads may abort an interpreter that ends on them."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
