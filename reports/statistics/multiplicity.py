"""p values adjusted for how many were looked at. A NaN stays NaN and does not count."""

import numpy as np
from numpy.typing import ArrayLike

from reports.statistics.checks import Vector


def holm(p: ArrayLike) -> Vector:
    """Holm (1979): max over j <= i of min(1, (m - j + 1) p_(j)); bounds the chance of any false positive."""
    values, kept, order = _ascending(p)
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1))
    values[order] = np.minimum(adjusted, 1)
    return _spread(values, kept)


def benjamini_hochberg(p: ArrayLike) -> Vector:
    """Benjamini and Hochberg (1995): min over j >= i of m p_(j) / j; bounds the expected share of false positives.

    Proven for independent and for positively dependent tests; scores of one latent space are mostly the latter.
    """
    values, kept, order = _ascending(p)
    scaled = values[order] * len(order) / np.arange(1, len(order) + 1)
    values[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return _spread(values, kept)


def _ascending(p: ArrayLike) -> tuple[Vector, np.ndarray, np.ndarray]:
    """The p values that are there, where they were, and the order that sorts them."""
    every = np.asarray(p, dtype=np.float64)
    kept = ~np.isnan(every)
    values = every[kept]
    return values, kept, np.argsort(values, kind="stable")


def _spread(values: Vector, kept: np.ndarray) -> Vector:
    result = np.full(len(kept), np.nan)
    result[kept] = values
    return result
