"""Moves along probes' directions, against cases with known answers and against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from vaebench.core.errors import DataError
from vaebench.metrics.readability.traversal import least_squares_reader, moves


def _attributes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Three attributes; the third goes with the first."""
    y = rng.integers(0, 2, (n, 3))
    y[:, 2] = np.where(rng.random(n) < 0.8, y[:, 0], y[:, 2])
    return y


def test_a_step_is_the_difference_of_class_means() -> None:
    rng = np.random.default_rng(0)
    y, x = _attributes(500, rng), rng.normal(size=(500, 7))
    x += y @ rng.normal(size=(3, 7))
    found = moves(x, x, y)
    for a in range(3):
        np.testing.assert_allclose(
            found.steps[a], x[y[:, a] == 1].mean(0) - x[y[:, a] == 0].mean(0), rtol=1e-4, atol=1e-5
        )


def test_probes_move_as_least_squares_probes_do() -> None:
    rng = np.random.default_rng(1)
    y, x = _attributes(800, rng), rng.normal(size=(800, 5))
    x[:, :3] += 2 * y
    centred = x - x.mean(0)
    values, basis = np.linalg.eigh(centred.T @ centred / len(x))
    whitened = centred @ basis / np.sqrt(values)
    found = moves(x, whitened, y)
    for b in range(3):
        probe = LinearRegression().fit(x, y[:, b])
        np.testing.assert_allclose(found.probes[:, b], found.steps @ probe.coef_, rtol=1e-4, atol=1e-6)


def test_latents_that_are_the_labels_move_by_cooccurrence_alone() -> None:
    rng = np.random.default_rng(2)
    y = _attributes(1000, rng)
    centred = y - y.mean(0)
    values, basis = np.linalg.eigh(centred.T @ centred / len(y))
    found = moves(y.astype(float), centred @ basis / np.sqrt(values), y)
    np.testing.assert_allclose(found.probes, found.cooccurrence, atol=1e-9)
    np.testing.assert_allclose(np.diag(found.probes), 1)
    expected = y[y[:, 0] == 1, 2].mean() - y[y[:, 0] == 0, 2].mean()
    assert found.cooccurrence[0, 2] == pytest.approx(expected)


def test_an_attribute_of_one_value_is_refused() -> None:
    with pytest.raises(DataError, match="has no direction"):
        moves(np.ones((4, 2)), np.ones((4, 2)), np.array([[1, 0], [1, 1], [1, 0], [1, 1]]))


def test_the_reader_is_ridge_regression_at_the_best_threshold() -> None:
    rng = np.random.default_rng(3)
    y = _attributes(600, rng)
    x = (rng.normal(size=(600, 10)) + y @ rng.normal(size=(3, 10))) * np.arange(1, 11) + 5
    reader = least_squares_reader(x[:300], y[:300], x[300:], y[300:], ("a", "b", "c"), penalties=(0.5,))
    standardised = (x - x[:300].mean(0)) / x[:300].std(0)
    outputs = Ridge(alpha=0.5 * 300).fit(standardised[:300], y[:300]).predict(standardised[300:])
    for a in range(3):
        margins = x[300:] @ reader.coefficients[:, a] + reader.intercepts[a]
        np.testing.assert_allclose(np.diff(margins), np.diff(outputs[:, a]), rtol=1e-3, atol=1e-4)
        even, truth = margins[::2], y[300::2, a].astype(bool)

        def balanced(cut: float, margins: np.ndarray = even, truth: np.ndarray = truth) -> float:
            return float((np.mean(margins[truth] > cut) + np.mean(margins[~truth] <= cut)) / 2)

        assert balanced(0.0) == pytest.approx(max(balanced(cut) for cut in even)), "no threshold does better"
        odd, unseen = margins[1::2] > 0, y[301::2, a].astype(bool)
        expected = (odd[unseen].mean() + (~odd)[~unseen].mean()) / 2
        assert reader.balanced_accuracy[a] == pytest.approx(expected)


def test_the_reader_leaves_out_what_it_cannot_judge() -> None:
    rng = np.random.default_rng(4)
    y = _attributes(100, rng)
    y[:, 1] = 0
    x = rng.normal(size=(100, 4)) + y[:, :1]
    assert least_squares_reader(x[:50], y[:50], x[50:], y[50:], ("a", "b", "c")).names == ("a", "c")
