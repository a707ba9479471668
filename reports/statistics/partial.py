"""Partial correlation: what is left of a relation once named confounders are held fixed."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from reports.statistics.checks import Vector, checked, pearson
from reports.statistics.correlation import fisher_interval
from vaebench.core.errors import NumericalError, TooFewSamples


@dataclass(frozen=True)
class PartialCorrelation:
    """Correlation of x and y with k confounders held fixed.

    Attributes:
        n: points.
        value: the partial correlation.
        low, high: its interval on Fisher's scale with n - k points (`fisher_interval`); None where n <= k + 3.
        p: two-sided Student p at `degrees` degrees of freedom.
        degrees: n - 2 - k.
        x_explained, y_explained: shares of the variance of x and of y that the confounders explain (R^2).
    """

    n: int
    value: float
    low: float | None
    high: float | None
    p: float
    degrees: int
    x_explained: float
    y_explained: float


def partial_correlation(
    x: ArrayLike, y: ArrayLike, z: ArrayLike, *, level: float = 0.95, kind: Literal["pearson", "spearman"] = "pearson"
) -> PartialCorrelation:
    """Pearson's r of the residuals of x and of y after linear regression (with intercept) on `z`.

    With one confounder this is (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)).

    Args:
        x, y: shape (n,).
        z: confounders, shape (n,) or (n, k).
        level: of the interval.
        kind: 'spearman' where x, y and z are ranks, whose interval is wider.

    Raises:
        TooFewSamples: n < k + 3, which leaves no degree of freedom.
        NumericalError: a confounder is constant or a linear function of the others, or explains x or y wholly.
    """
    first, second = checked(x, y)
    confounders = np.asarray(z, dtype=np.float64).reshape(len(first), -1)
    n, k = confounders.shape
    if n < k + 3:
        raise TooFewSamples(
            f"A partial correlation needs at least {k + 3} points to hold {k} confounder{'s' * (k > 1)} fixed, "
            f"here are {n}.", "Add tokenizers to the study.",
        )  # fmt: skip
    for column in confounders.T:
        checked(first, column)
    scaled = (confounders - confounders.mean(axis=0)) / confounders.std(axis=0)
    if np.linalg.matrix_rank(scaled, tol=1e-9 * math.sqrt(n)) < k:
        raise NumericalError("The confounders are linear functions of each other.", "Hold fewer of them fixed.")
    basis = np.linalg.qr(scaled)[0]
    residuals = [_residual(values, basis) for values in (first, second)]
    left = [float(r @ r) for r in residuals]
    if min(left) < 1e-10:
        raise NumericalError(
            "One of the two scores is a linear function of the confounder: nothing is left to correlate.",
            "Add tokenizers on which the score and the confounder differ.",
        )
    value, degrees = pearson(*residuals), n - 2 - k
    t = value * math.sqrt(degrees / max(1 - value**2, 1e-300))
    low, high = fisher_interval(value, n - k, level, kind) if n > k + 3 else (None, None)
    p = float(2 * special.stdtr(degrees, -abs(t)))
    return PartialCorrelation(n, value, low, high, p, degrees, 1 - left[0], 1 - left[1])


def _residual(values: Vector, basis: Vector) -> Vector:
    """What `basis` (orthonormal, centred columns) leaves of the values, which are first brought to length 1."""
    centred = values - values.mean()
    centred /= np.linalg.norm(centred)
    residual: Vector = centred - basis @ (basis.T @ centred)
    return residual
