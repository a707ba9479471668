"""What a stage is, and how one is carried out: content-addressed, all or nothing, resumable.

A stage's hash covers its kind, the version of its code, its resolved configuration and the hashes of its inputs. Work
happens in a hidden folder beside the target that carries the hash in its name; the folder is renamed when the last file
is written. So a folder that is there is complete, an interrupted run finds its own work again, and two configurations
never mix.
"""

import datetime
import os
import platform
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import psutil

from vaebench.core.config import Config, build, content_hash, dump_yaml
from vaebench.core.errors import DataError, MismatchError, MissingPath, NoSpace, VaebenchError
from vaebench.core.files import atomic_write, only_process, read_json, require_space, sha256_file, write_json
from vaebench.core.scores import Score, read_scores, write_scores
from vaebench.stages import VERSIONS

C = TypeVar("C", bound=Config)

PACKAGES = ("vaebench", "torch", "timm", "diffusers", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True)
class Context:
    """Where and how to compute; nothing in it is part of a stage's identity.

    Attributes:
        device: auto, cpu, cuda or mps.
        workers: processes for work that is not torch's; None means one per core.
    """

    device: str = "auto"
    workers: int | None = None

    def torch_device(self) -> str:
        """The device that ``auto`` stands for here.

        Raises:
            VaebenchError: the device asked for is not available.
        """
        import torch

        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.device == "auto":
            return next(name for name in ("cuda", "mps", "cpu") if available[name])
        if not available.get(self.device.partition(":")[0], False):
            raise VaebenchError(f"Device '{self.device}' is not available here.", "Use --device auto or --device cpu.")
        return self.device

    def accelerator(self, mixed_precision: Literal["no", "fp16", "bf16"] = "no") -> Any:
        """An accelerate.Accelerator on this device."""
        from vaebench.training.step import make_accelerator

        return make_accelerator(self.torch_device(), mixed_precision)


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
    """

    kind: ClassVar[str]
    Config: ClassVar[type[Config]]

    @property
    def version(self) -> int:
        """Version of the stage's code, from the table ``VERSIONS``."""
        return VERSIONS[self.kind]

    def resolve(self, config: C) -> C:
        """Fill in what depends on plug-ins (their own configuration's defaults), so that the hash covers it."""
        return config

    @abstractmethod
    def run(self, config: C, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        """Do the work inside ``folder`` (which may hold an interrupted run's files) and return the scores."""

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
    if (path / "stage.json").is_file():
        return str(read_json(path / "stage.json")["hash"])
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return content_hash({str(p.relative_to(path)): sha256_file(p) for p in files})
    if role not in NAMED_ROLES:
        raise MissingPath(f"{role.capitalize()} '{reference}' does not exist.")
    from vaebench.tokenizers import load_tokenizer

    return content_hash({"tokenizer": reference, "weights": load_tokenizer(reference).spec.checkpoint_hash})


def stage_hash(stage: Stage[Any], config: Config, inputs: Mapping[str, str]) -> str:
    """Hash of a stage: kind, code version, resolved configuration, hashes of the inputs."""
    return content_hash(
        {
            "kind": stage.kind,
            "version": stage.version,
            "config": config.model_dump(mode="json"),
            "inputs": dict(sorted(inputs.items())),
        }
    )


def partial_folder(folder: Path, identity: str) -> Path:
    """Where the unfinished work of a stage lives."""
    return folder.with_name(f".{folder.name}.{identity[:10]}.partial")


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
) -> Artefact:
    """Carry out a stage, or return its artefact if the folder already holds this very one.

    Args:
        stage: the kind of work.
        config: its configuration, or plain values for it.
        inputs: role -> path of an artefact (or name of a ready-made tokenizer).
        folder: where the artefact shall be.
        context: device and workers.

    Raises:
        MismatchError: the folder holds the result of another configuration or of other inputs, or is no stage folder.
        NoSpace: the disk is full; what was done so far stays and is taken up by the next run.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise VaebenchError(
            "Commands run in one process each, and this one was launched in several.",
            "Start it without a launcher; the training loop and extraction take several processes from Python.",
        )
    given = config if isinstance(config, Config) else build(stage.Config, config, stage.kind)
    resolved: Config = stage.resolve(given)
    references = {role: str(reference) for role, reference in inputs.items()}
    hashes = {role: input_hash(role, reference) for role, reference in references.items()}
    identity = stage_hash(stage, resolved, hashes)

    record = completed(folder)
    if record is not None:
        if record["hash"] == identity:
            return Artefact(folder, identity, stage.kind, read_scores(folder / "scores.json"), reused=True)
        raise MismatchError(
            f"'{folder}' holds {_difference(record, stage, resolved, hashes)}.", "Choose another --output-dir."
        )
    if folder.exists() and any(folder.iterdir()):
        raise MismatchError(
            f"'{folder}' exists and was not made by this command.", "Choose another --output-dir, or an empty folder."
        )

    partial = partial_folder(folder, identity)
    partial.mkdir(parents=True, exist_ok=True)
    require_space(partial, 32 * 2**20)
    with only_process(partial / "lock", f"the same stage in '{folder}'"), _disk_full_is_said(partial):
        began = time.monotonic()
        already = float((partial / "seconds").read_text()) if (partial / "seconds").is_file() else 0.0
        try:
            scores = stage.run(resolved, references, partial, context)
        finally:
            seconds = already + time.monotonic() - began
            if partial.is_dir():
                (partial / "seconds").write_text(f"{seconds:.3f}")
        (partial / "seconds").unlink()
        with atomic_write(partial / "config.yaml") as temporary:
            temporary.write_text(dump_yaml(resolved))
        write_scores(partial / "scores.json", scores)
        write_json(
            partial / "stage.json",
            {
                "kind": stage.kind,
                "hash": identity,
                "version": stage.version,
                "config": resolved.model_dump(mode="json"),
                "inputs": hashes,
                "references": {role: _absolute(reference) for role, reference in references.items()},
                "seconds": round(seconds, 3),
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "device": context.torch_device(),
                "versions": versions(),
            },
        )
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    return Artefact(folder, identity, stage.kind, scores)


def versions() -> dict[str, str]:
    """Versions of the packages that move numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    """The machine, in the words a reader of a table needs."""
    import torch

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {
        "cpu": processor,
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _absolute(reference: str) -> str:
    return str(Path(reference).absolute()) if Path(reference).exists() else reference


def _difference(record: Mapping[str, Any], stage: Stage[Any], config: Config, hashes: Mapping[str, str]) -> str:
    if record["kind"] != stage.kind:
        return f"the result of '{record['kind']}', not of '{stage.kind}'"
    old, new = _flat(record["config"]), _flat(config.model_dump(mode="json"))
    changed = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} asked"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    changed += [f"another input '{role}'" for role in hashes if record["inputs"].get(role) != hashes[role]]
    if record["version"] != stage.version:
        changed.append(f"version {record['version']} of the stage's code, now {stage.version}")
    return "a result of other settings (" + "; ".join(changed[:6]) + ")"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


@contextmanager
def _disk_full_is_said(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {28, 122}:  # ENOSPC, EDQUOT
            raise
        free = shutil.disk_usage(folder).free
        raise NoSpace(
            f"The disk that holds '{folder}' is full ({free / 2**20:,.0f} MiB free).",
            "Free some space and start again: finished work is kept.",
        ) from error


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
