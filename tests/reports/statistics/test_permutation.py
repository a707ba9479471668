"""Permutation p against SciPy's exact tests and against enumeration by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import correlate
from reports.statistics.permutation import kendall_p, linear_p, orders, permutation_count


def test_all_orderings_up_to_nine_and_drawn_ones_above() -> None:
    assert sorted(map(tuple, orders(4, 0))) == sorted(itertools.permutations(range(4)))
    drawn = orders(12, 0)
    assert len(drawn) == permutation_count(12) == 99_999
    assert (np.sort(drawn, axis=1) == np.arange(12)).all()
    assert permutation_count(9) == len(orders(9, 0)) == math.factorial(9)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 14])
def test_kendall_without_ties_is_scipys_exact_p(n: int) -> None:
    rng = np.random.default_rng(n)
    xs, y = rng.normal(size=(2, n)), rng.normal(size=n)
    p, exact = kendall_p(xs, y)
    assert exact.all()
    assert p == pytest.approx([stats.kendalltau(x, y, method="exact").pvalue for x in xs])


@pytest.mark.parametrize("x", [[1.0, 1, 2, 3, 4], [1.0, 1, 2, 2, 3], [1.0, 2, 2, 2, 3]])
def test_kendall_with_ties_enumerates(x: list[float]) -> None:
    y = [2.0, 1, 4, 4, 5]
    observed = abs(stats.kendalltau(x, y).statistic)
    every = [abs(stats.kendalltau(x, order).statistic) for order in itertools.permutations(y)]
    (p, _), exact = kendall_p(np.array([x, x[::-1]]), np.array(y))
    assert exact.all()
    assert p == pytest.approx(np.mean(np.array(every) >= observed - 1e-12))


def test_kendall_with_ties_above_nine_points_is_near_the_tie_corrected_normal() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 12, 40).astype(float)
    y = x + rng.integers(0, 30, 40)
    (_, p), exact = kendall_p(np.stack([np.arange(40.0), x]), y)
    assert not exact.any(), "y has ties"
    assert p == pytest.approx(stats.kendalltau(x, y, method="asymptotic").pvalue, abs=0.01)


@pytest.mark.parametrize(("n", "at_most"), [(6, 0), (12, 0.006)])
def test_rows_tested_together_are_those_tested_alone(n: int, at_most: float) -> None:
    rng = np.random.default_rng(n)
    xs, y = rng.normal(size=(3, n)), rng.normal(size=n)
    together, smallest = linear_p(xs, y)
    alone = [correlate(x, y) for x in xs]
    assert together == pytest.approx([c.pearson_p for c in alone], abs=1e-12)
    t_test = [stats.pearsonr(x, y).pvalue for x in xs]
    if at_most:
        assert together == pytest.approx(t_test, abs=0.03), "at n = 12 the t test is close"
        assert smallest == pytest.approx(1e-5)


def test_drawn_p_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    xs, y = rng.normal(size=(4, 8)), rng.normal(size=8)
    exact, _ = linear_p(xs, y)
    monkeypatch.setattr("reports.statistics.permutation.EXACT_UP_TO", 7)
    orders.cache_clear()
    drawn, _ = linear_p(xs, y)
    orders.cache_clear()
    assert drawn == pytest.approx(exact, abs=0.006), "99,999 draws: at most four standard errors of 0.0016"
    assert (drawn != exact).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 6), st.integers(0, 10**6))
def test_exact_p_is_a_share_of_orderings_and_valid(n: int, seed: int) -> None:
    """Over all orderings of y, the share with p <= a is at most a: no more false alarms than it says."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, n).astype(float) + 0.1 * np.arange(n)
    ys = np.array(list(itertools.permutations(rng.integers(0, 4, n) + 0.01 * np.arange(n))))
    p, _ = linear_p(ys, x)
    assert np.allclose(p * math.factorial(n), np.round(p * math.factorial(n)))
    for level in np.unique(p):
        assert np.mean(p <= level) <= level + 1e-12
