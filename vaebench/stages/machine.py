"""The machine that results come from, for their records."""

import functools
import os
import platform
from pathlib import Path
from typing import Any

import psutil

from vaebench.core.processes import process_count


def machine() -> dict[str, Any]:
    """The machine, in the words a reader of a table needs."""
    import torch

    return {
        "cpu": processor()[0],
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def hardware(device: str) -> dict[str, Any]:
    """What a stage was computed on, as far as it moves numbers in their last digits and times in their first."""
    import torch

    name, model = processor()
    return {
        "cpu": name,
        "cpu_model": model,
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "threads": torch.get_num_threads(),
        "processes": process_count(),
    }


@functools.cache
def processor() -> tuple[str, str]:
    """Name of the processor, and where the system tells them its family and model: of some makers all have one name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    pairs = (line.partition(":") for line in lines[: lines.index("") if "" in lines else None])
    told = {key.strip(): value.strip() for key, _, value in pairs}
    model = f"family {told['cpu family']} model {told['model']}" if {"cpu family", "model"} <= told.keys() else ""
    return told.get("model name") or platform.processor() or platform.machine(), model
