"""A process that has loaded what stages need and forks one child per stage.

``python -m vaebench.study.engines.nursery``. Loading takes seconds, a fork tens of milliseconds, and every stage still
has a process of its own that can be killed, run out of memory or crash without harm to others. Nothing here touches
CUDA or computes with threads before the fork.

Lines of JSON go in (``{"job": ..., "gpu": ...}``) and outcomes come out. At the end of its input, which
is also what it sees when the process that started it dies, it stops its children and ends.
"""

import importlib
import json
import os
import selectors
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from vaebench.study.engines.job import Job, Outcome, carry_out

GRACE = 30.0


class Nursery:
    """The children that run, by process number."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._children: dict[int, tuple[Job, int, float]] = {}

    def start(self, order: dict[str, Any]) -> None:
        """Fork a child that carries out one job."""
        job = Job(**order["job"])
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os.close(self._out)
            _child(job, order["gpu"], write)
        os.close(write)
        self._children[pid] = (job, read, time.monotonic())

    def collect(self) -> None:
        """Tell the outcomes of children that ended."""
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            job, read, began = self._children.pop(pid)
            with os.fdopen(read, "rb") as pipe:
                told = pipe.read()
            code = os.waitstatus_to_exitcode(status)
            seconds, peak = time.monotonic() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            outcome = Outcome(**json.loads(told)) if told and code == 0 else _died(job, code, seconds)
            line = json.dumps(asdict(replace(outcome, peak_bytes=peak))) + "\n"
            with suppress(BrokenPipeError):  # who asked is dead, and the children only need to be stopped
                os.write(self._out, line.encode())

    def stop(self) -> None:
        """Ask the children to end, as training does after saving, and kill those that do not."""
        for number, grace in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            for pid in self._children:
                os.kill(pid, number)
            end = time.monotonic() + grace
            while self._children and time.monotonic() < end:
                self.collect()
                time.sleep(0.02)


def _died(job: Job, code: int, seconds: float) -> Outcome:
    if code >= 0:
        return Outcome(job.id, f"Its process ended with exit code {code}.", code or 1, seconds, again=True)
    name = signal.Signals(-code).name
    hint = " Perhaps the system ran out of memory." if -code == signal.SIGKILL else ""
    return Outcome(job.id, f"Its process was ended by {name}.{hint}", code, seconds, again=True)


def _child(job: Job, gpu: str | None, answer: int) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        Path(job.log).parent.mkdir(parents=True, exist_ok=True)
        # What C libraries say goes to the log as well.
        log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        nothing = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        outcome = carry_out(job, own_streams=True)
        os.write(answer, json.dumps(asdict(outcome)).encode())
        code = 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGTERM
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> NoReturn:
    """Serve until the input ends."""
    setup = json.loads(sys.argv[1])
    sys.path[:] = setup["path"]
    out = os.dup(1)
    os.dup2(2, 1)  # nothing that a library prints may mix with the answers
    for name in ("torch", "vaebench.stages.base", *setup["modules"]):
        importlib.import_module(name)
    importlib.import_module("vaebench.stages.base").versions()  # read once, for all children
    nursery = Nursery(out)
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    buffer = b""
    while True:
        for key, _ in selector.select():
            if key.fd == woken:
                os.read(woken, 4096)
                continue
            read = os.read(0, 65536)
            if not read:
                nursery.stop()
                os._exit(0)  # taking all modules down again takes long, and nothing here needs it
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                nursery.start(json.loads(line))
        nursery.collect()


if __name__ == "__main__":
    main()
