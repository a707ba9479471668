"""Progress that suits where it is shown: a bar on a terminal, one plain line every few seconds in a log."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Protocol, TextIO

from vaebench.core.processes import process_index

SECONDS_BETWEEN_LINES = 5.0


class Bar(Protocol):
    """What a running task reports to."""

    def update(self, n: int = 1, **values: float) -> None:
        """Advance by ``n`` and show the latest values (losses, say)."""

    def start_at(self, n: int) -> None:
        """Begin at ``n``, as a resumed run does; work done earlier does not count towards the rate."""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _number(value: float) -> str:
    return f"{value:.4g}"


class _Counter:
    def __init__(self, total: int | None) -> None:
        self.total = total
        self.done = 0
        self.start = 0
        self.began = time.monotonic()
        self.values: dict[str, float] = {}

    def update(self, n: int, values: dict[str, float]) -> None:
        self.done += n
        self.values.update(values)

    @property
    def rate(self) -> float:
        return (self.done - self.start) / max(time.monotonic() - self.began, 1e-9)

    @property
    def left(self) -> str:
        if self.total is None or self.rate <= 0:
            return "?"
        return _clock((self.total - self.done) / self.rate)

    @property
    def notes(self) -> str:
        return "  ".join(f"{name} {_number(value)}" for name, value in self.values.items())


class _SilentBar:
    def start_at(self, n: int) -> None:
        """Nobody looks."""

    def update(self, n: int = 1, **values: float) -> None:
        """Nobody looks."""


class _PlainBar:
    def __init__(self, title: str, total: int | None, unit: str, stream: TextIO) -> None:
        self._title, self._unit, self._stream = title, unit, stream
        self._counter = _Counter(total)
        self._last = time.monotonic()

    def start_at(self, n: int) -> None:
        self._counter.done = self._counter.start = n

    def update(self, n: int = 1, **values: float) -> None:
        self._counter.update(n, values)
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._print(f"{self._counter.left} left")

    def finish(self) -> None:
        self._print(f"done in {_clock(time.monotonic() - self._counter.began)}")

    def _print(self, end: str) -> None:
        self._last = time.monotonic()
        count = self._counter
        of = f"/{count.total}" if count.total is not None else ""
        line = f"{self._title}: {count.done}{of} {self._unit}  {count.rate:.3g} {self._unit}/s  {end}  {count.notes}"
        print(line.rstrip(), file=self._stream, flush=True)


class _TerminalBar:
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._unit = unit
        self._counter = _Counter(total)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total}" if total is not None else "{task.completed:.0f}"),
            TextColumn("[cyan]{task.fields[rate]}[/]  [dim]{task.fields[left]}[/]  {task.fields[notes]}"),
            console=Console(stderr=True),
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(title, total=total, rate="", left="", notes="")
        self._progress.start()

    def start_at(self, n: int) -> None:
        self._counter.done = self._counter.start = n
        self._progress.update(self._task, completed=n)

    def update(self, n: int = 1, **values: float) -> None:
        count = self._counter
        count.update(n, values)
        self._progress.update(
            self._task,
            completed=count.done,
            rate=f"{count.rate:.3g} {self._unit}/s",
            left=f"{count.left} left",
            notes=count.notes,
        )

    def finish(self) -> None:
        self._progress.update(self._task, left=f"took {_clock(time.monotonic() - self._counter.began)}")
        self.stop()

    def stop(self) -> None:
        self._progress.stop()


@dataclasses.dataclass(frozen=True)
class Report:
    """How far a task is: ``done`` of ``total`` units, units a second, seconds left (None where unknown)."""

    title: str
    done: int
    total: int | None
    unit: str
    rate: float
    left: float | None
    values: dict[str, float]

    def __str__(self) -> str:
        of = f"/{self.total}" if self.total is not None else ""
        left = "?" if self.left is None else _clock(self.left)
        notes = "  ".join(f"{name} {_number(value)}" for name, value in self.values.items())
        return (
            f"{self.title}: {self.done}{of} {self.unit}  {self.rate:.3g} {self.unit}/s  {left} left  {notes}".rstrip()
        )


class Listener(Protocol):
    """Whom progress is reported to besides the user."""

    def __call__(self, report: Report) -> None:
        """Take note of how far a task is; called often."""


_listeners: list[Listener] = []


@contextlib.contextmanager
def listened_by(listener: Listener) -> Iterator[None]:
    """Report all progress made inside to a listener too."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class _ListenedBar:
    def __init__(self, bar: Bar, title: str, total: int | None, unit: str) -> None:
        self._bar, self._title, self._unit, self._counter = bar, title, unit, _Counter(total)

    def start_at(self, n: int) -> None:
        self._counter.done = self._counter.start = n
        self._bar.start_at(n)

    def update(self, n: int = 1, **values: float) -> None:
        self._bar.update(n, **values)
        count = self._counter
        count.update(n, values)
        left = (count.total - count.done) / count.rate if count.total is not None and count.rate > 0 else None
        report = Report(self._title, count.done, count.total, self._unit, count.rate, left, dict(count.values))
        for listener in _listeners:
            listener(report)


@contextlib.contextmanager
def progress(title: str, total: int | None, unit: str = "it") -> Iterator[Bar]:
    """Report the progress of a task to standard error, and to those who listen.

    Example:
        >>> with progress("extract", total=2, unit="images") as bar:  # doctest: +SKIP
        ...     bar.update(2, loss=0.5)
    """
    with _shown(title, total, unit) as bar:
        yield _ListenedBar(bar, title, total, unit) if _listeners else bar


@contextlib.contextmanager
def _shown(title: str, total: int | None, unit: str) -> Iterator[Bar]:
    if process_index() > 0:  # one of several processes speaks for all
        yield _SilentBar()
    elif sys.stderr.isatty():
        terminal = _TerminalBar(title, total, unit)
        try:
            yield terminal
            terminal.finish()
        finally:
            terminal.stop()
    else:
        plain = _PlainBar(title, total, unit, sys.stderr)
        yield plain
        plain.finish()
