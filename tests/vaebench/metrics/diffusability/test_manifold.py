"""Ranks of covariances that are known, and units that are switched off on purpose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebench.core.errors import NumericalError
from vaebench.data.base import DataInfo
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.diffusability.manifold import (
    ActiveUnits,
    EffectiveRank,
    effective_rank,
    participation_ratio,
    sensitivity,
    spectrum_of,
)


def inputs(mean: np.ndarray, std: np.ndarray | None = None) -> MetricInputs:
    split = LatentSplit(mean.astype(np.float32), None if std is None else std.astype(np.float32))
    d = mean.shape[1]
    return MetricInputs(split, split, split, DataInfo("toy", 8), np.zeros(d), np.ones(d))


@pytest.mark.parametrize(("rank", "of"), [(1, 5), (3, 5), (5, 5)])
def test_flat_spectra_have_their_rank(rank, of):
    eigenvalues = np.r_[np.full(rank, 2.5), np.zeros(of - rank)]
    assert effective_rank(eigenvalues) == pytest.approx(rank)
    assert participation_ratio(eigenvalues) == pytest.approx(rank)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8), st.floats(0.1, 10))
def test_scale_does_not_matter_and_slopes_are_derivatives(values, scale):
    eigenvalues = np.array(values)
    for measure, slope in zip((effective_rank, participation_ratio), sensitivity(eigenvalues), strict=True):
        assert measure(scale * eigenvalues) == pytest.approx(measure(eigenvalues))
        step = np.eye(len(values))[0] * 1e-5 * eigenvalues[0]
        difference = (measure(eigenvalues + step) - measure(eigenvalues - step)) / (2 * step[0])
        assert difference == pytest.approx(slope[0], rel=1e-4, abs=1e-5 / eigenvalues[0])


def test_isotropic_latents_fill_their_dimension_and_the_interval_is_that_of_repeats():
    found, halves = [], []
    for seed in range(60):
        latents = np.random.default_rng(seed).standard_normal((800, 3, 2, 2)) * np.linspace(0.2, 1, 12).reshape(3, 2, 2)
        score = EffectiveRank().run(inputs(latents), 0)[0]
        found.append(score.value)
        halves.append((score.high - score.low) / 2)
    assert np.mean(halves) == pytest.approx(1.96 * np.std(found, ddof=1), rel=0.3)
    isotropic = np.random.default_rng(0).standard_normal((4_000, 3, 2, 2))
    assert EffectiveRank().run(inputs(isotropic), 0)[0].value == pytest.approx(12, abs=0.05)


def test_fewer_samples_than_dimensions_is_said():
    scores = EffectiveRank().run(inputs(np.random.default_rng(0).standard_normal((10, 4, 2, 2))), 0)
    assert "biased downwards" in scores[0].detail["note"]
    assert scores[0].value <= 9 + 1e-9


def test_collapsed_units_are_counted():
    rng = np.random.default_rng(0)
    mean, std = rng.standard_normal((500, 4, 2, 2)), np.full((500, 4, 2, 2), 0.3)
    mean[:, 0], std[:, 0] = 1e-3 * mean[:, 0], 1.0
    found = {score.metric: score.value for score in ActiveUnits().run(inputs(mean, std), 0)}
    assert found["active_units"] == found["collapsed_units"] + 0.5 == 0.75
    expected = 0.75 * (0.5 * (1 + 0.09 - 1) - np.log(0.3))
    assert found["kl_per_unit"] == pytest.approx(expected, rel=0.05)


def test_intervals_hold_shares_of_units_near_the_threshold():
    """Resamples vary less than the images they are drawn from, and nearly all units fall below the threshold."""
    mean = np.random.default_rng(0).standard_normal((12, 3, 30, 30))
    mean *= np.sqrt(0.0102) / mean.std(0, ddof=1)
    std = np.exp(-0.5 * mean**2 / 100)
    scores = {score.metric: score for score in ActiveUnits().run(inputs(mean, std), 0)}
    active, kl = scores["active_units"], scores["kl_per_unit"]
    assert active.value == 1
    assert 0 <= active.low <= active.value == active.high
    assert kl.low < kl.value < kl.high
    collapsed = scores["collapsed_units"]
    assert 0 <= collapsed.low <= collapsed.value <= collapsed.high <= 1


def test_unusable_latents_are_refused():
    with pytest.raises(NumericalError, match="constant"):
        EffectiveRank().run(inputs(np.ones((10, 2, 2, 2))), 0)
    broken = np.ones((10, 2, 2, 2))
    broken[3] = np.nan
    with pytest.raises(NumericalError, match="NaN"):
        EffectiveRank().run(inputs(broken), 0)
    assert ActiveUnits().missing(inputs(np.ones((10, 2, 2, 2)))) == (
        "needs posterior standard deviations (a stochastic encoder)"
    )


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_the_smaller_matrix_gives_the_same_spectrum(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    eigenvalues, squares = spectrum_of(x)
    expected, vectors = np.linalg.eigh(np.cov(x.T))
    size = min(shape)
    np.testing.assert_allclose(eigenvalues[1:], expected[-size + 1 :], rtol=1e-5)
    projections = ((x - x.mean(0)) @ vectors) ** 2
    np.testing.assert_allclose(squares[:, 1:], projections[:, -size + 1 :], rtol=1e-3, atol=1e-5)
