"""E2E-VAE (REPA-E, arXiv 2504.10483): a tokenizer trained together with a SiT through the REPA loss.

With the sampled latents z, time t ~ U(0, 1), noise eps, BN a batch normalisation without affine part, s(x) the SiT's
tokens after block 8, h a three-layer MLP and f the teacher's patches, every training step adds two parts to the
tokenizer's reconstruction, KL, perceptual and adversarial losses:

1. SiT, h and BN frozen (BN by its running statistics, no label dropped): the tokenizer gets 1.5 REPA(x_t) through
   x_t = t BN(z) + (1 - t) eps, where REPA(x) = -mean over patches of cos(h(s(x)), f).
2. Tokenizer cut off (z detached; BN by the statistics of the batch, which the running ones follow; labels dropped with
   probability 0.1): with the same t and eps, the SiT gets mean |v(x_t) - (BN(z) - eps)|^2 + 0.5 REPA(x_t).

So the flow's own loss never reaches the tokenizer, and the tokenizer's alignment never reaches the SiT. Both parts are
one scalar whose gradients are exactly those of the two separate passes.

Matched to the authors' code (REPA-E/REPA-E, `train_repae.py`): the coefficients, block 8, BN (eps 1e-4, momentum 0.1),
the order of the parts, 1e-4 for all learning rates, EMA of the SiT and of BN's statistics. The tokenizer is averaged
too, as every method's here, where REPA-E keeps its last weights. Time runs as in SiT:
t = 0 noise, t = 1 data. REPA-E counts it the other way, which for t ~ U(0, 1) is the same training.

Published beside the latents are BN's averaged running statistics, mean and 1 / sqrt(variance), as the tokenizer's own
normalisation: on it the SiT was trained, and it is what `normalisation: tokenizer` takes in SiT training.

Where this differs from the source or the source is silent:
    Size of the SiT: "nano" by default, for two CPU cores. The paper's is SiT-XL/1 for f16 (XL/2 for f8).
    Tokenizer, SiT and h share one AdamW and one clipping of their joint gradient norm; REPA-E clips them apart.
    Both parts end in one update. REPA-E updates the tokenizer, the discriminator, then the SiT; as its SiT sees the
        latents from before those updates, the gradients are the same.
    BN begins with the statistics of the first batch; REPA-E with those of the initial tokenizer, to be given as
        `initial_statistics` where they are known.
    BN's statistics are those of the batch of all processes.
    Settings of the tokenizer's loss belong to training: REPA-E's are L1 + LPIPS + 1e-6 KL + 0.1 GAN (adaptive: false),
        batch 256, 400,000 steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, MismatchError
from vaebench.core.seeds import sample_normal, sample_uniform
from vaebench.generation.interpolants import INTERPOLANTS
from vaebench.generation.repa import Projector, alignment_loss, features_as_tokens
from vaebench.generation.sit import PRESETS, Overrides, SiT, SiTConfig, drop_labels, sit_config
from vaebench.tokenizers.base import LatentNormalisation
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, StepInputs, TeacherSpec, require_teacher
from vaebench.training.batch_norm import LatentBatchNorm
from vaebench.training.step import to_device

PATH = INTERPOLANTS["linear"]
BLOCK = 8


class REPAEConfig(Config):
    """Settings of REPA-E; defaults are the paper's but for the SiT's size.

    Attributes:
        tokenizer_weight: of REPA in the tokenizer's loss.
        sit_weight: of REPA in the SiT's loss.
        sit: preset of the SiT; the paper's is SiT-XL/1 for f16 tokenizers.
        network: values of `SiTConfig` that replace the preset's (width, depth, heads, patch).
        block: the SiT's tokens after this many blocks are aligned. Default (none): 8, or two thirds of the depth where
            that is less (8 of 12 is SiT-B's share).
        hidden: width of the projector h.
        num_classes: rows of the SiT's label table, at least the number of classes of the data. Data without labels
            train an unconditional SiT.
        label_dropout: share of labels replaced by the null label in part 2.
        eps, momentum: of BN.
        initial_statistics: what BN's running statistics begin with, {shift, scale, source}.
    """

    tokenizer_weight: float = Field(default=1.5, ge=0)
    sit_weight: float = Field(default=0.5, ge=0)
    sit: str = "nano"
    network: Overrides = {}
    block: int | None = Field(default=None, ge=1)
    hidden: int = Field(default=2048, gt=0)
    num_classes: int = Field(default=1000, gt=0)
    label_dropout: float = Field(default=0.1, ge=0, le=1)
    eps: float = Field(default=1e-4, gt=0)
    momentum: float = Field(default=0.1, gt=0, le=1)
    initial_statistics: LatentNormalisation | None = None


class REPAEObjective(Objective):
    """The two parts of a step; owns SiT, projector and batch normalisation."""

    averaged = True

    def __init__(
        self, config: REPAEConfig, network: SiTConfig, teacher_channels: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config, self.classes = config, network.num_classes
        self.sit = SiT(network, generator)
        self.projector = Projector(network.width, teacher_channels, config.hidden, generator)
        self.batch_norm = LatentBatchNorm(network.in_channels, config.eps, config.momentum, config.initial_statistics)

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        if inputs.features is None:
            raise MismatchError("REPA-E aligns with teacher features, and this step has none.", "Pass a teacher.")
        config, network, latents = self.config, self.sit.config, inputs.latents
        detached = latents.detach()
        positions, seed, shape = inputs.positions, inputs.seed, tuple(latents.shape[1:])
        noise = to_device(sample_normal(positions, shape, seed, "interpolant noise"), latents.device)
        t = to_device(sample_uniform(positions, (), seed, "time"), latents.device)
        uniform = to_device(sample_uniform(positions, (), seed, "label dropout"), latents.device)
        labels = inputs.labels
        if labels is None:
            labels = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        grid = (network.grid[0] // network.patch, network.grid[1] // network.patch)
        teacher = features_as_tokens(inputs.features, grid)

        mean, variance = self.batch_norm.statistics(detached)
        if config.initial_statistics is None:
            self.batch_norm.begin(mean, variance)
        with _frozen(self.sit, self.projector), inputs.autocast():
            x = PATH.interpolate(self.batch_norm.by_running(latents), noise, t)
            projected = self.projector(self.sit.tapped(x, t, labels))
        tokenizer_repa = alignment_loss(projected, teacher)

        data = self.batch_norm.by(mean, variance, detached)
        if self.training:
            self.batch_norm.update(mean, variance, detached)
        with inputs.autocast():
            dropped = drop_labels(labels, uniform, config.label_dropout, network.null_label)
            velocity, tokens = self.sit(PATH.interpolate(data, noise, t), t, dropped)
            projected = self.projector(tokens)
        sit_repa = alignment_loss(projected, teacher)
        flow = F.mse_loss(velocity.float(), PATH.velocity(data, noise, t))

        loss = config.tokenizer_weight * tokenizer_repa + flow + config.sit_weight * sit_repa
        logs = {"loss_repa_tokenizer": tokenizer_repa, "loss_velocity": flow, "loss_repa_sit": sit_repa}
        return ObjectiveOutput(loss, logs={name: value.detach() for name, value in logs.items()})

    def normalisation(self) -> LatentNormalisation:
        return self.batch_norm.normalisation("running statistics of REPA-E's batch normalisation")


@contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    """What is computed inside gives these modules no gradients."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


class REPAE(Method):
    """A KL autoencoder tuned end to end with a latent diffusion model."""

    name = "e2e-vae"
    summary = "end-to-end with a SiT, aligned through its REPA loss (REPA-E)"
    Config = REPAEConfig
    config: REPAEConfig

    @property
    def needs_teacher(self) -> bool:
        return True

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> REPAEObjective:
        config = self.config
        teacher = require_teacher(teacher, "REPA-E")
        known = config.initial_statistics
        if known is not None and len(known.shift) != latent_channels:
            raise ConfigError(
                f"The initial statistics have {len(known.shift)} channels; the latents have {latent_channels}."
            )
        depth = int(config.network.get("depth", PRESETS.get(config.sit, {}).get("depth", 0)))
        block = config.block or min(BLOCK, max(1, 2 * depth // 3))
        network = sit_config(
            config.sit, latent_channels, latent_grid, config.num_classes, **{**config.network, "tap": block}
        )
        return REPAEObjective(config, network, teacher.channels, generator)
