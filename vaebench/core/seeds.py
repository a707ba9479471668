"""Randomness without state: every draw is a function of a key, so that a run can be cut, moved or split at will.

A key is a sequence of integers and texts, such as ``(seed, "noise", step)``. Draws that belong to a sample derive from
the sample's global id, so that they depend neither on the batch size nor on the number of processes.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = int | str


def seed_of(*key: Key) -> int:
    """A 63-bit seed, stable across machines and versions: BLAKE2b of the key's parts."""
    text = "\x1f".join(f"{type(part).__name__[0]}{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_generator(*key: Key) -> np.random.Generator:
    """A NumPy generator seeded by the key."""
    return np.random.Generator(np.random.PCG64(seed_of(*key)))


def torch_generator(*key: Key) -> "torch.Generator":
    """A torch generator on the CPU seeded by the key. Draw there and move: every device then sees the same values."""
    import torch

    return torch.Generator().manual_seed(seed_of(*key))


def sample_normal(ids: np.ndarray, shape: tuple[int, ...], *key: Key) -> "torch.Tensor":
    """Standard normal noise per sample.

    Args:
        ids: global sample ids, (n,).
        shape: shape of one sample's noise.
        key: what the noise is for, such as ``seed, "initial noise"``.

    Returns:
        float32 tensor (n, *shape) whose row i is a function of the key and ``ids[i]`` alone.
    """
    return _per_sample(ids, shape, key, lambda generator, row: generator.standard_normal(out=row, dtype=np.float32))


def sample_uniform(ids: np.ndarray, shape: tuple[int, ...], *key: Key) -> "torch.Tensor":
    """Uniform draws from [0, 1) per sample, float32 (n, *shape); see `sample_normal`."""
    return _per_sample(ids, shape, key, lambda generator, row: generator.random(out=row, dtype=np.float32))


def _per_sample(
    ids: np.ndarray,
    shape: tuple[int, ...],
    key: tuple[Key, ...],
    fill: Callable[[np.random.Generator, np.ndarray], object],
) -> "torch.Tensor":
    import torch

    base = seed_of(*key)
    rows = np.empty((len(ids), int(np.prod(shape))), np.float32)
    for row, sample_id in zip(rows, ids, strict=True):
        # Philox is counter-based: a 128-bit key made of the purpose and the id gives independent streams cheaply.
        bits = np.random.Philox(key=np.array([base, int(sample_id)], np.uint64))
        fill(np.random.Generator(bits), row)
    return torch.from_numpy(rows.reshape(len(ids), *shape))


def batch_indices(n: int, batch_size: int, step: int, *key: Key) -> np.ndarray:
    """Rows of the batch at ``step`` in an endless stream of shuffled epochs.

    Stateless: a run resumed at any step sees the same batches. A batch may straddle two epochs; every epoch visits
    each of the n rows once.

    Returns:
        int64 array (batch_size,) with values in [0, n).
    """
    if n <= 0 or batch_size <= 0:
        raise ValueError(f"batch_indices needs n > 0 and batch_size > 0, got {n} and {batch_size}.")
    positions = step * batch_size + np.arange(batch_size)
    epochs, offsets = np.divmod(positions, n)
    rows = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = _epoch(n, int(epoch), key)[offsets[here]]
    return rows


@functools.lru_cache(maxsize=4)
def _epoch(n: int, epoch: int, key: tuple[Key, ...]) -> np.ndarray:
    # Kept because every step of an epoch asks for it, and shuffling a million rows takes longer than a small step.
    return numpy_generator(*key, "epoch", epoch).permutation(n)
