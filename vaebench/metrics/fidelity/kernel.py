"""Kernel distance (KID): the squared maximum mean discrepancy with a cubic polynomial kernel."""

from dataclasses import dataclass

import numpy as np

from vaebench.core.errors import TooFewSamples

BLOCK = 1024


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance.

    Attributes:
        value: unbiased estimate from all samples; may be slightly negative when the sets are alike.
        subset_values: the same estimate from random subsets, (subsets,); of sides of one size their mean is what
            torch-fidelity reports.
        standard_error: of ``value``, from the spread of the subsets.
        subset_size: samples of the smaller side in a subset.
        n, n_reference: samples of either side that were taken.
    """

    value: float
    subset_values: np.ndarray
    standard_error: float
    subset_size: int
    n: int
    n_reference: int


def kernel_distance(
    generated: np.ndarray,
    reference: np.ndarray,
    *,
    generator: np.random.Generator,
    subsets: int = 100,
    subset_size: int | None = None,
    max_samples: int = 10_000,
) -> KernelDistance:
    """KID: unbiased MMD² with the kernel k(x, y) = (xᵀy / d + 1)³.

        MMD² = mean over x != x' of k(x, x') + mean over y != y' of k(y, y') - 2 mean over x, y of k(x, y)

    Unlike FID its expectation does not depend on the number of samples. Every kernel value is computed once; subsets
    are sums over it, so their number costs little. Memory is bounded by blocks of 1,024 rows.

    Args:
        generated, reference: features (n, d) and (m, d).
        generator: draws the subsets (and the samples, where there are more than ``max_samples``).
        subsets: number of subsets that give the standard error.
        subset_size: samples of a subset from the smaller side, drawn without replacement; default the smaller of 1,000
            and half of them. Of the larger side a subset takes the same share.
        max_samples: of a larger side, so many are drawn at random.

    Returns:
        The distance; the standard error is s sqrt(q / (1 - q)) for the standard deviation s of subsets that take the
        share q of either side (variance of sampling without replacement, scaled to all samples), NaN for q = 1. That is
        of the part of MMD² that is linear in the samples; where the two laws are equal this part vanishes and the error
        is too large, by up to sqrt((1 + q) / q).

    Raises:
        TooFewSamples: a side or a subset of fewer than 2, or a subset larger than a side.

    Source: Bińkowski et al., Demystifying MMD GANs (2018).
    """
    sides = []
    for features in (generated, reference):
        if len(features) > max_samples:
            features = features[np.sort(generator.permutation(len(features))[:max_samples])]
        sides.append(features.astype(np.float64))
    smaller = min(len(features) for features in sides)
    size = min(1000, max(smaller // 2, 2)) if subset_size is None else subset_size
    if smaller < 2 or not 2 <= size <= smaller:
        raise TooFewSamples(f"KID with subsets of {size} needs at least 2 and {size} samples a side, got {smaller}.")
    share = size / smaller
    # One share of both sides: by another one the larger side's variance would be scaled wrongly.
    chosen = [_indicators(len(features), round(share * len(features)), subsets, generator) for features in sides]
    values = subset_distances(sides[0], sides[1], chosen[0], chosen[1])
    known = subsets > 1 and share < 1
    error = float(np.std(values[1:], ddof=1) * np.sqrt(share / (1 - share))) if known else float("nan")
    return KernelDistance(float(values[0]), values[1:], error, size, len(sides[0]), len(sides[1]))


def _indicators(n: int, size: int, subsets: int, generator: np.random.Generator) -> np.ndarray:
    """One row for all samples, then one row per subset: 1 where the sample belongs to it. float64 (1 + subsets, n)."""
    chosen = np.zeros((1 + subsets, n))
    chosen[0] = 1.0
    for row in chosen[1:]:
        row[generator.choice(n, size, replace=False)] = 1.0
    return chosen


def subset_distances(x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray) -> np.ndarray:
    """Unbiased MMD² of several pairs of subsets at once.

    Args:
        x, y: float64 features (n, d), (m, d).
        in_x, in_y: 0 or 1, (s, n) and (s, m): membership of each sample in each subset.

    Returns:
        float64 (s,).
    """
    within_x = _within(x, in_x)
    within_y = _within(y, in_y)
    n, m = in_x.sum(1), in_y.sum(1)
    across = np.zeros(len(in_x))
    for rows in _blocks(len(x)):
        across += ((in_x[:, rows] @ _kernel(x[rows], y)) * in_y).sum(1)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2.0 * across / (n * m)


def _within(x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Sum of k(x, x') over ordered pairs of different samples in each subset."""
    total = np.zeros(len(chosen))
    for rows in _blocks(len(x)):
        # Blocks on and above the diagonal; by symmetry those above count twice.
        later = slice(rows.stop, len(x))
        own = _kernel(x[rows], x[rows])
        np.fill_diagonal(own, 0.0)
        total += ((chosen[:, rows] @ own) * chosen[:, rows]).sum(1)
        total += 2.0 * ((chosen[:, rows] @ _kernel(x[rows], x[later])) * chosen[:, later]).sum(1)
    return total


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T
    base /= x.shape[1]
    base += 1.0
    return base * base * base


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
