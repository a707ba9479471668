"""Predictions of tokenizers that the model has not seen: small regularised models on arrays."""

import itertools
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reports.statistics.checks import Vector, signs

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


def pair_margins(x: Vector, y: Vector, labels: NDArray[Any], groups: NDArray[Any], kind: Kind) -> Vector:
    """Predicted value of tokenizer i less that of j, both by one model fitted without the groups of either, (n, n).

    Values predicted one at a time do not rank: a model that knows nothing predicts the mean of the others, which is the
    lower the higher the value left out. Of a pair, both are predicted by the same model, which cannot tell them apart
    by what it was not fitted to (leave-pair-out, Airola et al. 2011, Computational Statistics and Data Analysis 55).

    Args:
        x: shape (rows, columns).
        y: shape (rows,).
        labels: shape (rows,), of tokenizers, which have a row for every training seed and whose means are compared.
        groups: shape (rows,), what is left out together; four at least.
        kind: of the model.
    """
    names = list(dict.fromkeys(labels))
    margins = np.zeros((len(names), len(names)))
    for pair in itertools.combinations_with_replacement(np.unique(groups), 2):
        test = np.isin(groups, pair)
        train, unseen = standardised_by(x[~test], x[test])
        predicted = _fitted(kind, train, y[~test], groups[~test], unseen)
        sides = [
            {name: predicted[labels[test] == name].mean() for name in dict.fromkeys(labels[groups == group])}
            for group in pair
        ]
        for (one, first), (other, second) in itertools.product(*(side.items() for side in sides)):
            i, j = names.index(one), names.index(other)
            margins[i, j], margins[j, i] = first - second, second - first
    return margins


def rank_agreement(y: Vector, margins: Vector) -> float:
    """Kendall's tau of values (n,) and of margins (n, n) predicted for their pairs."""
    return float((signs(y) * np.sign(margins)).sum() / np.abs(signs(y)).sum())


def lowest_by_pairs(margins: Vector) -> int:
    """Which is predicted to be lowest by margins (n, n): most pairs won, and among equals won by the most."""
    wins = (np.sign(-margins) / 2 + 0.5).sum(axis=1)
    return int(np.lexsort([margins.sum(axis=1), -wins])[0])


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
        penalties = PENALTIES * len(y)
        return ridge(x, y, unseen, penalties[[np.argmin(_ridge_errors(x, y, groups, penalties))]])[0]
    penalties = 2 * np.abs(x.T @ (y - y.mean())).max() / len(y) * SHARES
    errors = np.zeros(len(penalties))
    for group in np.unique(groups):
        left = groups == group
        errors += np.sum((elastic_net(x[~left], y[~left], x[left], penalties) - y[left]) ** 2, axis=1)
    return elastic_net(x, y, unseen, penalties[[np.argmin(errors)]])[0]


def _ridge_errors(x: Vector, y: Vector, groups: NDArray[Any], penalties: Vector) -> Vector:
    """Sum of squared errors of `ridge` for every penalty, each group predicted by a model of all others.

    Without fitting these: with H the matrix that takes y to its fitted values, the errors of a group g are
    (I - H_gg)^-1 (y - H y)_g, as for every penalised least squares (Hastie, Tibshirani and Friedman 2009, 7.10).
    """
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    fitted = u * (s**2 / (s**2 + penalties[:, None]))[:, None, :] @ u.T + 1 / len(y)
    left = y - fitted @ y
    errors = np.zeros(len(penalties))
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        inner = np.eye(len(own)) - fitted[:, own[:, None], own]
        errors += np.sum(np.linalg.solve(inner, left[:, own, None]) ** 2, axis=(1, 2))
    return errors


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
