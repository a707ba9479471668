"""Statistics against SciPy and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


def test_kendall_agrees_with_scipy_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=7), rng.integers(0, 4, 7).astype(float)):
        y = rng.integers(0, 5, 7).astype(float)
        tau = statistics.correlate(x, y).coefficients["kendall"]
        assert tau.value == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
        assert tau.exact


@pytest.mark.parametrize(("kind", "variance"), [("spearman", 1.08 / 27), ("kendall", 0.437 / 26)])
def test_rank_intervals_are_bonett_and_wrights(kind: str, variance: float) -> None:
    half = stats.norm.ppf(0.975) * math.sqrt(variance)
    low, high = statistics.fisher_interval(0.4, 30, kind=kind)
    assert (math.atanh(low), math.atanh(high)) == pytest.approx((math.atanh(0.4) - half, math.atanh(0.4) + half))
    assert statistics.fisher_interval(0.4, 3, kind=kind) == (-1, 1)


def test_four_points_have_no_analytic_interval_of_kendalls_tau() -> None:
    four = statistics.correlate(CELEBA, GFID).coefficients
    assert (four["kendall"].low, four["kendall"].high) == (-1, 1)
    assert four["kendall"].p == pytest.approx(2 / 24)
    assert four["spearman"].bootstrap_low is None


spread = st.lists(st.integers(-50, 50), min_size=4, max_size=7, unique=True)


@settings(deadline=None, max_examples=25)
@given(spread, st.randoms(use_true_random=False), st.sampled_from([(3.0, -7.0), (0.001, 5.0), (-2.0, 0.0)]))
def test_pearson_is_untouched_by_affine_maps(values: list[int], random, line: tuple[float, float]) -> None:
    y = random.sample(range(100), len(values))
    scale, shift = line
    plain = statistics.correlate(values, y)
    moved = statistics.correlate([scale * value + shift for value in values], y)
    sign = math.copysign(1, scale)
    assert moved.pearson == pytest.approx(sign * plain.pearson, abs=1e-9)
    assert moved.pearson_p == pytest.approx(plain.pearson_p)
    assert sorted((sign * moved.low, sign * moved.high)) == pytest.approx([plain.low, plain.high], abs=1e-6)
    assert sorted(sign * r for r in moved.leave_one_out or ()) == pytest.approx(plain.leave_one_out, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(spread, st.randoms(use_true_random=False))
def test_rank_coefficients_are_untouched_by_rising_maps(values: list[int], random) -> None:
    y = random.sample(range(100), len(values))
    plain = statistics.correlate(values, y).coefficients
    bent = statistics.correlate([math.exp(value / 10) for value in values], [value**3 for value in y]).coefficients
    for kind in ("spearman", "kendall"):
        for field in ("value", "p", "low", "high", "bootstrap_low", "bootstrap_high"):
            assert getattr(bent[kind], field) == pytest.approx(getattr(plain[kind], field), abs=1e-9, nan_ok=True)


def test_together_is_as_alone() -> None:
    rng = np.random.default_rng(2)
    xs, y = rng.normal(size=(3, 6)), rng.normal(size=6)
    assert statistics.correlate_many(list(xs), y) == [statistics.correlate(x, y) for x in xs]
    assert statistics.correlate_many([], y) == []


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_units_do_not_overflow(scale: float) -> None:
    assert statistics.correlate(np.array(CELEBA) * scale, GFID).pearson == pytest.approx(-0.90, abs=0.005)


@pytest.mark.slow
def test_fishers_interval_covers_and_the_permutation_test_keeps_its_level() -> None:
    """1,000 studies of six tokenizers: coverage 95% and a level of at most 5%, both within four standard errors."""
    rng = np.random.default_rng(7)
    covered = rejected = 0
    for _ in range(1000):
        x, e, nothing = rng.normal(size=(3, 6))
        found, null = statistics.correlate_many([x, nothing], 0.6 * x + 0.8 * e)
        covered += found.low <= 0.6 <= found.high
        rejected += null.pearson_p <= 0.05
    error = 4 * math.sqrt(0.05 * 0.95 / 1000)
    assert covered / 1000 == pytest.approx(0.95, abs=error)
    assert rejected / 1000 <= 0.05 + error


def test_what_a_few_points_carry_is_not_settled() -> None:
    far = statistics.correlate([0.346, 0.356, 0.358, 0.3585, 0.622], [1692, 1684, 1686, 1687, 1550])
    assert far.low < far.high < -0.9, "Fisher's interval is narrow"
    assert "a few tokenizers carry it" in far.unsettled
    assert (
        "one tokenizer carries it"
        in statistics.correlate([0.35, 0.351, 0.352, 0.62], [60.0, 60.2, 60.4, 40.0]).unsettled
    )
    assert statistics.correlate([1, 2, 3], [1, 2, 4]).unsettled == "the interval includes zero"
    # Six far points that rise, and fourteen near each other that fall.
    x = np.concatenate([np.arange(14.0) / 10, np.arange(20.0, 26.0)])
    y = np.concatenate([np.arange(14.0)[::-1] / 10, np.arange(20.0, 26.0)])
    ranked = statistics.correlate(x, y)
    assert ranked.low > 0.9
    assert ranked.bootstrap_low is not None
    assert ranked.bootstrap_low > 0.9
    expected = stats.spearmanr(x, y)
    assert "the rank correlation does not agree" in ranked.unsettled
    assert f"{abs(expected.statistic):.2f}, p = " in ranked.unsettled
    rng = np.random.default_rng(0)
    x = np.arange(8.0)
    assert statistics.correlate(x, x + 0.3 * rng.normal(size=8)).unsettled == ""
