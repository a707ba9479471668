"""FactorVAE (Kim & Mnih 2018, arXiv 1802.05983) on spatial latents: total correlation by a density ratio that a
discriminator learns.

    -log p(x | z) + KL(q(z | x) || N(0, I)) + gamma TC,    TC = KL(q(z) || prod_j q(z_j)) ~ E_{q(z)} log D / (1 - D),

where D(z) is the probability that z is a code of the batch and not one whose values were each permuted over the batch.
With u(z) = log D / (1 - D), the output of an MLP, every training step adds two parts:

1. The MLP frozen: the tokenizer gets KL + gamma mean u(z), in nats per image.
2. The codes detached: the MLP gets 0.5 mean softplus(-u(z)) + 0.5 mean softplus(u(z permuted)), its cross-entropy.

They are one scalar whose gradients are exactly those of the two separate passes. Codes, and how nats weigh against
reconstruction, are those of `baselines.disentangling`; "pooled" by default. KL is of all latents. The MLP's own loss is
not divided by the image's elements.

As in the paper: six hidden layers of 1,000 units, leaky ReLU with slope 0.2; gamma 35, its value for dSprites.

Where this differs from the source or the source is silent:
    One logit in place of two, which is the same family of D.
    The permuted codes come from the same batch, of all processes, not from a second one: a batch of M has each code of
        a pair still together with probability 1 / M. Accumulated parts of a batch are permuted one by one.
    Tokenizer and MLP share one AdamW, its betas (the paper's MLP has 0.5 and 0.9) and one clipping of their joint
        gradient norm, and are updated at once; in the paper the MLP follows.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from baselines.disentangling import CodeKind, check_posterior, codes_of, weight_of_nats
from vaebench.core.config import Config
from vaebench.core.seeds import numpy_generator, torch_generator
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, StepInputs, TeacherSpec, initialised_by
from vaebench.training.collectives import gather_rows
from vaebench.training.losses import Reduction
from vaebench.training.step import to_device

SLOPE = 0.2


class FactorVAEConfig(Config):
    """Settings of FactorVAE.

    Attributes:
        gamma: of total correlation.
        reduction: that of training's reconstruction loss.
        codes: what a code is (`baselines.disentangling`).
        positions: codes of an image, where they are "positions".
        width, layers: units of a hidden layer of the MLP, and number of hidden layers.
    """

    gamma: float = Field(default=35.0, ge=0)
    reduction: Reduction = "mean"
    codes: CodeKind = "pooled"
    positions: int = Field(default=4, gt=0)
    width: int = Field(default=1000, gt=0)
    layers: int = Field(default=6, gt=0)


def permuted(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Codes M x d with the values of every dimension permuted over the rows, each dimension in its own way."""
    order = torch.rand(codes.shape, generator=generator).argsort(0)
    return codes.gather(0, to_device(order, codes.device))


def discriminator_loss(joint: Tensor, shuffled: Tensor) -> Tensor:
    """Cross-entropy 0.5 mean softplus(-u) + 0.5 mean softplus(u) of the logits u of codes and of permuted codes."""
    return 0.5 * (functional.softplus(-joint).mean() + functional.softplus(shuffled).mean())


class CodeDiscriminator(nn.Sequential):
    """MLP from codes M x d to logits (M, 1), with `layers` hidden layers."""

    def __init__(self, channels: int, width: int, layers: int) -> None:
        modules: list[nn.Module] = []
        for inputs, outputs in pairwise([channels, *[width] * layers, 1]):
            modules += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        super().__init__(*modules[:-1])


class LearnedTotalCorrelation(Objective):
    """The two parts of a step; owns the discriminator of codes."""

    def __init__(self, config: FactorVAEConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.discriminator = CodeDiscriminator(channels, config.width, config.layers)

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        check_posterior(inputs)
        config, discriminator = self.config, self.discriminator
        generator = numpy_generator(inputs.seed, "code positions")
        codes = codes_of(config.codes, inputs.latents, inputs.posterior, config.positions, generator)
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        correlation: Tensor = functional_call(discriminator, frozen, (codes.sample,)).mean()
        nats = inputs.posterior.kl().mean() + config.gamma * codes.per_image * correlation

        detached = codes.sample.detach()
        batch, start = gather_rows(detached)
        mixed = permuted(batch, torch_generator(inputs.seed, "code permutation"))[start : start + len(detached)]
        learning = discriminator_loss(discriminator(detached), discriminator(mixed))

        loss = weight_of_nats(config.reduction, inputs.images) * nats + learning
        logs = {"total_correlation": correlation.detach(), "loss_code_discriminator": learning.detach()}
        return ObjectiveOutput(loss, logs=logs)


class FactorVAE(Method):
    """A KL autoencoder whose code's total correlation, as a discriminator sees it, is pressed down."""

    name = "factor-vae"
    summary = "total correlation of codes, estimated by a discriminator, weighted by gamma"
    Config = FactorVAEConfig
    config: FactorVAEConfig

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> LearnedTotalCorrelation:
        with initialised_by(generator):
            return LearnedTotalCorrelation(self.config, latent_channels)
