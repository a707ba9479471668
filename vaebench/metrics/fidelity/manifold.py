"""Precision, recall, density and coverage: are samples realistic, and is the variety of the reference reached?

A set's manifold is estimated as the union of balls around its members, each reaching to the member's k-th neighbour.
"""

from dataclasses import dataclass

import numpy as np

from vaebench.core.errors import TooFewSamples

BLOCK_BYTES = 64 * 2**20
BORDER = 1.0 + 1e-9
"""Widens balls by more than rounding, so that a sample on the border is inside however products are blocked."""


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

    Distances are Euclidean, in double precision, in blocks of at most 64 MiB; a ball includes its border.

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
    generated, reference = generated.astype(np.float64), reference.astype(np.float64)
    near_precision, near_density = _squared_radii(reference, (k_precision, k_density))
    (near_recall,) = _squared_radii(generated, (k_precision,))
    n, m = len(generated), len(reference)
    precision, density = np.zeros(n, bool), np.zeros(n)
    recall, nearest = np.zeros(m, bool), np.full(m, np.inf)
    for rows in _blocks(n, m):
        squared = _squared_distances(generated[rows], reference)
        precision[rows] = (squared <= near_precision).any(1)
        density[rows] = (squared <= near_density).sum(1) / k_density
        recall |= (squared <= near_recall[rows, None]).any(0)
        nearest = np.minimum(nearest, squared.min(0))
    return ManifoldScores(precision, recall, density, nearest <= near_density)


def _squared_radii(features: np.ndarray, neighbours: tuple[int, ...]) -> list[np.ndarray]:
    """Squared distance of every sample to its k-th neighbour, for each k."""
    radii = np.empty((len(features), len(neighbours)))
    columns = [k - 1 for k in neighbours]
    for rows in _blocks(len(features), len(features)):
        squared = _squared_distances(features[rows], features)
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(squared, columns, axis=1)[:, columns]
    return list(radii.T * BORDER)


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squared = x @ y.T
    squared *= -2.0
    squared += (x * x).sum(1)[:, None]
    squared += (y * y).sum(1)
    return np.maximum(squared, 0.0, out=squared)


def _blocks(rows: int, columns: int) -> list[slice]:
    size = max(1, BLOCK_BYTES // (8 * columns))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
