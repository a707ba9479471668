"""A least-squares line and how well its height is known."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from reports.statistics.checks import Vector, checked


def fit_band(x: ArrayLike, y: ArrayLike, at: ArrayLike, level: float = 0.95) -> tuple[Vector, Vector, Vector]:
    """Line a + b x of least squares, and the pointwise interval of its mean, at given places.

        half width = t s sqrt(1 / n + (at - mean x)^2 / sum (x - mean x)^2),   s^2 = sum of squared residuals / (n - 2)

    with Student's t of n - 2 degrees of freedom. It takes the points as exact in x and equally uncertain in y, and says
    where the line may run, not where further points may lie.

    Returns:
        Line, lower and upper end, each of the shape of `at`.

    Raises:
        TooFewSamples, NumericalError: as `correlate`.
    """
    first, second = checked(x, y)
    places = np.asarray(at, dtype=np.float64)
    n, centre = len(first), first.mean()
    spread = float(np.sum((first - centre) ** 2))
    slope = float(np.sum((first - centre) * (second - second.mean()))) / spread
    line = second.mean() + slope * (places - centre)
    residual = second - second.mean() - slope * (first - centre)
    s = math.sqrt(float(residual @ residual) / (n - 2))
    half = float(special.stdtrit(n - 2, (1 + level) / 2)) * s * np.sqrt(1 / n + (places - centre) ** 2 / spread)
    return line, line - half, line + half
