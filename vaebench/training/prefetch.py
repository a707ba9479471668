"""The next batch is read while the present one is computed on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

B = TypeVar("B")


class Prefetch(Generic[B]):
    """Calls ``load(step, salt)`` one step ahead in a thread.

    Batches are functions of (step, salt), so what was read ahead is simply dropped when the loop goes elsewhere.
    """

    def __init__(self, load: Callable[[int, int], B], steps: int) -> None:
        self._load = load
        self._steps = steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._ahead: tuple[tuple[int, int], Future[B]] | None = None

    def get(self, step: int, salt: int) -> B:
        """The batch of this step; starts reading the next one."""
        key, future = self._ahead or ((-1, -1), None)
        batch = future.result() if future is not None and key == (step, salt) else self._load(step, salt)
        self._ahead = None
        if step + 1 < self._steps:
            # The next step's salt is almost always 0: others occur only after a rollback.
            self._ahead = ((step + 1, 0), self._pool.submit(self._load, step + 1, 0))
        return batch

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
