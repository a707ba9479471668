from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.metrics.fidelity.statistics import (
    RunningStatistics,
    read_statistics,
    statistics,
    write_statistics,
)

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


def test_files_in_adm_layout(tmp_path: Path) -> None:
    own = statistics(FEATURES)
    write_statistics(tmp_path / "own.npz", own)
    read = read_statistics(tmp_path / "own.npz")
    assert read.n == 300
    np.testing.assert_array_equal(read.covariance, own.covariance)
    np.savez(tmp_path / "adm.npz", mu=own.mean, sigma=own.covariance, mu_s=own.mean)
    assert read_statistics(tmp_path / "adm.npz").n is None
    np.savez(tmp_path / "foreign.npz", arr_0=own.mean)
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "torn.npz", mu=own.mean[:3], sigma=own.covariance)
    for name in ("foreign", "text", "torn", "absent"):
        with pytest.raises(DataError, match=name):
            read_statistics(tmp_path / f"{name}.npz")
