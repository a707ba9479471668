"""Directions: NumPy's correlations, the geometry behind them, known answers, invariances, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression

from vaebench.core.errors import DataError, TooFewSamples
from vaebench.metrics.readability.directions import AttributeDirections, Moments, direction_cosines, mean_overlap


def run(inputs, seed=0, **options):
    return {
        score.metric: score
        for score in AttributeDirections({"vectorisations": ["flattened"], **options}).run(inputs, seed)
    }


def joint(x, y):
    return np.cov(np.concatenate([x, y], axis=1).T, ddof=0)


def test_moments_without_a_group_are_those_of_the_others():
    values = np.random.default_rng(0).standard_normal((60, 4)) + 1
    left = Moments.of(values).without(Moments.of(values[::3]))
    others = np.delete(values, np.s_[::3], axis=0)
    assert left.n == 40
    np.testing.assert_allclose(left.covariance(), np.cov(others.T, ddof=0), atol=1e-12)


def test_cosines_are_correlations_of_scikit_learns_predictions():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5)) @ rng.standard_normal((5, 5)) + 3
    y = (x @ rng.standard_normal((5, 3)) + rng.standard_normal((400, 3)) > 0).astype(np.uint8)
    found, phi = direction_cosines(joint(x, y), 5)
    np.testing.assert_allclose(found, np.corrcoef(LinearRegression().fit(x, y).predict(x).T), atol=1e-9)
    np.testing.assert_allclose(phi, np.corrcoef(y.T), atol=1e-9)


def test_cosines_are_angles_of_discriminant_directions_in_whitened_space():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 4)) @ rng.standard_normal((4, 4))
    y = (x[:, :2] + rng.standard_normal((400, 2)) > 0).astype(np.uint8)
    root = np.real(sqrtm(np.cov(x.T, ddof=0)))
    fisher = LinearDiscriminantAnalysis(solver="lsqr")
    turned = np.stack([root @ fisher.fit(x, y[:, a]).coef_[0] for a in range(2)])
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    found, _ = direction_cosines(joint(x, y), 4)
    np.testing.assert_allclose(found, turned @ turned.T, atol=1e-9)


def test_what_does_not_vary_is_passed_over():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((100, 3)), (rng.random((100, 2)) < 0.5).astype(np.uint8)
    wider = np.concatenate([x, np.ones((100, 1)), x[:, :1]], axis=1)
    found = direction_cosines(joint(wider, y), 5)[0]
    np.testing.assert_allclose(found, direction_cosines(joint(x, y), 3)[0], atol=1e-9)
    constant = y * [1, 0]
    matrix, phi = direction_cosines(joint(x, constant), 3)
    assert np.isnan(matrix[0, 1])
    assert np.isnan(phi[0, 1])
    assert np.isnan(mean_overlap(matrix))
    assert mean_overlap(np.array([[1, -0.5, np.nan], [0, 1, 0.1], [0, 0, 1]])) == pytest.approx(0.3)


def test_independent_attributes_held_linearly_have_orthogonal_directions(made):
    rng = np.random.default_rng(3)
    y = (rng.random((6000, 4)) < 0.5).astype(np.uint8)
    latents = (2.0 * y - 1 + 0.05 * rng.standard_normal(y.shape)) @ rng.standard_normal((4, 4))
    scores = run(made(latents, y))
    assert scores["direction_cosine"].value < 0.03  # 2,000 images: chance alone makes about 0.02
    assert scores["direction_excess"].low <= 0 <= scores["direction_excess"].high


def test_co_occurrence_alone_has_no_excess_and_a_shared_direction_has(made):
    rng = np.random.default_rng(4)
    first = rng.random(6000) < 0.5
    y = np.stack([first, first ^ (rng.random(6000) < 0.2)], 1).astype(np.uint8)  # phi 0.6
    own = 2.0 * y - 1 + 0.02 * rng.standard_normal(y.shape)
    separate = run(made(own, y))
    assert separate["direction_cosine"].detail["baseline"] == pytest.approx(0.6, abs=0.05)
    assert abs(separate["direction_excess"].value) < 0.01
    # Two cuts of one latent: labels agree in 65 % of the images, directions wholly.
    line = rng.standard_normal((6000, 1))
    cuts = np.concatenate([line > -0.5, line > 0.5], 1).astype(np.uint8)
    shared = run(made(line, cuts))
    assert shared["direction_cosine"].value == pytest.approx(1)
    expected = 1 - abs(np.corrcoef(cuts[:2000].T)[0, 1])
    assert shared["direction_excess"].value == pytest.approx(expected)
    assert shared["direction_excess"].low > 0.3
    assert shared["direction_cosine"].detail["cosines"] == [[1, 1], [1, 1]]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_linear_maps_of_latents_and_names_of_values_do_not_matter(made, seed):
    rng = np.random.default_rng(seed)
    y = (rng.random((600, 3)) < 0.5).astype(np.uint8)
    latents = y @ rng.standard_normal((3, 5)) + rng.standard_normal((600, 5))
    first = run(made(latents, y))
    # Well-conditioned, so that float32 latents carry what the map keeps.
    rotation, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    mapped = latents @ (rotation * rng.uniform(0.3, 3, 5)) + rng.normal(0, 5, 5)
    flipped = y ^ (np.arange(3) == 1)
    for other in (run(made(mapped, y)), run(made(latents, flipped))):
        for name, score in first.items():
            assert other[name].value == pytest.approx(score.value, abs=1e-4)


def test_noise_has_no_excess(made):
    rng = np.random.default_rng(5)
    first = rng.random(6000) < 0.5
    y = np.stack([first, first ^ (rng.random(6000) < 0.3), rng.random(6000) < 0.2], 1).astype(np.uint8)
    # Of 400 dimensions, so that the angle between two fits to noise is known well.
    excess = run(made(rng.standard_normal((6000, 400)), y))["direction_excess"]
    assert excess.low <= 0 <= excess.high
    assert abs(excess.value) < 0.05


def test_one_attribute_or_too_few_images_are_refused(made):
    rng = np.random.default_rng(1)
    y = (rng.random((300, 2)) < [0.5, 0]).astype(np.uint8)
    with pytest.raises(DataError, match="only 'a0'"):
        run(made(rng.standard_normal((300, 3)), y))
    with pytest.raises(TooFewSamples, match="100 training images give no directions in 50"):
        run(made(rng.standard_normal((300, 50)), (rng.random((300, 2)) < 0.5).astype(np.uint8)))
