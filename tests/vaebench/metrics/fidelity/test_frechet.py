import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from vaebench.core.errors import NumericalError, TooFewSamples
from vaebench.metrics.fidelity import frechet
from vaebench.metrics.fidelity.frechet import frechet_distance, frechet_from_samples
from vaebench.metrics.fidelity.statistics import Statistics, statistics


def by_square_root(first: Statistics, second: Statistics) -> float:
    difference = first.mean - second.mean
    root = sqrtm(first.covariance @ second.covariance)
    return float(difference @ difference + np.trace(first.covariance + second.covariance - 2 * np.real(root)))


def samples(n: int, d: int, seed: int, decay: float = 0.0) -> np.ndarray:
    """Correlated features with variances that fall like (1 + i)^-decay, off centre."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) / np.sqrt(d) + np.eye(d)
    return (rng.standard_normal((n, d)) * (1.0 + np.arange(d)) ** (-decay / 2)) @ mixing + rng.standard_normal(d) * 0.3


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_agrees_with_sqrtm_and_torch_fidelity(decay: float) -> None:
    a, b = samples(2000, 96, 0, decay), samples(1500, 96, 1, decay)
    first, second = statistics(a), statistics(b)
    value = frechet_distance(first, second)
    theirs = [fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
    metric = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert value == pytest.approx(by_square_root(first, second), rel=1e-6)
    assert value == pytest.approx(metric, rel=1e-6)
    assert frechet_from_samples(a, b) == pytest.approx(value, rel=1e-12)


def test_univariate_case() -> None:
    first = Statistics(np.array([1.0]), np.array([[4.0]]), None)
    second = Statistics(np.array([-2.0]), np.array([[25.0]]), None)
    assert frechet_distance(first, second) == pytest.approx(9 + (2 - 5) ** 2, rel=1e-14)


def test_commuting_covariances() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    one, two = rng.uniform(0, 3, 40), rng.uniform(0, 3, 40)
    first = Statistics(np.zeros(40), basis * one**2 @ basis.T, None)
    second = Statistics(np.full(40, 0.5), basis * two**2 @ basis.T, None)
    assert frechet_distance(first, second) == pytest.approx(10 + ((one - two) ** 2).sum(), rel=1e-10)


def test_same_statistics_are_at_distance_zero() -> None:
    own = statistics(samples(500, 64, 0))
    assert frechet_distance(own, own) == pytest.approx(0, abs=1e-10 * np.trace(own.covariance))
    shifted = Statistics(own.mean + 2, own.covariance, own.n)
    assert frechet_distance(own, shifted) == pytest.approx(4 * 64, rel=1e-10)


def test_symmetric_and_equivariant() -> None:
    a, b = samples(300, 30, 0), samples(300, 30, 1)
    value = frechet_from_samples(a, b)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((30, 30)))[0]
    assert frechet_from_samples(b, a) == pytest.approx(value, rel=1e-12)
    assert frechet_from_samples(3 * a @ rotation + 1, 3 * b @ rotation + 1) == pytest.approx(9 * value, rel=1e-10)


@pytest.mark.parametrize(
    ("rank_1", "rank_2", "shared"), [(40, 40, True), (40, 25, True), (40, 30, False), (1, 1, False)]
)
def test_rank_deficient_covariances(rank_1: int, rank_2: int, shared: bool) -> None:
    # Low-dimensional Gaussians laid into 150 dimensions by orthonormal maps: the distance is known from small matrices.
    rng = np.random.default_rng(0)
    space = np.linalg.qr(rng.standard_normal((150, 80)))[0]
    start = 0 if shared else 20 * (rank_1 > 1)
    into_1, into_2 = space[:, :rank_1], space[:, start : start + rank_2]
    small = [np.cov(samples(500, rank, seed).T).reshape(rank, rank) for seed, rank in enumerate((rank_1, rank_2))]
    wide = [into @ s @ into.T for into, s in zip((into_1, into_2), small, strict=True)]
    roots = [np.real(sqrtm(s)) for s in small]
    overlap = np.linalg.svd(roots[0] @ into_1.T @ into_2 @ roots[1], compute_uv=False).sum()
    expected = np.trace(small[0]) + np.trace(small[1]) - 2 * overlap
    for n in (None, 10):
        sides = [Statistics(np.zeros(150), (s + s.T) / 2, n) for s in wide]
        assert frechet_distance(*sides) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_dead_and_constant_features() -> None:
    a, b = samples(400, 32, 0), samples(400, 32, 1)
    value = frechet_from_samples(a, b)
    dead = [np.concatenate([x, np.zeros((400, 8))], axis=1) for x in (a, b)]
    assert frechet_from_samples(*dead) == pytest.approx(value, rel=1e-10)
    constant = np.ones((5, 3))
    assert frechet_from_samples(constant, constant + 1) == pytest.approx(3)
    assert frechet_distance(statistics(constant), statistics(constant)) == 0


@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 400), (400, 20), (64, 65), (2, 3)])
def test_fewer_samples_than_features(n: int, m: int) -> None:
    a, b = samples(n, 64, 0), samples(m, 64, 1)
    factors = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    overlap = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum((f**2).sum() for f in factors) - 2 * overlap
    assert frechet_from_samples(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(expected, rel=1e-6)


def test_ill_conditioned_spectra() -> None:
    # Eigenvalues over 14 orders of magnitude, known answer from commuting covariances.
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((200, 200)))[0]
    one, two = np.logspace(0, -7, 200), np.logspace(0.2, -7, 200)
    wide = [basis * s**2 @ basis.T for s in (one, two)]
    sides = [Statistics(np.zeros(200), (s + s.T) / 2, None) for s in wide]
    assert frechet_distance(*sides) == pytest.approx(((one - two) ** 2).sum(), rel=1e-6)


def test_fast_form_serves_usual_spectra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "_nuclear_norm", lambda *args: pytest.fail("careful form used"))
    frechet_distance(statistics(samples(1000, 100, 0, 2.0)), statistics(samples(1000, 100, 1, 2.0)))


def test_bad_statistics() -> None:
    own = statistics(samples(50, 4, 0))
    with pytest.raises(ValueError, match="cannot be compared"):
        frechet_distance(own, statistics(samples(50, 5, 0)))
    with pytest.raises(NumericalError):
        frechet_distance(own, Statistics(own.mean, own.covariance * np.nan, 50))
    with pytest.raises(NumericalError):
        frechet_from_samples(samples(3, 4, 0), np.full((3, 4), np.inf))
    with pytest.raises(TooFewSamples):
        frechet_from_samples(samples(1, 4, 0), samples(9, 4, 0))
    with pytest.raises(ValueError, match="cannot be compared"):
        frechet_from_samples(samples(9, 4, 0), samples(9, 5, 0))
