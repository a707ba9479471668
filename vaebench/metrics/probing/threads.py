"""Threads where they pay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2**20


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch on this many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def worthwhile(elements: int) -> int:
    """One thread for operations on few elements, else all.

    Threads meet at the end of every operation. Where that is all that takes time, on a machine that others use too, a
    hundred short operations on two threads last many times as long as on one.
    """
    return 1 if elements < SMALL else torch.get_num_threads()
