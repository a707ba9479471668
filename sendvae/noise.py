"""Noise injection (Send-VAE, arXiv 2601.05823): the mapper sees latents part of the way to noise, as diffusion does."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vaebench.core.seeds import sample_normal, sample_uniform
from vaebench.training.step import to_device


def inject_noise(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """z_t = (1 - alpha) * noise + alpha * z.

    `latents` and `noise` are N x d x h x w, `alpha` (N,) one level per image: 1 keeps the latents, 0 leaves noise.
    """
    level = alpha.view(-1, 1, 1, 1)
    return (1 - level) * noise + level * latents


def draw_noise(latents: Tensor, positions: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    """(noise, alpha) for these latents: noise ~ N(0, I), alpha ~ U(0, 1) per image, functions of seed and position."""
    noise = sample_normal(positions, tuple(latents.shape[1:]), seed, "injected noise")
    alpha = sample_uniform(positions, (), seed, "noise level")
    return to_device(noise, latents.device), to_device(alpha, latents.device)
