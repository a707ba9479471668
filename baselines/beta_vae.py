"""beta-VAE (Higgins et al., ICLR 2017) on spatial latents, and its capacity-controlled form (arXiv 1804.03599).

    -log p(x | z) + beta KL(q(z | x) || N(0, I)),

KL in nats, summed over all d h w values of an image and averaged over the batch; against a reconstruction loss that is
averaged over elements it is divided by 3 H W (`baselines.disentangling` states the convention). Higgins' normalised
beta is beta_norm = beta d h w / (3 H W).

With `capacity` C the second term is beta |KL - c|, where c rises from 0 to C nats over `capacity_steps` (Burgess et al.
2018: beta = 1000 there called gamma, C = 25 nats for ten latents over 100,000 steps). |KL - c| is of the batch's mean
KL, that of all processes, as in disentanglement_lib; accumulated parts of a batch each have their own.

Where the source is silent: what beta is for latents with a grid. The default, 4, is the customary one for dSprites; a
tokenizer wants about 1e-6 of it, and trades reconstruction for disentanglement at every value between.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from baselines.disentangling import check_posterior, weight_of_nats
from vaebench.core.config import Config
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, StepInputs, TeacherSpec
from vaebench.training.collectives import mean_with_graph
from vaebench.training.losses import Reduction


class BetaVAEConfig(Config):
    """Settings of beta-VAE.

    Attributes:
        beta: weight of KL, or of its distance from the capacity.
        reduction: that of training's reconstruction loss.
        capacity: C in nats per image; none for plain beta-VAE.
        capacity_steps: over how many steps the capacity rises from 0.
    """

    beta: float = Field(default=4.0, ge=0)
    reduction: Reduction = "mean"
    capacity: float | None = Field(default=None, ge=0)
    capacity_steps: int = Field(default=100_000, gt=0)


def capacity_at(step: int, maximum: float, steps: int) -> float:
    """c at a step counted from 0: maximum * min(step / steps, 1)."""
    return maximum * min(step / steps, 1.0)


def capacity_loss(kl: Tensor, capacity: float) -> Tensor:
    """|mean KL - capacity| of KL (N,) in nats; the mean is that of all processes."""
    return (mean_with_graph(kl.mean()) - capacity).abs()


class WeightedKL(Objective):
    """beta KL or beta |KL - c|; has no weights."""

    def __init__(self, config: BetaVAEConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        check_posterior(inputs)
        config, kl = self.config, inputs.posterior.kl()
        weight = config.beta * weight_of_nats(config.reduction, inputs.images)
        if config.capacity is None:
            return ObjectiveOutput(kl.mean(), weight)
        capacity = capacity_at(inputs.step, config.capacity, config.capacity_steps)
        logs = {"capacity": torch.full((), capacity, device=kl.device)}
        return ObjectiveOutput(capacity_loss(kl, capacity), weight, logs)


class BetaVAE(Method):
    """A KL autoencoder with a strong KL term."""

    name = "beta-vae"
    summary = "KL weighted by beta (optionally held at a capacity)"
    Config = BetaVAEConfig
    config: BetaVAEConfig

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> WeightedKL:
        return WeightedKL(self.config)
