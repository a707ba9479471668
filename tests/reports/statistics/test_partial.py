"""Partial correlation against regression residuals, its own recursion, and pingouin's published example."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import fisher_interval, partial_correlation
from vaebench.core.errors import NumericalError, TooFewSamples

# The four f16d32 tokenizers with printed values in the Send-VAE paper: CelebA F1, PSNR, gFID.
CELEBA, PSNR, GFID = [0.6222, 0.6347, 0.6439, 0.6647], [28.59, 27.96, 27.63, 27.62], [17.43, 11.40, 8.96, 7.57]


def _draw(n: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + k)
    z = rng.normal(size=(n, k)) * 10.0 ** np.arange(k) + 100
    x, y = z @ np.ones(k) + rng.normal(size=n), z @ np.ones(k) + rng.normal(size=n)
    return x, y, z


@pytest.mark.parametrize(("n", "k"), [(12, 1), (12, 3), (6, 2)])
def test_it_is_the_correlation_of_regression_residuals(n: int, k: int) -> None:
    x, y, z = _draw(n, k)
    design = np.column_stack([np.ones(n), z])
    residuals = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    expected = stats.pearsonr(*residuals).statistic
    ours = partial_correlation(x, y, z)
    assert ours.value == pytest.approx(expected, abs=1e-9)
    assert ours.degrees == n - 2 - k
    t = expected * math.sqrt(ours.degrees / (1 - expected**2))
    assert ours.p == pytest.approx(2 * stats.t.sf(abs(t), ours.degrees), rel=1e-6)
    assert (ours.low, ours.high) == pytest.approx(fisher_interval(expected, n - k), abs=1e-6)
    assert ours.x_explained == pytest.approx(1 - residuals[0].var() / x.var(), abs=1e-9)


def test_of_ranks_the_interval_is_that_of_ranks() -> None:
    x, y, z = (stats.rankdata(column) for column in _draw(20, 1))
    ours = partial_correlation(x, y, z, kind="spearman")
    assert ours.value == partial_correlation(x, y, z).value
    error = math.sqrt((1 + ours.value**2 / 2) / 16)  # Bonett and Wright, with 20 - 1 points
    assert math.atanh(ours.high) - math.atanh(ours.value) == pytest.approx(1.959964 * error, rel=1e-6)


def test_one_confounder_is_the_textbook_formula() -> None:
    r = np.corrcoef([CELEBA, GFID, PSNR])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / math.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    ours = partial_correlation(CELEBA, GFID, PSNR)
    assert ours.value == pytest.approx(expected, abs=1e-9)
    assert ours.degrees == 1
    assert ours.low is None, "no interval from four points"


def test_several_confounders_are_the_inverse_covariance() -> None:
    """r_xy.z = -P_xy / sqrt(P_xx P_yy) with P the inverse of the covariance of all."""
    x, y, z = _draw(20, 3)
    inverse = np.linalg.inv(np.corrcoef(np.column_stack([x, y, z]).T))
    expected = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    assert partial_correlation(x, y, z).value == pytest.approx(expected, abs=1e-8)


def test_the_p_value_is_that_of_the_coefficient_in_a_regression() -> None:
    sm = pytest.importorskip("statsmodels.api")
    x, y, z = _draw(15, 2)
    fit = sm.OLS(y, sm.add_constant(np.column_stack([x, z]))).fit()
    assert partial_correlation(x, y, z).p == pytest.approx(fit.pvalues[1], rel=1e-6)


@pytest.mark.parametrize(("n", "k"), [(3, 1), (4, 2), (5, 3)])
def test_too_few_points_are_refused(n: int, k: int) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(TooFewSamples, match=f"at least {k + 3} points"):
        partial_correlation(rng.normal(size=n), rng.normal(size=n), rng.normal(size=(n, k)))


def test_nothing_left_to_correlate_is_said() -> None:
    x, y = [1, 2, 3, 5, 4.0], [1, 3, 2, 4, 4.5]
    with pytest.raises(NumericalError, match="linear function of the confounder"):
        partial_correlation(x, y, 2 * np.array(x) + 1)
    z = np.array([*PSNR, 3.0])
    with pytest.raises(NumericalError, match="linear functions of each other"):
        partial_correlation(x, y, np.column_stack([z, 2 * z]))
    with pytest.raises(NumericalError, match="same value"):
        partial_correlation(x, y, [1, 1, 1, 1, 1])
    with pytest.raises(NumericalError, match="not finite"):
        partial_correlation(x, y, [1, 1, 1, math.nan, 1])
