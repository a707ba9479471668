"""Bootstrap intervals of correlations: over tokenizers, and over tokenizers and then the training seeds within them.

Resamples of points are multinomial weights, so that Pearson, Spearman and Kendall of all resamples are a few matrix
products.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reports.statistics.checks import Vector, signs, standardised

REPEATS = 4_999
SMALLEST = 5  # below this most resamples repeat two or three points, and r of those is +1 or -1

Interval = tuple[float, float]


def bootstrap(x: Vector, y: Vector, level: float = 0.95, seed: int = 0) -> dict[str, Interval] | None:
    """Percentile intervals of 'pearson', 'spearman' and 'kendall' over resampled points; None below five points.

    Resamples in which an axis is constant have no correlation and are passed over.
    """
    n = len(x)
    if n < SMALLEST:
        return None
    drawn = weights(n, seed)
    a, b = (_axis(values.astype(np.float64).tobytes(), seed) for values in (x, y))
    concordance = _row_products(drawn @ (a.signs * b.signs), drawn)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "pearson": _weighted_r_of_points(drawn, standardised(x), standardised(y)),
            "spearman": np.clip(_row_products(a.weighted_ranks, b.ranks) / np.sqrt(a.squares * b.squares), -1, 1),
            "kendall": concordance / np.sqrt(a.untied * b.untied),
        }
    return {name: percentiles(sample, level) for name, sample in values.items()}


def hierarchical_bootstrap(
    xs: Sequence[Vector], ys: Sequence[Vector], paired: Sequence[bool], level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Percentile interval of Pearson's r over tokenizers and, within each drawn tokenizer, over its training seeds.

    Args:
        xs, ys: per tokenizer the values of every seed.
        paired: per tokenizer, whether x and y come from the same seeds in the same order, so that one draw of seeds
            serves both.
        level: of the interval.
        seed: of the draws.

    Returns:
        None below five tokenizers, or where no tokenizer has two seeds on either axis: then `bootstrap` says it all.
        Resampling k seeds shows (k - 1) / k of their variance, so with two or three seeds the interval is too narrow.
    """
    n, most = len(xs), max(max(map(len, xs)), max(map(len, ys)))
    if n < SMALLEST or most < 2:
        return None
    x = _means_of_draws(xs, most, None, seed)
    y = _means_of_draws(ys, most, tuple(map(bool, paired)), seed)
    x, y = ((v - v.min()) / np.ptp(v) for v in (x, y))
    return percentiles(_weighted_r(np.ones((1, n)), x, y), level)


@dataclass(frozen=True)
class _Axis:
    """What the resamples of one axis share between its pairings, rows being resamples.

    Attributes:
        signs: of the differences of its values, (n, n).
        ranks: within each resample, centred, (REPEATS, n); weighted_ranks: times the weights; squares: their weighted
            sum of squares, (REPEATS).
        untied: pairs of drawn points that differ, (REPEATS).
    """

    signs: Vector
    ranks: Vector
    weighted_ranks: Vector
    squares: Vector
    untied: Vector


@lru_cache(maxsize=4)
def _axis(values: bytes, seed: int) -> _Axis:
    differences = signs(np.frombuffer(values))
    n = len(differences)
    drawn = weights(n, seed)
    # Drawn points below, and half of those equal: n / 2 on average over a resample.
    centred = drawn @ differences.T / 2
    weighted = drawn * centred
    squares = _row_products(weighted, centred)
    return _Axis(differences, centred, weighted, squares, _row_products(drawn @ differences**2, drawn))


def _row_products(a: Vector, b: Vector) -> Vector:
    products: Vector = np.einsum("ij,ij->i", a, b)
    return products


def percentiles(values: Vector, level: float) -> Interval:
    """The middle share `level` of the values that are finite; NaN bounds where none is."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=8)
def weights(n: int, seed: int) -> Vector:
    """How often each point is in each resample, (REPEATS, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), REPEATS).astype(np.float64)


def _weighted_r_of_points(weights: Vector, x: Vector, y: Vector) -> Vector:
    """Pearson of every resample of standardised x and y (n)."""
    moments = weights @ np.stack([x, y, x * y, x * x, y * y], axis=1) / weights.sum(axis=1, keepdims=True)
    mean_x, mean_y, xy, xx, yy = moments.T
    covariance, variance_x, variance_y = xy - mean_x * mean_y, xx - mean_x**2, yy - mean_y**2
    # A resample of one point has no correlation; its variance comes out as rounding.
    varied = (variance_x > 1e-12 * xx) & (variance_y > 1e-12 * yy)
    return np.where(varied, np.clip(covariance / np.sqrt(variance_x * variance_y), -1, 1), np.nan)


def _weighted_r(weights: Vector, x: Vector, y: Vector) -> Vector:
    """Pearson of every resample of x and y (REPEATS, n), which differ by resample."""
    total = weights.sum(axis=1, keepdims=True)
    x, y = (v - np.sum(weights * v, axis=1, keepdims=True) / total for v in (x, y))
    xy, xx, yy = (np.sum(weights * product, axis=1) for product in (x * y, x * x, y * y))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(xy / np.sqrt(xx * yy), -1, 1)
    return np.where((xx > 1e-24) & (yy > 1e-24), r, np.nan)


def _means_of_draws(values: Sequence[Vector], most: int, paired: tuple[bool, ...] | None, seed: int) -> Vector:
    """Mean over the drawn seeds of every drawn tokenizer, (REPEATS, n)."""
    table = np.zeros((len(values), most))
    for row, own in zip(table, values, strict=True):
        row[: len(own)] = own
    places, shares = _draws(tuple(map(len, values)), most, paired, seed)
    means: Vector = np.einsum("ijk,ijk->ij", table.ravel()[places], shares)
    return means


@lru_cache(maxsize=4)
def _draws(counts: tuple[int, ...], most: int, paired: tuple[bool, ...] | None, seed: int) -> tuple[np.ndarray, Vector]:
    """Which places of the table of tokenizers by seeds each resample takes, (REPEATS, n, most), and their shares.

    As many seeds are drawn, with replacement, as the tokenizer has; the places beyond have share 0. The axis that is
    `paired` draws the seeds of the axis that is not (None) for these tokenizers, and others for the rest.
    """
    n = len(counts)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, n, (REPEATS, n))
    shared, own = rng.random((2, REPEATS, n, most))
    uniform = shared if paired is None else np.where(np.array(paired)[chosen][..., None], shared, own)
    k = np.array(counts)[chosen][..., None]
    return chosen[..., None] * most + (uniform * k).astype(np.intp), (np.arange(most) < k) / k
