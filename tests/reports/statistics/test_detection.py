"""Power against G*Power, against simulation, and against Fisher's approximation."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import critical_r, detectable_r, power
from vaebench.core.errors import TooFewSamples


@pytest.mark.parametrize(("rho", "n"), [(0.1, 782), (0.3, 84), (0.5, 29)])
def test_sample_sizes_of_gpower(rho: float, n: int) -> None:
    """Bivariate normal model, two-sided 0.05, power 0.8: n = 782, 84 and 29 for r = 0.1, 0.3 and 0.5."""
    assert power(rho, n) >= 0.8 > power(rho, n - 1)
    assert detectable_r(n) <= rho < detectable_r(n - 1)


@pytest.mark.parametrize(("rho", "n"), [(0.9, 4), (0.8, 6), (0.5, 16)])
def test_power_is_how_often_simulated_studies_succeed(rho: float, n: int) -> None:
    rng = np.random.default_rng(n)
    x, e = rng.normal(size=(2, 40_000, n))
    y = rho * x + math.sqrt(1 - rho**2) * e
    p = stats.pearsonr(x, y, axis=1).pvalue
    assert power(rho, n) == pytest.approx(np.mean(p < 0.05), abs=4 * math.sqrt(0.25 / 40_000))


def test_without_a_correlation_power_is_alpha() -> None:
    for n in (3, 4, 10, 50):
        assert power(0, n) == pytest.approx(0.05, abs=1e-5)
        assert power(0, n, alpha=0.01) == pytest.approx(0.01, abs=1e-5)
    assert power(1, 3) == 1


@pytest.mark.parametrize("n", [3, 4, 6, 30])
def test_critical_r_is_where_the_t_test_reaches_alpha(n: int) -> None:
    r = critical_r(n)
    t = r * math.sqrt((n - 2) / (1 - r * r))
    assert 2 * stats.t.sf(t, n - 2) == pytest.approx(0.05)
    assert r < detectable_r(n) < 1


def test_detectable_r_falls_with_n_and_nears_fishers_approximation() -> None:
    values = [detectable_r(n) for n in (3, 4, 6, 12, 40, 200)]
    assert values == sorted(values, reverse=True)
    fisher = math.tanh((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / math.sqrt(197))
    assert values[-1] == pytest.approx(fisher, abs=1e-3)


def test_two_points_show_nothing() -> None:
    with pytest.raises(TooFewSamples, match="2 points"):
        critical_r(2)
    with pytest.raises(TooFewSamples):
        detectable_r(2)
