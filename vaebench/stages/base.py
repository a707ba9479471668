"""What a stage is, and how one is carried out: content-addressed, all or nothing, resumable.

A stage's hash covers its kind, the version of its code, its resolved configuration and the hashes of its inputs. Work
happens in a hidden folder beside the target that carries the hash in its name; the folder is renamed when the last file
is written. So a folder that is there is complete, an interrupted run finds its own work again, and two configurations
never mix. A folder ``checkpoints``, which only serves to go on, is removed when the finished work has its record.
"""

import datetime
import functools
import glob
import os
import platform
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from vaebench.core.checksums import NAME as CHECKSUMS
from vaebench.core.checksums import require_unchanged, write_sums
from vaebench.core.config import Config, build, content_hash, dump_yaml
from vaebench.core.errors import DataError, MismatchError, MissingPath, VaebenchError
from vaebench.core.files import (
    atomic_write,
    disk_errors_said,
    read_json,
    remove,
    remove_temporaries,
    require_space,
    sha256_file,
    write_json,
)
from vaebench.core.locks import hold
from vaebench.core.memory import memory_errors_said
from vaebench.core.plugins import code_of, is_reference
from vaebench.core.processes import process_count, process_index
from vaebench.core.scores import Score, read_scores, write_scores
from vaebench.stages import CHECKPOINTS, VERSIONS
from vaebench.stages.machine import hardware
from vaebench.stages.processes import Processes, wait_until
from vaebench.tokenizers import TOKENIZERS, load_tokenizer, means_path

C = TypeVar("C", bound=Config)

PACKAGES = ("vaebench", "torch", "timm", "diffusers", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True)
class Context:
    """Where and how to compute; nothing in it is part of a stage's identity.

    Attributes:
        device: auto, cpu, cuda or mps. Of several GPUs, a process takes the first that it sees, and of processes
            launched together each its own.
        workers: processes for work that is not torch's; None means one per core.
    """

    device: str = "auto"
    workers: int | None = None

    def torch_device(self) -> str:
        """The device that ``auto`` stands for here.

        Raises:
            VaebenchError: the device asked for is not available, or is one of several by number.
        """
        import torch

        kind, _, number = self.device.partition(":")
        if number:
            raise VaebenchError(
                f"Device '{self.device}' has a number.", f"Use --device {kind}, and CUDA_VISIBLE_DEVICES={number}."
            )
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.device in {"auto", "cuda"} and available["cuda"] and "LOCAL_RANK" in os.environ:
            # As accelerate does: a process may see fewer GPUs than there are processes, with srun only its own.
            return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
        if self.device == "auto":
            return next(name for name in ("cuda", "mps", "cpu") if available[name])
        if not available.get(self.device, False):
            raise VaebenchError(f"Device '{self.device}' is not available here.", "Use --device auto or --device cpu.")
        return self.device

    def accelerator(self, mixed_precision: Literal["no", "fp16", "bf16"] = "no") -> Any:
        """An accelerate.Accelerator on this device."""
        from vaebench.training.step import make_accelerator

        return make_accelerator(self.torch_device(), mixed_precision)

    def processes(self) -> Processes:
        """This process and those that were launched with it."""
        return Processes(self.accelerator())


@dataclass(frozen=True)
class Estimate:
    """What a stage will cost, roughly: floating-point operations of its networks, other seconds, bytes on the disk."""

    flops: float = 0.0
    seconds: float = 0.0
    disk_bytes: float = 0.0


@dataclass(frozen=True)
class Artefact:
    """A complete stage folder."""

    folder: Path
    hash: str
    kind: str
    scores: list[Score] = field(default_factory=list)
    reused: bool = False


class Stage(ABC, Generic[C]):
    """One kind of work.

    Class attributes:
        kind: name in the registry.
        Config: the configuration class.
        parallel: whether several launched processes share the work. All of them then call ``run``, and the scores are
            those that the first one returns; otherwise the others wait until the first has finished.
        accelerated: whether it computes on a GPU where there is one.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[Config]]
    parallel: ClassVar[bool] = False
    accelerated: ClassVar[bool] = True

    @property
    def version(self) -> int:
        """Version of the stage's code, from the table ``VERSIONS``."""
        return VERSIONS[self.kind]

    def resolve(self, config: C) -> C:
        """Fill in what depends on plug-ins (their own configuration's defaults), so that the hash covers it."""
        return config

    @abstractmethod
    def run(self, config: C, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        """Do the work inside ``folder`` (which may hold an interrupted run's files) and return the scores.

        Its ``checkpoints``, if there are any, do not become part of the result.
        """

    def identity(self, config: C) -> dict[str, Any]:
        """What of a resolved configuration the hash covers."""
        return config.model_dump(mode="json")

    def outside(self, config: C) -> list[str]:
        """Paths of files that a resolved configuration names, such as weights."""
        return []

    def estimate(self, config: C, facts: Mapping[str, Any]) -> Estimate:
        """A rough cost, from facts about the study (image size, split sizes, latent shape)."""
        return Estimate()


# Roles that a registered name or a class can fill as well as a path.
NAMED_ROLES = frozenset({"tokenizer", "init"})


def input_hash(role: str, reference: str) -> str:
    """Identity of an input: a stage folder's hash, a file's or folder's content hash, or a registered tokenizer's.

    Raises:
        MissingPath: nothing is there, and the role wants a path.
    """
    path = Path(reference)
    if role in NAMED_ROLES and not (path.exists() and means_path(reference)):
        about, name = load_tokenizer(reference).spec, reference.partition("?")[0]
        parts: dict[str, Any] = {"tokenizer": reference, "weights": about.checkpoint_hash}
        # Options of a checkpoint may name a file, such as one of statistics, whose content counts.
        if Path(name).expanduser().is_file():
            numbers = about.normalisation and (about.normalisation.shift, about.normalisation.scale)
            parts["spec"] = [about.f, about.d, numbers]
        identity = content_hash(parts)
        code = code_of(name) if is_reference(name) else ""
        return content_hash({"identity": identity, "code": code}) if code else _with_code(identity, name)
    if (path / "stage.json").is_file():
        record = read_json(path / "stage.json")
        if record["kind"] != "train":
            return str(record["hash"])
        return _with_code(str(record["hash"]), record["config"].get("method"), record["config"].get("code", ""))
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        content = content_hash({str(p.relative_to(path)): sha256_file(p) for p in files})
        spec = path / "tokenizer.json"
        return _with_code(content, read_json(spec).get("method")) if spec.is_file() else content
    raise MissingPath(f"{role.capitalize()} '{reference}' does not exist.")


def input_paths(role: str, reference: str) -> list[str]:
    """Paths that an input from outside names: itself, or a checkpoint and the files among its options; often none."""
    if Path(reference).exists():
        return [reference] if role not in NAMED_ROLES or means_path(reference) else []
    name, _, options = reference.partition("?")
    given = [name, *(part.partition("=")[2] for part in options.split("&"))] if role in NAMED_ROLES else []
    return [str(path) for path in (Path(part).expanduser() for part in given) if path.is_file()]


def _with_code(identity: str, name: Any, already: str = "") -> str:
    """An identity of a tokenizer, with the hash of the class that reads it where that comes from outside.

    ``already`` is the code that the identity covers. A name that is not registered, as of a method that is not
    installed, has no code: such a folder is read as diffusers'.
    """
    code = TOKENIZERS.code(name) if name in TOKENIZERS else ""
    return identity if code == already or not code else content_hash({"identity": identity, "code": code})


def stage_hash(stage: Stage[Any], config: Config, inputs: Mapping[str, str]) -> str:
    """Hash of a stage: kind, code version, resolved configuration, hashes of the inputs."""
    return content_hash(
        {
            "kind": stage.kind,
            "version": stage.version,
            "config": stage.identity(config),
            "inputs": dict(sorted(inputs.items())),
        }
    )


def partial_folder(folder: Path, identity: str) -> Path:
    """Where the unfinished work of a stage lives."""
    return folder.with_name(f".{folder.name}.{identity[:10]}.partial")


def lock_path(folder: Path, identity: str) -> Path:
    """The lock of whoever makes that stage. Beside the folders, so that it is held until the result has its name."""
    return folder.with_name(f".{folder.name}.{identity[:10]}.lock")


def completed(folder: Path) -> dict[str, Any] | None:
    """The record of a complete stage folder, or None."""
    record = folder / "stage.json"
    return read_json(record) if record.is_file() else None


def execute(
    stage: Stage[Any],
    config: Config | Mapping[str, Any],
    inputs: Mapping[str, str | Path],
    folder: Path,
    context: Context,
    expected: str = "",
) -> Artefact:
    """Carry out a stage, or return its artefact if the folder already holds this very one.

    Where another process is making it, wait for that one, and take over if it dies.

    Args:
        stage: the kind of work.
        config: its configuration, or plain values for it.
        inputs: role -> path of an artefact (or name of a ready-made tokenizer).
        folder: where the artefact shall be.
        context: device and workers.
        expected: the identity that the result shall have, where one was planned for.

    Raises:
        MismatchError: a plug-in is not what it was when the work was planned; or the folder holds the result of another
            configuration or of other inputs, or is no stage folder.
        DataError: an input is not as it was written.
        NoMemory: there is not enough.
        NoSpace, NotWritable: the disk is full or read-only; what was done so far stays and is taken up by the next run.
    """
    given = config if isinstance(config, Config) else build(stage.Config, config, stage.kind)
    resolved: Config = stage.resolve(given)
    references = {role: str(reference) for role, reference in inputs.items()}
    hashes = {role: input_hash(role, reference) for role, reference in references.items()}
    identity = stage_hash(stage, resolved, hashes)
    if expected and identity != expected:
        raise MismatchError(
            f"What goes into '{folder.name}' has changed since it was planned: a file, or the code of a plug-in.",
            "Run the same command again.",
        )

    record = completed(folder)
    if record is not None:
        if record["hash"] == identity:
            return Artefact(folder, identity, stage.kind, read_scores(folder / "scores.json"), reused=True)
        raise MismatchError(
            f"'{folder}' holds {_difference(record, stage, resolved, hashes, references)}.",
            "Choose another --output-dir.",
        )
    if folder.exists() and any(folder.iterdir()):
        raise MismatchError(
            f"'{folder}' exists and was not made by this command.", "Choose another --output-dir, or an empty folder."
        )

    partial = partial_folder(folder, identity)
    if process_index() > 0:
        if stage.parallel and not _told_by_the_first(context):
            stage.run(resolved, references, partial, context)
        wait_until(lambda: completed(folder) is not None)
        return Artefact(folder, identity, stage.kind, read_scores(folder / "scores.json"))
    lock = hold(lock_path(folder, identity), f"'{folder}'", wait=process_count() == 1)
    with disk_errors_said(folder.parent), memory_errors_said(f"'{folder.name}'"), lock:
        if completed(folder) is not None:  # by the process that we waited for
            return Artefact(folder, identity, stage.kind, read_scores(folder / "scores.json"), reused=True)
        if not partial.exists():
            _tell_of_other_work(folder)
        partial.mkdir(parents=True, exist_ok=True)
        require_space(partial, 32 * 2**20)
        for reference in references.values():
            require_unchanged(Path(reference))
        remove_temporaries(partial)
        sealed = completed(partial) is not None  # killed on the last metre
        if stage.parallel and process_count() > 1:
            _told_by_the_first(context, sealed)
        if sealed:
            scores = read_scores(partial / "scores.json")
        else:
            scores = _work(stage, resolved, references, hashes, partial, identity, context)
        if (partial / CHECKPOINTS).exists():  # only now: until here, the next run would have needed them
            remove(partial / CHECKPOINTS)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    return Artefact(folder, identity, stage.kind, scores)


def _told_by_the_first(context: Context, sealed: bool = False) -> bool:
    """Wait for the first process, which makes the folder; whether it found finished work there (``sealed``)."""
    from accelerate.utils import broadcast_object_list

    context.accelerator()
    told = [sealed]
    broadcast_object_list(told)
    return told[0]


def _tell_of_other_work(folder: Path) -> None:
    """Say where unfinished work for this folder lies that other settings began: it is hidden, and may be large."""
    for path in sorted(folder.parent.glob(f".{glob.escape(folder.name)}.*.partial")):
        print(
            f"This starts anew; unfinished work of other settings, inputs or code lies in '{path}'. Delete it if you "
            "do not go on with those.",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def _work(
    stage: Stage[Any],
    config: Config,
    references: Mapping[str, str],
    hashes: Mapping[str, str],
    partial: Path,
    identity: str,
    context: Context,
) -> list[Score]:
    """Run the stage in its partial folder and write its records; ``stage.json`` is the last file."""
    began, clock = time.monotonic(), partial / "seconds"
    already = float(clock.read_text() or 0) if clock.is_file() else 0.0
    try:
        scores = stage.run(config, references, partial, context)
    finally:
        seconds = already + time.monotonic() - began
        if partial.is_dir():
            clock.write_text(f"{seconds:.3f}")
    with atomic_write(partial / "config.yaml") as temporary:
        temporary.write_text(dump_yaml(config))
    write_scores(partial / "scores.json", scores)
    record = {
        "kind": stage.kind,
        "hash": identity,
        "version": stage.version,
        "config": config.model_dump(mode="json"),
        "inputs": dict(hashes),
        "references": {role: _absolute(role, reference) for role, reference in references.items()},
        "seconds": round(seconds, 3),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": context.torch_device(),
        "machine": hardware(context.torch_device()),
        "versions": versions(),
    }
    clock.unlink()
    write_sums(partial, _lasting(partial))
    write_json(partial / "stage.json", record)
    return scores


def _lasting(folder: Path) -> list[Path]:
    """Files whose content matters to others: no checkpoints, not TensorBoard's, nor what a kill left hidden."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not {"tb", CHECKPOINTS}.intersection(path.relative_to(folder).parts)
        and path.name[0] != "."
        and path.name != CHECKSUMS
    ]


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that move numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def file_part(reference: str) -> Path:
    """The path in a reference, without a class or options: that of "file.py:Class" or "vavae.pt?stats=stats.pt"."""
    if Path(reference).exists():
        return Path(reference)
    name = reference.partition("?")[0]
    module = name.rpartition(":")[0]
    return Path(module if module.endswith(".py") else name).expanduser()


def _absolute(role: str, reference: str) -> str:
    """A reference that means the same from every folder, as far as what it names is there."""
    if role not in NAMED_ROLES or means_path(reference):
        return str(Path(reference).absolute()) if Path(reference).exists() else reference
    name, mark, options = reference.partition("?")
    if name.rpartition(":")[0].endswith(".py"):
        return f"{file_part(name).absolute()}:{name.rpartition(':')[2]}{mark}{options}"
    if not means_path(name):
        return reference
    parts = [part.partition("=") for part in options.split("&")]
    placed = [f"{key}{equals}{_if_file(value)}" for key, equals, value in parts]
    return f"{file_part(name).absolute()}{mark}{'&'.join(placed)}"


def _if_file(text: str) -> str:
    path = Path(text).expanduser()
    return str(path.absolute()) if path.is_file() else text


def _input_changed(record: Mapping[str, Any], role: str, references: Mapping[str, str]) -> str:
    before, now = record["references"].get(role), _absolute(role, references[role])
    if before != now:
        return f"{role} {before or 'none'} there, {now} asked"
    return f"{role} {now} has changed, or its code has"


def _difference(
    record: Mapping[str, Any], stage: Stage[Any], config: Config, hashes: Mapping[str, str],
    references: Mapping[str, str],
) -> str:  # fmt: skip
    if record["kind"] != stage.kind:
        return f"the result of '{record['kind']}', not of '{stage.kind}'"
    old, new = _flat(record["config"]), _flat(config.model_dump(mode="json"))
    changed = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} asked"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    others = [role for role in hashes if record["inputs"].get(role) != hashes[role]]
    changed += [_input_changed(record, role, references) for role in others]
    if record["version"] != stage.version:
        changed.append(f"version {record['version']} of the stage's code, now {stage.version}")
    return "a result of other settings (" + "; ".join(changed[:6]) + ")"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


def require_kind(reference: str | Path, kinds: Sequence[str], role: str) -> Path:
    """The stage folder at ``reference``, if it is of one of these kinds.

    Raises:
        MissingPath, DataError: it is not there, or is something else.
    """
    path = Path(reference)
    if not path.exists():
        raise MissingPath(f"{role.capitalize()} '{path}' does not exist.")
    record = completed(path)
    if record is None or record["kind"] not in kinds:
        found = f"a '{record['kind']}' result" if record else "no result folder of vaebench"
        raise DataError(f"{role.capitalize()} '{path}' is {found}.", f"Give the output folder of {' or '.join(kinds)}.")
    return path
