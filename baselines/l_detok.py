"""l-DeTok (arXiv 2507.15856, "Latent Denoising Makes Good Visual Tokenizers"): the decoder reconstructs from noise.

In training the decoder sees, in place of the sampled latents z,

    interpolative   z' = (1 - tau) z + tau gamma eps,      tau ~ U(0, 1) per image, eps ~ N(0, I),
    additive        z' = z + tau gamma eps,

so that latents stay readable where diffusion makes its mistakes. The loss is that of any tokenizer (reconstruction, KL,
perceptual, GAN), with no term of its own; at inference the decoder sees z. Equations and gamma = 3.0 as in the paper;
per image, and on raw latents, as in the authors' code (Jiawei-Yang/DeTok).

Left out: the paper's second corruption, random masking of the encoder's input patches (a share max(0, U(-0.1, 0.7)) of
them is dropped, and the decoder sees mask tokens in their place). It needs an encoder that can leave tokens out, which
a convolutional one cannot.

As in the paper the latents are not normalised before the noise: only the KL term holds the encoder from growing them
until the noise no longer matters. Compare methods at equal `kl_weight` and look at the latents' scale.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.seeds import sample_normal, sample_uniform
from vaebench.tokenizers.method import Method, Objective, StepInputs, TeacherSpec
from vaebench.training.step import to_device

NoiseForm = Literal["interpolative", "additive"]


class LDeTokConfig(Config):
    """Settings of l-DeTok.

    Attributes:
        gamma: standard deviation of the noise at tau = 1; 0 turns additive noise off.
        form: how latents and noise are mixed.
    """

    gamma: float = Field(default=3.0, ge=0)
    form: NoiseForm = "interpolative"


def corrupt(latents: Tensor, noise: Tensor, tau: Tensor, gamma: float, form: NoiseForm = "interpolative") -> Tensor:
    """z' = (1 - tau) z + tau gamma eps, or with the form "additive" z' = z + tau gamma eps.

    `latents` and `noise` (eps) are N x d x h x w, `tau` (N,) in [0, 1].
    """
    level = tau.view(-1, 1, 1, 1)
    kept = latents if form == "additive" else (1 - level) * latents
    return kept + gamma * level * noise


class LatentDenoising(Objective):
    """Corrupts what the decoder sees; adds no loss and has no weights."""

    def __init__(self, config: LDeTokConfig) -> None:
        super().__init__()
        self.config = config

    def to_decode(self, latents: Tensor, positions: np.ndarray, seed: int) -> Tensor:
        noise = sample_normal(positions, tuple(latents.shape[1:]), seed, "l-detok noise")
        tau = sample_uniform(positions, (), seed, "l-detok level")
        noise, tau = (to_device(drawn, latents.device) for drawn in (noise, tau))
        return corrupt(latents, noise, tau, self.config.gamma, self.config.form)

    def forward(self, inputs: StepInputs) -> None:
        return None


class LDeTok(Method):
    """A KL autoencoder whose decoder learns to denoise latents."""

    name = "l-detok"
    summary = "latent denoising: the decoder reconstructs from noised latents"
    Config = LDeTokConfig
    config: LDeTokConfig

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> LatentDenoising:
        return LatentDenoising(self.config)
