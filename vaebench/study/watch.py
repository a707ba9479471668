"""How far the stages are that run in processes of their own: rows on a terminal, a line every few seconds in a log.

Read from the state files that the stages write once a second; a stage that has written none is starting.
"""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Self

from vaebench.core.progress import SECONDS_BETWEEN_LINES, Report
from vaebench.study.engines.job import progress_path, read_report


class Watch:
    """Shows running stages while it is entered, on standard error.

    A log gets one line every few seconds, of each stage in turn, however many there are.

    Attributes:
        active: whether it is entered; otherwise it notes what runs and says nothing.
    """

    def __init__(self, todo: int) -> None:
        self._todo, self._done = todo, 0
        self._running: dict[str, tuple[Path, float]] = {}
        self._live: Any = None
        self._last = time.monotonic()
        self.active = False

    def __enter__(self) -> Self:
        self.active = True
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(get_renderable=self._rows, console=console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.active = False
        if self._live is not None:
            self._live.stop()

    def begins(self, stage: str, log: Path) -> None:
        """A stage was started that writes to this log."""
        self._running[stage] = progress_path(log), time.time()

    def ends(self, stage: str, complete: bool) -> None:
        """A stage has ended, well or not."""
        self._running.pop(stage, None)
        self._done += complete

    def look(self) -> None:
        """Say how far a stage is, if it is time to; each takes its turn."""
        if not self.active or self._live is not None or not self._running:
            return
        if time.monotonic() - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = time.monotonic()
        stage = next(iter(self._running))
        self._running[stage] = self._running.pop(stage)
        report = _report(*self._running[stage])
        if report is not None:
            print(f"{stage}: {report}", file=sys.stderr, flush=True)

    def _rows(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_row(Text(f"{self._done} of {self._todo} stages done", style="dim"), "")
        for stage, about in list(self._running.items()):
            report = _report(*about)
            table.add_row(Text(stage, style="bold"), Text("starting" if report is None else str(report)))
        return table


def _report(path: Path, began: float) -> Report | None:
    # What a killed attempt has left tells nothing of this one.
    with contextlib.suppress(FileNotFoundError):
        return read_report(path) if path.stat().st_mtime >= began else None
    return None
