"""Adjusted p values against statsmodels and SciPy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import benjamini_hochberg, holm

multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_both_are_those_of_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-12)
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_order_of_severity(p: list[float]) -> None:
    """p <= Benjamini-Hochberg <= Holm <= Bonferroni, cut at one."""
    bonferroni = np.minimum(np.array(p) * len(p), 1)
    ladder = [np.array(p), benjamini_hochberg(p), holm(p), bonferroni]
    assert all((low <= high + 1e-12).all() for low, high in itertools.pairwise(ladder))


def test_by_hand_with_a_missing_value_that_does_not_count() -> None:
    assert holm([0.01, np.nan, 0.04, 0.03]) == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert benjamini_hochberg([0.01, np.nan, 0.04, 0.03]) == pytest.approx([0.03, np.nan, 0.04, 0.04], nan_ok=True)
    assert holm([]).size == benjamini_hochberg([]).size == 0
    assert np.isnan(holm([np.nan])).all()
