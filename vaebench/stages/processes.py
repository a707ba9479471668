"""Work on rows, shared by the processes that a launcher started together.

Whole batches are dealt out in turn, so a batch holds the same rows whoever computes it, and with as many threads a
process its results are the same to the last bit for any number of processes.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from vaebench.stages.arrays import load_array, save_array

SECONDS_BETWEEN_LOOKS = 0.1


class Processes:
    """The processes that carry out one stage together; a single one without a launcher.

    Attributes:
        index, count: number of this process, and how many there are.
        main: whether this is the process that writes results.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.index, self.count = accelerator.process_index, accelerator.num_processes
        self.main = self.index == 0
        self.wait = accelerator.wait_for_everyone

    def rows(self, n: int, batch_size: int) -> np.ndarray:
        """The rows among range(n) that are this process's: every ``count``-th batch, in order."""
        rows = np.arange(n)
        return rows[rows // batch_size % self.count == self.index]

    def join(self, folder: Path, name: str, rows: np.ndarray, n: int, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of all n rows from every process's arrays of its own rows.

        Args:
            folder: where parts may be kept for a while; all processes must see it.
            name: of this piece of work within the folder.
            rows: as from `rows`.
            n: number of rows of all processes together.
            arrays: one row per row of ``rows``.

        Returns:
            the whole arrays in the main process, nothing in the others.
        """
        if self.count == 1:
            return arrays
        for key, array in {"rows": rows, **arrays}.items():
            save_array(_part(folder, name, key, self.index), array)
        self.wait()
        joined: dict[str, np.ndarray] = {}
        if self.main:
            for index in range(self.count):
                theirs = load_array(_part(folder, name, "rows", index))
                for key in arrays:
                    part = load_array(_part(folder, name, key, index))
                    whole = joined.setdefault(key, np.empty((n, *part.shape[1:]), part.dtype))
                    if len(theirs):
                        whole[theirs] = part
                    _part(folder, name, key, index).unlink()
                _part(folder, name, "rows", index).unlink()
        self.wait()
        return joined


def _part(folder: Path, name: str, key: str, index: int) -> Path:
    return folder / f".{name}-{key}-{index}.npy"


def wait_until(there: Callable[[], bool]) -> None:
    """Return when something that another process makes is there.

    The processes look at the disk and do not meet in a collective, whose time limit a long piece of work would break. A
    launcher ends all processes when one fails, so nobody waits for a dead one.
    """
    while not there():
        time.sleep(SECONDS_BETWEEN_LOOKS)
