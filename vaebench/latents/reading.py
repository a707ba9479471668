"""Shuffled batches of latents, from memory when they fit, else with bounded memory.

Two orders, each a function of the seed and the epoch:

- ``full``: any permutation of the rows; wants the latents in memory.
- ``blocks``: blocks of consecutive rows (about 1 MiB) are permuted, and as many as fit half a buffer are read one after
  the other and shuffled together, while the other half is used. The disk sees long reads only, and memory is the buffer
  plus a few batches. The blocks start at another row in each epoch, so that no two rows are bound together.
"""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vaebench.core.errors import LatentFileError
from vaebench.core.seeds import numpy_generator
from vaebench.latents.file import LatentFile
from vaebench.latents.schema import LATENTS

BLOCK_BYTES = 2**20
BUFFER_BYTES = 2**28

Order = Literal["auto", "full", "blocks"]


@dataclass(frozen=True)
class Batch:
    """Rows of a latent file: their numbers (n,), posterior means and, if wanted, standard deviations (n, d, h, w)."""

    rows: np.ndarray
    mean: np.ndarray
    std: np.ndarray | None


def batches(
    latents: LatentFile,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    order: Order = "auto",
    std: bool = True,
    drop_last: bool = False,
    ram_budget: int | None = None,
    buffer_bytes: int = BUFFER_BYTES,
) -> Iterator[Batch]:
    """One epoch of shuffled batches, float32; every row comes once.

    Args:
        latents: the latent file.
        batch_size: rows per batch; the last batch may be smaller.
        seed, epoch: the order is a function of both.
        order: "full", "blocks", or "auto": full if the latents fit ``ram_budget``, else blocks. Name the order where
            two machines of different memory must see the same batches.
        std: whether to read the standard deviations too.
        drop_last: leave out a smaller last batch.
        ram_budget: bytes for `LatentFile.load`.
        buffer_bytes: memory of "blocks"; half of it is shuffled together.
    """
    if batch_size <= 0:
        raise ValueError(f"batch_size must be positive, not {batch_size}.")
    names = LATENTS if std else LATENTS[:1]
    if order == "full" or (order == "auto" and latents.load(ram_budget).in_memory):
        found = _full(latents, batch_size, seed, epoch, std)
    else:
        found = _from_blocks(latents, batch_size, seed, epoch, names, buffer_bytes)
    return (batch for batch in found if not drop_last or len(batch.rows) == batch_size)


def _full(latents: LatentFile, batch_size: int, seed: int, epoch: int, std: bool) -> Iterator[Batch]:
    rows = numpy_generator(seed, "latents", epoch).permutation(len(latents))
    for start in range(0, len(rows), batch_size):
        here = rows[start : start + batch_size]
        yield Batch(here, latents.mean(here), latents.std(here) if std else None)


def _from_blocks(
    latents: LatentFile, batch_size: int, seed: int, epoch: int, names: tuple[str, ...], buffer_bytes: int
) -> Iterator[Batch]:
    row_bytes = latents.nbytes // len(latents) // len(LATENTS) * len(names)
    block = max(1, BLOCK_BYTES // row_bytes)
    groups = block_order(len(latents), block, buffer_bytes // 2 // row_bytes, seed, epoch)
    capacity = max(sum(stop - start for start, stop in spans) for spans, _ in groups)
    # Two halves: one is read, by a thread, while batches are taken from the other.
    dtype = latents.extents["mean"].dtype
    halves = [[np.empty((capacity, *latents.shape), dtype) for _ in names] for _ in groups[:2]]
    left = [np.empty((0, *latents.shape), np.float32) for _ in names]
    left_rows = np.empty(0, np.int64)
    with latents.path.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as reader:

        def read(index: int) -> list[np.ndarray]:
            buffers = halves[index % 2]
            for name, buffer in zip(names, buffers, strict=True):
                _read_spans(file, latents, name, groups[index][0], buffer)
            return buffers

        ahead = reader.submit(read, 0)
        for index, (spans, shuffle) in enumerate(groups):
            buffers = ahead.result()
            if index + 1 < len(groups):
                ahead = reader.submit(read, index + 1)
            rows = np.concatenate([np.arange(start, stop) for start, stop in spans])[shuffle]
            position = 0
            while position < len(rows):
                take = shuffle[position : position + batch_size - len(left_rows)]
                values = [np.take(buffer, take, axis=0).astype(np.float32, copy=False) for buffer in buffers]
                here = rows[position : position + len(take)]
                position += len(take)
                if len(left_rows):
                    values = [np.concatenate(pair) for pair in zip(left, values, strict=True)]
                    here = np.concatenate([left_rows, here])
                if len(here) == batch_size:
                    yield _batch(here, values)
                    here, values = here[:0], [value[:0] for value in values]
                left_rows, left = here, values
    if len(left_rows):
        yield _batch(left_rows, left)


def _batch(rows: np.ndarray, values: list[np.ndarray]) -> Batch:
    return Batch(rows, values[0], values[1] if len(values) > 1 else None)


def block_order(
    n: int, block: int, group: int, seed: int, epoch: int
) -> list[tuple[list[tuple[int, int]], np.ndarray]]:
    """The order "blocks" of n rows.

    Args:
        n: number of rows.
        block: consecutive rows read together.
        group: rows shuffled together; one block at the least.
        seed, epoch: the order is a function of both.

    Returns:
        Groups: the spans (first, one past last) to read, in order, and a permutation of the rows read.
    """
    generator = numpy_generator(seed, "latent blocks", epoch)
    offset = int(generator.integers(min(block, n)))
    edges = np.unique(np.clip(np.arange(offset, n + block, block), 0, n))
    edges = np.union1d(edges, [0])
    starts = generator.permutation(len(edges) - 1)
    per_group = max(1, group // block)
    groups = []
    for first in range(0, len(starts), per_group):
        spans = [(int(edges[i]), int(edges[i + 1])) for i in starts[first : first + per_group]]
        groups.append((spans, generator.permutation(sum(stop - start for start, stop in spans))))
    return groups


def _read_spans(
    file: io.FileIO, latents: LatentFile, name: str, spans: list[tuple[int, int]], buffer: np.ndarray
) -> None:
    # Plain reads, not the memory map: mapped pages would count as this process's memory.
    extent = latents.extents[name]
    row_bytes = buffer[:1].nbytes
    view = buffer.data.cast("B")
    filled = 0
    for start, stop in spans:
        latents.require_sound(name, start, stop)
        file.seek(extent.offset + start * row_bytes)
        end = filled + (stop - start) * row_bytes
        while filled < end:
            count = file.readinto(view[filled:end])
            if not count:
                raise LatentFileError(f"'{latents.path}' has become shorter while it was read.")
            filled += count
