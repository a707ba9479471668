"""Approximate inverse Hessians: one for all problems, and closer ones for the few that it does not serve."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.metrics.probing.objective import Objective

OWN_ROWS = 512
OWN_BYTES = 2**29


class _Own(NamedTuple):
    weight: Tensor
    factors: Tensor
    inner: Tensor


class Preconditioner:
    """Inverse Hessians of the problems of an objective, approximately.

    The Hessian is I + C X^T D X with D = diag(p_i (1 - p_i)). Replacing D by its mean makes it a function of X^T X,
    whose eigenvectors serve every attribute and every C; at the best constant predictor this is exact. A rare or nearly
    separated attribute, however, has its curvature in few rows, and the mean says little about it. For such a problem
    :meth:`refine` takes D as it is in the ``OWN_ROWS`` rows where it is largest and as its mean in the others, inverted
    by Woodbury's identity.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.double = objective.spectrum.to(torch.float64)
        self.own: dict[int, _Own] = {}

    def __call__(self, vectors: Tensor, columns: Tensor) -> Tensor:
        """Approximate inverse Hessians times vectors (width + 1, K') of the problems ``columns`` (K',)."""
        objective, result = self.objective, torch.empty_like(vectors)
        owners = [(i, self.own[k]) for i, k in enumerate(columns.tolist()) if k in self.own]
        if len(owners) < len(columns):
            low, curvature = vectors.to(objective.dtype), objective.curvature[columns].to(objective.dtype)
            result[:-1] = objective.spectrum.power(low[:-1], curvature / objective.rows.shape[0], -1)
            result[-1] = low[-1] / curvature
        if owners:
            places = torch.tensor([i for i, _ in owners], device=columns.device)
            weight = torch.stack([own.weight for _, own in owners])
            halved = self._half(vectors[:, places].double(), weight)
            for position, (_, own) in enumerate(owners):
                solution = torch.cholesky_solve((own.factors @ halved[:, position])[:, None], own.inner)[:, 0]
                halved[:, position] -= own.factors.T @ solution
            result[:, places] = self._half(halved, weight).to(result.dtype)
        return result

    def refine(self, points: Tensor, columns: Tensor) -> None:
        """Give each of the problems ``columns`` an approximation of its own at its point."""
        objective = self.objective
        n, width = objective.rows.shape
        total = len(self.own.keys() | set(columns.tolist()))
        size = min(OWN_ROWS, n, max(OWN_BYTES // (8 * (width + 1) * total), 1))
        spread = torch.cat(objective.spread(points, columns)).T.contiguous()
        heavy, where = spread.topk(size)
        heavy, c = heavy.double(), objective.c[columns]
        weight = c * ((spread.sum(1).double() - heavy.sum(1)) / max(n - size, 1)).clamp(min=1e-6 / n)
        scale = (c[:, None] * heavy - weight[:, None]).clamp(min=0).sqrt()[:, :, None]
        picked = torch.empty(*where.shape, width, dtype=objective.dtype, device=points.device)
        for part, block in objective.rows.blocks(objective.dtype):
            inside = (where >= part.start) & (where < part.stop)
            picked[inside] = block[where[inside] - part.start]
        identity = torch.eye(size, dtype=torch.float64, device=points.device)
        for i, k in enumerate(columns.tolist()):
            # What __call__ subtracts cancels up to the condition number, so the factors meet in float64.
            factors = torch.empty(size, width + 1, dtype=torch.float64, device=points.device)
            halved = objective.spectrum.power(picked[i].T, weight[i : i + 1].to(objective.dtype), -0.5)
            factors[:, :-1] = halved.T
            factors[:, -1] = (weight[i] * n) ** -0.5
            factors *= scale[i]
            self.own[k] = _Own(weight[i], factors, torch.linalg.cholesky(torch.addmm(identity, factors, factors.T)))

    def _half(self, vectors: Tensor, weight: Tensor) -> Tensor:
        intercept = vectors[-1:] / (weight * self.objective.rows.shape[0]).sqrt()
        return torch.cat([self.double.power(vectors[:-1], weight, -0.5), intercept])
