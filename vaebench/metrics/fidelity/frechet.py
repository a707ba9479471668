"""Fréchet distance between two Gaussians, without a matrix square root.

    d² = |m₁ - m₂|² + tr S₁ + tr S₂ - 2 tr (S₁ S₂)^½

With any factors S = F Fᵀ the last trace is the sum of the singular values of F₁ᵀ F₂, and their squares are the
eigenvalues of the symmetric pencil S₂ S₁. The second form is fast but takes square roots of small eigenvalues, which
loses half of the digits where covariances are (nearly) rank-deficient; the first does not. So: the fast form where its
rounding error is estimated to be harmless, the careful one elsewhere.

Sources: Dowson and Landau, The Fréchet Distance between Multivariate Normal Distributions (1982); Heusel et al., GANs
Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (2017).
"""

import numpy as np
from scipy.linalg import LinAlgError, eigvalsh, svdvals
from scipy.linalg.lapack import dpstrf

from vaebench.core.errors import NumericalError
from vaebench.metrics.fidelity.statistics import Statistics, statistics

HARMLESS = 1e-8
"""Rounding error of the trace, relative to tr S₁ + tr S₂, up to which the fast form is trusted."""

EPS = float(np.finfo(np.float64).eps)


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """Fréchet distance (squared 2-Wasserstein distance of the Gaussians with these moments), the number called FID.

    Symmetric in its arguments, in the squared unit of the features, at least 0. Covariances may be rank-deficient.

    Raises:
        ValueError: another number of features.
        NumericalError: NaN or infinity in the moments.
    """
    if first.dimension != second.dimension:
        raise ValueError(f"{first.dimension} features cannot be compared with {second.dimension}.")
    difference = first.mean - second.mean
    traces = float(np.trace(first.covariance) + np.trace(second.covariance))
    if not np.isfinite(difference).all() or not np.isfinite(first.covariance + second.covariance).all():
        raise NumericalError("Statistics hold NaN or infinity.")
    overlap = _trace_sqrt_product(first, second, HARMLESS * traces)
    return max(float(difference @ difference) + traces - 2.0 * overlap, 0.0)


def _trace_sqrt_product(first: Statistics, second: Statistics, harmless: float) -> float:
    """tr (S₁ S₂)^½ with an error of about ``harmless`` or less."""
    deficient = any(side.n is not None and side.n <= side.dimension for side in (first, second))
    if not deficient:
        try:
            # Cholesky of S₁ = L Lᵀ, then the eigenvalues of Lᵀ S₂ L.
            squares = eigvalsh(second.covariance, first.covariance, type=2, driver="gv", check_finite=False)
        except LinAlgError:
            pass  # S₁ is not positive definite to working precision: the careful form takes over
        else:
            scale = float(np.linalg.norm(first.covariance) * np.linalg.norm(second.covariance))
            if _rounding_error(squares, scale) <= harmless:
                return _sum_of_roots(squares)
    return _nuclear_norm(_factor(first.covariance).T @ _factor(second.covariance), harmless)


def _sum_of_roots(squares: np.ndarray) -> float:
    return float(np.sqrt(np.maximum(squares, 0.0)).sum())


def _rounding_error(squares: np.ndarray, scale: float) -> float:
    """Error of the sum of the roots when each square is wrong by eps * scale.

    Errors of roots of squares well above that level have random signs and add as a random walk; those below it can only
    have been raised.
    """
    wrong = EPS * scale
    above = squares[squares > wrong]
    return float(np.sqrt((wrong**2 / (4.0 * above)).sum()) + (len(squares) - len(above)) * np.sqrt(wrong))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F (d, r) with F Fᵀ = S, r the numerical rank: Cholesky with complete pivoting, stopped at rounding level."""
    packed, pivots, rank, _ = dpstrf(covariance, lower=1)
    factor = np.empty((len(covariance), rank))
    factor[pivots - 1] = np.tril(packed)[:, :rank]
    return factor


def _nuclear_norm(product: np.ndarray, harmless: float) -> float:
    """Sum of singular values: from the smaller Gram matrix where that is accurate enough, else by bidiagonalisation."""
    if product.size == 0:
        return 0.0
    rows, columns = product.shape
    gram = product @ product.T if rows <= columns else product.T @ product
    squares = eigvalsh(gram, check_finite=False)
    if _rounding_error(squares, float(squares[-1])) <= harmless:
        return _sum_of_roots(squares)
    return float(svdvals(product, check_finite=False).sum())


def frechet_from_samples(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of two sets of features (n, d) and (m, d): the same number as from their statistics.

    A side with n <= d enters as its n x d centred samples, which are a factor of its covariance: faster than forming
    the rank-deficient d x d matrix, and digits that forming it would lose are kept.

    Raises:
        ValueError: shapes that do not fit.
        TooFewSamples, NumericalError: as :func:`vaebench.metrics.fidelity.statistics.statistics`.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"Features {first.shape} cannot be compared with {second.shape}.")
    dimension = first.shape[1]
    if min(len(first), len(second)) > dimension:
        return frechet_distance(statistics(first), statistics(second))
    (mean_1, factor_1), (mean_2, factor_2) = _mean_and_factor(first), _mean_and_factor(second)
    traces = float((factor_1**2).sum() + (factor_2**2).sum())
    overlap = _nuclear_norm(factor_1.T @ factor_2, HARMLESS * traces)
    return max(float(((mean_1 - mean_2) ** 2).sum()) + traces - 2.0 * overlap, 0.0)


def _mean_and_factor(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(features) > features.shape[1] or len(features) < 2:
        moments = statistics(features)
        return moments.mean, _factor(moments.covariance)
    features = features.astype(np.float64)
    if not np.isfinite(features).all():
        raise NumericalError("Features hold NaN or infinity.")
    mean = features.mean(0)
    return mean, (features - mean).T / np.sqrt(len(features) - 1)
