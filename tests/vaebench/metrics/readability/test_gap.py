"""Nonlinear gap: XOR, noise, neighbours as scikit-learn finds them, pairing, invariances."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from vaebench.metrics.readability.gap import NonlinearGap, neighbour_log_odds
from vaebench.metrics.readability.mlp import NetworkSettings, fit_network
from vaebench.metrics.readability.vectors import Vectors, usable


def run(inputs, seed=0, **options):
    scores = NonlinearGap({"epochs": 20, "hidden": 64, "batch_size": 128, **options}).run(inputs, seed)
    return {(score.metric.removeprefix("nonlinear_gap_"), score.detail["variant"]): score for score in scores}


def exclusive_or(n, rng, width=4):
    """Latents that hold so many bits, and the parity of the first four, of which half-spaces know little."""
    bits = rng.random((n, width)) < 0.5
    return 2.0 * bits - 1 + 0.1 * rng.standard_normal(bits.shape), (bits[:, :4].sum(1, keepdims=True) % 2).astype(
        np.uint8
    )


def test_exclusive_or_is_there_but_not_linear(made):
    rng = np.random.default_rng(0)
    scores = run(made(*exclusive_or(3000, rng)), epochs=40)
    assert len(scores) == 4
    for score in scores.values():
        assert score.detail["linear"] == pytest.approx(0.5, abs=0.12)
        assert score.detail["nonlinear"] > 0.99
        assert score.low > 0.3
        assert score.value == pytest.approx(score.detail["nonlinear"] - score.detail["linear"])
        assert score.detail["per_attribute"]["a0"] == pytest.approx(score.value, abs=1e-5)


def test_linear_attributes_have_no_gap(made):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3000, 4))
    y = (x @ rng.standard_normal((4, 3)) + rng.logistic(size=(3000, 3)) > 0).astype(np.uint8)
    scores = run(made(x, y))
    assert abs(scores["average_precision", "network"].value) < 0.01
    assert scores["average_precision", "knn"].value < 0.01  # neighbours are the weaker reader here


def test_noise_has_no_gap(made):
    rng = np.random.default_rng(2)
    y = (rng.random((3000, 4)) < [0.5, 0.4, 0.3, 0.2]).astype(np.uint8)
    for score in run(made(rng.standard_normal((3000, 6)), y)).values():
        assert score.low <= 0 <= score.high


def test_neighbours_vote_as_scikit_learns():
    rng = np.random.default_rng(3)
    bank, queries = rng.standard_normal((200, 5)), rng.standard_normal((50, 5))
    y = (rng.random((200, 2)) < [0.5, 0.2]).astype(np.uint8)
    found = neighbour_log_odds(queries, bank, y, [3, 10], "cpu")
    for at, k in enumerate((3, 10)):
        for a in range(2):
            share = KNeighborsClassifier(k).fit(bank, y[:, a]).predict_proba(queries)[:, 1]
            expected = (k * share + y[:, a].mean()) / (k + 1)
            np.testing.assert_allclose(1 / (1 + np.exp(-found[at, :, a])), expected, rtol=1e-5)


def test_value_is_the_difference_of_average_precisions_and_the_interval_is_paired(made):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1200, 3))
    y = (x[:, :1] + 0.5 * rng.standard_normal((1200, 1)) > 0).astype(np.uint8)
    inputs = made(np.concatenate([x, x[:, :1]], 1), y)
    score = run(inputs, readers=["network"])["average_precision", "network"]
    assert score.value == pytest.approx(score.detail["nonlinear"] - score.detail["linear"])
    # Two readers that agree in nearly everything: an interval that resampled them apart would be ten times as wide.
    truth = inputs.test.attributes[:, 0]
    draws = []
    for _ in range(100):
        rows = rng.integers(0, len(truth), len(truth))
        draws.append(average_precision_score(truth[rows], inputs.test.mean[rows, 0, 0, 0]))
    assert score.high - score.low < np.std(draws) * 2


def test_network_begins_at_the_linear_probe_and_may_stay_there(made):
    rng = np.random.default_rng(5)
    inputs = made(rng.standard_normal((300, 4)), (rng.random((300, 3)) < 0.5).astype(np.uint8))
    y = usable(inputs, 1000)
    parts = [split.mean[:].reshape(100, -1) for split in (inputs.train, inputs.validation, inputs.test)]
    x = Vectors("flattened", *parts)
    linear = Vectors("flattened", *(rng.standard_normal((100, 3)).astype(np.float32) * 0.01 for _ in range(3)))
    settings = NetworkSettings(8, 1e3, 0.0, 50, 2, 1)  # steps so large that every epoch is worse
    found = fit_network(x, linear, y, settings, 0)
    assert found.epochs.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(found.test, linear.test)
    np.testing.assert_array_equal(found.validation, linear.validation)


def test_test_labels_move_no_choice(made):
    rng = np.random.default_rng(6)
    inputs = made(*exclusive_or(900, rng))
    other = dataclasses.replace(inputs, test=dataclasses.replace(inputs.test, attributes=1 - inputs.test.attributes))
    first, second = run(inputs), run(other)
    assert first["average_precision", "knn"].detail["k"] == second["average_precision", "knn"].detail["k"]
    assert (
        first["average_precision", "network"].detail["epochs"]
        == second["average_precision", "network"].detail["epochs"]
    )


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_affine_scale_of_latents_does_not_matter(made, seed):
    rng = np.random.default_rng(seed)
    latents, y = exclusive_or(900, rng, 5)
    scaled = latents * rng.uniform(0.1, 10, 5) + rng.normal(0, 5, 5)
    first, second = (run(made(z, y), readers=["knn"]) for z in (latents, scaled))
    for key, score in first.items():
        assert second[key].value == pytest.approx(score.value, abs=1e-2)
