import numpy as np
import pytest
import torch
from scipy import stats

from sendvae.noise import draw_noise, inject_noise


def test_injection_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    latents, noise = rng.normal(size=(2, 5, 3, 2, 2))
    alpha = np.array([0.0, 0.25, 0.5, 0.9, 1.0])
    expected = np.stack([(1 - a) * e + a * z for a, e, z in zip(alpha, noise, latents, strict=True)])
    mixed = inject_noise(*(torch.from_numpy(v) for v in (latents, noise, alpha)))
    np.testing.assert_allclose(mixed, expected, atol=1e-12)
    assert np.array_equal(mixed[0], noise[0])
    assert np.array_equal(mixed[-1], latents[-1])


def test_law_of_noise_and_level() -> None:
    latents = torch.zeros(5000, 2, 2, 2)
    noise, alpha = draw_noise(latents, np.arange(5000), 0)
    assert alpha.shape == (5000,)
    assert stats.kstest(alpha.numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(noise.numpy().ravel(), "norm").pvalue > 0.01
    # E[a] = 1/2, E[a^2] = 1/3; for unit latents E[z_t^2] = E[(1-a)^2] + E[a^2] = 2/3.
    assert alpha.mean().item() == pytest.approx(1 / 2, abs=0.02)
    assert alpha.square().mean().item() == pytest.approx(1 / 3, abs=0.02)
    mixed = inject_noise(torch.ones_like(latents), noise, alpha)
    assert mixed.square().mean().item() == pytest.approx(2 / 3, abs=0.02)


def test_draws_follow_seed_and_position_alone() -> None:
    latents, positions = torch.zeros(6, 2, 2, 2), np.arange(6) + 40
    whole = draw_noise(latents, positions, 7)
    part = draw_noise(latents[2:4], positions[2:4], 7)
    assert all(torch.equal(a[2:4], b) for a, b in zip(whole, part, strict=True))
    other = draw_noise(latents, positions, 8)
    assert not any((a == b).any() for a, b in zip(whole, other, strict=True))
