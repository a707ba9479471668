"""VIV where the answer is known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from vaebench.core.errors import NumericalError, TooFewSamples
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import DataInfo
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.diffusability.velocity import (
    VIV,
    Kronecker,
    ambiguity_at,
    degrees_of_freedom,
    fit_kronecker,
    jackknife_variance,
    least_samples,
    mixture_ambiguity,
)


def covariance(size: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).standard_normal((size, 2 * size))
    return factor @ factor.T / (2 * size)


def draw(count: int, channels: np.ndarray, positions: np.ndarray, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, len(channels), len(positions)))
    return np.linalg.cholesky(channels) @ values @ np.linalg.cholesky(positions).T


def test_integral_over_time_is_the_closed_form():
    eigenvalues = np.array([0.01, 0.5, 1.0, 7.0])
    integral, _ = integrate.quad(lambda t: ambiguity_at(eigenvalues, t), 0, 1)
    assert integral == pytest.approx(np.pi / 2 * np.sqrt(eigenvalues).sum())


def test_products_of_factors_are_the_eigenvalues_of_the_whole():
    channels, positions = covariance(3, 0), covariance(4, 1)
    whole = np.linalg.eigvalsh(np.kron(channels, positions))
    fit = Kronecker(np.zeros((3, 4)), channels, positions)
    assert fit.ambiguity(per_dimension=False) == pytest.approx(np.pi / 2 * np.sqrt(whole).sum())
    assert fit.ambiguity() == pytest.approx(np.pi / 2 * np.sqrt(whole).mean())


def test_the_fit_finds_the_covariance_and_is_a_maximum_of_likelihood():
    channels, positions = covariance(4, 0), covariance(5, 1)
    positions *= 5 / np.trace(positions)
    latents = draw(4000, channels, positions) + 3.0
    fit = fit_kronecker(latents)
    np.testing.assert_allclose(fit.channels, channels, atol=0.06)
    np.testing.assert_allclose(fit.positions, positions, atol=0.06)

    def likelihood(one: np.ndarray, two: np.ndarray) -> float:
        whole = np.kron(one, two)
        rest = (latents - latents.mean(0)).reshape(len(latents), -1)
        return -np.linalg.slogdet(whole)[1] - np.mean(np.sum(rest @ np.linalg.inv(whole) * rest, 1))

    best = likelihood(fit.channels, fit.positions)
    for seed in range(5):
        moved = covariance(4, seed + 10) * 0.02
        assert likelihood(fit.channels + moved, fit.positions) < best
        assert likelihood(fit.channels, fit.positions + covariance(5, seed + 20) * 0.02) < best


def smooth(count: int, seed: int = 0) -> np.ndarray:
    """Four channels of variance 1 on 16 positions, from white to nearly constant: no Kronecker product."""
    apart = np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
    values = np.random.default_rng(seed).standard_normal((count, 4, 16))
    roots = [np.linalg.cholesky(correlation**apart) for correlation in (0.0, 0.5, 0.9, 0.99)]
    return np.stack([values[:, c] @ root.T for c, root in enumerate(roots)], 1)


def of_classes(latents: np.ndarray, labels: np.ndarray) -> MetricInputs:
    split = LatentSplit(latents[..., None].astype(np.float32), labels=labels)
    d, classes = latents.shape[1], tuple(map(str, range(labels.max() + 1)))
    return MetricInputs(split, split, split, DataInfo("toy", 8, classes=classes), np.zeros(d), np.ones(d))


def test_the_fit_has_the_variance_of_what_it_is_fitted_to():
    latents = smooth(400)
    bound = np.pi / 2 * np.sqrt(latents.var(0).mean())
    for shrinkage in (0.0, 0.2):
        fit = fit_kronecker(latents, shrinkage)
        assert np.trace(fit.channels) * np.trace(fit.positions) == pytest.approx(latents.var(0).sum())
        assert np.trace(fit.positions) == pytest.approx(16)
        assert fit.ambiguity() <= bound
    prepared = of_classes(smooth(600), np.arange(600) % 2)
    scores = {(s.metric, s.detail.get("variant")): s for s in VIV().run(prepared, 0)}
    assert scores["viv", None].high < 1.02 * np.pi / 2
    assert scores["viv_marginal", None].value < 1.02 * np.pi / 2


def test_jackknife_refits_have_the_variance_of_theirs():
    latents, groups = smooth(200), 8
    member = np.random.default_rng(0).permutation(200) % groups
    values = np.array([fit_kronecker(latents[member != group]).ambiguity() for group in range(groups)])
    expected = (groups - 1) / groups * np.sum((values - values.mean()) ** 2)
    found = jackknife_variance(latents, fit_kronecker(latents), groups, np.random.default_rng(0))
    assert found == pytest.approx(expected, rel=0.1)  # one flip-flop against all of them


def test_degrees_of_freedom_add_where_variances_are_alike():
    assert degrees_of_freedom(np.full(5, 0.3), np.full(5, 7)) == pytest.approx(35)
    assert degrees_of_freedom(np.array([1.0, 1e-9]), np.array([7, 7])) == pytest.approx(7)
    latents = smooth(1250).astype(np.float32)
    one, five = (
        VIV({"groups": 2}).run(of_classes(latents[: 250 * classes], np.arange(250 * classes) % classes), 0)[0]
        for classes in (1, 5)
    )
    # One class and two groups leave a single degree, whose quantile is 12.7 and not 1.96.
    assert one.metric == "viv_unconditional"
    generator = numpy_generator(0, "viv")
    rows = np.sort(generator.permutation(np.arange(250)))
    error = np.sqrt(jackknife_variance(latents[rows], fit_kronecker(latents[rows]), 2, generator))
    assert one.high - one.value == pytest.approx(12.706 * error, rel=1e-3)
    assert five.high - five.value < one.high - one.value


def test_classes_too_small_for_the_fit_are_skipped_and_counted():
    assert least_samples(4, 16) == 5
    assert least_samples(16, 4) == 5
    assert least_samples(3, 3) == 2
    white = np.random.default_rng(0).standard_normal((240, 2, 60))
    labels = np.repeat([0, 1, 2], [100, 115, 25])  # 31 samples and more determine the fit
    score = VIV().run(of_classes(white, labels), 0)[0]
    assert score.detail == {"classes": 2, "skipped_classes": 1}
    assert score.n == 215
    with pytest.raises(TooFewSamples, match="No class has 31 training samples"):
        VIV().run(of_classes(white[:50], np.arange(50) % 2), 0)
    shrunk = VIV({"shrinkage": 0.2}).run(of_classes(white, labels), 0)[0]
    assert shrunk.detail["skipped_classes"] == 0


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 10))
def test_it_grows_with_the_scale_of_latents(scale):
    latents = draw(60, covariance(3, 0), covariance(4, 1))
    assert fit_kronecker(scale * latents).ambiguity() == pytest.approx(
        scale * fit_kronecker(latents).ambiguity(), rel=1e-5
    )


def test_white_latents_are_worst_at_their_variance():
    # of all spectra with mean 1, the flat one has the largest mean root: pi / 2
    fit = fit_kronecker(draw(20_000, np.eye(3), np.eye(4)))
    assert fit.ambiguity() == pytest.approx(np.pi / 2, rel=0.01)
    assert fit_kronecker(draw(20_000, np.diag([2.9, 0.05, 0.05]), np.eye(4))).ambiguity() == pytest.approx(
        np.pi / 2 * (np.sqrt(2.9) + 2 * np.sqrt(0.05)) / 3, rel=0.01
    )


def test_jackknife_agrees_with_the_spread_over_data_sets():
    channels, positions = covariance(3, 0), covariance(4, 1)
    values = [fit_kronecker(draw(100, channels, positions, seed)).ambiguity() for seed in range(120)]
    guesses = []
    for seed in range(40):
        latents = draw(100, channels, positions, seed)
        guesses.append(jackknife_variance(latents, fit_kronecker(latents), 10, np.random.default_rng(seed)))
    assert np.mean(guesses) == pytest.approx(np.var(values, ddof=1), rel=0.35)


def test_a_mixture_of_one_is_the_closed_form_and_far_apart_classes_hardly_overlap():
    one = Kronecker(np.zeros((2, 3)), covariance(2, 0), covariance(3, 1))
    value, error = mixture_ambiguity([one], np.ones(1), 4000, np.random.default_rng(0))
    assert value == pytest.approx(one.ambiguity(), abs=4 * error)
    same, error = mixture_ambiguity([one, one], np.array([1.0, 3.0]), 4000, np.random.default_rng(1))
    assert same == pytest.approx(one.ambiguity(), abs=4 * error)
    apart = Kronecker(np.full((2, 3), 4.0), one.channels, one.positions)
    mixed, error = mixture_ambiguity([one, apart], np.ones(2), 4000, np.random.default_rng(2))
    assert mixed > one.ambiguity() + 4 * error  # near t = 0 nobody can tell which class it will be


def test_too_few_samples_are_refused_and_shrinkage_helps():
    latents = draw(3, np.eye(2), np.eye(20))
    with pytest.raises(TooFewSamples, match="set shrinkage"):
        fit_kronecker(latents)
    assert fit_kronecker(latents, shrinkage=0.2).ambiguity() > 0
    with pytest.raises(NumericalError, match="all the same"):
        fit_kronecker(np.ones((10, 2, 3)))
    flat = draw(30, np.eye(2), np.eye(3))
    flat[:, 1] = 0
    with pytest.raises(NumericalError, match="never vary"):
        fit_kronecker(flat)
