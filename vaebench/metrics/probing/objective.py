"""The penalised logistic loss of many attributes and penalties on shared features, with its derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from vaebench.metrics.probing.lbfgs import Evaluation
from vaebench.metrics.probing.rows import Rows, times
from vaebench.metrics.probing.spectrum import Spectrum
from vaebench.metrics.probing.threads import threads


class Objective:
    """K = |C| A problems, C-major; a point is a column of (width + 1, K), weights over intercept.

        F(w, b) = C sum_i [log(1 + exp(m_i)) - y_i m_i] + |w|^2 / 2,    m_i = x_i w + b,

    where the rows x_i have zero mean. The labels enter only through X^T y and their sum.

    Attributes:
        c: (K,) inverse penalty strength of every problem.
        curvature: (K,) second derivative by the intercept, C sum_i p_i (1 - p_i), where each problem was last
            evaluated.
        threads: torch threads for passes over the rows, those at construction.
    """

    def __init__(self, rows: Rows, y: np.ndarray, cs: np.ndarray, spectrum: Spectrum, dtype: torch.dtype) -> None:
        self.rows, self.dtype, self.spectrum = rows, dtype, spectrum.to(dtype)
        self.threads = torch.get_num_threads()
        n, width = rows.shape
        labels = torch.from_numpy(y).to(rows.device)
        moments = torch.zeros(width, y.shape[1], dtype=torch.float64, device=rows.device)
        for part, block in rows.blocks(dtype, y.shape[1]):
            moments += block.T @ labels[part].to(dtype)
        self.moments = moments.repeat(1, len(cs))
        self.positives = labels.sum(0, dtype=torch.float64).repeat(len(cs))
        self.c = torch.from_numpy(cs).to(rows.device).repeat_interleave(y.shape[1])
        self.prevalence = self.positives / n
        self.curvature = self.c * n * self.prevalence * (1 - self.prevalence)

    def at_prevalence(self) -> tuple[Tensor, Evaluation]:
        """The best constant predictor and its evaluation, which needs no pass since the columns have zero mean."""
        start = torch.zeros(self.moments.shape[0] + 1, len(self.c), dtype=self.dtype, device=self.rows.device)
        start[-1] = torch.logit(self.prevalence)
        gradient = torch.zeros_like(start)
        gradient[:-1] = -self.c * self.moments
        rest = 1 - self.prevalence
        entropy = -torch.xlogy(self.prevalence, self.prevalence) - torch.xlogy(rest, rest)
        return start, Evaluation(gradient, (self.c * self.rows.shape[0] * entropy).to(self.dtype))

    def evaluate(self, points: Tensor, columns: Tensor) -> Evaluation:
        """F and its gradient for the given problems; sums over blocks are float64."""
        weights, intercept = points[:-1], points[-1]
        c, moments, positives = self.c[columns], self.moments[:, columns], self.positives[columns]
        products = torch.zeros_like(moments)
        total, squares, losses = (torch.zeros_like(c) for _ in range(3))
        with threads(self.threads):
            for _, block in self.rows.blocks(self.dtype, len(columns)):
                margins = times(block, weights).add_(intercept)
                losses += softplus(margins, threshold=50).sum(0)
                p = margins.sigmoid_()
                total += p.sum(0)
                squares += torch.linalg.vecdot(p, p, dim=0)
                products += times(block.T, p)
        self.curvature[columns] = c * (total - squares)
        gradient = torch.cat([c * (products - moments) + weights, (c * (total - positives))[None]])
        double = weights.double()
        value = c * (losses - (double * moments).sum(0) - intercept * positives) + double.square().sum(0) / 2
        return Evaluation(gradient.to(self.dtype), value.to(self.dtype))

    def spread(self, points: Tensor, columns: Tensor) -> list[Tensor]:
        """p_i (1 - p_i) per block of rows."""
        low, spread = points.to(self.dtype), []
        with threads(self.threads):
            for _, block in self.rows.blocks(self.dtype, len(columns)):
                p = times(block, low[:-1]).add_(low[-1]).sigmoid_()
                spread.append(p - p * p)
        return spread

    def hessian(self, points: Tensor, columns: Tensor) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The Hessian at points (width + 1, K') as a function.

        Returns:
            (vectors (width + 1, K''), positions in ``columns`` (K'',)) -> the products, and per problem the largest
            change of a margin along its vector.
        """
        spread = self.spread(points, columns)

        def product(vectors: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
            c, low = self.c[columns[positions]], vectors.to(self.dtype)
            result = vectors.clone()
            result[-1] = 0
            largest = torch.zeros_like(c)
            with threads(self.threads):
                for (_, block), diagonal in zip(self.rows.blocks(self.dtype, len(columns)), spread, strict=True):
                    change = times(block, low[:-1]).add_(low[-1])
                    largest = torch.maximum(largest, torch.linalg.vector_norm(change, torch.inf, dim=0))
                    change *= diagonal if len(positions) == len(columns) else diagonal[:, positions]
                    result[:-1] += c * times(block.T, change)
                    result[-1] += c * change.sum(0)
            return result, largest

        return product
