from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebench.core.errors import NumericalError, TooFewSamples
from vaebench.metrics.fidelity.statistics import RunningStatistics, statistics

FEATURES = np.random.default_rng(0).standard_normal((300, 7)).astype(np.float32) * 3 + 1000


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 300), max_size=6), merge=st.booleans())
def test_any_chunks_in_any_order_give_the_whole(cuts: list[int], merge: bool) -> None:
    running = RunningStatistics(7)
    bounds = [0, *sorted(cuts), 300]
    for start, stop in reversed(list(pairwise(bounds))):
        part = RunningStatistics(7) if merge else running
        part.update(FEATURES[start:stop])
        if merge:
            running.merge(part)
    result = running.result()
    exact = FEATURES.astype(np.float64)
    assert result.n == 300
    np.testing.assert_allclose(result.mean, exact.mean(0), rtol=1e-14)
    np.testing.assert_allclose(result.covariance, np.cov(exact.T), rtol=1e-11, atol=1e-11)


def test_float16_features_are_summed_in_double_precision() -> None:
    features = np.full((5000, 2), 100.0, np.float16)
    features[0] = 101
    result = statistics(features, chunk=100)
    np.testing.assert_allclose(result.mean, 100 + 1 / 5000, rtol=1e-14)
    np.testing.assert_allclose(np.diag(result.covariance), 1 / 5000, rtol=1e-10)


def test_bad_features() -> None:
    with pytest.raises(TooFewSamples):
        statistics(FEATURES[:1])
    with pytest.raises(TooFewSamples):
        statistics(FEATURES[:0])
    with pytest.raises(NumericalError):
        statistics(np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match="Expected features"):
        statistics(FEATURES[0])
    with pytest.raises(ValueError, match="Expected features"):
        RunningStatistics(3).update(FEATURES)
