"""Ctrl-C that is not lost. Python drops a KeyboardInterrupt that strikes within a destructor or a callback of C code:
it prints "Exception ignored" and goes on."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruptible:
    """Notes SIGINT beside what its handler does, so that `check` can raise what was dropped.

    Does nothing off the main thread, and where SIGINT is ignored or handled by code that is not Python's.
    """

    def __init__(self) -> None:
        self.asked = False
        self._handler: Any = None

    def __enter__(self) -> "Interruptible":
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._handler = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._handler(number, frame)

    def check(self) -> None:
        """Raise.

        Raises:
            KeyboardInterrupt: SIGINT came, and what it raised was dropped.
        """
        if self.asked:
            raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if error is None:
            self.check()
