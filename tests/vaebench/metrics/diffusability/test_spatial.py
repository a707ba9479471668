"""Spatial scores against loops over pairs of positions, and on patterns whose answer is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebench.metrics.diffusability import spatial
from vaebench.metrics.diffusability.spatial import area_means, resized_masks, srss, structure


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_loops(latents: np.ndarray, far: int, centred: bool) -> tuple[list[float], ...]:
    lds, lds_half, cds, rmsc = [], [], [], []
    height, width = latents.shape[2:]
    places = list(itertools.product(range(height), range(width)))
    for image in latents.astype(np.float64):
        tokens = np.array([image[:, y, x] for y, x in places])
        if centred:
            tokens = tokens - tokens.mean(0)
        units = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
        by_distance: dict[int, list[float]] = {}
        for (p, (y, x)), (q, (v, u)) in itertools.combinations(enumerate(places), 2):
            by_distance.setdefault(abs(y - v) + abs(x - u), []).append(float(units[p] @ units[q]))
        distant = [s for d, values in by_distance.items() if d >= min(far, height + width - 2) for s in values]
        lds.append(np.mean(by_distance[1]) - np.mean(distant))
        sides = {True: [], False: []}
        for d, values in by_distance.items():
            sides[d < max(height, width) / 2].extend(values)
        lds_half.append(np.mean(sides[True]) - np.mean(sides[False]))
        deltas = [d for d in range(1, 9) if d in by_distance]
        cds.append(-np.polyfit(deltas, [np.mean(by_distance[d]) for d in deltas], 1)[0])
        rmsc.append(np.sqrt(np.mean(np.sum((units - units.mean(0)) ** 2, 1))))
    return lds, lds_half, cds, rmsc


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("grid", [(4, 4), (6, 5), (12, 12)])
def test_agrees_with_loops(grid, centred):
    latents = noise(3, 5, *grid) + 0.5
    found = structure(latents, far=6, centred=centred)
    for values, expected in zip(found, by_loops(latents, 6, centred), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("centred", [False, True])
def test_srss_agrees_with_loops(centred):
    latents = noise(4, 6, 7, 7)
    foreground = np.random.default_rng(1).random((4, 7, 7)) < 0.5
    expected = []
    for image, mask in zip(latents.astype(np.float64), foreground, strict=True):
        tokens = image.reshape(6, -1).T
        tokens = tokens - tokens.mean(0) if centred else tokens
        units = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
        gaps = []
        for p, (y, x) in enumerate(itertools.product(range(7), range(7))):
            near = [q for q, (v, u) in enumerate(itertools.product(range(7), range(7)))
                    if abs(y - v) + abs(x - u) == 1 and mask[v, u]]  # fmt: skip
            far = [q for q, (v, u) in enumerate(itertools.product(range(7), range(7)))
                   if abs(y - v) + abs(x - u) >= 6 and not mask[v, u]]  # fmt: skip
            if mask[y, x] and near and far:
                gaps.append(np.mean(units[near] @ units[p]) - np.mean(units[far] @ units[p]))
        expected.append(np.mean(gaps))
    np.testing.assert_allclose(srss(latents, foreground, 6, centred), expected, atol=1e-5)


def test_images_do_not_depend_on_how_many_are_taken_at_a_time(monkeypatch):
    latents, masks = noise(7, 4, 7, 7), np.random.default_rng(1).random((7, 7, 7)) < 0.5
    whole, own = structure(latents), srss(latents, masks)
    monkeypatch.setattr(spatial, "PAIRS", 2 * 49**2)
    for values, others in zip(structure(latents), whole, strict=True):
        np.testing.assert_allclose(values, others, atol=1e-6)
    np.testing.assert_allclose(srss(latents, masks), own, atol=1e-6)


def test_constant_latents_have_no_structure():
    found = structure(np.ones((2, 4, 6, 6), np.float32))
    np.testing.assert_allclose(found.lds, 0, atol=1e-6)
    np.testing.assert_allclose(found.rmsc, 0, atol=1e-3)
    assert np.isnan(structure(np.ones((2, 4, 6, 6), np.float32), centred=True).lds).all()


def test_a_smooth_field_is_local_and_a_checkerboard_is_the_opposite():
    angle = np.linspace(0, np.pi / 2, 8)[:, None] + np.linspace(0, np.pi / 2, 8)
    smooth = np.stack([np.cos(angle), np.sin(angle)])[None]
    assert structure(smooth).lds[0] > 0.3
    assert structure(smooth).lds_half[0] > 0.1
    assert structure(smooth).cds[0] > 0.03
    assert np.isnan(structure(smooth[:, :, :2, :2]).lds_half).all()  # nothing is nearer than half of two cells
    board = (-1.0) ** np.add.outer(np.arange(8), np.arange(8))[None, None]
    # d = 1 is always the other colour; at d >= 6 both colours occur
    assert structure(board).lds[0] < -0.9
    assert structure(board).rmsc[0] == pytest.approx(1)


def test_white_noise_is_diverse_and_without_structure():
    found = structure(noise(400, 32, 8, 8))
    assert found.rmsc.mean() == pytest.approx(np.sqrt(1 - 1 / 64), abs=0.005)
    assert abs(found.lds.mean()) < 3 * found.lds.std() / 20
    assert abs(found.cds.mean()) < 3 * found.cds.std() / 20


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 10_000))
def test_scale_and_order_of_channels_do_not_matter(scale, seed):
    latents = noise(2, 6, 5, 5, seed=seed)
    order = np.random.default_rng(seed).permutation(6)
    for values, others in zip(structure(latents), structure(scale * latents[:, order]), strict=True):
        np.testing.assert_allclose(values, others, atol=2e-5)


def test_images_without_foreground_or_background_have_no_srss():
    masks = np.stack([np.zeros((7, 7), bool), np.ones((7, 7), bool)])
    assert np.isnan(srss(noise(2, 4, 7, 7), masks)).all()


def test_area_means_cut_pixels():
    plane = np.arange(6.0, dtype=np.float32).reshape(1, 6)
    np.testing.assert_allclose(
        area_means(plane, 1, 4), [[(0 + 0.5) / 1.5, (0.5 + 2) / 1.5, (3 + 2) / 1.5, 7 / 1.5]], rtol=1e-6
    )
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[0, :4, :3] = 1
    assert resized_masks(masks, 2, 2).tolist() == [[[True, False], [False, False]]]
