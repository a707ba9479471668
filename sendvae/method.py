"""Send-VAE as a method of the bench."""

from __future__ import annotations

import torch
from pydantic import Field

from sendvae.mapper import HEAD_WIDTH, Mapper, default_width
from sendvae.objective import AlignmentObjective, NormalisationRule
from vaebench.core.config import Config
from vaebench.core.errors import ConfigError
from vaebench.tokenizers.features import ResampleRule
from vaebench.tokenizers.method import Method, TeacherSpec, initialised_by, require_teacher


class SendVAEConfig(Config):
    """Settings of Send-VAE.

    Stated by the paper (arXiv 2601.05823):
        weight: lambda = 1.0, of the alignment in the tokenizer's loss.
        depth: ViT layers of the mapper; 1 is best, 0 and 2 are its ablation.
        noise: inject noise z_t = (1 - a) eps + a z, a ~ U(0, 1), before the mapper; off in its ablation.
        The rest of the recipe belongs to training: fine-tune any initial tokenizer (VA-VAE by default) with AdamW 3e-4,
        batch 1024, 80 epochs of ImageNet at 256 x 256, losses MSE + LPIPS + GAN + KL.

    Left open by the paper, with our default and its reason:
        normalisation: of the sampled latents before noise. "batch" (default): BatchNorm without affine part, eps
            1e-4, as REPA-E, from which Send-VAE's diffusion side comes, does. Noise of variance 1 means the same to
            every tokenizer only if its latents have variance 1 too, as when diffusion is trained on them; and the
            encoder cannot drown the noise by growing its latents. "none": raw latents. Or fixed numbers
            {shift, scale, source}, such as the initial tokenizer's statistics. Applied with noise on and off alike.
        width: of the mapper. Default (none): the teacher's channels, rounded up to a multiple of 64.
        heads: of attention. Default (none): one per 64 channels, which gives the paper's 12 for 768 and 16 for 1024.
        patch_size: side of the mapper's patches on the latent grid. 1 keeps the latents' grid, which for f16 at 256 is
            the teacher's 16 x 16.
        projector_layers, projector_hidden: shape of the MLP. 3 and 2048 with SiLU, as REPA's projector.
        resample: rule when the teacher's grid is not the mapper's: its features move to the mapper's grid, never the
            latents, whose gradient must stay local. "bilinear", "average" or "refuse"; see `resample_features`.
        The teacher's input size is a setting of the teacher. Its default gives the grid of the latents where that can
        be had (DINOv2/14 at 224 for f16 at 256; the embedded teacher at 128 for f16 at 64): nothing is resampled.
    """

    weight: float = Field(default=1.0, ge=0)
    depth: int = Field(default=1, ge=0)
    noise: bool = True
    normalisation: NormalisationRule = "batch"
    width: int | None = Field(default=None, gt=0)
    heads: int | None = Field(default=None, gt=0)
    patch_size: int = Field(default=1, gt=0)
    projector_layers: int = Field(default=3, gt=0)
    projector_hidden: int = Field(default=2048, gt=0)
    resample: ResampleRule = "bilinear"


class SendVAE(Method):
    """A KL autoencoder whose latents a small ViT can translate, through noise, into a teacher's features."""

    name = "send-vae"
    summary = "alignment of noised latents with a teacher through a ViT mapper"
    Config = SendVAEConfig
    config: SendVAEConfig

    @property
    def needs_teacher(self) -> bool:
        return True

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> AlignmentObjective:
        config = self.config
        teacher = require_teacher(teacher, "Send-VAE")
        width = config.width or default_width(teacher.channels)
        heads = config.heads or max(1, width // HEAD_WIDTH)
        if width % heads or width % 4:
            raise ConfigError(
                f"A mapper of width {width} with {heads} heads cannot be built.",
                "The width must be a multiple of 4 and of the number of heads.",
            )
        if any(side % config.patch_size for side in latent_grid):
            raise ConfigError(
                f"The mapper's patch_size {config.patch_size} does not divide the latents' grid "
                f"{latent_grid[0]} x {latent_grid[1]}.",
                "Use 1, or a divisor of both sides.",
            )
        fixed = config.normalisation
        if not isinstance(fixed, str) and len(fixed.shift) != latent_channels:
            raise ConfigError(
                f"The fixed normalisation has {len(fixed.shift)} channels; the latents have {latent_channels}."
            )
        with initialised_by(generator):
            mapper = Mapper(
                latent_channels,
                latent_grid,
                teacher.channels,
                depth=config.depth,
                width=width,
                heads=heads,
                patch_size=config.patch_size,
                projector_layers=config.projector_layers,
                projector_hidden=config.projector_hidden,
            )
        return AlignmentObjective(
            mapper,
            latent_channels,
            weight=config.weight,
            noise=config.noise,
            normalisation=config.normalisation,
            resample=config.resample,
        )
