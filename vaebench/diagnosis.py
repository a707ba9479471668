"""What ``vaebench doctor`` finds: versions, devices, extras, weights, plug-ins, caches and disks, with remedies.

Nothing is downloaded and nothing is changed. Weights are looked for where the code that needs them looks.
"""

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from vaebench.core.errors import MissingWeights, VaebenchError
from vaebench.core.plugins import GROUPS

Status = Literal["ok", "missing", "problem"]
SECTIONS = ("versions", "devices", "extras", "weights", "plug-ins", "caches")
SMALL_DISK = 5 * 2**30
# Module by which an extra's package is imported, where it is not the package's name.
MODULES = {"torch-fidelity": "torch_fidelity"}


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do about it.

    "missing" is optional: something that some work needs. "problem" is what work will fail or go wrong over.
    """

    section: str
    name: str
    status: Status
    detail: str = ""
    remedy: str = ""


def diagnose() -> list[Check]:
    """Every check, by section."""
    return [*_versions(), *_devices(), *_extras(), *_weights(), *_plugins(), *_caches()]


def _versions() -> Iterator[Check]:
    from vaebench.stages.base import PACKAGES
    from vaebench.stages.machine import machine

    about = machine()
    yield Check("versions", "python", "ok", f"{about['python']} on {about['platform']}")
    for name in PACKAGES:
        yield Check("versions", name, "ok", version(name))


def _devices() -> Iterator[Check]:
    import torch

    from vaebench.stages.machine import machine

    about = machine()
    threads = torch.get_num_threads()
    yield Check(
        "devices", "cpu", "ok", f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB; {threads} threads"
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            told = f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
            yield Check("devices", f"cuda:{index}", "ok", told)
    else:
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        remedy = "where there is a GPU, " + (
            "check its driver (nvidia-smi)" if built else "install a build of torch with CUDA"
        )
        yield Check(
            "devices", "cuda", "missing", f"none; torch is built {f'for {built}' if built else 'without'}", remedy
        )
    if torch.backends.mps.is_available():
        yield Check("devices", "mps", "ok")


def _extras() -> Iterator[Check]:
    """Every optional dependency of vaebench, but those of its developers."""
    for requirement in requires("vaebench") or []:
        found = re.fullmatch(r"([\w.-]+).*;\s*extra == ['\"]([\w-]+)['\"]", requirement)
        if found is None or found[2] in {"test", "dev"}:
            continue
        package, extra = found.groups()
        module = MODULES.get(package, package)
        try:
            there = importlib.util.find_spec(module) is not None
            yield Check("extras", extra, "ok", f"{package} {version(package)}") if there else _absent(extra, package)
        except PackageNotFoundError:
            yield _absent(extra, package)


def _absent(extra: str, package: str) -> Check:
    return Check("extras", extra, "missing", f"{package} is not installed", f"pip install 'vaebench[{extra}]'")


def _weights() -> Iterator[Check]:
    import torch
    from huggingface_hub import try_to_load_from_cache

    from vaebench.training.perceptual import BACKBONE_FILES, backbone_file
    from vaebench.vision import NETWORKS
    from vaebench.vision.inception import URL, WEIGHTS
    from vaebench.vision.teachers import TEACHERS
    from vaebench.vision.timm_models import HUB_FILES

    for name in ("efficientnet-lite0", "mobilenetv2"):
        try:
            yield Check("weights", name, "ok", str(NETWORKS.get(name).weights_path()))
        except MissingWeights as error:  # they are dependencies, so something is broken
            yield Check("weights", name, "problem", error.message, error.remedy)
    inception = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    yield _file("inception (FID, sFID, Inception Score)", inception, f"put {URL} there, or give weights=PATH")
    for network in BACKBONE_FILES:
        try:
            yield Check("weights", f"LPIPS {network}", "ok", str(backbone_file(network)))  # type: ignore[arg-type]
        except MissingWeights as error:
            yield Check("weights", f"LPIPS {network}", "missing", "not here", error.remedy)
    for model in dict.fromkeys(teacher.model for teacher in TEACHERS.values()):
        names = ", ".join(name for name, teacher in TEACHERS.items() if teacher.model == model)
        found = [try_to_load_from_cache(f"timm/{model}", file) for file in HUB_FILES]
        place = next((path for path in found if isinstance(path, str)), None)
        remedy = f"hf download timm/{model}"
        yield Check("weights", names, "ok", place) if place else Check("weights", names, "missing", "not here", remedy)


def _file(name: str, path: Path, remedy: str) -> Check:
    if path.is_file():
        return Check("weights", name, "ok", str(path))
    return Check("weights", name, "missing", f"not at {path}", remedy)


def _plugins() -> Iterator[Check]:
    """What was registered from outside, and whether it can be imported."""
    from vaebench.data import DATASETS
    from vaebench.generation import SAMPLERS
    from vaebench.metrics import METRICS
    from vaebench.tokenizers import TOKENIZERS
    from vaebench.vision import NETWORKS

    for group, registry in zip(GROUPS, (TOKENIZERS, DATASETS, METRICS, NETWORKS, SAMPLERS), strict=True):
        for entry in registry.entries():
            if entry.package == "vaebench":
                continue
            try:
                registry.get(entry.name)
                code = registry.code(entry.name)
                yield Check("plug-ins", f"{group[:-1]} {entry.name}", "ok", f"{entry.package}, code {code[:10]}")
            except VaebenchError as error:
                yield Check("plug-ins", f"{group[:-1]} {entry.name}", "problem", error.message, error.remedy)
            except Exception as error:  # a stranger's module may raise anything
                told = f"{type(error).__name__}: {error}"
                yield Check("plug-ins", f"{group[:-1]} {entry.name}", "problem", told, f"mend {entry.package}")


def _caches() -> Iterator[Check]:
    import torch
    from huggingface_hub import constants

    from vaebench.api import cache_root

    root = cache_root()
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.is_dir():
            yield Check("caches", f"vaebench/{folder.name}", "ok", f"{amount(size_of(folder))} in {folder}")
    for name, place in (("Hugging Face", Path(constants.HF_HUB_CACHE)), ("torch hub", Path(torch.hub.get_dir()))):
        yield Check(
            "caches", name, "ok", f"{amount(size_of(place))} in {place}" if place.is_dir() else f"none at {place}"
        )
    offline = os.environ.get("HF_HUB_OFFLINE")
    yield Check("caches", "downloads", "ok", f"forbidden, HF_HUB_OFFLINE={offline}" if offline else "allowed")
    for name, place in (("disk of the cache", root), ("disk here", Path.cwd())):
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        writable = os.access(existing, os.W_OK)
        told = f"{amount(free)} free at {existing}" + ("" if writable else ", which may not be written to")
        remedy = "" if writable else "set VAEBENCH_CACHE, or work in another folder"
        if free < SMALL_DISK:
            remedy = remedy or "a study takes gigabytes: make room, or set VAEBENCH_CACHE"
        yield Check("caches", name, "ok" if writable and free >= SMALL_DISK else "problem", told, remedy)


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder; links, and what vanishes meanwhile, count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            try:
                total += 0 if path.is_symlink() else path.stat().st_size
            except OSError:
                continue
    return total


def amount(size: float) -> str:
    """'1.5 GiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
