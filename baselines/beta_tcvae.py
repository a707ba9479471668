"""beta-TCVAE (Chen et al. 2018, arXiv 1802.04942) on spatial latents: total correlation weighted apart from the rest of
the KL.

Of codes z with posterior q(z | x), aggregate posterior q(z) = mean over images of q(z | x), and prior p(z) = N(0, I),

    E KL(q(z | x) || p(z)) =  I(z; x)                     E [log q(z | x) - log q(z)]                mutual information
                            + KL(q(z) || prod_j q(z_j))   E [log q(z) - sum_j log q(z_j)]            total correlation
                            + sum_j KL(q(z_j) || p(z_j))  E [sum_j log q(z_j) - sum_j log p(z_j)]    dimension-wise KL

and the method minimises -log p(x | z) + alpha I + beta TC + gamma DKL. Here the objective, in nats per image, is

    KL + (alpha - 1) I + (beta - 1) TC + (gamma - 1) DKL

with the exact KL of all latents: the same in expectation where codes are all of the latents, with less noise; it leaves
a plain VAE at alpha = beta = gamma = 1; and it holds latents that a pooled code does not see. Codes, and how nats weigh
against reconstruction, are those of `baselines.disentangling`; "pooled" by default.

Densities come from the M codes of the batch, of all processes (accumulated parts of a batch are estimated one by one):
log q(z_i) = log sum_m w_im q(z_i | x_m), and so for each z_ij, with a sample z_i of every q(z | x_i) and

    weighted     w_im = 1 / M. The paper's minibatch-weighted sampling has 1 / (N M), N the number of training codes:
                 a constant, which only shifts I by log N and TC by (d - 1) log N, and has no gradient.
    stratified   for i: 1 / N for its own m = i, (N - M + 1) / (N (M - 1)) for one other, the next, and 1 / (M - 1) for
                 the rest, which sums to 1 (appendix C; the released code puts the two special weights into fixed
                 columns of w instead of on and beside its diagonal).

Both are biased, and TC far beyond log M nats cannot be seen. Memory is M x M x d values, a few times over.

Where the source is silent: codes of spatial latents. The default beta, 6, is a customary one for dSprites; weighted
sampling is the released code's default, whose batches are of 2,048.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from baselines.disentangling import CodeKind, Codes, check_posterior, codes_of, weight_of_nats
from vaebench.core.config import Config
from vaebench.core.errors import ConfigError
from vaebench.core.seeds import numpy_generator
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, StepInputs, TeacherSpec
from vaebench.training.collectives import gather_rows
from vaebench.training.losses import Reduction

Sampling = Literal["weighted", "stratified"]


class BetaTCVAEConfig(Config):
    """Settings of beta-TCVAE.

    Attributes:
        alpha, beta, gamma: of mutual information, total correlation and dimension-wise KL.
        reduction: that of training's reconstruction loss.
        codes: what a code is (`baselines.disentangling`).
        positions: codes of an image, where they are "positions".
        sampling: estimator of the densities.
        dataset_size: number of training images; "stratified" needs it.
    """

    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=6.0, ge=0)
    gamma: float = Field(default=1.0, ge=0)
    reduction: Reduction = "mean"
    codes: CodeKind = "pooled"
    positions: int = Field(default=4, gt=0)
    sampling: Sampling = "weighted"
    dataset_size: int | None = Field(default=None, gt=1)

    @model_validator(mode="after")
    def _stratified_knows_the_size(self) -> Self:
        if self.sampling == "stratified" and self.dataset_size is None:
            raise ValueError("sampling: stratified needs dataset_size, the number of training images")
        return self


def log_normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std^2) of every element, broadcast."""
    return -0.5 * ((x - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)


def log_weights(sampling: Sampling, rows: int, total: int, start: int, population: int) -> Tensor:
    """log w (rows, total) of the codes `start` ... `start + rows - 1` among `total` of a batch, float32.

    `population` is N. Raises ConfigError for a stratified batch of one, or of more codes than there are.
    """
    if sampling == "weighted":
        return torch.full((rows, total), -math.log(total))
    others = total - 1
    if not 0 < others <= population:
        raise ConfigError(
            f"Stratified sampling of {total} codes out of {population} is not possible.",
            "Batches need at least two codes and at most the data set's; check dataset_size.",
        )
    weights = torch.full((rows, total), 1 / others)
    row = torch.arange(rows)
    weights[row, row + start] = 1 / population
    weights[row, (row + start + 1) % total] = (population - others) / (population * others)
    return weights.log()


def decompose(own: Codes, batch: Codes, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """I, TC and dimension-wise KL in nats per code, scalars with graph.

    Args:
        own: n codes whose samples are averaged over.
        batch: M codes whose posteriors make the aggregate one.
        weights: log w, n x M.
    """
    conditional = log_normal(own.sample, own.mean, own.std).sum(1)
    pairs = log_normal(own.sample[:, None], batch.mean[None], batch.std[None])
    aggregate = (weights + pairs.sum(2)).logsumexp(1)
    marginals = (weights[:, :, None] + pairs).logsumexp(1).sum(1)
    zeros = torch.zeros_like(own.sample)
    prior = log_normal(own.sample, zeros, zeros + 1).sum(1)
    return (conditional - aggregate).mean(), (aggregate - marginals).mean(), (marginals - prior).mean()


class TotalCorrelation(Objective):
    """KL with its three parts weighted; has no weights of its own."""

    def __init__(self, config: BetaTCVAEConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        check_posterior(inputs)
        config = self.config
        generator = numpy_generator(inputs.seed, "code positions")
        own = codes_of(config.codes, inputs.latents, inputs.posterior, config.positions, generator)
        moments, start = gather_rows(torch.stack([own.sample, own.mean, own.std], dim=1))
        batch = Codes(moments[:, 0], moments[:, 1], moments[:, 2])
        weights = log_weights(
            config.sampling,
            len(own.sample),
            len(batch.sample),
            start,
            (config.dataset_size or len(batch.sample)) * own.per_image,
        )
        parts = decompose(own, batch, weights.to(own.sample))
        loss = inputs.posterior.kl().mean()
        for factor, part in zip((config.alpha, config.beta, config.gamma), parts, strict=True):
            loss = loss + (factor - 1) * own.per_image * part
        names = ("mutual_information", "total_correlation", "dimension_wise_kl")
        logs = {name: part.detach() for name, part in zip(names, parts, strict=True)}
        return ObjectiveOutput(loss, weight_of_nats(config.reduction, inputs.images), logs)


class BetaTCVAE(Method):
    """A KL autoencoder whose code's total correlation is pressed down."""

    name = "beta-tcvae"
    summary = "KL split in three by minibatch sampling, total correlation weighted by beta"
    Config = BetaTCVAEConfig
    config: BetaTCVAEConfig

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> TotalCorrelation:
        return TotalCorrelation(self.config)
