"""Statistics against SciPy and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from reports import statistics
from vaebench.core.errors import NumericalError, TooFewSamples

# The four f16d32 tokenizers with printed values in the Send-VAE paper: CelebA F1, PSNR, gFID.
CELEBA, PSNR, GFID = [0.6222, 0.6347, 0.6439, 0.6647], [28.59, 27.96, 27.63, 27.62], [17.43, 11.40, 8.96, 7.57]


@pytest.mark.parametrize("n", [4, 6, 9, 30])
def test_pearson_and_fisher_interval_agree_with_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    y = 0.7 * x + rng.normal(size=n)
    ours, theirs = statistics.correlate(x, y), stats.pearsonr(x, y)
    assert ours.pearson == pytest.approx(theirs.statistic, abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), abs=1e-12)


@pytest.mark.parametrize("n", [3, 5, 6])
def test_permutation_p_agrees_with_scipys_exact_test(n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(size=n)
    exact = stats.permutation_test(
        (x,), lambda a: abs(stats.pearsonr(a, y).statistic), permutation_type="pairings", alternative="greater",
        n_resamples=np.inf, vectorized=False,
    )  # fmt: skip
    assert statistics.correlate(x, y).pearson_p == pytest.approx(exact.pvalue, abs=1e-12)


@pytest.mark.parametrize("x", [[1.0, 2, 3, 4, 5], [1.0, 2, 2, 4, 5]])
def test_spearman_agrees_with_scipy_with_and_without_ties(x: list[float]) -> None:
    y = [2.0, 1, 4, 3, 5]
    ours = statistics.correlate(x, y)
    assert ours.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    exact = stats.permutation_test(
        (x,), lambda a: abs(stats.spearmanr(a, y).statistic), permutation_type="pairings", alternative="greater",
        n_resamples=np.inf, vectorized=False,
    )  # fmt: skip
    assert ours.spearman_p == pytest.approx(exact.pvalue, abs=1e-12)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_smallest_rank_p_is_two_over_n_factorial(n: int) -> None:
    rising = np.arange(n, dtype=float)
    perfect = statistics.correlate(rising, -(rising**3))
    assert perfect.smallest_p == pytest.approx(2 / math.factorial(n))
    assert perfect.spearman_p == perfect.smallest_p
    assert perfect.spearman == -1


def test_ties_raise_the_smallest_rank_p() -> None:
    assert statistics.correlate([1.0, 1, 2, 3], [1.0, 2, 3, 4]).smallest_p > 2 / 24


def test_drawn_permutations_agree_with_the_t_test_at_large_n() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = 0.3 * x + rng.normal(size=40)
    ours = statistics.correlate(x, y)
    assert not ours.exact
    assert ours.pearson_p == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.01)


def test_the_papers_own_numbers() -> None:
    """r = -.90 for CelebA and +.993 for PSNR; the interval of r = -.9572 at n = 6 is [-.995, -.653]."""
    assert statistics.correlate(CELEBA, GFID).pearson == pytest.approx(-0.90, abs=0.005)
    assert statistics.correlate(PSNR, GFID).pearson == pytest.approx(0.993, abs=0.001)
    assert statistics.fisher_interval(-0.9572, 6) == pytest.approx((-0.995, -0.653), abs=1e-3)


def test_three_points_say_almost_nothing() -> None:
    three = statistics.correlate([1, 2, 3], [3, 2, 1.5])
    assert (three.low, three.high) == (-1, 1)
    assert not three.excludes_zero
    assert three.leave_one_out is None
    assert three.bootstrap_low is None
    assert statistics.caution(3).startswith("n=3 carries almost nothing:")
    assert "0.33" in statistics.caution(3)


@pytest.mark.parametrize(("n", "words"), [(2, "carries nothing"), (4, "very little"), (6, "0.0028"), (20, "n=20")])
def test_caution_fits_n(n: int, words: str) -> None:
    assert words in statistics.caution(n)


def test_bootstrap_agrees_with_scipys_percentile_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    ours = statistics.correlate(x, y)
    theirs = stats.bootstrap(
        (x, y), lambda a, b: stats.pearsonr(a, b).statistic, paired=True, method="percentile", vectorized=False, rng=2,
        n_resamples=2000,
    ).confidence_interval  # fmt: skip
    assert (ours.bootstrap_low, ours.bootstrap_high) == pytest.approx(tuple(theirs), abs=0.02)
    assert statistics.correlate(x, y) == ours, "the same seed must give the same bootstrap"


def test_leave_one_out_is_the_range_over_subsets() -> None:
    kept = [[j for j in range(4) if j != i] for i in range(4)]
    values = [stats.pearsonr(np.take(CELEBA, k), np.take(GFID, k)).statistic for k in kept]
    assert statistics.leave_one_out(CELEBA, GFID) == pytest.approx((min(values), max(values)))


def test_partial_correlation_is_the_correlation_of_regression_residuals() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=12)
    x, y = z + rng.normal(size=12), z + rng.normal(size=12)
    design = np.stack([np.ones(12), z], axis=1)
    residuals = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    expected = stats.pearsonr(*residuals).statistic
    ours = statistics.partial_correlation(x, y, z)
    assert ours.value == pytest.approx(expected, abs=1e-12)
    t = expected * math.sqrt(9 / (1 - expected**2))
    assert ours.p == pytest.approx(2 * stats.t.sf(abs(t), 9), rel=1e-9)
    assert (ours.low, ours.high) == pytest.approx(statistics.fisher_interval(expected, 11))


def test_partial_correlation_says_what_it_cannot_do() -> None:
    with pytest.raises(TooFewSamples, match="at least 4 points"):
        statistics.partial_correlation([1, 2, 3], [1, 3, 2], [2, 1, 3])
    with pytest.raises(NumericalError, match="linear function of the confounder"):
        statistics.partial_correlation([1, 2, 3, 5], [1, 3, 2, 4], [2, 4, 6, 10])
    assert statistics.partial_correlation(CELEBA, GFID, PSNR).low is None, "no interval from four points"


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        ([1, 2], [1, 2], TooFewSamples, "at least 3 points"),
        ([1, 1, 1], [1, 2, 3], NumericalError, "same value"),
        ([1, 2, math.nan], [1, 2, 3], NumericalError, "not finite"),
        ([1, 2, 3], [1, 2], NumericalError, "one length"),
    ],
)
def test_bad_input_is_named(x: list[float], y: list[float], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        statistics.correlate(x, y)


def test_seed_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert statistics.seed_interval(values) == pytest.approx(expected)
    assert statistics.seed_interval([1.0]) is None
