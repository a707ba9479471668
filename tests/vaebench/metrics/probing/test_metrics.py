"""Multi-label metrics and their bootstrap against scikit-learn and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from vaebench.metrics.probing import metrics


def labels(n=200, attributes=6, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, attributes))
    y = (scores + 1.5 * rng.standard_normal(scores.shape) > np.linspace(-0.5, 2, attributes)).astype(np.uint8)
    return (np.round(scores * 2) if ties else scores).astype(np.float32), y


def ones(y):
    return np.ones((len(y), 1), np.float32)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_values_agree_with_scikit_learn(seed, ties):
    scores, y = labels(seed=seed, ties=ties)
    predicted = (scores > 0.2).astype(np.uint8)
    for a in range(y.shape[1]):
        truth, named = y[:, a], predicted[:, a]
        assert metrics.f1(predicted, y, ones(y))[a, 0] == pytest.approx(f1_score(truth, named))
        assert metrics.balanced_accuracy(predicted, y, ones(y))[a, 0] == pytest.approx(
            balanced_accuracy_score(truth, named)
        )
        expected = average_precision_score(truth, scores[:, a])
        assert metrics.average_precision(scores, y, ones(y))[a, 0] == pytest.approx(expected, abs=1e-6)
    assert metrics.f1(predicted, y, ones(y)).mean() == pytest.approx(f1_score(y, predicted, average="macro"))


@pytest.mark.parametrize("ties", [False, True])
def test_counts_act_as_repetitions(ties):
    scores, y = labels(60, ties=ties)
    predicted = (scores > 0).astype(np.uint8)
    counts = metrics.bootstrap_counts(60, 4, np.random.default_rng(0))
    for r in range(4):
        again = np.repeat(np.arange(60), counts[:, r].astype(int))
        assert len(again) == 60
        for measured, scored in (
            (metrics.f1(predicted, y, counts), metrics.f1(predicted[again], y[again], ones(y))),
            (
                metrics.balanced_accuracy(predicted, y, counts),
                metrics.balanced_accuracy(predicted[again], y[again], ones(y)),
            ),
            (metrics.average_precision(scores, y, counts), metrics.average_precision(scores[again], y[again], ones(y))),
        ):
            np.testing.assert_allclose(measured[:, r], scored[:, 0], rtol=1e-5)
        recall = metrics.top_k_recall(scores, y, counts, 2)[r]
        assert recall == pytest.approx(metrics.top_k_recall(scores[again], y[again], ones(y), 2)[0])


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_average_precision_of_heavy_ties(seed):
    rng = np.random.default_rng(seed)
    scores, y = rng.integers(0, 3, (12, 1)).astype(np.float32), rng.integers(0, 2, (12, 1)).astype(np.uint8)
    value = metrics.average_precision(scores, y, ones(y))[0, 0]
    if y.any():
        assert value == pytest.approx(average_precision_score(y[:, 0], scores[:, 0]), abs=1e-6)
    else:
        assert np.isnan(value)


def test_undefined_is_nan_not_zero():
    y = np.zeros((5, 1), np.uint8)
    assert np.isnan(metrics.f1(y, y, ones(y))).all()
    assert np.isnan(metrics.balanced_accuracy(y, y, ones(y))).all()
    assert np.isnan(metrics.top_k_recall(np.zeros((5, 1)), y, ones(y), 1)).all()


def test_top_k_recall_by_hand():
    scores = np.array([[0.9, 0.8, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.3, 0.2]])
    y = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], np.uint8)
    # First image: one of two; second: both; third has no attribute and does not count.
    assert metrics.top_k_recall(scores, y, ones(y), 2)[0] == pytest.approx(0.75)
    assert metrics.top_k_recall(scores, y, ones(y), 9)[0] == 1
    shared = np.array([0.0, 0.0, 1.0, 0.5])
    assert metrics.top_k_recall(shared, y, ones(y), 2)[0] == pytest.approx(0.75)


def test_bootstrap_interval_agrees_with_scipy():
    scores, y = labels(150, 1, seed=3)
    predicted = (scores > 0).astype(np.uint8)
    counts = metrics.bootstrap_counts(150, 4000, np.random.default_rng(0))
    ours = np.quantile(metrics.f1(predicted, y, counts), [0.025, 0.975])
    theirs = stats.bootstrap(
        (predicted[:, 0], y[:, 0]),
        lambda p, t, axis: 2 * (p & t).sum(axis) / (p.sum(axis) + t.sum(axis)),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_bootstrap_interval_covers():
    """95% intervals of balanced accuracy from samples of 150 cover the population value about 95% of the time."""
    rng = np.random.default_rng(0)
    covered, truth = 0, (0.8 + 0.7) / 2
    for _ in range(200):
        y = (rng.random((150, 1)) < 0.4).astype(np.uint8)
        predicted = np.where(y == 1, rng.random(y.shape) < 0.8, rng.random(y.shape) < 0.3).astype(np.uint8)
        counts = metrics.bootstrap_counts(150, 300, rng)
        low, high = np.quantile(metrics.balanced_accuracy(predicted, y, counts), [0.025, 0.975])
        covered += low <= truth <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_bootstrap_counts_are_multinomial():
    counts = metrics.bootstrap_counts(40, 5000, np.random.default_rng(0))
    assert counts.shape == (40, 5000)
    assert (counts.sum(0) == 40).all()
    assert counts.var() == pytest.approx(1 - 1 / 40, rel=0.03)


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy"])
@pytest.mark.parametrize("ties", [False, True])
def test_best_threshold_beats_all_others(metric, ties):
    scores, y = labels(80, 3, ties=ties)
    measure = getattr(metrics, metric)
    thresholds = metrics.best_thresholds(scores, y, metric)
    best = measure((scores > thresholds).astype(np.uint8), y, ones(y))[:, 0]
    for cut in np.linspace(-4, 4, 161):
        assert (measure((scores > cut).astype(np.uint8), y, ones(y))[:, 0] <= best + 1e-9).all()
