"""Correlation between two scores over a handful of tokenizers, with all the uncertainty that so few points carry.

Six tokenizers are many in this field and three are usual, so nothing here leans on asymptotics where an exact answer
exists: permutation p values enumerate every ordering up to n = 9, and the smallest p that n points could ever give is
reported beside the p that they gave.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from reports.names import MINUS
from vaebench.core.errors import NumericalError, TooFewSamples

Vector = NDArray[np.float64]

EXACT_UP_TO = 9  # 9! = 362,880 orderings: a third of a second
RANDOM_PERMUTATIONS = 99_999
BOOTSTRAP_REPEATS = 9_999
SMALLEST_BOOTSTRAP = 5  # below this most resamples repeat two or three points, and r of those is +1 or -1


@dataclass(frozen=True)
class Correlation:
    """Association of x and y over n points.

    Attributes:
        n: number of points (tokenizers).
        pearson: Pearson's r.
        low, high: Fisher interval of r at `level`; (-1, 1) at n = 3, where Fisher's standard error is infinite.
        bootstrap_low, bootstrap_high: percentile bootstrap over points; None below five points.
        pearson_p: two-sided permutation p of |r|.
        spearman: Spearman's rho (average ranks for ties).
        spearman_p: two-sided permutation p of |rho|.
        smallest_p: the smallest `spearman_p` that these ranks could have given (2 / n! without ties).
        exact: whether the permutations were enumerated (True) or drawn.
        leave_one_out: smallest and largest r when one point is left out; None below four points.
        level: confidence level of the intervals.
    """

    n: int
    pearson: float
    low: float
    high: float
    bootstrap_low: float | None
    bootstrap_high: float | None
    pearson_p: float
    spearman: float
    spearman_p: float
    smallest_p: float
    exact: bool
    leave_one_out: tuple[float, float] | None
    level: float = 0.95

    @property
    def excludes_zero(self) -> bool:
        """Whether the Fisher interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class PartialCorrelation:
    """Correlation of x and y with the confounder z held fixed; the interval needs five points, the p value four."""

    n: int
    value: float
    low: float | None
    high: float | None
    p: float
    x_with_confounder: float
    y_with_confounder: float


def correlate(x: ArrayLike, y: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Correlation:
    """Pearson and Spearman of paired values `x`, `y` (each of shape (n,)), with every interval that n allows.

    `seed` drives the bootstrap and, above nine points, the drawn permutations.

    Raises:
        TooFewSamples: fewer than three pairs; two points always correlate at +1 or -1.
        NumericalError: a value that is not finite, or an axis on which all values are equal.
    """
    first, second = _checked(x, y)
    n = len(first)
    rng = np.random.default_rng(seed)
    r = _pearson(first, second)
    ranks_x, ranks_y = _ranks(first), _ranks(second)
    low, high = fisher_interval(r, n, level)
    bootstrap = _bootstrap(first, second, level, rng)
    pearson_p, _ = _permutation_p(first, second, rng)
    spearman_p, smallest = _permutation_p(ranks_x, ranks_y, rng)
    return Correlation(
        n=n,
        pearson=r,
        low=low,
        high=high,
        bootstrap_low=bootstrap[0] if bootstrap else None,
        bootstrap_high=bootstrap[1] if bootstrap else None,
        pearson_p=pearson_p,
        spearman=_pearson(ranks_x, ranks_y),
        spearman_p=spearman_p,
        smallest_p=smallest,
        exact=n <= EXACT_UP_TO,
        leave_one_out=leave_one_out(first, second),
        level=level,
    )


def fisher_interval(r: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """tanh(atanh(r) -+ z / sqrt(n - 3)): Fisher's interval of a Pearson correlation; (-1, 1) when n <= 3."""
    if n <= 3:
        return -1.0, 1.0
    if abs(r) >= 1:
        return r, r
    half = float(special.ndtri((1 + level) / 2)) / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def leave_one_out(x: ArrayLike, y: ArrayLike) -> tuple[float, float] | None:
    """Smallest and largest Pearson r when each point is left out in turn; None below four points.

    Subsets in which one axis becomes constant have no r and are passed over.
    """
    first, second = _checked(x, y)
    if len(first) < 4:
        return None
    kept = [np.delete(np.arange(len(first)), i) for i in range(len(first))]
    values = [_pearson(first[k], second[k]) for k in kept if np.ptp(first[k]) > 0 and np.ptp(second[k]) > 0]
    return (min(values), max(values)) if values else None


def partial_correlation(x: ArrayLike, y: ArrayLike, z: ArrayLike, *, level: float = 0.95) -> PartialCorrelation:
    """r_xy.z = (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)), its Student p (n - 3 degrees) and Fisher interval.

    Raises:
        TooFewSamples: fewer than four points; three leave no degree of freedom.
        NumericalError: x or y is a linear function of z, so nothing is left once z is held fixed.
    """
    first, second = _checked(x, y)
    _, third = _checked(x, z)
    n = len(first)
    if n < 4:
        raise TooFewSamples(
            f"A partial correlation needs at least 4 points, here are {n}.", "Add tokenizers to the study."
        )
    xy, xz, yz = _pearson(first, second), _pearson(first, third), _pearson(second, third)
    unexplained = (1 - xz**2) * (1 - yz**2)
    if unexplained < 1e-12:
        raise NumericalError(
            "One of the two scores is a linear function of the confounder: nothing is left to correlate.",
            "Add tokenizers on which the score and the confounder differ.",
        )
    value = float(np.clip((xy - xz * yz) / math.sqrt(unexplained), -1, 1))
    degrees = n - 3
    t = value * math.sqrt(degrees / max(1 - value**2, 1e-300))
    low, high = fisher_interval(value, n - 1, level) if n >= 5 else (None, None)
    p = float(2 * special.stdtr(degrees, -abs(t)))
    return PartialCorrelation(n, value, low, high, p, x_with_confounder=xz, y_with_confounder=yz)


def seed_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """Student interval of the mean over independent runs (training seeds); None for fewer than two."""
    runs = np.asarray(values, dtype=np.float64)
    if len(runs) < 2:
        return None
    half = float(special.stdtrit(len(runs) - 1, (1 + level) / 2) * runs.std(ddof=1) / math.sqrt(len(runs)))
    return float(runs.mean()) - half, float(runs.mean()) + half


def caution(n: int, smallest_p: float | None = None) -> str:
    """One honest sentence on what n points can carry."""
    if n < 3:
        return f"n={n} carries nothing: the correlation of two points is +1 or -1 whatever they are."
    floor = 2 / math.factorial(n) if smallest_p is None else smallest_p
    if n == 3:
        return (
            "n=3 carries almost nothing: the 95% interval of a correlation of three points is the whole range from "
            f"{MINUS}1 to 1, and even a perfect ranking comes up by chance with p = {floor:.2f}."
        )
    if n < 10:
        weight = "very little" if n < 6 else "little"
        return f"n={n} carries {weight}: the smallest p value that a rank test of {n} points can give is {floor:.2g}."
    return f"n={n}: the points are tokenizers, which are not an independent sample of all tokenizers."


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[Vector, Vector]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise NumericalError(f"Correlation needs two lists of one length, got shapes {first.shape}, {second.shape}.")
    if len(first) < 3:
        raise TooFewSamples(
            f"A correlation needs at least 3 points, here are {len(first)}: two points always give +1 or -1.",
            "Add tokenizers to the study.",
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise NumericalError("Correlation of values that are not finite.", "Look for NaN scores in the long table.")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise NumericalError("All points have the same value on one axis: the correlation is not defined.")
    return first, second


def _standardised(values: Vector) -> Vector:
    centred = values - values.mean(axis=-1, keepdims=True)
    unit: Vector = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
    return unit


def _ranks(values: Vector) -> Vector:
    return np.asarray(pd.Series(values).rank(method="average"), dtype=np.float64)


def _pearson(x: Vector, y: Vector) -> float:
    r = float(_standardised(x) @ _standardised(y))
    return math.copysign(1.0, r) if 1 - abs(r) < 1e-14 else r


def _permutation_p(x: Vector, y: Vector, rng: np.random.Generator) -> tuple[float, float]:
    """Share of pairings with |r| at least that of the data, and the smallest such share that any pairing could have.

    Enumerated up to nine points; above that drawn, with the observed pairing counted as one of the draws.
    """
    n = len(x)
    u, v = _standardised(x), _standardised(y)
    observed = abs(float(u @ v))
    tolerance = 1e-9  # pairings that tie in exact arithmetic must tie here
    if n <= EXACT_UP_TO:
        orders = np.array(list(itertools.permutations(range(n))), dtype=np.int8)
        strengths = np.abs(v[orders] @ u)
        smallest = float(np.mean(strengths >= strengths.max() - tolerance))
        return float(np.mean(strengths >= observed - tolerance)), smallest
    strengths = np.abs(rng.permuted(np.tile(v, (RANDOM_PERMUTATIONS, 1)), axis=1) @ u)
    p = (1 + int(np.sum(strengths >= observed - tolerance))) / (1 + RANDOM_PERMUTATIONS)
    return p, 2 / math.factorial(n)


def _bootstrap(x: Vector, y: Vector, level: float, rng: np.random.Generator) -> tuple[float, float] | None:
    """Percentile interval of r over resampled points; resamples in which an axis is constant have no r."""
    if len(x) < SMALLEST_BOOTSTRAP:
        return None
    draws = rng.integers(0, len(x), size=(BOOTSTRAP_REPEATS, len(x)))
    xs, ys = x[draws], y[draws]
    usable = (np.ptp(xs, axis=1) > 0) & (np.ptp(ys, axis=1) > 0)
    values = np.sum(_standardised(xs[usable]) * _standardised(ys[usable]), axis=1)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
