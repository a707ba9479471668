"""Leakage: a plain reference, known answers, expectation 0, invariances, bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from vaebench.core.errors import DataError, TooFewSamples
from vaebench.metrics.readability.leakage import AttributeLeakage, dominance, leakage
from vaebench.metrics.readability.vectors import half_width, without_groups


def co_occurring(n: int, rng: np.random.Generator, flip: float = 0.2) -> np.ndarray:
    """Two attributes that agree in 1 - flip of the images."""
    first = rng.random(n) < 0.5
    return np.stack([first, first ^ (rng.random(n) < flip)], 1).astype(np.uint8)


def by_all_quadruples(scores: np.ndarray, y: np.ndarray) -> float:
    ones, zeros = scores[y == 1], scores[y == 0]
    products = [
        np.sign(ones[p] - zeros[q]) * np.sign(ones[r] - zeros[s])
        for p, r in itertools.permutations(range(len(ones)), 2)
        for q, s in itertools.permutations(range(len(zeros)), 2)
    ]
    return float(np.mean(products))


@pytest.mark.parametrize("ties", [False, True])
def test_dominance_is_that_of_all_pairs_and_all_quadruples(ties):
    rng = np.random.default_rng(0)
    scores, y = rng.standard_normal(13), (rng.random((13, 3)) < 0.5).astype(np.uint8)
    scores = np.round(scores) if ties else scores
    found = dominance(scores, y)
    for j in range(3):
        assert found.signed[j] == pytest.approx(2 * roc_auc_score(y[:, j], scores) - 1)
        assert found.squared[j] == pytest.approx(by_all_quadruples(scores, y[:, j]))
        assert found.pairs[j] == y[:, j].sum() * (1 - y[:, j]).sum()


def test_leakage_averages_strata_by_their_comparisons():
    rng = np.random.default_rng(1)
    y = (rng.random((40, 2)) < 0.4).astype(np.uint8)
    scores = rng.standard_normal((40, 2)) + y[:, ::-1]
    squares, weights = [], []
    for value in (0, 1):
        rows = y[:, 0] == value
        squares.append(by_all_quadruples(scores[rows, 0], y[rows, 1]))
        weights.append(y[rows, 1].sum() * (1 - y[rows, 1]).sum())
    found = leakage(scores, y, y)
    assert found.squared[0, 1] == pytest.approx(np.average(squares, weights=weights))
    assert np.isnan(np.diag(found.squared)).all()


def test_expectation_is_zero_for_separate_attributes_that_co_occur():
    rng = np.random.default_rng(2)
    corrected, raw = [], []
    for _ in range(400):
        y = co_occurring(80, rng)
        scores = y + rng.standard_normal(y.shape)  # each looks at its own attribute only
        corrected.append(leakage(scores, y, y).value)
        raw.append(leakage(scores, y, np.zeros_like(y)).value)
    error = np.std(corrected) / np.sqrt(len(corrected))
    assert abs(np.mean(corrected)) < 3 * error
    assert np.mean(raw) > 20 * error  # co-occurrence alone looks like leakage


def test_complete_leakage_is_one():
    rng = np.random.default_rng(3)
    y = (rng.random((200, 2)) < 0.5).astype(np.uint8)
    assert leakage(y[:, ::-1].astype(float), y, y).value == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_only_the_order_of_scores_counts(seed):
    rng = np.random.default_rng(seed)
    y = (rng.random((60, 3)) < 0.5).astype(np.uint8)
    scores = rng.standard_normal((60, 3))
    first, order = leakage(scores, y, y), rng.permutation(60)
    moved = leakage(np.exp(3 * scores)[order], y[order], y[order])
    np.testing.assert_allclose(moved.squared, first.squared)
    flipped = leakage(-scores, 1 - y, 1 - y)
    np.testing.assert_allclose(flipped.squared, first.squared)
    np.testing.assert_allclose(flipped.signed, first.signed)


def test_metric_finds_none_in_separate_latents_and_much_in_mixed_ones(made):
    rng = np.random.default_rng(4)
    y = (rng.random((1800, 3)) < 0.5).astype(np.uint8)
    own = 2.0 * y - 1 + 0.3 * rng.standard_normal(y.shape)
    separate = AttributeLeakage().run(made(own, y), 0)[0]
    assert separate.value < 0.01
    # One latent for two attributes: a probe of either cannot but tell of the other.
    mixed = np.stack([own[:, 0] + own[:, 1], own[:, 2]], 1)
    found = AttributeLeakage().run(made(mixed, y), 0)[0]
    matrix = np.array(found.detail["matrix"], float)
    assert matrix[0, 1] > 0.8
    assert matrix[1, 0] > 0.8
    assert abs(matrix[0, 2]) < 0.2
    assert found.low > separate.high


def test_noise_is_zero_within_its_interval(made):
    rng = np.random.default_rng(5)
    y = co_occurring(1800, rng)
    found = AttributeLeakage().run(made(rng.standard_normal((1800, 4, 2, 2)), y), 0)[0]
    assert found.low <= 0 <= found.high


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(6)
    covered = 0
    big = co_occurring(20_000, rng)
    mixing = np.array([[1.0, 0.3], [0.3, 1.0]])
    truth = leakage(big @ mixing + rng.standard_normal(big.shape), big, big).value
    for _ in range(200):
        y = co_occurring(600, rng)
        scores = y @ mixing + rng.standard_normal(y.shape)
        found = leakage(scores, y, y)
        kept = without_groups(600, 10, rng).T == 1
        half = half_width(np.array([leakage(scores[k], y[k], y[k], weights=found.weights).value for k in kept]))
        covered += abs(found.value - truth) < half
    assert 0.89 * 200 <= covered <= 0.99 * 200


def test_pairs_that_nothing_is_known_of_are_left_out_and_counted(made):
    rng = np.random.default_rng(7)
    first = (rng.random(900) < 0.5).astype(np.uint8)
    y = np.stack([first, 1 - first, rng.random(900) < 0.5], 1).astype(np.uint8)  # the first two exclude each other
    latents = rng.standard_normal((900, 3))
    found = AttributeLeakage().run(made(latents, y), 0)[0]
    assert found.detail["pairs"] == 4
    assert found.detail["pairs_left_out"] == 2
    assert found.detail["matrix"][0][1] is None
    with pytest.raises(TooFewSamples, match="No pair"):
        AttributeLeakage().run(made(latents, y[:, :2]), 0)
    with pytest.raises(DataError, match="only 'a0'"):
        AttributeLeakage().run(made(latents, y[:, :1]), 0)
