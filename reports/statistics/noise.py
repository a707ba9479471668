"""Measurement error: how well each axis is measured, and the correlation that better measurement would show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from reports.statistics.checks import Vector, checked, normal_quantile
from reports.statistics.resampling import SMALLEST, Interval, percentiles, weights
from vaebench.core.errors import NumericalError


@dataclass(frozen=True)
class Disattenuation:
    """Correlation corrected for measurement error (Spearman 1904).

    Attributes:
        x_reliability, y_reliability: 1 - mean error variance / variance between tokenizers; below zero where the error
            is larger than all differences.
        value: the corrected correlation; None where a reliability is not positive. Beyond +1 or -1 it says that the
            errors are not what the intervals say, or that n is small.
        low, high: percentile bootstrap over tokenizers, cut to [-1, 1]; None below five points or where more than one
            resample in twenty has no corrected correlation.
    """

    x_reliability: float
    y_reliability: float
    value: float | None
    low: float | None
    high: float | None


def seed_interval(values: ArrayLike, level: float = 0.95) -> Interval | None:
    """Student interval of the mean over independent runs (training seeds); None for fewer than two."""
    runs = np.asarray(values, dtype=np.float64)
    if len(runs) < 2:
        return None
    half = float(special.stdtrit(len(runs) - 1, (1 + level) / 2) * runs.std(ddof=1) / math.sqrt(len(runs)))
    return float(runs.mean()) - half, float(runs.mean()) + half


def standard_error(low: ArrayLike, high: ArrayLike, seeds: ArrayLike, level: float = 0.95) -> Vector:
    """Standard error behind an interval: its half width over Student's t (several seeds) or over z (one seed)."""
    runs = np.asarray(seeds, dtype=np.float64)
    quantile = np.where(runs > 1, special.stdtrit(np.maximum(runs - 1, 1), (1 + level) / 2), normal_quantile(level))
    return (np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64)) / (2 * quantile)


def pooled_covariance(runs: Sequence[tuple[Vector, Vector]]) -> float | None:
    """Sum of (x - mean x)(y - mean y) / sum of (k - 1), over tokenizers of k runs (training seeds) each, x and y (k).

    That of one run about its tokenizer's mean; with x twice, its variance. None where no tokenizer has two runs.
    """
    degrees = sum(len(x) - 1 for x, _ in runs)
    return sum(float((x - x.mean()) @ (y - y.mean())) for x, y in runs) / degrees if degrees else None


def disattenuate(
    x: ArrayLike,
    y: ArrayLike,
    x_error: ArrayLike,
    y_error: ArrayLike,
    shared: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Disattenuation:
    """(S_xy - E_xy) / sqrt((S_xx - E_xx)(S_yy - E_yy)).

    S are variances and covariance between tokenizers (n - 1), E the means of the errors' variances and covariance.
    Without shared errors this is r / sqrt(reliability of x times that of y).

    Args:
        x, y: values, shape (n,).
        x_error, y_error: their standard errors, shape (n,).
        shared: covariances of the two errors, shape (n,), as from training seeds that move both; None for none.
        level: of the interval.
        seed: of the bootstrap.

    Raises:
        TooFewSamples, NumericalError: as `correlate`; an error that is missing or negative.
    """
    first, second = (values / np.ptp(values) for values in checked(x, y))
    scales = [float(np.ptp(np.asarray(values, dtype=np.float64))) for values in (x, y)]
    a, b = np.asarray(x_error, dtype=np.float64) / scales[0], np.asarray(y_error, dtype=np.float64) / scales[1]
    both = np.zeros(len(a)) if shared is None else np.asarray(shared, dtype=np.float64) / (scales[0] * scales[1])
    if not all(np.isfinite(v).all() for v in (a, b, both)) or min(a.min(), b.min()) < 0:
        raise NumericalError("Measurement errors must be known and not negative.", "Score with intervals.")
    values, errors = np.stack([first, second]), np.stack([a * a, b * b])
    whole = _corrected(np.ones((1, len(first))), values, errors, both)
    value, x_reliability, y_reliability = (float(v[0]) for v in whole)
    low = high = None
    if len(first) >= SMALLEST:
        drawn, _, _ = _corrected(weights(len(first), seed), values, errors, both)
        if np.mean(np.isfinite(drawn)) >= 0.95:
            low, high = (float(np.clip(bound, -1, 1)) for bound in percentiles(drawn, level))
    return Disattenuation(x_reliability, y_reliability, value if math.isfinite(value) else None, low, high)


def _corrected(w: Vector, values: Vector, errors: Vector, shared: Vector) -> tuple[Vector, Vector, Vector]:
    """Corrected r and both reliabilities of every weighting (a row of w) of the points; NaN where not defined."""
    n = w.sum(axis=1)
    x, y = (v - w @ v[:, None] / n[:, None] for v in values)
    xy, xx, yy = (np.sum(w * product, axis=1) / (n - 1) for product in (x * y, x * x, y * y))
    error_x, error_y, error_xy = (w @ e / n for e in (*errors, shared))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (xy - error_xy) / np.sqrt(np.maximum(xx - error_x, 0) * np.maximum(yy - error_y, 0))
        return np.where(np.isfinite(r), r, np.nan), 1 - error_x / xx, 1 - error_y / yy
