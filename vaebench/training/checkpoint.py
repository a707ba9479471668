"""Checkpoints that are complete, appear whole or not at all, and prove on loading that they are undamaged.

Layout of ``checkpoints/step_00000500/`` (500 finished steps):

- ``<name>.safetensors``: the weights of one module;
- ``state.pt``: everything else (optimisers, counters), plain tensors, numbers, texts, lists and dictionaries only, so
  that it loads with ``weights_only=True``;
- ``manifest.json``: the step, and size and SHA-256 of every file.

The folder is written under a temporary name, flushed to the disk and then renamed, so a process killed at any moment
leaves the earlier checkpoints as they were.
"""

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vaebench.core.errors import DataError, VaebenchError
from vaebench.core.files import read_json, require_space, sha256_file, write_json

MANIFEST = "manifest.json"
STATE = "state.pt"
_PREFIX = "step_"
_TEMPORARY = ".step_"

Weights = Mapping[str, Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: the weights of every module by name, and the rest of the state."""

    step: int
    weights: Weights
    state: dict[str, Any]


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint in ``folder``, ascending."""
    return sorted(int(path.name.removeprefix(_PREFIX)) for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def checkpoint_path(folder: Path, step: int) -> Path:
    """Folder of the checkpoint after ``step`` finished steps."""
    return folder / f"{_PREFIX}{step:08d}"


def save_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write one state dictionary as safetensors and flush it to the disk."""
    # Safetensors stores rows in order and refuses shared storage, so channels_last and tied tensors are copied.
    plain = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in weights.items()}
    save_file(plain, path)
    _flush(path)


def save_checkpoint(folder: Path, step: int, weights: Weights, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write a checkpoint and remove what it makes superfluous.

    Args:
        folder: the folder of checkpoints.
        step: number of finished steps.
        weights: state dictionary of every module, by name.
        state: the rest; only what ``torch.load(weights_only=True)`` accepts.
        keep: how many checkpoints stay; those of later steps (of a history that was rolled back) go too.

    Raises:
        NoSpace: the disk cannot hold it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = [tensor for module in weights.values() for tensor in module.values()]
    require_space(folder, sum(tensor.nbytes for tensor in tensors) + _bytes_of(state))
    remove_unfinished(folder)
    temporary = folder / f"{_TEMPORARY}{step:08d}.{os.getpid()}"
    temporary.mkdir()
    for name, module in weights.items():
        save_weights(temporary / f"{name}.safetensors", module)
    torch.save(dict(state), temporary / STATE)
    _flush(temporary / STATE)
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in sorted(temporary.iterdir())}
    write_json(temporary / MANIFEST, {"step": step, "files": files})
    _flush(temporary)

    final = checkpoint_path(folder, step)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    _flush(folder)
    steps = checkpoint_steps(folder)
    kept = [s for s in steps if s <= step][-keep:]
    for old in set(steps) - set(kept):
        shutil.rmtree(checkpoint_path(folder, old))
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        DataError: a file is missing, shorter than it was, or changed.
    """
    try:
        manifest = read_json(path / MANIFEST)
        for name, expected in manifest["files"].items():
            file = path / Path(name).name
            if (
                not file.is_file()
                or file.stat().st_size != expected["bytes"]
                or sha256_file(file) != expected["sha256"]
            ):
                raise DataError(f"Checkpoint file {file} is missing or damaged.")
        weights = {Path(name).stem: load_file(path / Path(name).name) for name in manifest["files"] if name != STATE}
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        return Checkpoint(int(manifest["step"]), weights, dict(state))
    except (VaebenchError, MemoryError):
        raise
    except Exception as error:  # torch and safetensors meet damage with errors of many kinds
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise DataError(f"Checkpoint {path} cannot be read ({type(error).__name__}: {first}).") from error


def load_latest(folder: Path) -> Checkpoint | None:
    """Read the newest undamaged checkpoint, warning about each damaged one that is passed over.

    Returns:
        The checkpoint, or None where there is none at all.

    Raises:
        DataError: there are checkpoints, and every one is damaged.
    """
    steps = checkpoint_steps(folder)
    for step in reversed(steps):
        path = checkpoint_path(folder, step)
        try:
            return load_checkpoint(path)
        except VaebenchError as error:
            warnings.warn(f"Passing over the damaged checkpoint {path}: {error}", stacklevel=2)
    if steps:
        raise DataError(f"Every checkpoint in {folder} is damaged.", f"Delete {folder} to train from the start.")
    return None


def remove_unfinished(folder: Path) -> None:
    """Remove what a process killed while writing left behind."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path)


def _bytes_of(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(_bytes_of(v) for v in value.values())
    if isinstance(value, list | tuple):
        return sum(_bytes_of(v) for v in value)
    return 8


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
