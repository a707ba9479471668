"""MIG, modularity and InfoMEC: known answers, and scikit-learn pair by pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score

from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.metrics.disentanglement.information import (
    active_codes,
    counted_information,
    discretise,
    explained,
    infomec,
    jackknife_error,
    mig,
    modularity,
    neighbour_information,
)


def factors(n: int = 4000, sizes: tuple[int, ...] = (4, 5, 3), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, n) for size in sizes], 1)


def information(codes: np.ndarray, truth: np.ndarray):
    return counted_information(discretise(codes), truth)


def rotated(codes: np.ndarray) -> np.ndarray:
    rotation, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((codes.shape[1],) * 2))
    return (codes - codes.mean(0)) / codes.std(0) @ rotation


def test_information_agrees_with_scikit_learn_pair_by_pair():
    truth = factors()
    codes = np.random.default_rng(1).standard_normal((4000, 40)) + truth[:, [0]] * np.linspace(0, 1, 40)
    found = information(codes, truth)
    binned = discretise(codes)
    for j in range(0, 40, 7):
        edges = np.histogram_bin_edges(codes[:, j], 20)
        reference = np.minimum(np.digitize(codes[:, j], edges[:-1]) - 1, 19)
        np.testing.assert_array_equal(binned[:, j], reference)
        for k in range(3):
            assert found.values[j, k] == pytest.approx(mutual_info_score(reference, truth[:, k]), abs=1e-12)
    np.testing.assert_allclose(found.entropies, [mutual_info_score(c, c) for c in truth.T])


def test_what_is_left_without_a_group_is_what_the_rest_gives():
    truth, groups = factors(), np.arange(4000) % 6
    binned = discretise(np.random.default_rng(1).standard_normal((4000, 5)))
    found = counted_information(binned, truth, groups)
    for group in (0, 5):
        rest = counted_information(binned[groups != group], truth[groups != group])
        np.testing.assert_allclose(found.without[group], rest.values, atol=1e-12)
        np.testing.assert_allclose(found.entropies_without[group], rest.entropies, atol=1e-12)


def test_perfect_codes_rotated_codes_and_noise():
    truth = factors()
    perfect = information(truth.astype(float), truth)
    assert mig(perfect.values, perfect.entropies).value == pytest.approx(1, abs=0.01)
    assert modularity(perfect.values)[0] == pytest.approx(1, abs=1e-3)
    turned = information(rotated(truth.astype(float)), truth)
    assert mig(turned.values, turned.entropies).value < 0.4
    assert modularity(turned.values)[0] < 0.95
    groups = np.arange(4000) % 10
    noise = counted_information(discretise(np.random.default_rng(2).standard_normal((4000, 8))), truth, groups)
    value = mig(noise.values, noise.entropies).value
    pairs = zip(noise.without, noise.entropies_without, strict=True)
    error = jackknife_error(np.array([mig(*pair).value for pair in pairs]))
    assert value - 1.96 * error <= 0 <= value


def test_unused_codes_pull_modularity_down():
    truth = factors()
    codes = np.concatenate([truth, np.zeros((4000, 3))], 1).astype(float)
    assert modularity(information(codes, truth).values)[0] == pytest.approx(0.5, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-10, 10))
def test_order_scale_and_offset_of_codes_do_not_matter(seed, scale, offset):
    rng = np.random.default_rng(seed)
    truth = factors(500, seed=seed)
    codes = rng.integers(0, 50, (500, 4)) / 8 + truth[:, [0]]  # on a lattice, so that rounding moves no edge
    order = rng.permutation(4)
    one, two = information(codes, truth), information((codes * 4)[:, order], truth)
    assert mig(one.values, one.entropies).value == pytest.approx(mig(two.values, two.entropies).value, abs=1e-9)
    assert modularity(one.values)[0] == pytest.approx(modularity(two.values)[0], abs=1e-9)
    codes += rng.uniform(0, 1 / 8, codes.shape)  # ties are broken at random
    near, other = (
        neighbour_information(part, truth[:, 0], np.random.default_rng(1)) for part in (codes, codes[:, order] * scale)
    )
    assert near[order] == pytest.approx(other, abs=1e-3)


@pytest.mark.slow
def test_jackknife_interval_of_mig_covers_the_truth():
    """The truth is MIG of 200,000 samples; 95% intervals from 2,000 should hold it in about 95 of 100."""

    def draw(n: int, seed: int):
        truth = factors(n, (4, 3), seed)
        codes = truth @ [[1.0, 0.3, 0.0], [0.2, 1.0, 0.1]] + np.random.default_rng(seed + 1).uniform(-1, 1, (n, 3))
        # fixed bins, so that the estimate's own bias, which shrinks with n, stays small
        return np.clip(((codes + 1) / 6 * 8).astype(np.int64), 0, 7), truth

    binned, truth = draw(200_000, 0)
    whole = counted_information(binned, truth, bins=8)
    target, hits, repeats = mig(whole.values, whole.entropies).value, 0, 300
    for seed in range(repeats):
        binned, truth = draw(2000, 1000 + seed)
        found = counted_information(binned, truth, np.random.default_rng(seed).permutation(2000) % 20, bins=8)
        value = mig(found.values, found.entropies).value
        pairs = zip(found.without, found.entropies_without, strict=True)
        half = 1.96 * jackknife_error(np.array([mig(*pair).value for pair in pairs]))
        hits += value - half <= target <= value + half
    assert 0.9 <= hits / repeats <= 0.99


def test_neighbour_estimate_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    factor = rng.integers(0, 4, 1500)
    codes = np.stack([factor + rng.standard_normal(1500), rng.standard_normal(1500), factor**2 + rng.random(1500)], 1)
    expected = mutual_info_classif(codes, factor, discrete_features=False, n_neighbors=10, random_state=0)
    np.testing.assert_allclose(neighbour_information(codes, factor, rng), expected, atol=1e-3)  # noise of 1e-10


def test_codes_with_ties_are_as_informative_as_scikit_learn_finds_them():
    rng = np.random.default_rng(0)
    factor = np.arange(2000) % 4
    noisy = np.maximum(factor + rng.standard_normal(2000) - 1.5, 0)  # nothing but 0 where it is negative
    codes = np.stack([factor, 1e3 + 1e-2 * factor, noisy, factor // 2], 1).astype(np.float64)
    found = neighbour_information(codes, factor, np.random.default_rng(1))
    expected = [
        mutual_info_classif(codes, factor, discrete_features=False, n_neighbors=10, random_state=seed)
        for seed in range(5)
    ]
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=0.03)
    assert found[[0, 1, 3]] == pytest.approx(np.log([4, 4, 2]), abs=0.03)
    assert neighbour_information(np.ones((2000, 1)), factor, rng) == pytest.approx(0, abs=0.03)


def test_infomec_of_perfect_and_entangled_codes():
    truth = factors()
    codes = truth + np.random.default_rng(0).uniform(-0.2, 0.2, truth.shape)
    entropies = np.array([np.log(len(np.unique(column))) for column in truth.T])

    def score(codes: np.ndarray):
        columns = [neighbour_information(codes, truth[:, k], np.random.default_rng(k)) for k in range(3)]
        return infomec(np.stack(columns, 1), entropies, active_codes(codes))

    assert score(codes).modularity > 0.97
    assert score(codes).compactness > 0.97
    assert score(rotated(codes)).modularity < 0.5
    assert score(rotated(codes)).compactness < 0.5


def test_active_codes_by_both_rules():
    codes = np.random.default_rng(0).standard_normal((500, 3)) * [1, 0.01, 1]
    codes[:, 2] *= 1e-3
    codes[0, 2] = 5.0  # one outlier makes a code active by range and not by interquartile range
    assert active_codes(codes, "range").tolist() == [True, False, True]
    assert active_codes(codes, "iqr").tolist() == [True, False, False]


def test_infoe_is_the_share_of_log_loss():
    truth = factors()
    codes = truth + np.random.default_rng(0).uniform(-0.3, 0.3, truth.shape)
    losses, constant = explained(codes[:3000], truth[:3000, 0], codes[3000:], truth[3000:, 0], 1e3)
    assert constant == pytest.approx(np.log(4))
    assert 1 - losses.mean() / constant > 0.9
    noise = np.random.default_rng(1).standard_normal((4000, 5))
    losses, constant = explained(noise[:3000], truth[:3000, 0], noise[3000:], truth[3000:, 0], 1e3)
    assert abs(1 - losses.mean() / constant) < 0.02  # held out: noise explains nothing


def test_what_cannot_be_scored_is_said():
    truth = factors(100)
    with pytest.raises(NumericalError, match="NaN"):
        discretise(np.full((5, 2), np.nan))
    assert not discretise(np.ones((5, 2))).any()
    known = information(np.random.default_rng(0).standard_normal((100, 1)), truth)
    with pytest.raises(DataError, match="two codes"):
        mig(known.values, known.entropies)
    constant = truth.copy()
    constant[:, 1] = 0
    known = information(np.random.default_rng(0).standard_normal((100, 3)), constant)
    with pytest.raises(DataError, match="constant factor"):
        mig(known.values, known.entropies)
    with pytest.raises(DataError, match="two factors"):
        modularity(known.values[:, :1])
    with pytest.raises(TooFewSamples, match="occurs twice"):
        neighbour_information(np.zeros((3, 1)), np.arange(3), np.random.default_rng(0))
