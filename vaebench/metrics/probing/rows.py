"""A tall matrix read in blocks of rows, so that it may be larger than memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**23
CACHE_BYTES = 2 * 2**30


def times(block: Tensor, right: Tensor) -> Tensor:
    """``block @ right``; a few columns go one by one, which BLAS reads a tall block much faster for."""
    if right.shape[1] > 8:
        return block @ right
    return torch.stack([block @ column for column in right.T.contiguous()], 1)


class ArrayLike(Protocol):
    """What a source needs: a shape, and slices of rows as NumPy arrays (NumPy, memory maps and HDF5 data sets fit)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: slice, /) -> np.ndarray: ...


class Rows:
    """The rows (n, width) of a source under a row-wise transform.

    The transform gets a block as a tensor (rows, ...) of the working dtype and returns (rows, width). Products with a
    matrix that does not fit in memory are sums over :meth:`blocks`.
    """

    def __init__(
        self,
        source: ArrayLike,
        transform: Callable[[Tensor], Tensor] = torch.Tensor.contiguous,
        width: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.source = source
        self.transform = transform
        self.shape = (source.shape[0], width if width is not None else math.prod(source.shape[1:]))
        self.device = device
        self._cache: Tensor | None = None

    def map(self, transform: Callable[[Tensor], Tensor], width: int | None = None) -> Rows:
        """These rows under one more transform; ``width`` where it changes."""
        inner = self.transform
        return Rows(self.source, lambda block: transform(inner(block)), width or self.shape[1], self.device)

    def cached(self, limit: int = CACHE_BYTES) -> Rows:
        """Keep the float32 rows in memory if they take at most ``limit`` bytes; float64 is always read anew."""
        n, width = self.shape
        if self._cache is None and 4 * n * width <= limit:
            cache = torch.empty(n, width, dtype=torch.float32, device=self.device)
            for rows, block in self.blocks():
                cache[rows] = block
            self._cache = cache
        return self

    def blocks(self, dtype: torch.dtype = torch.float32, columns: int = 0) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, block of shape (rows, width)); ``columns`` is the width of what the caller computes per row."""
        n, width = self.shape
        cache = self._cache if dtype == torch.float32 else None
        if cache is None:  # what is read may be wider than what the transform leaves
            width = max(width, math.prod(self.source.shape[1:]))
        step = max(BLOCK_ELEMENTS // (width + columns), 1)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            if cache is not None:
                yield rows, cache[rows]
            else:
                block = torch.from_numpy(np.require(self.source[rows], requirements=["C", "W"]))
                yield rows, self.transform(block.to(self.device, dtype))

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (divisor n) of every column in float64; NaN and infinity show in both."""
        n, width = self.shape
        mean = torch.zeros(width, dtype=torch.float64, device=self.device)
        scatter = torch.zeros_like(mean)
        seen = 0
        for rows, block in self.blocks(torch.float64):
            # Chan's update of mean and scatter: no cancellation where the mean is large beside the spread.
            count = rows.stop - rows.start
            block_mean = block.mean(0)
            delta = block_mean - mean
            scatter += (block - block_mean).square_().sum(0) + delta.square() * (seen * count / (seen + count))
            mean += delta * (count / (seen + count))
            seen += count
        return mean, (scatter / n).sqrt()

    def gram(self) -> Tensor:
        """The second-moment matrix X^T X (width, width), float64, from float32 products per block."""
        width = self.shape[1]
        gram = torch.zeros(width, width, dtype=torch.float64, device=self.device)
        for _, block in self.blocks():
            gram += block.T @ block
        return gram

    def to_tensor(self, dtype: torch.dtype) -> Tensor:
        """All rows at once."""
        return torch.cat([block for _, block in self.blocks(dtype)])
