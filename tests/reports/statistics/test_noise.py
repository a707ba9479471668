"""Measurement error: Spearman's correction by formula and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import disattenuate, pooled_covariance, seed_interval, standard_error
from vaebench.core.errors import NumericalError


def test_seed_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert seed_interval(values) == pytest.approx(expected)
    assert seed_interval([1.0]) is None


def test_standard_error_undoes_the_interval() -> None:
    runs = [1.0, 2.0, 4.0]
    low, high = seed_interval(runs) or (0, 0)
    assert standard_error([low, -1.96], [high, 1.96], [3, 1]) == pytest.approx([stats.sem(runs), 1], rel=1e-4)


def test_pooled_variance_is_the_mean_square_within_groups() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(loc, 1, k) for loc, k in ((0, 3), (5, 2), (9, 4), (2, 1))]
    x, labels = np.concatenate(groups), np.repeat(range(4), [3, 2, 4, 1])
    dummies = (labels[:, None] == np.arange(4)).astype(float)
    residual = x - dummies @ np.linalg.lstsq(dummies, x, rcond=None)[0]
    assert pooled_covariance([(g, g) for g in groups]) == pytest.approx(residual @ residual / (len(x) - 4))
    one = rng.normal(size=(2, 6))
    assert pooled_covariance([(one[0], one[1])]) == pytest.approx(np.cov(one)[0, 1])
    assert pooled_covariance([(np.ones(1), np.ones(1))] * 3) is None


def test_without_shared_errors_it_is_spearmans_formula() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=10), rng.normal(size=10)
    y = y + x
    ex, ey = np.full(10, 0.3), rng.uniform(0.1, 0.4, 10)
    found = disattenuate(x, y, ex, ey)
    rel_x, rel_y = 1 - 0.09 / x.var(ddof=1), 1 - np.mean(ey**2) / y.var(ddof=1)
    assert (found.x_reliability, found.y_reliability) == pytest.approx((rel_x, rel_y))
    assert found.value == pytest.approx(stats.pearsonr(x, y).statistic / math.sqrt(rel_x * rel_y))


def test_no_error_changes_nothing_and_units_do_not_matter() -> None:
    x, y = np.array([1.0, 2, 4, 3, 7]), np.array([2.0, 1, 5, 5, 6])
    none = disattenuate(x, y, np.zeros(5), np.zeros(5))
    assert none.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert (none.x_reliability, none.y_reliability) == (1, 1)
    errors = np.full(5, 0.4)
    plain, scaled = disattenuate(x, y, errors, errors), disattenuate(1e6 * x + 3, -y, 1e6 * errors, errors)
    assert plain.value is not None
    assert scaled.value == pytest.approx(-plain.value)
    assert scaled.x_reliability == pytest.approx(plain.x_reliability)


def test_errors_larger_than_all_differences_leave_it_undefined() -> None:
    x = np.array([1.0, 1.1, 0.9, 1.05, 0.97])
    found = disattenuate(x, np.arange(5.0), np.full(5, 1.0), np.zeros(5))
    assert found.value is found.low is found.high is None
    assert found.x_reliability < 0
    with pytest.raises(NumericalError, match="known"):
        disattenuate(x, np.arange(5.0), np.full(5, np.nan), np.zeros(5))


def test_it_finds_the_correlation_behind_noise_that_both_axes_share() -> None:
    """True r = 0.5; every tokenizer's three seeds move x and y together, which pushes the plain r up."""
    rng = np.random.default_rng(1)
    n, k = 1000, 3
    truth = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], n)
    errors = rng.multivariate_normal([0, 0], [[1.5, 1.2], [1.2, 1.5]], (n, k))
    runs = truth[:, None] + errors
    means = runs.mean(axis=1)
    error = runs.std(axis=1, ddof=1) / math.sqrt(k)
    shared = np.array([np.cov(run.T)[0, 1] for run in runs]) / k
    plain = stats.pearsonr(*means.T).statistic
    assert plain > 0.55
    corrected = disattenuate(*means.T, *error.T, shared)
    assert corrected.value == pytest.approx(0.5, abs=0.08)
    assert corrected.low is not None
    assert corrected.high is not None
    assert corrected.low < 0.5 < corrected.high
    assert corrected.x_reliability == pytest.approx(1 / 1.5, abs=0.03)


def test_four_points_have_no_interval() -> None:
    found = disattenuate([1, 2, 3, 5.0], [1, 3, 2, 4.0], [0.1] * 4, [0.1] * 4)
    assert found.value is not None
    assert found.low is None
