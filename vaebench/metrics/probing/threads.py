"""Threads where they pay."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

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


@contextmanager
def workers(worth: bool = True) -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch may use, each of which does its own products on itself alone; one, where not worth it.

    Threads that share one product after the other meet at the end of each; those with products of their own never wait.
    """
    if not worth:
        with ThreadPoolExecutor(1) as pool:
            yield pool
        return
    count = torch.get_num_threads()
    with threads(1), threadpool_limits(1, "blas"), ThreadPoolExecutor(count) as pool:
        yield pool
