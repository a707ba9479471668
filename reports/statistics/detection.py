"""What a study of n tokenizers could have shown."""

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from vaebench.core.errors import TooFewSamples

_NODES = 128  # of the quadrature over quantiles


def critical_r(n: int, alpha: float = 0.05) -> float:
    """The |r| at which Student's two-sided test of n points reaches p = alpha: t / sqrt(n - 2 + t^2).

    Raises:
        TooFewSamples: fewer than three points.
    """
    _enough(n)
    t = float(special.stdtrit(n - 2, 1 - alpha / 2))
    return t / math.sqrt(n - 2 + t * t)


def power(rho: float, n: int, alpha: float = 0.05) -> float:
    """Probability that n points of a bivariate normal of correlation `rho` are significant at `alpha`, two-sided.

    Exact up to quadrature over two chi-squares, c with n - 1 and v with n - 2 degrees: given these, Student's
    statistic is beyond its critical value t with probability Phi(d - w) + Phi(-d - w), where
    d = rho / sqrt(1 - rho^2) sqrt(c) and w = t sqrt(v / (n - 2)).
    """
    _enough(n)
    if abs(rho) >= 1:
        return 1.0
    nodes, shares = np.polynomial.legendre.leggauss(_NODES)
    c, v = (special.chdtri(degrees, (1 - nodes) / 2) for degrees in (n - 1, n - 2))
    limit = float(special.stdtrit(n - 2, 1 - alpha / 2)) * np.sqrt(v / (n - 2))
    shift = abs(rho) / math.sqrt(1 - rho * rho) * np.sqrt(c)[:, None]
    hits = special.ndtr(shift - limit) + special.ndtr(-shift - limit)
    return float(shares @ hits @ shares / 4)


@lru_cache(maxsize=64)
def detectable_r(n: int, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The smallest true |r| that n points show with probability `wanted` at two-sided `alpha` (G*Power's 'exact')."""
    return float(optimize.brentq(lambda rho: power(rho, n, alpha) - wanted, 0.0, 1 - 1e-12, xtol=1e-9))


def _enough(n: int) -> None:
    if n < 3:
        raise TooFewSamples(f"No correlation can be shown with {n} points.", "Add tokenizers to the study.")
