"""Stages side by side on this machine, each in a process of its own, within its cores, GPUs and memory."""

import json
import os
import selectors
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaebench.core.errors import VaebenchError
from vaebench.study.engines.job import PYTHON_MODULE, THREADS_OF, Job, Outcome, module_path

# What a stage takes that has not been measured: torch and what it loads, and twice the inputs that it loads.
BASE_BYTES = 2**30
# Roles whose files are mapped, and read in parts: of ImageNet they are hundreds of gigabytes.
MAPPED = frozenset({"data", "features"})
SHARE_OF_MEMORY = 0.9


class LocalEngine:
    """Carries out up to ``jobs`` jobs at a time.

    Args:
        jobs: how many at most.
        threads: cores of each; jobs x threads should not exceed what there is.
        gpus: names for ``CUDA_VISIBLE_DEVICES``; a job that is accelerated has one of them for itself.
        memory: bytes for all jobs together; a job that needs more than that runs alone.
        measured: kind -> bytes that such a job was seen to take.
        modules: that the jobs will need, loaded once.
    """

    name = "local"

    def __init__(
        self,
        jobs: int,
        threads: int,
        gpus: Sequence[str] = (),
        memory: int | None = None,
        measured: Mapping[str, int] | None = None,
        modules: Collection[str] = (),
    ) -> None:
        self._jobs = jobs
        self._gpus = list(gpus)
        self._any_gpu = bool(gpus)
        self._memory = memory if memory is not None else int(SHARE_OF_MEMORY * free_memory())
        self._measured = dict(measured or {})
        self._running: dict[str, tuple[Job, str | None, int]] = {}
        self._nursery = _start_nursery(threads, modules)
        self._buffer = b""

    @property
    def full(self) -> bool:
        """Whether no further job can start now, of whatever kind."""
        return len(self._running) >= self._jobs

    def start(self, job: Job) -> bool:
        """Start a job if there is room for it now; whether there was."""
        wants_gpu = self._any_gpu and job.accelerated
        need = self._need(job)
        taken = sum(bytes_taken for _, _, bytes_taken in self._running.values())
        if self.full or (wants_gpu and not self._gpus) or (self._running and taken + need > self._memory):
            return False
        gpu = self._gpus.pop(0) if wants_gpu else "" if self._any_gpu else None
        self._send({"job": job.plain(), "gpu": gpu})
        self._running[job.id] = (job, gpu, need)
        return True

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        """Outcomes of jobs that ended; waits for at least one, or for so many seconds."""
        outcomes: list[Outcome] = []
        for line in self._lines(seconds):
            outcome = Outcome(**json.loads(line))
            job, gpu, _ = self._running.pop(outcome.id)
            if gpu:
                self._gpus.append(gpu)
            if outcome.peak_bytes is not None:
                self._measured[job.kind] = max(self._measured.get(job.kind, 0), outcome.peak_bytes)
            outcomes.append(outcome)
        return outcomes

    def stop(self) -> None:
        """Stop what runs: training saves its state first."""
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        self._nursery.wait()

    def _need(self, job: Job) -> int:
        if job.kind in self._measured:
            return self._measured[job.kind]
        paths = (Path(reference) for role, reference in job.inputs.items() if role not in MAPPED)
        return BASE_BYTES + 2 * sum(_size(path) for path in paths if path.exists())

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(json.dumps(message).encode() + b"\n")
        self._nursery.stdin.flush()

    def _lines(self, seconds: float | None) -> list[bytes]:
        assert self._nursery.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._nursery.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return []
        read = os.read(self._nursery.stdout.fileno(), 65536)
        if not read:
            raise VaebenchError("The process that starts the stages has ended.", "Run the study again: it goes on.")
        *lines, self._buffer = (self._buffer + read).split(b"\n")
        return lines


def _start_nursery(threads: int, modules: Collection[str]) -> subprocess.Popen[bytes]:
    path = module_path()
    environment = {
        **os.environ,
        # BLAS reads these when it is loaded; later settings of torch and threadpoolctl then agree with them.
        **dict.fromkeys(THREADS_OF, str(threads)),
        # Asking for devices must not start CUDA before a fork.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "PYTHONPATH": os.pathsep.join(path),
    }
    # A session of its own: Ctrl-C in the terminal reaches the study, which lets the stages save and end.
    setup = {"path": path, "modules": sorted(modules)}
    return subprocess.Popen(
        [*PYTHON_MODULE, "vaebench.study.engines.nursery", json.dumps(setup)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True,
    )  # fmt: skip


def visible_gpus(device: str) -> list[str]:
    """Names of the GPUs that stages may have, as for ``CUDA_VISIBLE_DEVICES``; none on another device."""
    import torch

    if device not in {"auto", "cuda"} or not torch.cuda.is_available():
        return []
    named = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return named or [str(index) for index in range(torch.cuda.device_count())]


def free_memory() -> int:
    """Bytes that this machine, or this container, can still give."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, max(0, int(limit.read_text()) - int(used.read_text())))
    return free


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
