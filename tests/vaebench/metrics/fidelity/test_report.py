import warnings

import numpy as np
import pytest

from vaebench.core.errors import NumericalError, TooFewSamples, UnknownName
from vaebench.metrics.fidelity.frechet import frechet_from_samples
from vaebench.metrics.fidelity.report import SmallSampleWarning, fidelity


def features(n: int, shift: float = 0.0, d: int = 16, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, d)) + shift).astype(np.float32)


def test_all_metrics_with_direction_and_interval() -> None:
    generated, reference = features(200, 0.2), features(300, seed=1)
    results = {one.name: one for one in fidelity(generated, reference, generator=np.random.default_rng(0))}
    assert list(results) == ["fid", "kid", "precision", "recall", "density", "coverage"]
    assert results["fid"].value == pytest.approx(frechet_from_samples(generated, reference))
    for result in results.values():
        assert result.direction == ("lower" if result.name in ("fid", "kid") else "higher")
        assert (result.n, result.n_reference) == (200, 300)
        assert result.low is not None
        assert result.high is not None
        assert result.low <= result.value <= result.high
        assert result.interval
        assert not result.notes


def test_worse_samples_score_worse() -> None:
    reference = features(300, seed=1)
    near, far = (
        {r.name: r.value for r in fidelity(features(300, shift), reference, generator=np.random.default_rng(0))}
        for shift in (0.05, 0.8)
    )
    assert all(near[name] < far[name] for name in ("fid", "kid"))
    assert all(near[name] > far[name] for name in ("precision", "recall", "density", "coverage"))


def test_warning_when_samples_are_fewer_than_features() -> None:
    with pytest.warns(SmallSampleWarning, match="16 generated samples for 16 features"):
        (result,) = fidelity(features(16), features(300), generator=np.random.default_rng(0), metrics=("fid",))
    assert "KID" in result.notes[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fidelity(features(17), features(300), generator=np.random.default_rng(0), metrics=("fid",))


def test_bad_input() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(TooFewSamples, match="Generate more"):
        fidelity(features(1), features(9), generator=rng)
    with pytest.raises(TooFewSamples, match="Neighbour"):
        fidelity(features(4), features(9), generator=rng, metrics=("manifold",))
    with pytest.raises(UnknownName, match="Did you mean 'kid'"):
        fidelity(features(9), features(9), generator=rng, metrics=("kids",))
    with pytest.raises(ValueError, match="cannot be compared"):
        fidelity(features(9, d=3), features(9), generator=rng)
    with pytest.raises(NumericalError):
        fidelity(features(99) * np.nan, features(99), generator=rng, metrics=("fid",))
