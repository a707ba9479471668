"""Every latent score: seconds, what of them the interval takes, and memory, on latents of any size.

    python tests/benchmarks/scores.py                                         # as the quickstart's: 8,536 x 32 x 4 x 4
    python tests/benchmarks/scores.py --train 100000 --shape 32,16,16         # 3 GiB of latents, mapped from the disk
    python tests/benchmarks/scores.py --metrics mig,viv --train 20000 --shape 32,8,8

Latents are noise that shows classes, attributes and factors, in NumPy files that are mapped and never loaded. A metric
runs in a forked child. Seconds are of its processor time (of wall time in brackets); "interval" is processor time
within the functions that make nothing but intervals, as a share of the rest, so that 1.00 means that the score takes
twice as long with its interval as without; a dash means that the interval is a by-product. Memory is the most that the
child had beyond the interpreter's own at the start, without pages of the mapped files, which the system takes back.
"""

import argparse
import importlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.core.errors import VaebenchError
from vaebench.data.base import DataInfo, Factor
from vaebench.metrics import METRICS
from vaebench.metrics.base import LatentSplit, MetricInputs

# Functions of metrics' modules that an interval alone needs.
INTERVALS = (
    "bootstrap_mean", "bootstrap_means", "resample_counts", "ratio_interval", "jackknife", "jackknife_variance",
    "jackknife_error", "weighted_areas", "sensitivity", "without_groups",
)  # fmt: skip
METHODS = {"dci": "_spread"}
SIZES = (4, 3, 5, 2)


def split(folder: Path, name: str, rows: int, shape: tuple[int, int, int], seed: int) -> LatentSplit:
    """Latents of one split in files of ``folder``."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in SIZES], 1)
    attributes = (rng.random((rows, 8)) < rng.uniform(0.1, 0.5, 8)).astype(np.uint8)
    labels = rng.integers(0, 10, rows)
    known = np.random.default_rng(0).standard_normal((10 + 8 + len(SIZES), *shape)).astype(np.float32)
    maps = []
    for part in ("mean", "std"):
        maps.append(np.lib.format.open_memmap(folder / f"{name}-{part}.npy", "w+", np.float32, (rows, *shape)))
    for start in range(0, rows, 1000):
        here = slice(start, min(start + 1000, rows))
        shown = np.concatenate([np.eye(10)[labels[here]], attributes[here], factors[here]], 1).astype(np.float32)
        noise = rng.standard_normal((len(shown), *shape), dtype=np.float32)
        maps[0][here] = noise + 0.3 * np.tensordot(shown, known, 1)
        maps[1][here] = 0.1
    for written in maps:
        written.flush()
    mean, std = (np.load(folder / f"{name}-{part}.npy", mmap_mode="r") for part in ("mean", "std"))
    side = 4 * shape[1]
    masks = (rng.random((rows, 1, 1)) < 0.9) & (np.add.outer(np.arange(side), np.arange(side)) < side)
    return LatentSplit(mean, std, labels, attributes, factors, masks=lambda wanted: masks[wanted].astype(np.uint8))


def watched(name: str, prepared: MetricInputs) -> dict[str, Any]:
    """Run a metric; what it took."""
    metric = METRICS.get(name)({})
    spent, depth = [0.0], [0]

    def timed(function: Callable) -> Callable:
        def run(*args, **kwargs):
            began, depth[0] = time.process_time(), depth[0] + 1
            try:
                return function(*args, **kwargs)
            finally:
                depth[0] -= 1
                spent[0] += (time.process_time() - began) * (depth[0] == 0)

        return run

    module = importlib.import_module(type(metric).__module__)
    for owner in {module, *(importlib.import_module(base.__module__) for base in type(metric).__mro__[1:-2])}:
        for attribute in INTERVALS:
            if hasattr(owner, attribute):
                setattr(owner, attribute, timed(getattr(owner, attribute)))
    if name in METHODS:
        setattr(type(metric), METHODS[name], timed(getattr(type(metric), METHODS[name])))
    before, most, done = anonymous(), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], anonymous())

    looker = threading.Thread(target=look)
    looker.start()
    began, wall, why = time.process_time(), time.perf_counter(), metric.missing(prepared)
    try:
        count = 0 if why else len(metric.run(prepared, 0))
    except VaebenchError as error:
        count, why = 0, str(error)
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    done.set()
    looker.join()
    most[0] = max(most[0], anonymous())
    return {"seconds": seconds, "wall": wall, "spent": spent[0], "mib": (most[0] - before) / 1024, "scores": count,
            "why": why}  # fmt: skip


def anonymous() -> int:
    """KiB of this process that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])


def in_a_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        found = work()
        with os.fdopen(sender, "w") as handle:
            handle.write(json.dumps(found))
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as handle:
        text = handle.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"why": "the child ended without a word (out of memory?)"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--test", type=int, default=1536)
    parser.add_argument("--shape", default="32,4,4")
    parser.add_argument("--metrics", help="names, separated by commas; all by default")
    parser.add_argument("--folder", type=Path, help="where the latents go; a temporary one by default")
    args = parser.parse_args()
    d, h, w = map(int, args.shape.split(","))
    info = DataInfo(
        "noise", 4 * h, classes=tuple("0123456789"), attributes=tuple("abcdefgh"), attribute_level="image",
        factors=tuple(Factor(f"f{k}", tuple(map(str, range(size)))) for k, size in enumerate(SIZES)), fingerprint="x",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        parts = [
            split(Path(name), part, getattr(args, part), (d, h, w), seed)
            for seed, part in enumerate(("train", "validation", "test"))
        ]
        some = np.asarray(parts[0].mean[:1000], np.float64)
        inputs = MetricInputs(*parts, info, some.mean((0, 2, 3)), 1 / some.std((0, 2, 3)))
        print(f"{args.train:,} + {args.validation:,} + {args.test:,} latents of {d} x {h} x {w}", flush=True)
        print(f"{'':22}{'seconds':>16}{'interval':>10}{'MiB':>8}{'scores':>8}")
        total, peak = 0.0, 0.0
        for metric in args.metrics.split(",") if args.metrics else METRICS.names():
            found = in_a_child(lambda metric=metric: watched(metric, inputs))
            if found["why"]:
                print(f"{metric:22}  {found['why']}", flush=True)
                continue
            rest = found["seconds"] - found["spent"]
            share = f"{found['spent'] / rest:.2f}" if found["spent"] > 0 else "-"
            cell = f"{found['seconds']:.2f} ({found['wall']:.1f})"
            print(f"{metric:22}{cell:>16}{share:>10}{found['mib']:>8.0f}{found['scores']:>8}", flush=True)
            total, peak = total + found["seconds"], max(peak, found["mib"])
        print(f"{'in all':22}{total:9.2f} s of processor time, {peak:.0f} MiB at most")


if __name__ == "__main__":
    main()
