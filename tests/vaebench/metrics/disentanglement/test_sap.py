"""SAP against scikit-learn's support vector machines, and where the answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.svm import LinearSVC

from vaebench.core.errors import DataError, NumericalError
from vaebench.metrics.disentanglement.sap import Machines, correlation_gaps, fit_lines, predictability, winners


def draw(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.integers(0, 4, n), rng.integers(0, 2, n)], 1)
    codes = rng.standard_normal((n, 5)) + truth @ rng.uniform(-1, 1, (2, 5))
    return codes.astype(np.float32), truth


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_machines_are_those_of_liblinear(c):
    codes, truth = draw(800)
    machines = Machines(truth)
    lines = fit_lines(np.ascontiguousarray(codes.T), machines, c)
    for j, (w, b) in enumerate(zip(*lines, strict=True)):
        for k, part in enumerate(machines.of_factor):
            model = LinearSVC(C=c, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000)
            model.fit(codes[:, [j]].astype(np.float64), truth[:, k])
            np.testing.assert_allclose(w[part], model.coef_[:, 0], atol=1e-4)
            np.testing.assert_allclose(b[part], model.intercept_, atol=1e-4)


def test_accuracies_are_those_of_scikit_learn():
    codes, truth = draw(1000)
    found = predictability(codes[:700], truth[:700], codes[700:], truth[700:])
    for j in range(5):
        for k in range(2):
            model = LinearSVC(C=0.01, class_weight="balanced", dual=False, tol=1e-10, max_iter=100_000)
            model.fit(codes[:700, [j]].astype(np.float64), truth[:700, k])
            assert found.scores[j, k] == pytest.approx(model.score(codes[700:, [j]], truth[700:, k]), abs=1 / 300)
    top = np.sort(found.scores, 0)[::-1]
    assert found.value == pytest.approx(np.mean(top[0] - top[1]))
    assert found.first.mean() - found.second.mean() == pytest.approx(found.value)


def test_one_code_a_factor_and_noise():
    rng = np.random.default_rng(0)
    truth = np.stack([rng.integers(0, 2, 3000), rng.integers(0, 2, 3000)], 1)
    codes = np.concatenate([truth, rng.standard_normal((3000, 2))], 1)
    found = predictability(codes[:2000], truth[:2000], codes[2000:], truth[2000:])
    assert found.value == pytest.approx(0.5, abs=0.05)  # the best is right always, the second at chance
    noise = rng.standard_normal((3000, 6))
    assert predictability(noise[:2000], truth[:2000], noise[2000:], truth[2000:]).value < 0.03


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_order_of_codes_does_not_matter(seed):
    codes, truth = draw(200, seed)
    order = np.random.default_rng(seed).permutation(5)
    one = predictability(codes, truth, codes, truth)
    two = predictability(codes[:, order], truth, codes[:, order], truth)
    np.testing.assert_allclose(one.scores[order], two.scores)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_winners_are_those_of_looking_at_every_line(seed, count):
    rng = np.random.default_rng(seed)
    w, b = rng.integers(-3, 4, (2, 3, count)).astype(np.float64)  # integers: parallel, equal and many crossing lines
    rank, start = winners(w, b)
    for place in np.sort(rng.uniform(-5, 5, 30)):
        highest = (w * place + b).argmax(1)
        for row in range(3):
            on = np.searchsorted(start[row], place, side="right") - 1
            assert rank[row, on] == highest[row]


def test_values_that_training_never_saw_count_as_missed():
    train, test = np.array([[0], [1]] * 50), np.array([[0], [1], [2], [2]] * 25)
    found = predictability(np.repeat(train, 2, 1), train, np.repeat(test, 2, 1), test)
    assert found.scores.tolist() == [[0.5], [0.5]]


def test_constant_codes_predict_one_value_and_bad_codes_are_refused():
    truth = np.array([[0], [1]] * 50)
    found = predictability(np.ones((100, 2)), truth, np.ones((100, 2)), truth)
    assert found.scores.tolist() == [[0.5], [0.5]]
    assert found.value == 0
    with pytest.raises(DataError, match="two codes"):
        predictability(np.ones((100, 1)), truth, np.ones((100, 1)), truth)
    with pytest.raises(NumericalError, match="NaN"):
        predictability(np.full((100, 2), np.nan), truth, np.ones((100, 2)), truth)


def continuous(n: int, seed: int = 0):
    """Two factors: the first in code 0 at correlation 0.8 and in code 1 at 0.6, the second in none."""
    rng = np.random.default_rng(seed)
    factors, noise = rng.standard_normal((n, 2)), rng.standard_normal((n, 3))
    codes = np.stack([0.8 * factors[:, 0] + 0.6 * noise[:, 0], 0.6 * factors[:, 0] + 0.8 * noise[:, 1], noise[:, 2]], 1)
    return codes, factors


def test_gaps_of_continuous_factors_are_those_of_scipy():
    codes, factors = continuous(500)
    gaps, (low, high) = correlation_gaps(100 * codes + 7, factors - 3, np.random.default_rng(0))
    for gap, y in zip(gaps, factors.T, strict=True):
        squared = sorted((pearsonr(x, y).statistic ** 2 for x in codes.T), reverse=True)
        assert gap == pytest.approx(squared[0] - squared[1])
    assert low < gaps.mean() < high


def test_intervals_of_continuous_gaps_cover_the_truth():
    inside = 0
    for seed in range(100):
        codes, factors = continuous(400, seed)
        _, (low, high) = correlation_gaps(codes, factors[:, :1], np.random.default_rng(seed), resamples=200)
        inside += low <= 0.8**2 - 0.6**2 <= high
    assert inside >= 88


def test_continuous_factors_of_constant_codes():
    factors = np.arange(50.0)[:, None]
    gaps, bounds = correlation_gaps(np.ones((50, 2)), factors, np.random.default_rng(0))
    assert (gaps.tolist(), bounds) == ([0], (0, 0))
    only = np.stack([factors[:, 0], np.full(50, 1e-9)], 1)
    assert correlation_gaps(only, factors, np.random.default_rng(0))[0] == pytest.approx([1])
    with pytest.raises(DataError, match="two codes"):
        correlation_gaps(factors, factors, np.random.default_rng(0))
