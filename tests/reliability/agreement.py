"""Shows what results depend on besides the study: runs one study in several ways and prints the differences.

Run: ``python tests/reliability/agreement.py``. Each way differs from the plain one (one process, one thread, engine
local) in one thing that is not supposed to matter. For every kind of stage the table has the largest difference of its
arrays (relative to the largest value there) and of its scores (relative, or absolute where they are below 1); 0 means
equal to the last bit. Ends with 1 if a difference is larger than its line allows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from kills import write_tiny
from safetensors.numpy import load_file

from vaebench.latents import LatentFile

PLAIN = ["--threads", "1"]
BATCHES = [
    "extract.batch_size=7", "reconstruct.batch_size=7", "reference.batch_size=7", "generate.settings.batch_size=7",
]  # fmt: skip
TWO = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
# Samples are stored as one of 256 values, where rounding may fall to the other side.
GREY_LEVEL = 1.001 / 255
# Way -> words before "vaebench", options, what may differ at most: arrays, scores.
WAYS: dict[str, tuple[list[str], list[str], float, float]] = {
    "run again": ([], PLAIN, 0.0, 0.0),
    "engine local, 2 jobs": ([], [*PLAIN, "--jobs", "2"], 0.0, 0.0),
    "engine ray": ([], [*PLAIN, "--engine", "ray", "--jobs", "2"], 0.0, 0.0),
    "2 drawing threads, 2 cores": ([], ["--threads", "2"], GREY_LEVEL, 0.05),
    "batches of 7": ([], [*PLAIN, *(word for b in BATCHES for word in ("-o", b))], GREY_LEVEL, 1e-3),
    "2 processes": (TWO, [], GREY_LEVEL, 0.05),
}


def run(study: Path, root: Path, before: list[str], options: list[str]) -> None:
    """Run the study one way, with the training of the plain run where that is not what varies."""
    words = [sys.executable, *before, "-m", "vaebench", "study", "run", str(study), "--output-dir", str(root)]
    done = subprocess.run(
        [*words, "--device", "cpu", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"The study ended with {done.returncode}:\n{done.stderr[-3000:]}")


def stages(root: Path) -> dict[str, Path]:
    """Stage -> folder."""
    index = json.loads((root / "index.json").read_text())
    return {stage["id"]: root / stage["folder"] for stage in index["stages"]}


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of a stage: latents, samples, features, weights."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npy":
            found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".safetensors" and "checkpoints" not in name:
            found |= {f"{name} {key}": value for key, value in load_file(path).items()}
        elif path.suffix == ".h5" and folder.name.startswith("extract"):
            found |= {f"{name} mean": LatentFile(path).mean(), f"{name} std": LatentFile(path).std()}
    return found


def array_difference(one: np.ndarray, two: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    if one.shape != two.shape:
        return float("inf")
    first, second = np.asarray(one, np.float64), np.asarray(two, np.float64)
    return float(np.abs(first - second).max(initial=0) / max(np.abs(first).max(initial=0), 1e-30))


def scores(folder: Path) -> dict[str, float]:
    """All scores of a stage."""
    found = {}
    for score in json.loads((folder / "scores.json").read_text()):
        words = [value for value in score["detail"].values() if isinstance(value, str)]
        found[" ".join([score["metric"], *words])] = score["value"]
    return found


def score_difference(one: dict[str, float], two: dict[str, float]) -> float:
    """Largest difference, relative above 1."""
    if one.keys() != two.keys():
        return float("inf")
    return max((abs(one[k] - two[k]) / max(1.0, abs(one[k])) for k in one if one[k] != two[k]), default=0.0)


def compare(plain: Path, other: Path) -> dict[str, tuple[float, float]]:
    """Kind of stage -> largest difference of arrays and of scores."""
    found: dict[str, tuple[float, float]] = {}
    theirs = stages(other)
    for name, folder in stages(plain).items():
        kind = name.partition("-")[0]
        here, there = arrays(folder), arrays(theirs[name])
        of_arrays = max((array_difference(here[key], there[key]) for key in here), default=0.0)
        of_scores = score_difference(scores(folder), scores(theirs[name]))
        before = found.get(kind, (0.0, 0.0))
        found[kind] = max(before[0], of_arrays), max(before[1], of_scores)
    return found


def table(folder: Path, ways: dict[str, Any]) -> tuple[list[str], bool]:
    """Lines of the table, and whether every difference is within its bounds."""
    study = write_tiny(folder / "tiny.yaml")
    run(study, folder / "plain", [], PLAIN)
    lines, fine = [], True
    for title, (before, options, of_arrays, of_scores) in ways.items():
        root = folder / title.replace(" ", "-").replace(",", "")
        run(study, root, before, options)
        found = compare(folder / "plain", root)
        if not lines:
            lines.append(f"{'arrays / scores':<28}" + "".join(f"{kind:>19}" for kind in found))
        cells = "".join(f"{f'{a:.0e} / {s:.0e}' if a or s else '0 / 0':>19}" for a, s in found.values())
        lines.append(f"{title:<28}{cells}")
        print(lines[-1], flush=True)
        fine &= all(a <= of_arrays and s <= of_scores for a, s in found.values())
    return lines, fine


def main() -> int:
    """Run every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", action="append", choices=list(WAYS), help="only this way; repeatable")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lines, fine = table(Path(name), {way: WAYS[way] for way in given.way or WAYS})
    print("\n".join(lines))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
