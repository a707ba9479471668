"""Eigenvalues of the second-moment matrix X^T X: the curvature that all probes on the same features share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.metrics.probing.rows import Rows
from vaebench.metrics.probing.threads import threads, worthwhile

FULL_WIDTH = 2048
SKETCH_RANK = 512


@dataclass(frozen=True)
class Spectrum:
    """Leading eigenpairs of X^T X.

    Attributes:
        values: (k,) eigenvalues, all or the k largest.
        vectors: (d, k) their eigenvectors.
        rest: eigenvalue that stands in for the directions without an eigenpair; infinite where there are none, so that
            they get no weight.
    """

    values: Tensor
    vectors: Tensor
    rest: float

    @property
    def largest(self) -> float:
        return float(self.values.max())

    def power(self, right: Tensor, weight: Tensor, exponent: float) -> Tensor:
        """(I + weight_k X^T X)^exponent right_k for every column k; exponent < 0.

        Args:
            right: (d, K).
            weight: (K,), positive.
        """
        outside = (1 + weight * self.rest) ** exponent
        inside = (1 + self.values[:, None] * weight) ** exponent - outside
        return outside * right + self.vectors @ (inside * (self.vectors.T @ right))

    def to(self, dtype: torch.dtype) -> Spectrum:
        return Spectrum(self.values.to(dtype), self.vectors.to(dtype), self.rest)


def spectrum_of(rows: Rows) -> Spectrum:
    """All eigenpairs up to ``FULL_WIDTH`` columns; beyond, the ``SKETCH_RANK`` leading by subspace iteration.

    Halko, Martinsson, Tropp: Finding structure with randomness, 2011. The sketch's seed is fixed: it moves the speed of
    a solver that uses this as a preconditioner, not its optimum.
    """
    n, width = rows.shape
    if width <= FULL_WIDTH:
        gram = rows.gram()
        with threads(worthwhile(gram.numel())):
            values, vectors = torch.linalg.eigh(gram)
        return Spectrum(values.clamp(min=0).float(), vectors.float(), torch.inf)
    rank = min(SKETCH_RANK, n, width)
    generator = torch.Generator().manual_seed(0)
    sketch = torch.randn(width, rank, generator=generator).to(rows.device)
    image = torch.zeros_like(sketch)
    for _, block in rows.blocks(columns=rank):
        image += block.T @ (block @ sketch)
    basis = torch.linalg.qr(image).Q
    moment = torch.zeros(rank, rank, dtype=torch.float64, device=rows.device)
    for _, block in rows.blocks(columns=rank):
        projected = block @ basis
        moment += projected.T @ projected
    values, rotation = torch.linalg.eigh(moment)
    values = values.clamp(min=0).float()
    return Spectrum(values, basis @ rotation.float(), float(values.min()))
