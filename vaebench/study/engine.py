"""Running a graph: what is done is reused, what was interrupted goes on, what is missing is made.

A stage that fails takes those that need it with it, and no others.
"""

import os
import socket
import sys
import time
import traceback
from bisect import insort
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from vaebench.core.errors import ConfigError, VaebenchError
from vaebench.core.files import disk_errors_said
from vaebench.core.interruption import Interruptible
from vaebench.core.locks import hold
from vaebench.core.processes import core_count, process_count, process_index
from vaebench.study.engines.job import Job, Needs, Outcome, make_job, tail, torch_threads
from vaebench.study.events import Events, read_events
from vaebench.study.index import Index, finished, is_complete, read_index
from vaebench.study.slim import make_room
from vaebench.study.spec import StudySpec
from vaebench.study.tracking import WandbLog
from vaebench.study.watch import Watch

__all__ = ["Options", "StagesFailed", "finished", "read_index", "run"]

SECONDS_BETWEEN_INDEXES = 5.0
SECONDS_BETWEEN_LOOKS = 1.0
# Seconds before a lost stage is tried again, doubled each time.
BACK_OFF = 1.0


class StagesFailed(VaebenchError):
    """Some stages of a study failed; all that does not need them is complete. The command ends with exit code 3."""


@dataclass(frozen=True)
class Options:
    """How stages are carried out; nothing here is part of any stage's identity.

    Attributes:
        engine: local or ray.
        jobs: stages at a time; None: one, or as many as there are GPUs if those are several.
        threads: cores of each stage (of each of its processes, with a launcher); None: what there is, divided by the
            jobs, and with a launcher what it set, but all for a stage that the first process carries out alone.
        memory: bytes for all stages at a time (local) or for each (ray); None: nine tenths of what is free (local), and
            no bound (ray).
        gpus: GPUs a stage takes with the engine ray, a fraction if several are to share one.
        retries: how often a stage is tried again whose process or node was lost; None: 3 with ray, 0 locally.
        address: of a Ray cluster; None starts one here.
        needs: kind of stage -> what such stages take instead, with the engine ray.
        wandb: project of Weights & Biases that is told of each stage; None for none.
        copied: with the engine ray, send inputs and results through Ray's object store: no folder need be shared.
    """

    engine: str = "local"
    jobs: int | None = None
    threads: int | None = None
    memory: int | None = None
    gpus: float = 1.0
    retries: int | None = None
    address: str | None = None
    needs: Mapping[str, Needs] = field(default_factory=dict)
    copied: bool = False
    wandb: str | None = None


class Engine(Protocol):
    """What carries out jobs."""

    name: str

    @property
    def full(self) -> bool:
        """Whether no further job can start now."""

    def start(self, job: Job) -> bool:
        """Start a job if there is room for it now; whether there was."""

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        """Outcomes of jobs that ended; waits for at least one, or for so many seconds."""

    def stop(self) -> None:
        """Stop what runs and leave nothing behind."""


def run(spec: StudySpec, graph: Any, root: Path, context: Any, options: Options | int | None = None) -> None:
    """Run every stage that is not complete.

    Args:
        spec: the study.
        graph: its :class:`~vaebench.study.graph.Graph`.
        root: the study's folder.
        context: device and workers.
        options: how; a number means so many jobs at a time.

    Raises:
        StagesFailed: some stages failed; what does not need them is complete.
        ConfigError: options that this way of running does not use.
        NoSpace, NotWritable: the study's own files cannot be written.
    """
    how = options if isinstance(options, Options) else Options(jobs=options)
    refuse_unused(how)
    read_index(root, spec)
    with disk_errors_said(root):
        root.mkdir(parents=True, exist_ok=True)
        _run(spec, graph, root, context, how)


def refuse_unused(how: Options, alone: bool = False) -> None:
    """Refuse options that have no effect; ``alone`` is for stages that are carried out by name.

    Raises:
        ConfigError: there are some; it names them.
    """
    usual = Options(jobs=1 if how.jobs == 1 else None)
    given = {option.name for option in fields(Options) if getattr(how, option.name) != getattr(usual, option.name)}
    if alone:
        way, unused = "With --only, which carries out single stages,", given - {"threads"}
    elif process_count() > 1:
        way, unused = "For several launched processes, which share each stage,", given - {"threads"}
    elif how.engine == "local":
        way, unused = "Without --engine ray", given & {"address", "copied", "gpus", "needs"}
    else:
        way, unused = "With the --address of a Ray cluster", given & {"jobs"} if how.address else set()
    if unused:
        names = " and ".join("--for" if name == "needs" else f"--{name}" for name in sorted(unused))
        raise ConfigError(f"{way} {names} would do nothing.", "Leave that out.")


def _run(spec: StudySpec, graph: Any, root: Path, context: Any, how: Options) -> None:
    if process_count() > 1:
        _run_together(spec, graph, root, context, how.threads)
        return
    with hold(root / "stages" / ".lock", "this study"):
        make_room(graph, graph.folders(root))
        _Run(spec, graph, root, context, how).drive()


def _run_together(spec: StudySpec, graph: Any, root: Path, context: Any, threads: int | None) -> None:
    """Every stage in turn, shared by launched processes; a failure ends all of them."""
    from vaebench.stages.base import execute

    context = replace(context, workers=context.workers or threads)

    def go(index: Index | None) -> None:
        folders = graph.folders(root)
        for node in graph.nodes.values():
            if index is not None and not is_complete(folders[node.id]):
                print(f"== {node.id}", file=sys.stderr, flush=True)
            # torchrun leaves a process one core, and while the first one works alone the others only wait.
            with _stage_may_fail(node.id), torch_threads(threads or (None if node.stage.parallel else core_count())):
                execute(node.stage, node.config, graph.inputs(node, root), folders[node.id], context, node.hash)
            if index is not None:
                index.write()

    processes = context.processes()
    if process_index() > 0:
        processes.wait()  # until the first one has removed what is to be made anew
        go(None)
        return
    with hold(root / "stages" / ".lock", "this study"):
        make_room(graph, graph.folders(root))
        processes.wait()
        index = Index(spec, graph, root)
        index.write()
        go(index)


@contextmanager
def _stage_may_fail(name: str) -> Iterator[None]:
    """Say which stage failed; of a fault, the traceback too."""
    try:
        yield
    except Exception as error:
        words = str(error)
        if not isinstance(error, VaebenchError):
            traceback.print_exc()
            words = f"{type(error).__name__}: {error}"
        raise StagesFailed(f"Stage '{name}' failed: {words}") from error


class _Run:
    """One run of a study: which stages wait for which, what runs, and what is told of it."""

    def __init__(self, spec: StudySpec, graph: Any, root: Path, context: Any, options: Options) -> None:
        self._nodes: Mapping[str, Any] = graph.nodes
        self._folders: Mapping[str, Path] = graph.folders(root)
        self._root, self._context, self._options = root, context, options
        self._index, self._events = Index(spec, graph, root), Events(root)
        done = {name for name, folder in self._folders.items() if is_complete(folder)}
        self._needs = {
            name: {need for need in node.needs.values() if need not in done}
            for name, node in self._nodes.items()
            if name not in done
        }
        self._needed_by: dict[str, list[str]] = {name: [] for name in self._needs}
        for name, needs in self._needs.items():
            for need in needs:
                self._needed_by[need].append(name)
        # In the graph's order, so that one tokenizer after the other is finished instead of all of them at the end.
        self._place = {name: place for place, name in enumerate(self._nodes)}
        self._ready = [name for name in self._nodes if name in self._needs and not self._needs[name]]
        self._running: set[str] = set()
        self._later: list[tuple[float, str]] = []
        self._retries = options.retries if options.retries is not None else 3 if options.engine == "ray" else 0
        self._attempts: dict[str, int] = {}
        self._failed: dict[str, Outcome] = {}
        self._skipped: dict[str, str] = {}
        self._next_index = 0.0
        self._wandb = WandbLog(options.wandb, spec.study, root) if options.wandb else None
        self._watch = Watch(len(self._needs))

    def drive(self) -> None:
        """Start what can start until nothing is left, and say how it ended."""
        self._index.write()
        if not self._needs:
            return
        engine, threads = make_engine(
            self._options,
            self._context,
            measured_memory(self._root),
            {type(self._nodes[name].stage).__module__ for name in self._needs},
        )
        self._events.write(
            "study-started", engine=engine.name, host=socket.gethostname(), pid=os.getpid(),
            stages=len(self._nodes), todo=len(self._needs),
        )  # fmt: skip
        # The serial engine works in this process, where each task shows its own progress.
        watched = self._watch if engine.name != "serial" else nullcontext()
        try:
            with watched, Interruptible() as interruption:
                while self._ready or self._running or self._later:
                    self._bring_back_what_is_due()
                    self._start_what_fits(engine, threads)
                    outcomes = engine.wait(self._seconds_to_next())
                    interruption.check()
                    for outcome in outcomes:
                        self._take(engine, outcome)
                    self._write_index_sometimes()
                    self._watch.look()
        finally:
            engine.stop()
            self._index.write()
        done = len(self._nodes) - len(self._failed) - len(self._skipped)
        self._events.write("study-finished", done=done, failed=len(self._failed), skipped=len(self._skipped))
        if self._failed:
            raise StagesFailed(self._summary(done), "Mend the cause and run the same command again: it goes on.")

    def _start_what_fits(self, engine: Engine, threads: int | None) -> None:
        for name in list(self._ready):
            if engine.full:
                break
            node = self._nodes[name]
            log = self._root / "logs" / f"{node.folder_name}.log"
            needs = self._options.needs.get(node.kind)
            if not engine.start(make_job(node, self._folders, log, self._context, threads, needs)):
                continue
            self._ready.remove(name)
            self._running.add(name)
            attempt = self._attempts[name] = self._attempts.get(name, 0) + 1
            print(f"== {name}", file=sys.stderr, flush=True)
            self._watch.begins(name, log)
            relative = str(log.relative_to(self._root))
            self._events.write("stage-started", stage=name, kind=node.kind, attempt=attempt, log=relative)

    def _take(self, engine: Engine, outcome: Outcome) -> None:
        """Note how a job ended, and what can start or cannot come about any more."""
        name, node = outcome.id, self._nodes[outcome.id]
        self._running.discard(name)
        self._watch.ends(name, not outcome.error)
        if not outcome.error:
            about = {"seconds": round(outcome.seconds, 3), "peak_bytes": outcome.peak_bytes}
            self._events.write("stage-finished", stage=name, kind=node.kind, **about)
            if self._wandb is not None:
                self._wandb.stage(node, self._folders[name])
            for other in self._needed_by[name]:
                self._needs[other].discard(name)
                if not self._needs[other] and other not in self._skipped:
                    self._make_ready(other)
            return
        attempt = self._attempts[name]
        wait = BACK_OFF * 2.0 ** (attempt - 1) if outcome.again and attempt <= self._retries else None
        self._events.write(
            "stage-failed", stage=name, kind=node.kind, attempt=attempt, error=outcome.error, exit=outcome.exit,
            retry=wait,
        )  # fmt: skip
        log = self._root / "logs" / f"{node.folder_name}.log"
        print(f"Stage '{name}' failed: {outcome.error}", file=sys.stderr)
        if engine.name != "serial":  # whose log has just been seen
            print(f"The end of {log}:\n{tail(log)}", file=sys.stderr, flush=True)
        if wait is not None:
            print(f"It is tried again in {wait:.0f} s.", file=sys.stderr, flush=True)
            self._later.append((time.monotonic() + wait, name))
            return
        self._failed[name] = outcome
        self._skip_what_needs(name)

    def _skip_what_needs(self, name: str) -> None:
        waiting = list(self._needed_by[name])
        while waiting:
            other = waiting.pop()
            if other not in self._skipped:
                self._skipped[other] = name
                self._events.write("stage-skipped", stage=other, because=name)
                waiting += self._needed_by[other]

    def _make_ready(self, name: str) -> None:
        insort(self._ready, name, key=self._place.__getitem__)

    def _bring_back_what_is_due(self) -> None:
        now = time.monotonic()
        for due, name in self._later:
            if due <= now:
                self._make_ready(name)
        self._later = [(due, name) for due, name in self._later if due > now]

    def _seconds_to_next(self) -> float | None:
        """How long to wait for an outcome at most: until something is to be tried again, or to be shown."""
        waits = [max(0.0, due - time.monotonic()) for due, _ in self._later]
        return min([*waits, *([SECONDS_BETWEEN_LOOKS] if self._watch.active else [])], default=None)

    def _write_index_sometimes(self) -> None:
        # Not after every stage: with thousands of them the index is long.
        if time.monotonic() >= self._next_index:
            self._index.write()
            self._next_index = time.monotonic() + SECONDS_BETWEEN_INDEXES

    def _summary(self, done: int) -> str:
        failed = "\n".join(f"  {name}: {outcome.error}" for name, outcome in self._failed.items())
        skipped = f" {len(self._skipped)} that need them were left out." if self._skipped else ""
        number = f"{len(self._failed)} stage{'s' if len(self._failed) > 1 else ''}"
        return f"{number} failed, {done} of {len(self._nodes)} are complete.{skipped}\n{failed}\n"


def measured_memory(root: Path) -> dict[str, int]:
    """Kind -> the most bytes that a stage of this kind was seen to take in this study."""
    seen: dict[str, int] = {}
    for event in read_events(root):
        if event["event"] == "stage-finished" and event["peak_bytes"] is not None:
            seen[event["kind"]] = max(seen.get(event["kind"], 0), event["peak_bytes"])
    return seen


def make_engine(
    options: Options, context: Any, measured: Mapping[str, int], modules: Collection[str]
) -> tuple[Engine, int | None]:
    """The engine that the options ask for, and the threads of each of its jobs (None: as they are).

    Raises:
        ConfigError: an engine that does not exist.
    """
    if options.engine == "ray":
        from vaebench.study.engines.ray import make_ray_engine

        return make_ray_engine(options)
    if options.engine != "local":
        raise ConfigError(f"Unknown engine '{options.engine}'.", "Known: local, ray.")
    import torch

    from vaebench.study.engines.local import LocalEngine, visible_gpus
    from vaebench.study.engines.serial import SerialEngine

    gpus = visible_gpus(context.device)
    jobs = options.jobs or (len(gpus) if len(gpus) > 1 else 1)
    if jobs == 1:
        return SerialEngine(), options.threads
    cores = torch.get_num_threads()
    threads = options.threads or max(1, cores // jobs)
    fits = max(1, cores // threads)
    if fits < jobs:
        print(f"{cores} cores hold {fits} stages of {threads} threads at a time, not {jobs}.", file=sys.stderr)
    return LocalEngine(min(jobs, fits), threads, gpus, options.memory, measured, modules), threads
