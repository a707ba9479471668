"""Logistic regression with an L2 penalty for every attribute and every C at once, to a certified optimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaebench.core.errors import DataError, NumericalError
from vaebench.metrics.probing.certificate import gap_bound
from vaebench.metrics.probing.lbfgs import HISTORY, Evaluation, minimise
from vaebench.metrics.probing.objective import Objective
from vaebench.metrics.probing.preconditioner import Preconditioner
from vaebench.metrics.probing.rows import ArrayLike, Rows
from vaebench.metrics.probing.spectrum import Spectrum, spectrum_of
from vaebench.metrics.probing.threads import threads, worthwhile

SOLVER_BYTES = 2**29
ROW_SPACE_ELEMENTS = 2**27
# A problem leaves the descent at this share of the tolerance, so that its certificate, which is looser than the
# estimate by which it leaves, comes out within the tolerance.
TARGET = 0.02
# Evaluations before what is not done gets a preconditioner of its own, and Hessian products spent on a certificate.
STRETCH = 14
PRODUCTS = 20


@dataclass(frozen=True)
class LogisticFit:
    """Optima of A attributes at each of |C| penalties.

    Attributes:
        cs: (|C|,) inverse penalty strengths.
        coefficients: (|C|, A, d) float64.
        intercepts: (|C|, A) float64.
        losses: (|C|, A) the objective at these coefficients.
        gaps: (|C|, A) upper bounds of (loss - optimum) / loss, from float64 gradients.
        tolerance: the gap that was asked for.
        passes: evaluations of all active problems that it took.
    """

    cs: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    losses: np.ndarray
    gaps: np.ndarray
    tolerance: float
    passes: int

    @property
    def converged(self) -> bool:
        return bool((self.gaps <= self.tolerance).all())


def fit_logistic(
    x: ArrayLike | Rows,
    y: np.ndarray,
    cs: Sequence[float],
    *,
    tolerance: float = 5e-5,
    max_passes: int = 1000,
    device: str = "cpu",
) -> LogisticFit:
    """Fit A x |C| binary logistic regressions on shared features.

    Each minimises, as scikit-learn's ``LogisticRegression(C=C)`` does with an unpenalised intercept b,

        F(w, b) = C sum_i [log(1 + exp(m_i)) - y_i m_i] + |w|^2 / 2,    m_i = x_i w + b.

    All problems are evaluated together, so that one matrix product serves them all, and share one preconditioner:
    the Hessian I + C X^T D X with D replaced by its mean, which the eigenvectors of X^T X diagonalise for every
    attribute and C at once. Float32 does the bulk of the work; a float64 pass certifies the result and goes on where
    float32 did not suffice. With fewer rows than columns the fit runs in the row space, where the optimum lies.

    The gap to the optimum is certified by a point of the dual problem, so that it holds however the solver fared; see
    :func:`vaebench.metrics.probing.certificate.gap_bound`.

    Args:
        x: (n, d) features; anything beyond the first axis is flattened. May be larger than memory.
        y: (n, A) attributes in {0, 1}, each with both values present.
        cs: inverse penalty strengths, > 0.
        tolerance: certified relative gap at which a problem is done.
        max_passes: bound of the evaluations; what is not done by then shows in ``gaps``.
        device: torch device of the products ("cpu", "cuda").

    Raises:
        DataError: shapes that do not agree, values other than 0 and 1, an attribute with one class only.
        NumericalError: NaN or infinity in x.
    """
    rows = x if isinstance(x, Rows) else Rows(x, lambda block: block.flatten(1), device=device)
    y = _checked_attributes(y, rows.shape[0])
    penalties = np.asarray(cs, np.float64)
    if penalties.ndim != 1 or not len(penalties) or not (penalties > 0).all():
        raise DataError(f"C must be a list of positive numbers, got {cs!r}.")
    mean, std = rows.mean_and_std()
    if not torch.isfinite(std).all():
        raise NumericalError("The features hold NaN or infinity.", "Check the latents they come from.")
    centred = rows.map(lambda block: block - mean.to(block.dtype))
    n, width = rows.shape
    if width > n and n * width <= ROW_SPACE_ELEMENTS:
        basis, triangle = torch.linalg.qr(centred.to_tensor(torch.float64).T)
        reduced = Rows(triangle.T.cpu().numpy(), device=rows.device).cached()
        return _fit_centred(reduced, y, penalties, mean, basis, tolerance, max_passes)
    return _fit_centred(centred.cached(), y, penalties, mean, None, tolerance, max_passes)


def _checked_attributes(y: np.ndarray, n: int) -> np.ndarray:
    y = np.asarray(y)
    if y.ndim != 2 or len(y) != n or y.shape[1] == 0:
        raise DataError(
            f"Attributes must be a table of {n} rows (samples) and at least one column, got shape {y.shape}."
        )
    if not ((y == 0) | (y == 1)).all():
        raise DataError("Attributes must be 0 or 1.")
    y = y.astype(np.uint8)
    single = np.flatnonzero((y == y[0]).all(axis=0))
    if len(single):
        raise DataError(f"Attribute column {int(single[0])} has one class only.", "Leave it out of the probe.")
    return y


def _fit_centred(
    rows: Rows,
    y: np.ndarray,
    cs: np.ndarray,
    mean: Tensor,
    basis: Tensor | None,
    tolerance: float,
    max_passes: int,
) -> LogisticFit:
    """Fit on rows of zero mean; ``basis`` (original width, width) leads back to the original columns."""
    attributes, width = y.shape[1], rows.shape[1]
    spectrum = spectrum_of(rows)
    coefficients = np.empty((len(cs), attributes, len(mean)))
    intercepts, losses, gaps = (np.empty((len(cs), attributes)) for _ in range(3))
    # Per problem the solver keeps about 2 HISTORY + 10 vectors, and a number per row for the certificate.
    problem_bytes = 4 * (width + 1) * (2 * HISTORY + 10) + 8 * rows.shape[0]
    group = max(SOLVER_BYTES // (problem_bytes * len(cs)), 1)
    passes = 0
    for first in range(0, attributes, group):
        chosen = slice(first, min(first + group, attributes))
        points, values, bounds, spent = _solve(rows, y[:, chosen], cs, spectrum, tolerance, max_passes)
        weights = points[:-1] if basis is None else basis @ points[:-1]
        shape = (len(cs), chosen.stop - chosen.start)
        coefficients[:, chosen] = weights.T.reshape(*shape, -1).cpu().numpy()
        intercepts[:, chosen] = (points[-1] - mean @ weights).reshape(shape).cpu().numpy()
        losses[:, chosen] = values.reshape(shape).cpu().numpy()
        gaps[:, chosen] = bounds.reshape(shape).cpu().numpy()
        passes += spent
    return LogisticFit(cs, coefficients, intercepts, losses, gaps, tolerance, passes)


def _solve(
    rows: Rows, y: np.ndarray, cs: np.ndarray, spectrum: Spectrum, tolerance: float, max_passes: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Points (width + 1, K), losses (K,), relative gaps (K,) and the number of passes."""
    rough, exact = (Objective(rows, y, cs, spectrum, dtype) for dtype in (torch.float32, torch.float64))
    precondition = Preconditioner(rough)
    with threads(worthwhile(rough.moments.numel())):
        points, passes = _approach(rough, precondition, tolerance, max_passes)
        return _certified(rough, exact, precondition, points.double(), passes, tolerance, max_passes)


def _approach(rough: Objective, precondition: Preconditioner, tolerance: float, max_passes: int) -> tuple[Tensor, int]:
    """Minimise in float32; what takes more than a stretch goes on with a preconditioner of its own."""
    points, first = rough.at_prevalence()
    open_, passes = torch.arange(points.shape[1], device=points.device), 0
    while True:
        points, open_, spent = _descend(rough, precondition, points, first, open_, TARGET * tolerance)
        passes += spent
        if not len(open_) or passes >= max_passes:
            return points, passes
        precondition.refine(points[:, open_], open_)
        first = rough.evaluate(points[:, open_], open_)


def _certified(
    rough: Objective,
    exact: Objective,
    precondition: Preconditioner,
    points: Tensor,
    passes: int,
    tolerance: float,
    max_passes: int,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Check in float64, and go on in float64 with what is not within the tolerance."""
    losses = torch.empty_like(points[0])
    gaps = torch.full_like(losses, torch.inf)
    open_, target = torch.arange(len(losses), device=points.device), TARGET * tolerance
    while True:
        first = exact.evaluate(points[:, open_], open_)
        passes += 1
        rough.curvature[open_] = exact.curvature[open_]
        losses[open_] = first.value
        gaps[open_] = gap_bound(rough, precondition, points[:, open_], open_, first, tolerance, PRODUCTS)
        failed = gaps[open_] > tolerance
        open_, first = open_[failed], Evaluation(first.gradient[:, failed], first.value[failed])
        if not len(open_) or passes >= max_passes:
            return points, losses, gaps, passes
        precondition.refine(points[:, open_], open_)
        target /= 4
        points, _, spent = _descend(exact, precondition, points, first, open_, target)
        passes += spent


def _descend(
    objective: Objective,
    precondition: Preconditioner,
    points: Tensor,
    first: Evaluation,
    columns: Tensor,
    tolerance: float,
) -> tuple[Tensor, Tensor, int]:
    """One stretch of minimisation of the given problems: all points, the problems still open, passes."""
    found, unfinished, passes = minimise(
        lambda trial, k: objective.evaluate(trial, columns[k]),
        lambda vectors, k: precondition(vectors, columns[k]),
        points[:, columns],
        first,
        tolerance,
        max_passes=STRETCH,
        patience=6,
    )
    points = points.clone()
    points[:, columns] = found
    return points, columns[unfinished], passes
