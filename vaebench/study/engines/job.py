"""One stage to be carried out, in plain values that travel to another process or machine, and what became of it."""

import contextlib
import importlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from vaebench.core.errors import MissingPath, VaebenchError
from vaebench.core.files import read_json, write_json
from vaebench.core.plugins import load_plugins, plugin_files
from vaebench.core.progress import Report, listened_by

# Where OpenMP and BLAS read how many threads to start, when they are loaded.
THREADS_OF = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Python running a module that comes from where ours do, and not from whatever lies in the current folder.
PYTHON_MODULE = (sys.executable, "-P", "-m")
SECONDS_BETWEEN_REPORTS = 1.0
SECONDS_BETWEEN_LINES = 5.0
# Of an outcome's error. A pipe holds 64 KiB that nobody has read yet, and JSON takes up to twelve bytes a character.
ERROR_CHARACTERS = 5000


@dataclass(frozen=True)
class Job:
    """A stage to be carried out.

    Attributes:
        id, kind: of the node.
        stage: class of the stage, ``module:Class``.
        config: its resolved configuration, plain.
        inputs: role -> path or name.
        folder: where the result shall be.
        log: its log file; how far it is stands beside it, as ``.json``.
        device: auto, cpu, cuda or mps.
        threads: cores it may use; None leaves what is set.
        workers: threads that draw and read.
        accelerated: whether it computes on a GPU where there is one.
        path: where modules are imported from, and ``cwd``, where relative paths begin.
        plugins: plug-in files to run first.
        hash: identity that the result shall have.
        processes: how many share the work; ``threads``, ``gpus`` and ``memory`` (bytes) are of each.
        gpus, memory: None for what the engine gives every stage.
    """

    id: str
    kind: str
    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]
    folder: str
    log: str
    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    accelerated: bool = True
    path: list[str] = field(default_factory=list)
    cwd: str = ""
    plugins: list[str] = field(default_factory=list)
    hash: str = ""
    processes: int = 1
    gpus: float | None = None
    memory: int | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it; ``Job(**plain)`` is the way back."""
        return asdict(self)


@dataclass(frozen=True)
class Needs:
    """What stages of one kind take, where that differs from what others take; None where it does not."""

    threads: int | None = None
    gpus: float | None = None
    memory: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        id: of the job.
        error: empty when all went well, else what went wrong, in words.
        exit: 0, 2 for an error a user can act on, 1 for a fault, negative for the signal that ended its process.
        seconds: wall time of this attempt.
        peak_bytes: largest memory of its process, where it had one of its own.
        again: whether trying again may help.
    """

    id: str
    error: str = ""
    exit: int = 0
    seconds: float = 0.0
    peak_bytes: int | None = None
    again: bool = False


def make_job(
    node: Any, folders: Mapping[str, Path], log: Path, context: Any, threads: int | None, needs: Needs | None = None
) -> Job:
    """The job of a node of a graph; all its paths are absolute."""
    kind, needs = type(node.stage), needs or Needs()
    threads = needs.threads or threads
    inputs = {role: str(folders[other].absolute()) for role, other in node.needs.items()}
    return Job(
        id=node.id,
        kind=node.kind,
        stage=f"{kind.__module__}:{kind.__qualname__}",
        config=node.config.model_dump(mode="json"),
        inputs=inputs | dict(node.given),
        folder=str(folders[node.id].absolute()),
        log=str(log.absolute()),
        device=context.device,
        threads=threads,
        workers=context.workers if context.workers is not None else threads,
        accelerated=kind.accelerated,
        path=module_path(),
        cwd=str(Path.cwd()),
        plugins=plugin_files(),
        hash=node.hash,
        processes=needs.processes or 1 if kind.parallel else 1,
        gpus=needs.gpus,
        memory=needs.memory,
    )


def module_path() -> list[str]:
    """Where this process finds modules, for another one that works for it."""
    return [entry or str(Path.cwd()) for entry in sys.path]


def carry_out(job: Job, own_streams: bool = False) -> Outcome:
    """Do the work of a job in this process, with its log; errors become part of the outcome.

    ``own_streams`` says that standard error is the log already.
    """
    began = time.monotonic()
    with logged(Path(job.log), own_streams):
        try:
            with torch_threads(job.threads):
                execute_job(job)
        except VaebenchError as error:
            print(f"Error: {error}", file=sys.stderr)
            return Outcome(job.id, shortened(str(error)), 2, time.monotonic() - began)
        except Exception as error:
            traceback.print_exc()
            words = shortened(f"{type(error).__name__}: {error}")
            return Outcome(job.id, words, 1, time.monotonic() - began, again=True)
    return Outcome(job.id, seconds=time.monotonic() - began)


def shortened(words: str) -> str:
    """Both ends of what is longer than `ERROR_CHARACTERS`; the log has the whole."""
    half = ERROR_CHARACTERS // 2
    return words if len(words) <= ERROR_CHARACTERS else f"{words[:half]} [...] {words[-half:]}"


def execute_job(job: Job) -> None:
    """Do the work of a job in this process; errors are raised."""
    from vaebench.stages.base import Context, execute

    load_plugins(job.plugins)
    module, _, name = job.stage.partition(":")
    stage = getattr(importlib.import_module(module), name)()
    context = Context(job.device, job.workers)
    execute(stage, job.config, job.inputs, Path(job.folder), context, expected=job.hash)


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch, OpenMP and BLAS use so many threads, and as many as before afterwards."""
    if count is None:
        yield
        return
    import torch

    if torch.get_num_threads() == count and all(os.environ.get(name) == str(count) for name in THREADS_OF):
        yield  # they were loaded so, and looking for them all takes tens of milliseconds
        return
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


class _Both:
    """Standard error that is written to a log too. What draws on the terminal asks this for the terminal itself."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._terminal, self._log = terminal, log

    def write(self, text: str) -> int:
        if "\x1b" not in text and "\r" not in text:  # no drawings in the log
            self._log.write(text)
            self._log.flush()
        return self._terminal.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)


@contextlib.contextmanager
def logged(log: Path, own_streams: bool = False) -> Iterator[None]:
    """Write to ``log`` what is said on standard error meanwhile, and to ``<log>.json`` how far the work is."""
    log.parent.mkdir(parents=True, exist_ok=True)
    state = progress_path(log)
    with log.open("a", buffering=1) as handle:
        print(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} on {socket.gethostname()}, process {os.getpid()}", file=handle)
        stream: Any = sys.stderr if own_streams else _Both(sys.stderr, handle)
        with contextlib.redirect_stderr(stream), listened_by(_Reporter(state, handle)):
            try:
                yield
            finally:
                state.unlink(missing_ok=True)


def progress_path(log: Path) -> Path:
    """Where it stands how far a running stage is."""
    return log.with_suffix(".json")


def read_report(path: Path) -> Report | None:
    """How far the stage is, from that file; None where it has not begun to tell, or has ended."""
    try:
        told = read_json(path)
    except MissingPath:
        return None
    return Report(**{**told, "values": {key: float(value) for key, value in told["values"].items()}})


class _Reporter:
    """Writes progress to the state file once a second, and to the log every few seconds when a terminal shows it."""

    def __init__(self, state: Path, log: TextIO) -> None:
        self._state, self._log = state, log
        self._terminal = sys.stderr.isatty()
        self._next_report = self._next_line = 0.0

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + SECONDS_BETWEEN_REPORTS
            with contextlib.suppress(OSError):  # no stage shall fail over this
                write_json(self._state, {**asdict(report), "values": {k: repr(v) for k, v in report.values.items()}})
        if self._terminal and now >= self._next_line:
            self._next_line = now + SECONDS_BETWEEN_LINES
            print(report, file=self._log)


def tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log."""
    if not log.is_file():
        return ""
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 32768))
        return "\n".join(handle.read().decode(errors="replace").splitlines()[-lines:])
