"""Predictions of tokenizers that the model has not seen: small regularised models on arrays."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reports.statistics.checks import Vector

Kind = Literal["ridge", "elastic net", "line"]
PENALTIES = np.logspace(-3, 3, 13)  # of ridge, per row
SHARES = np.logspace(0, -3, 13)  # of the elastic net, in parts of the least penalty that lets no column in
SMALLEST = 5  # groups: one is left out, one more for the inner choice, and three are left to fit


def held_out(x: Vector, y: Vector, groups: NDArray[Any], kind: Kind) -> Vector:
    """Prediction of every row by a model fitted to the rows of all other groups.

    Columns are standardised on the rows that a model is fitted to. 'ridge' chooses among 13 penalties from 0.001 to
    1000 times the number of rows, 'elastic net' (half of its penalty L1) among 13 from the least that lets no column
    in down to a thousandth of that: each by leaving out one further group at a time and taking the least squared error,
    so that the group judged enters no choice. 'line' is least squares on one column.

    Args:
        x: shape (rows, columns).
        y: shape (rows,).
        groups: shape (rows,), what is left out together.
        kind: of the model.
    """
    predictions = np.empty(len(y))
    for group in np.unique(groups):
        test = groups == group
        train, unseen = standardised_by(x[~test], x[test])
        predictions[test] = _fitted(kind, train, y[~test], groups[~test], unseen)
    return predictions


def standardised_by(train: Vector, unseen: Vector) -> tuple[Vector, Vector]:
    """Both in the units in which the columns of `train` have mean 0 and variance 1; constant columns are dropped."""
    centre, scale = train.mean(axis=0), train.std(axis=0)
    varied = scale > 1e-12 * np.maximum(np.abs(centre), 1e-300)
    first, second = ((rows - centre)[:, varied] / scale[varied] for rows in (train, unseen))
    return first, second


def ridge(train: Vector, y: Vector, unseen: Vector, penalties: Vector) -> Vector:
    """Predictions of ridge regression with an intercept for every penalty, (penalties, unseen rows).

    Minimises sum (y - b - x w)^2 + penalty |w|^2 by one singular value decomposition for all penalties.
    """
    centre = train.mean(axis=0)
    u, s, v = np.linalg.svd(train - centre, full_matrices=False)
    shrunk = s / (s**2 + penalties[:, None]) * (u.T @ (y - y.mean()))
    return y.mean() + shrunk @ v @ (unseen - centre).T


def elastic_net(train: Vector, y: Vector, unseen: Vector, penalties: Vector) -> Vector:
    """As `ridge`, minimising sum (y - b - x w)^2 / (2 rows) + penalty (|w|_1 / 2 + |w|^2 / 4)."""
    from sklearn import linear_model  # slow to import

    centre = train.mean(axis=0)
    with warnings.catch_warnings():
        # A path that stops short at one weak penalty of many is judged, like the others, by its held-out error.
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        _, weights, _ = linear_model.enet_path(
            train - centre, y - y.mean(), l1_ratio=0.5, alphas=penalties, max_iter=10_000
        )
    predicted: Vector = y.mean() + weights.T @ (unseen - centre).T
    return predicted


def _fitted(kind: Kind, x: Vector, y: Vector, groups: NDArray[Any], unseen: Vector) -> Vector:
    """Predictions for the unseen rows by a model of x and y whose penalty is chosen by leaving out one group more."""
    if not x.shape[1] or np.ptp(y) == 0:
        return np.full(len(unseen), y.mean())
    if kind == "line":
        return ridge(x, y, unseen, np.zeros(1))[0]
    if kind == "ridge":
        path, penalties = ridge, PENALTIES * len(y)
    else:
        largest = 2 * np.abs(x.T @ (y - y.mean())).max() / len(y)
        path, penalties = elastic_net, largest * SHARES
    errors = np.zeros(len(penalties))
    for group in np.unique(groups):
        left = groups == group
        errors += np.sum((path(x[~left], y[~left], x[left], penalties) - y[left]) ** 2, axis=1)
    return path(x, y, unseen, penalties[[np.argmin(errors)]])[0]


def mean_of_others(y: Vector, groups: NDArray[Any]) -> Vector:
    """The constant baseline: for every row the mean of y over all other groups."""
    return np.array([y[groups != group].mean() for group in groups])


def r_squared(y: Vector, predicted: Vector, baseline: Vector) -> float:
    """1 - sum of squared errors / sum of squared errors of the mean of the others: 0 is no better than a constant.

    NaN where the mean of the others is always right.
    """
    worst = float(np.sum((y - baseline) ** 2))
    return 1 - float(np.sum((y - predicted) ** 2)) / worst if worst > 0 else float("nan")


def bootstrap_of(statistic: Callable[[NDArray[np.intp]], float], n: int, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of a statistic of n held-out predictions, resampled with the models as they are."""
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, n, n)) for _ in range(999)])
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return float(low), float(high)
