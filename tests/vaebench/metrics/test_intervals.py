import numpy as np
import pytest
from scipy.stats import bootstrap

from vaebench.core.errors import TooFewSamples
from vaebench.metrics import intervals
from vaebench.metrics.intervals import bootstrap_mean, bootstrap_means, centred, resample_counts


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(1.5, size=400)
    low, high = bootstrap_mean(values, np.random.default_rng(1), resamples=4000)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.01)


def test_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = [low <= 1 <= high for low, high in (bootstrap_mean(rng.exponential(size=200), rng) for _ in range(300))]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.035)


def test_columns_share_the_draws_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).standard_normal((50, 2))
    values[:, 1] = values[:, 0] + 7
    means = bootstrap_means(values, np.random.default_rng(1), resamples=30)
    np.testing.assert_allclose(means[:, 1], means[:, 0] + 7)
    np.testing.assert_allclose(
        bootstrap_means(np.repeat(values, 5, 1), np.random.default_rng(1), resamples=30)[:, ::5], means
    )
    monkeypatch.setattr(intervals, "DRAWS_AT_ONCE", 100)
    np.testing.assert_array_equal(bootstrap_means(values, np.random.default_rng(1), resamples=30), means)


def test_few_distinct_values_are_drawn_by_how_often_they_occur() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.2, 1.0], 500, p=[0.5, 0.2, 0.3])
    means = bootstrap_means(values, np.random.default_rng(1), resamples=20_000)
    assert means.mean() == pytest.approx(values.mean(), abs=1e-3)
    assert means.std() == pytest.approx(values.std() / np.sqrt(500), rel=0.03)
    each = bootstrap_means(np.stack([values, values], 1), np.random.default_rng(2), resamples=5000)[:, 0]
    assert np.quantile(means, [0.025, 0.975]) == pytest.approx(np.quantile(each, [0.025, 0.975]), abs=0.003)
    assert (bootstrap_means(np.ones(50), np.random.default_rng(3)) == 1).all()


def test_counts() -> None:
    counts = resample_counts(20, 500, np.random.default_rng(0))
    assert (counts.sum(1) == 20).all()
    assert counts.mean(0) == pytest.approx(1, abs=0.25)


def test_edges() -> None:
    rng = np.random.default_rng(0)
    assert bootstrap_mean(np.array([3.0]), rng) == (3.0, 3.0)
    low, high = bootstrap_mean(np.ones((5, 4)), rng)
    assert low.shape == high.shape == (4,)
    with pytest.raises(TooFewSamples):
        bootstrap_mean(np.array([]), rng)


def test_centred_bounds_hold_the_value() -> None:
    draws = np.array([0.0, 1.0, np.nan, 2.0])
    low, high = centred(2.0, draws)
    assert (low, high) == pytest.approx(np.quantile([0, 1, 2], [0.025, 0.975]) + 1)
    mostly_one = np.r_[np.ones(99), 0.0]  # both quantiles are 1, above the mean
    assert centred(0.5, mostly_one) == (0.5, pytest.approx(0.51))
