"""One stage by several processes of one machine, as ``accelerate launch`` would start them.

The processes end with the one that starts them, whatever ends it, so that no half-dead training holds a stage.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

from vaebench.core.locks import living_holder
from vaebench.study.engines.job import PYTHON_MODULE, Job, Outcome, carry_out, execute_job

SECONDS_BETWEEN_LOOKS = 0.1
# After one process failed, for the first one to say what went wrong.
SECONDS_TO_TELL = 1.0
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def carry_out_together(job: Job) -> Outcome:
    """Carry out a job by ``job.processes`` processes; the first one's outcome, or what ended another."""
    began = time.monotonic()
    _await_the_dead(Path(job.folder))
    with tempfile.TemporaryDirectory() as name:
        told, outcome = Path(name) / "job.json", Path(name) / "outcome.json"
        told.write_text(json.dumps({"job": job.plain(), "outcome": str(outcome), "parent": os.getpid()}))
        ended = _run(job, told)
        if outcome.is_file():
            found = Outcome(**json.loads(outcome.read_text()))
            if found.error or not any(ended):
                return found
    # Negative: killed, as when memory ran out. Another attempt may have more luck.
    bad = [code for code in ended if code]
    words = f"a process of {job.processes} ended with {bad[0]}" if bad else "the first process told no outcome"
    return Outcome(job.id, words, bad[0] if bad else 1, time.monotonic() - began, again=True)


def _await_the_dead(folder: Path) -> None:
    """Wait until nobody holds the stage: the lock of a lost machine counts until its heartbeat has been silent.

    The processes themselves cannot wait for it, because all of them must agree on what they found.
    """
    for lock in folder.parent.glob(f".{folder.name}.*.lock"):
        while living_holder(lock) is not None:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _run(job: Job, told: Path) -> list[int]:
    """Exit codes of all processes; when one fails, the others are ended."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(job.threads or 1)
    common = {
        **os.environ,
        "WORLD_SIZE": str(job.processes), "LOCAL_WORLD_SIZE": str(job.processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": threads,
        "PYTHONPATH": os.pathsep.join(job.path),
    }  # fmt: skip
    log = Path(job.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        processes = [
            subprocess.Popen(
                [*PYTHON_MODULE, "vaebench.study.engines.together", str(told)],
                env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=stream, stdout=stream,
            )
            for rank in range(job.processes)
        ]  # fmt: skip
    codes: list[int | None] = [None]
    try:
        while None in codes and not any(codes):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            codes = [process.poll() for process in processes]
        if any(codes):
            time.sleep(SECONDS_TO_TELL)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [code or 0 for code in codes]


def _end_with(parent: int) -> None:
    """Have the system end this process when its parent ends, where the system can."""
    if sys.platform.startswith("linux"):
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """One of the processes."""
    told = json.loads(Path(arguments[0]).read_text())
    _end_with(told["parent"])
    job = Job(**told["job"])
    if Path(job.cwd).is_dir():
        os.chdir(job.cwd)
    if os.environ["RANK"] != "0":
        execute_job(job)
        return
    outcome = carry_out(job, own_streams=True)
    Path(told["outcome"]).write_text(json.dumps(asdict(outcome)))
    if outcome.error:
        sys.exit(outcome.exit)


if __name__ == "__main__":
    main(sys.argv[1:])
