"""Shuffled batches from a latent file against ``numpy.take`` on an array in memory.

Run: ``python tests/benchmarks/latent_reading.py [--folder DIR] [--rows 20000]``. Prints the ratios and the memory, and
ends with 1 if a target is missed: at least half the rate of ``numpy.take`` when the latents fit into memory, and memory
within the buffer (plus batches) when they do not.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil

from vaebench.latents import LatentFile, Provenance, Transform, verify
from vaebench.latents.reading import batches
from vaebench.latents.writer import LatentWriter
from vaebench.tokenizers.base import TokenizerSpec

SHAPE = (32, 16, 16)
BATCH = 256
BUFFER = 128 * 2**20
# Allowed above the buffer: batches in flight and the allocator's slack.
SLACK = 64 * 2**20
EPOCHS = 5


def make(path: Path, rows: int) -> None:
    """Write random latents shard by shard."""
    spec = TokenizerSpec(name="random", method="none", f=16, d=SHAPE[0], checkpoint_hash="random")
    data = json.loads('{"name": "random", "image_size": 256, "factors": [], "fingerprint": "random"}')
    provenance = Provenance(tokenizer=spec, data=data, split="train", transform=Transform(image_size=(256, 256)))
    writer = LatentWriter(path, provenance, rows, SHAPE)
    writer.prepare()
    generator = np.random.default_rng(0)
    for shard in range(writer.shards):
        start, stop = writer.bounds(shard)
        mean = generator.standard_normal((stop - start, *SHAPE), dtype=np.float32)
        writer.write(shard, mean, np.full_like(mean, 0.1))
    writer.merge({"ids": np.arange(rows), "flipped": np.zeros(rows)})


class PeakMemory:
    """Peak of this process's resident memory above where it began, sampled every few milliseconds."""

    def __enter__(self) -> Self:
        gc.collect()
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        return (self._peak - self._start) / 2**20


def rate(epoch: Callable[[int], int]) -> float:
    """Rows per second over one epoch."""
    began = time.perf_counter()
    rows = epoch(0)
    return rows / (time.perf_counter() - began)


def read(path: Path) -> dict[str, float]:
    """All measurements, in this process."""
    bounded = LatentFile(path)

    def from_blocks(epoch: int) -> int:
        found = batches(bounded, BATCH, epoch=epoch, std=False, ram_budget=0, buffer_bytes=BUFFER)
        return sum(len(batch.mean) for batch in found)

    with PeakMemory() as memory:
        blocks = max(rate(lambda _, e=epoch: from_blocks(e)) for epoch in range(EPOCHS))

    mapped, loaded = LatentFile(path), LatentFile(path)

    def from_map(epoch: int) -> int:
        return sum(len(batch.mean) for batch in batches(mapped, BATCH, epoch=epoch, std=False, order="full"))

    first_map = rate(from_map)
    began = time.perf_counter()
    loaded.load(loaded.nbytes)
    load_seconds = time.perf_counter() - began
    array = loaded.mean()

    def from_memory(epoch: int) -> int:
        return sum(len(batch.mean) for batch in batches(loaded, BATCH, epoch=epoch, std=False))

    def from_take(epoch: int) -> int:
        order = np.random.default_rng(epoch).permutation(len(array))
        return sum(len(np.take(array, order[start : start + BATCH], axis=0)) for start in range(0, len(order), BATCH))

    # In turns, so that a busy machine slows all of them alike.
    ways = {"take": from_take, "memory": from_memory, "mapped": from_map}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(EPOCHS):
        for name, way in ways.items():
            rates[name].append(rate(lambda _, w=way, e=epoch: w(e)))
    return {
        **{name: max(values) for name, values in rates.items()},
        "blocks": blocks,
        "first_map": first_map,
        "load_seconds": load_seconds,
        "peak_mib": memory.mebibytes,
        "file_mib": array.nbytes / 2**20,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to put the file; a temporary folder by default")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "latents.h5"
        make(path, options.rows)
        assert verify(path) == [] or options.rows < 2
        # Measured in a process of its own, so that what writing left in memory does not count.
        command = [sys.executable, __file__, "--read", str(path)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    take = found["take"]
    print(f"{options.rows} x {SHAPE} float32, {found['file_mib']:.0f} MiB of means, shuffled batches of {BATCH}")
    print(f"numpy.take in memory          {take:10,.0f} rows/s   ratio 1.00")
    for name, text in (
        ("memory", "batches, fits in memory"),
        ("mapped", "batches, full order, mapped"),
        ("first_map", "  the same, first epoch"),
        ("blocks", "batches, bounded memory"),
    ):
        print(f"{text:29} {found[name]:10,.0f} rows/s   ratio {found[name] / take:.2f}")
    print(f"loading once takes {found['load_seconds']:.2f} s (means and standard deviations)")
    limit = (BUFFER + SLACK) / 2**20
    print(
        f"bounded: peak {found['peak_mib']:.0f} MiB above start, buffer {BUFFER / 2**20:.0f} MiB, limit {limit:.0f} MiB"
    )
    fast, small = found["memory"] / take >= 0.5, found["peak_mib"] <= limit
    print(f"target ratio >= 0.5: {'met' if fast else 'MISSED'};  target memory: {'met' if small else 'MISSED'}")
    return 0 if fast and small else 1


if __name__ == "__main__":
    sys.exit(main())
