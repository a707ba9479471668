"""What every statistic asks of its input, and the small transforms that several share."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from vaebench.core.errors import NumericalError, TooFewSamples

Vector = NDArray[np.float64]


def checked(x: ArrayLike, y: ArrayLike) -> tuple[Vector, Vector]:
    """Both as float64 vectors of one length.

    Raises:
        TooFewSamples: fewer than three pairs; two points always correlate at +1 or -1.
        NumericalError: lengths differ, a value is not finite, or an axis is constant.
    """
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


def standardised(values: Vector) -> Vector:
    """Centred along the last axis and divided by the norm, so that the product of two such vectors is Pearson's r."""
    # Divided by the range first: squares of very small or very large values would leave the range of float64.
    scaled = (values - values.mean(axis=-1, keepdims=True)) / np.ptp(values, axis=-1, keepdims=True)
    scaled -= scaled.mean(axis=-1, keepdims=True)
    unit: Vector = scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)
    return unit


def pearson(x: Vector, y: Vector) -> float:
    """r of two vectors; rounding next to +1 or -1 is taken off."""
    r = float(standardised(x) @ standardised(y))
    return math.copysign(1.0, r) if 1 - abs(r) < 1e-14 else r


def ranks(values: Vector) -> Vector:
    """Ranks from 1, ties averaged: the number of smaller values, plus half the number of equal ones and a half."""
    return (np.sign(values[:, None] - values) / 2 + 0.5).sum(axis=1) + 0.5


def signs(values: Vector) -> Vector:
    """Sign of every difference, n x n; Kendall's tau is made of these."""
    return np.sign(values[:, None] - values)


def kendall(x: Vector, y: Vector) -> float:
    """Kendall's tau-b: sum of sign products over pairs, divided by the root of the untied pairs of either side."""
    first, second = signs(x), signs(y)
    return float((first * second).sum() / math.sqrt((first**2).sum() * (second**2).sum()))


@lru_cache(maxsize=16)
def normal_quantile(level: float) -> float:
    """z such that a share `level` of a standard normal lies within -z and z."""
    return float(special.ndtri((1 + level) / 2))
