import numpy as np
import pytest
import torch

from vaebench.core.errors import NumericalError, TooFewSamples
from vaebench.metrics.fidelity.inception_score import inception_score, inception_score_interval
from vaebench.metrics.fidelity.report import inception


def drawn(n: int, classes: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, classes)).astype(np.float32)


@pytest.mark.parametrize("splits", [1, 4, 10])
def test_agrees_with_torch_fidelity(splits: int) -> None:
    metric = pytest.importorskip("torch_fidelity.metric_isc")
    logits = drawn(400)
    theirs = metric.isc_features_to_metric(torch.from_numpy(logits), splits=splits, shuffle=False)
    ours = inception_score(logits, split_size=400 // splits)
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert np.std(ours.per_split) == pytest.approx(theirs["inception_score_std"], rel=1e-9, abs=1e-12)


def test_extremes() -> None:
    certain = np.where(np.eye(8, dtype=bool), 0.0, -1e4)  # every class once, without doubt
    assert inception_score(np.tile(certain, (5, 1))).value == pytest.approx(8)
    assert inception_score(np.zeros((20, 8))).value == pytest.approx(1)  # recognisable as nothing
    assert inception_score(np.repeat(certain[:1], 9, 0)).value == pytest.approx(1)  # always the same
    probabilities = np.random.default_rng(1).dirichlet(np.ones(6), 50)
    shifted = np.log(probabilities) + np.arange(50)[:, None]
    assert inception_score(np.log(probabilities)).value == pytest.approx(inception_score(shifted).value)


def test_last_split_may_be_smaller() -> None:
    logits = drawn(250)
    parts = [inception_score(logits[i : i + 100]).value for i in (0, 100, 200)]
    found = inception_score(logits, split_size=100)
    np.testing.assert_allclose(found.per_split, parts)
    assert found.value == pytest.approx(np.mean(parts))


def test_influence_is_the_derivative() -> None:
    logits, step = drawn(60), 1e-4
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)

    def weighted(weights: np.ndarray) -> float:
        mean = weights @ p / weights.sum()
        return float(np.exp(weights @ (p * np.log(p / mean)).sum(1) / weights.sum()))

    found = inception_score(logits)
    assert found.value == pytest.approx(weighted(np.full(60, 1 / 60)))
    for sample in (0, 7, 59):
        moved = np.full(60, (1 - step) / 60)
        moved[sample] += step
        derivative = (weighted(moved) - found.value) / step
        assert found.influence[sample] == pytest.approx(derivative, rel=1e-2, abs=1e-3)


def test_interval_covers_what_new_samples_give() -> None:
    population = drawn(4000, seed=5)
    rng = np.random.default_rng(0)
    values = [inception_score(population[rng.integers(0, 4000, 500)]).value for _ in range(200)]
    found = inception_score(population[:500])
    low, high = inception_score_interval(found, generator=rng)
    assert 0.7 < (high - low) / (2 * 1.96 * np.std(values)) < 1.4
    assert low < found.value < high


def test_result_says_how() -> None:
    result = inception(drawn(120), generator=np.random.default_rng(0), split_size=50)
    assert (result.name, result.direction, result.n, result.n_reference) == ("inception_score", "higher", 120, None)
    assert result.settings == {"split_size": 50, "splits": 3, "classes": 12}
    assert result.low is not None
    assert result.high is not None
    assert 1 <= result.low <= result.value <= result.high


def test_bad_input() -> None:
    with pytest.raises(TooFewSamples):
        inception_score(drawn(0))
    with pytest.raises(NumericalError):
        inception_score(drawn(3) * np.nan)
    with pytest.raises(ValueError, match="Expected logits"):
        inception_score(drawn(3)[0])
    with pytest.raises(ValueError, match="split of 1"):
        inception_score(drawn(3), split_size=0)
