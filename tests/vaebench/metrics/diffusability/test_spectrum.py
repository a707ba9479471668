"""Spectra of known waves, against SciPy's transform one plane at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from vaebench.data.base import DataInfo
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.diffusability.spectrum import (
    Spectrum,
    energies,
    high_frequencies,
    radial_slope,
    ratio_interval,
    share,
)


def wave(u: int, v: int, size: int = 8) -> np.ndarray:
    planes = np.zeros((1, 1, size, size))
    planes[0, 0, u, v] = 1
    return fft.idctn(planes, axes=(2, 3), norm="ortho")


@pytest.mark.parametrize(("u", "v", "high"), [(0, 0, False), (3, 0, False), (4, 3, False), (4, 4, True), (7, 7, True)])
def test_a_single_wave_is_high_beyond_rho(u, v, high):
    # size 8: u + v > 0.5 * 14 = 7, strictly
    energy = energies(wave(u, v))
    assert share(energy[:, high_frequencies(8, 8, 0.5)].sum(1), energy.sum((1, 2))) == pytest.approx(float(high))


def test_energy_agrees_with_one_plane_at_a_time_and_is_conserved():
    latents = np.random.default_rng(0).standard_normal((3, 4, 6, 5))
    expected = [
        np.mean([fft.dct(fft.dct(p, axis=0, norm="ortho"), axis=1, norm="ortho") ** 2 for p in image], 0)
        for image in latents
    ]
    np.testing.assert_allclose(energies(latents), expected)
    np.testing.assert_allclose(energies(latents).sum((1, 2)), (latents**2).sum((1, 2, 3)) / 4)


@pytest.mark.parametrize("slope", [0.0, -1.0, -2.0])
def test_slope_of_a_known_spectrum(slope):
    rng = np.random.default_rng(1)
    u, v = np.ogrid[:16, :16]
    radius = np.hypot(u / 16, v / 16)
    radius[0, 0] = 1
    waves = rng.standard_normal((400, 2, 16, 16)) * radius ** (slope / 2)
    found = radial_slope(energies(fft.idctn(waves, axes=(2, 3), norm="ortho")).mean(0))
    assert found == pytest.approx(slope, abs=0.12)  # bins are averages over a range of radii


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_shares_do_not_depend_on_scale_or_order_of_channels(scale, seed):
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((4, 3, 6, 6))
    high = high_frequencies(6, 6, 0.25)
    one, two = energies(latents), energies(scale * latents[:, rng.permutation(3)])
    assert share(one[:, high].sum(1), one.sum((1, 2))) == pytest.approx(share(two[:, high].sum(1), two.sum((1, 2))))


@pytest.mark.slow
def test_interval_covers_the_truth_in_95_of_100():
    """SEC of white noise on 6 x 6 at rho = 0.5 is 15 / 36 exactly."""
    high = high_frequencies(6, 6, 0.5)
    truth, hits, repeats = high.mean(), 0, 1000
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        energy = energies(rng.standard_normal((200, 2, 6, 6)))
        low, top = ratio_interval(energy[:, high].sum(1), energy.sum((1, 2)), rng, resamples=400)
        hits += low <= truth <= top
    assert 0.925 <= hits / repeats <= 0.97


def scored(latents: np.ndarray, images: np.ndarray | None = None) -> dict[tuple[str, str], float]:
    split = LatentSplit(latents.astype(np.float32), images=None if images is None else images.__getitem__)
    prepared = MetricInputs(split, split, split, DataInfo("toy", 8), np.zeros(3), np.ones(3))
    scores = Spectrum({"resamples": 20}).run(prepared, 0)
    assert all(score.low - 1e-9 <= score.value <= score.high + 1e-9 for score in scores)
    return {(score.metric, score.detail.get("variant", "")): score.value for score in scores}


def test_a_grid_of_one_radius_has_shares_and_no_slope():
    found = scored(np.random.default_rng(0).standard_normal((40, 3, 2, 2)))
    assert {metric for metric, _ in found} == {"sec"}


@pytest.mark.parametrize("size", [7, 8, 16])
def test_planes_without_variation_have_no_score_made_of_rounding(size):
    """On 7 x 7 the transform of a constant is rounding beside DC, on 8 x 8 it is zero."""
    found = scored(np.broadcast_to(np.random.default_rng(0).standard_normal((40, 3, 1, 1)), (40, 3, size, size)))
    assert set(found) == {("sec", "rho=0.25"), ("sec", "rho=0.5")}
    assert max(found.values()) < 1e-30


@pytest.mark.parametrize("size", [7, 8, 16])
def test_planes_that_vary_along_one_side_score_alike_whichever_it_is(size):
    """Their energy lies at u = 0 or v = 0, within 0.5 (h + w - 2) and within a radius: beyond, a slope has nothing."""
    rng = np.random.default_rng(0)
    across = np.repeat(rng.standard_normal((40, 3, 1, size)), size, 2)
    images = rng.integers(0, 256, (40, 3, 2 * size, 2 * size), dtype=np.uint8)
    found, turned = scored(across, images), scored(across.swapaxes(2, 3), images)
    assert found == pytest.approx(turned, rel=1e-9, abs=1e-30)
    energy = (fft.dct(across[:, :, 0].astype(np.float32), norm="ortho") ** 2).mean((0, 1))
    beyond = np.arange(size) > 0.25 * (2 * size - 2)
    assert found == pytest.approx(
        {
            ("sec", "rho=0.25"): energy[beyond].sum() / energy.sum(),
            ("sec", "rho=0.25 without DC"): energy[beyond].sum() / energy[1:].sum(),
            ("sec", "rho=0.5"): 0.0,
            ("sec", "rho=0.5 without DC"): 0.0,
        },
        rel=1e-5,
        abs=1e-30,
    )


def test_images_without_variation_have_no_slope_to_compare_with():
    latents, images = np.random.default_rng(0).standard_normal((40, 3, 7, 7)), np.full((40, 3, 14, 14), 9, np.uint8)
    found = {metric for metric, _ in scored(latents, images)}
    assert found == {"sec", "spectral_slope"}
