"""Precision, recall, density and coverage: are samples realistic, and is the variety of the reference reached?

A set's manifold is estimated as the union of balls around its members, each reaching to the member's k-th neighbour.
"""

from dataclasses import dataclass

import numpy as np
import torch

from vaebench.core.errors import TooFewSamples
from vaebench.core.products import matmul
from vaebench.metrics.separability.neighbours import nearest_neighbours, rounding

BLOCK_BYTES = 16 * 2**20
BORDER = 1.0 + 1e-9
"""Widens balls by more than rounding, so that a sample on the border is inside however products are blocked."""
EPS32 = 2.0**-23
EXACT_ROWS = 1024


@dataclass(frozen=True)
class ManifoldScores:
    """The four scores sample by sample; each score is the mean of its array.

    Attributes:
        precision: bool per generated sample, whether it lies in a ball of the reference.
        recall: bool per reference sample, whether it lies in a ball of the generated set.
        density: float per generated sample, number of reference balls that hold it, over k.
        coverage: bool per reference sample, whether its ball holds a generated sample.
    """

    precision: np.ndarray
    recall: np.ndarray
    density: np.ndarray
    coverage: np.ndarray


def manifold_scores(
    generated: np.ndarray, reference: np.ndarray, *, k_precision: int = 3, k_density: int = 5
) -> ManifoldScores:
    """Improved precision and recall, density and coverage.

    Distances are Euclidean, a ball includes its border. Answers are those of float64: float32 products decide, in
    blocks of at most 16 MiB, except where rounding could; there float64 distances from differences do.

    Args:
        generated, reference: features (n, d) and (m, d). Recall and coverage depend on n, m and their ratio, so compare
            only at equal numbers.
        k_precision: neighbour for precision and recall (3 in their paper).
        k_density: neighbour for density and coverage (5 in theirs).

    Raises:
        TooFewSamples: a side has no k-th neighbour.

    Sources: Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative Models (2019); Naeem et
    al., Reliable Fidelity and Diversity Metrics for Generative Models (2020).
    """
    k = max(k_precision, k_density)
    if min(len(generated), len(reference)) <= k:
        raise TooFewSamples(
            f"Neighbour {k} needs more than {k} samples a side, got {len(generated)} and {len(reference)}."
        )
    near_precision, near_density = _squared_radii(reference, (k_precision, k_density))
    (near_recall,) = _squared_radii(generated, (k_precision,))
    n, m = len(generated), len(reference)
    precision, density = np.zeros(n, bool), np.zeros(n)
    recall, coverage = np.zeros(m, bool), np.zeros(m, bool)
    products = _Products(generated, reference)
    for rows in _blocks(n, m):
        tile = products.tile(rows)
        precision[rows] = tile.within(near_precision).any(1)
        near = tile.within(near_density)
        density[rows] = near.sum(1) / k_density
        coverage |= near.any(0)
        recall |= tile.within(near_recall[rows, None]).any(0)
    return ManifoldScores(precision, recall, density, coverage)


class _Products:
    """Sides as float32 products see them: centred, which keeps norms and so the rounding small."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y
        centre = y.mean(0, dtype=np.float64)
        self.left, self.right = ((side - centre).astype(np.float32) for side in (x, y))
        self.own, self.other = (np.square(side, dtype=np.float64).sum(1) for side in (self.left, self.right))
        self.g = rounding(x.shape[1])

    def tile(self, rows: slice) -> "_Tile":
        product = matmul(torch.from_numpy(self.left[rows]), torch.from_numpy(self.right.T)).numpy()
        squared = np.multiply(product, -2.0, out=product)
        squared += self.own[rows, None].astype(np.float32)
        squared += self.other.astype(np.float32)
        # |x - y|^2 is wrong by at most 2 g (|x||y| + |x|^2/2 + |y|^2/2) <= 2 g (|x|^2 + |y|^2).
        error = 2.0 * self.g * (self.own[rows] + self.other.max())
        return _Tile(squared, error.astype(np.float32)[:, None], self.x[rows], self.y)


@dataclass(frozen=True)
class _Tile:
    squared: np.ndarray
    error: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def within(self, limit: np.ndarray) -> np.ndarray:
        """Whether |x - y|^2 <= limit (of x or of y, broadcast), bool (rows, m)."""
        excess = self.squared - limit.astype(np.float32)
        inside = excess <= 0.0
        row, column = np.nonzero(np.abs(excess, out=excess) <= self.error + EPS32 * limit.astype(np.float32))
        limits = np.broadcast_to(limit, inside.shape)
        for start in range(0, len(row), EXACT_ROWS):
            i, j = row[start : start + EXACT_ROWS], column[start : start + EXACT_ROWS]
            inside[i, j] = _squared_lengths(self.x[i], self.y[j]) <= limits[i, j]
        return inside


def _squared_radii(features: np.ndarray, neighbours: tuple[int, ...]) -> list[np.ndarray]:
    """Squared distance of every sample to its k-th neighbour, for each k."""
    nearest = nearest_neighbours(features, k=max(neighbours))
    radii = np.empty((len(neighbours), len(features)))
    for start in range(0, len(features), EXACT_ROWS):
        rows = slice(start, start + EXACT_ROWS)
        for row, k in zip(radii, neighbours, strict=True):
            row[rows] = _squared_lengths(features[rows], features[nearest[rows, k - 1]])
    return list(radii * BORDER)


def _squared_lengths(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.square(np.subtract(x, y, dtype=np.float64)).sum(1)


def _blocks(rows: int, columns: int) -> list[slice]:
    size = max(1, BLOCK_BYTES // (4 * columns))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
