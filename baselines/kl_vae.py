"""The plain KL autoencoder (latent diffusion, arXiv 2112.10752): reconstruction, KL and GAN, nothing else."""

from __future__ import annotations

import torch

from vaebench.tokenizers.method import Method, Objective, TeacherSpec


class KLVAE(Method):
    """Adds no objective of its own; what it is worth depends on the loop's settings alone."""

    name = "kl-vae"
    summary = "plain KL autoencoder, no alignment"

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> Objective | None:
        return None
