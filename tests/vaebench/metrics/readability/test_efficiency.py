"""Sample efficiency and description length: formulas by hand, known answers, chance, invariances, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from vaebench.core.errors import TooFewSamples
from vaebench.metrics.readability.efficiency import (
    SampleEfficiency,
    area_over_log,
    entropy_bits,
    fit_some,
    frequency_code,
    online_code,
    subset_sizes,
)
from vaebench.metrics.readability.vectors import ReadabilityConfig, usable, vectors


def run(inputs, seed=0, **options):
    options = {"vectorisations": ["flattened"], "smallest": 32, **options}
    return {score.metric: score for score in SampleEfficiency(options).run(inputs, seed)}


def test_sizes_double_up_to_all_images():
    assert subset_sizes(6000, 64) == [94, 188, 375, 750, 1500, 3000, 6000]
    assert subset_sizes(128, 64) == [64, 128]
    assert subset_sizes(5, 1) == [1, 2, 3, 5]
    with pytest.raises(TooFewSamples, match="needs 127"):
        subset_sizes(126, 64)
    assert subset_sizes(127, 64) == [64, 127]


def test_area_is_the_mean_height_over_log_n():
    sizes = [10, 20, 40]
    assert area_over_log(sizes, np.full(3, 0.7)) == pytest.approx(0.7)
    assert area_over_log(sizes, np.array([0.0, 0.5, 1.0])) == pytest.approx(0.5)  # a line over log n
    assert area_over_log([1, 10, 1000], np.array([0.0, 1.0, 1.0])) == pytest.approx((0.5 + 2) / 3)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 0, 1, 1], [1] * 7, [0, 1] * 10])
def test_frequency_code_is_the_sum_of_its_predictions(labels):
    bits, ones = 0.0, 0
    for seen, label in enumerate(labels):
        p = (ones + 0.5) / (seen + 1)
        bits -= np.log2(p if label else 1 - p)
        ones += label
    assert frequency_code(np.array([sum(labels)]), len(labels))[0] == pytest.approx(bits)
    assert entropy_bits(np.array([0.5, 0.0, 0.25])) == pytest.approx([1, 0, 0.811278], abs=1e-6)


@pytest.mark.parametrize("first", ["frequency", "uniform"])
def test_code_length_is_scikit_learns_block_by_block(made, first):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 3))
    y = (x @ rng.standard_normal((3, 2)) + rng.logistic(size=(600, 2)) > 0).astype(np.uint8)
    inputs = made(x, y)
    config = ReadabilityConfig(cs=(0.1,), tolerance=1e-9)
    own, attributes = vectors(inputs, "flattened", 2, 1000), usable(inputs, 1000)
    order, sizes = rng.permutation(200), [50, 100, 200]
    fits = [fit_some(own, attributes, order[:size], config, "cpu") for size in sizes]
    bits = online_code(own, attributes, order, sizes, fits, first)
    for a in range(2):
        labels = attributes.train[order, a]
        expected = 50.0 if first == "uniform" else frequency_code(labels[:50].sum(), 50)
        for size, following in ((50, 100), (100, 200)):
            model = LogisticRegression(C=0.1, tol=1e-9, max_iter=5000).fit(own.train[order[:size]], labels[:size])
            p = model.predict_proba(own.train[order[size:following]])
            expected -= np.log2(p[np.arange(following - size), labels[size:following]]).sum()
        assert bits[:, a].sum() == pytest.approx(expected, rel=1e-4)


def test_attributes_written_in_the_latents_cost_next_to_nothing(made):
    rng = np.random.default_rng(1)
    y = (rng.random((3000, 3)) < 0.5).astype(np.uint8)
    scores = run(made(2.0 * y - 1 + 0.01 * rng.standard_normal(y.shape), y))
    assert scores["sample_efficiency_average_precision"].value == pytest.approx(1)
    assert scores["sample_efficiency_balanced_accuracy"].value == pytest.approx(1)
    # Of 1,000 images the first 32 cost a bit each; the rest little.
    assert 32 / 1000 < scores["mdl_bits"].value < 0.06
    assert scores["mdl_compression"].value > 15


def test_noise_is_chance_and_compresses_nothing(made):
    rng = np.random.default_rng(2)
    y = (rng.random((3000, 4)) < [0.5, 0.4, 0.3, 0.1]).astype(np.uint8)
    scores = run(made(rng.standard_normal((3000, 6)), y))
    balanced = scores["sample_efficiency_balanced_accuracy"]
    assert balanced.low <= 0.5 <= balanced.high
    precision = scores["sample_efficiency_average_precision"]
    assert precision.value == pytest.approx(precision.detail["baseline"], abs=0.02)
    assert 0.97 < scores["mdl_compression"].value < 1.001
    assert scores["mdl_bits"].value == pytest.approx(scores["mdl_bits"].detail["baseline"], rel=0.03)


def test_more_images_help_and_an_easier_code_is_shorter(made):
    rng = np.random.default_rng(3)
    y = (rng.random((3000, 2)) < 0.5).astype(np.uint8)
    noise = rng.standard_normal((3000, 30))
    found = []
    for strength in (0.5, 1.5):
        latents = noise.copy()
        latents[:, :2] += strength * (2.0 * y - 1)
        found.append(run(made(latents, y)))
        curve = list(found[-1]["sample_efficiency_average_precision"].detail["curve"].values())
        assert curve[-1] > curve[0] + 0.02
    weak, strong = found
    assert strong["mdl_bits"].high < weak["mdl_bits"].low
    assert strong["mdl_compression"].low > weak["mdl_compression"].high
    assert strong["sample_efficiency_average_precision"].low > weak["sample_efficiency_average_precision"].high


def test_an_attribute_that_small_sets_lack_has_the_constant_predictor_there(made):
    rng = np.random.default_rng(4)
    y = np.zeros((900, 1), np.uint8)
    y[::60] = 1  # five in every split
    inputs = made(rng.standard_normal((900, 3)), y)
    own, attributes = vectors(inputs, "flattened", 2, 1000), usable(inputs, 1000)
    rows = np.flatnonzero(attributes.train[:, 0] == 0)[:20]
    fitted = fit_some(own, attributes, rows, ReadabilityConfig(), "cpu")
    assert np.all(fitted.coefficients == 0)
    np.testing.assert_allclose(fitted.test, np.log(0.5 / 20.5), rtol=1e-6)
    scores = run(inputs, smallest=16)
    assert all(np.isfinite(score.value) for score in scores.values())


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_affine_scale_of_latents_does_not_matter(made, seed):
    rng = np.random.default_rng(seed)
    y = (rng.random((450, 2)) < 0.5).astype(np.uint8)
    latents = y @ rng.standard_normal((2, 4)) + rng.standard_normal((450, 4))
    scaled = latents * rng.uniform(0.1, 10, 4) + rng.normal(0, 5, 4)
    options = {"cs": [0.1], "tolerance": 1e-7, "groups": 5}
    first, second = (run(made(z, y), **options) for z in (latents, scaled))
    for name, score in first.items():
        assert second[name].value == pytest.approx(score.value, abs=5e-3), name


def test_too_few_images_are_refused(made):
    rng = np.random.default_rng(0)
    small = made(rng.standard_normal((90, 3)), (rng.random((90, 1)) < 0.5).astype(np.uint8))
    with pytest.raises(TooFewSamples, match="learning curve from 32"):
        run(small)
    with pytest.raises(TooFewSamples, match="jackknife of 40"):
        run(small, smallest=10, groups=40)
