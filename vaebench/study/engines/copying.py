"""Inputs and results by way of Ray's object store, for nodes that see no folder of whom runs the study.

A task unpacks its inputs into a folder of its own, works there, and gives the result's files back as bytes. Meanwhile
the unfinished work goes to a keeper beside whom runs the study now and then, so that another node can go on with it.
What is sent passes through memory: for results of many gigabytes a folder that all nodes see is the better way.
"""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vaebench.core.files import read_json, remove, write_json
from vaebench.core.packing import pack, unpack
from vaebench.stages.base import partial_folder
from vaebench.study.engines.job import Job, Outcome, carry_out
from vaebench.study.engines.together import carry_out_together

SECONDS_BETWEEN_COPIES = 60.0
_SCRATCH = "vaebench-ray-"


class Keeper:
    """Where tasks leave their unfinished work: an actor on the machine of whom runs the study."""

    def keep(self, folder: str, data: bytes) -> None:
        """Put packed work in the place of what was kept before."""
        replace_folder(Path(folder), data)


def replace_folder(folder: Path, data: bytes) -> None:
    """Make a folder of packed files, whole or not at all; one that is there goes."""
    arriving = folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    if arriving.exists():
        remove(arriving)
    unpack(data, arriving)
    if folder.exists():
        remove(folder)
    arriving.rename(folder)


def packed_inputs(job: Job) -> dict[str, Path]:
    """Role -> file or folder that has to travel with the job; what is a registered name has not."""
    return {role: Path(reference) for role, reference in job.inputs.items() if Path(reference).exists()}


def partial_of(job: Job) -> Path:
    """Where the unfinished work of a job is."""
    return partial_folder(Path(job.folder), job.hash)


def carry_out_elsewhere(
    job: Job, keeper: Any, every: float, roles: Sequence[str], inputs: Sequence[bytes], begun: bytes | None
) -> dict[str, Any]:
    """Carry out a job in a folder of this node; the outcome, the log, and the packed result if there is one.

    Args:
        job: with the paths of whom runs the study.
        keeper: handle of a `Keeper`.
        every: seconds between copies of unfinished work.
        roles, inputs: what `packed_inputs` named, packed.
        begun: unfinished work of an earlier attempt.
    """
    _remove_scratch_of_the_dead()
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-") as name:
        room = Path(name)
        here = dict(job.inputs)
        for role, data in zip(roles, inputs, strict=True):
            here[role] = str(_place(room, role, Path(job.inputs[role]).name, data))
        own = replace(job, inputs=here, folder=str(room / "stages" / Path(job.folder).name), log=str(room / "log"))
        if begun is not None:
            unpack(begun, partial_of(own))
        with _kept(partial_of(own), str(partial_of(job)), keeper, every):
            outcome = carry_out_together(own) if own.processes > 1 else carry_out(own)
        made = None if outcome.error else _packed_result(Path(own.folder), job.inputs)
        return {"outcome": asdict(outcome), "log": Path(own.log).read_text(errors="replace"), "folder": made}


def _place(room: Path, role: str, name: str, data: bytes) -> Path:
    """Unpack an input; a stage's folder keeps its name, and serves every role that it has."""
    target = room / "inputs" / role / name
    unpack(data, target)
    return target / name if (target / name).is_file() and len(list(target.iterdir())) == 1 else target


def _packed_result(folder: Path, inputs: Mapping[str, str]) -> bytes:
    record = read_json(folder / "stage.json")
    # Inputs are where whom runs the study has them, not where they were for a while here.
    record["references"] = {role: inputs.get(role, there) for role, there in record["references"].items()}
    write_json(folder / "stage.json", record)
    return pack(folder)


def received(job: Job, told: Mapping[str, Any]) -> Outcome:
    """Put what `carry_out_elsewhere` gave back where the study wants it."""
    log = Path(job.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as handle:
        handle.write(told["log"])
    if told["folder"] is not None:
        replace_folder(Path(job.folder), told["folder"])
        if partial_of(job).exists():
            remove(partial_of(job))
    return Outcome(**told["outcome"])


@contextlib.contextmanager
def _kept(partial: Path, place: str, keeper: Any, every: float) -> Iterator[None]:
    """Send unfinished work to the keeper whenever it has changed, and once more at the end."""
    over = threading.Event()
    sender = threading.Thread(target=_send, args=(partial, place, keeper, every, over), daemon=True)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def _send(partial: Path, place: str, keeper: Any, every: float, over: threading.Event) -> None:
    import ray

    before: list[tuple[str, int, int]] = []
    while True:
        last = over.wait(every)
        # Files come and go while they are listed. A keeper that does not answer is gone with whom runs the study.
        with contextlib.suppress(OSError, ray.exceptions.RayError):
            now = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(partial.rglob("*")) if p.is_file()]
            if now and now != before:
                ray.get(keeper.keep.remote(place, pack(partial)))
                before = now
        if last:
            return


def _remove_scratch_of_the_dead() -> None:
    import psutil

    for path in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        number = path.name.removeprefix(_SCRATCH).partition("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            with contextlib.suppress(OSError):
                remove(path)
