"""Architectures of convolutional KL autoencoders as plain data, and the presets. Imports no torch."""

from __future__ import annotations

import operator
from typing import Any, Self

from pydantic import Field, model_validator

from vaebench.core.config import Config
from vaebench.core.errors import UnknownName, suggest


class AutoencoderConfig(Config):
    """Architecture of a convolutional KL autoencoder.

    The image is cut into patches first (pixel-unshuffle, 3 x H x W -> 3 p^2 x H/p x W/p), which costs nothing and
    spares the network its highest, dearest resolution; p = 1 is the plain autoencoder of latent diffusion. Every block
    but the last halves the resolution, so f = p * 2^(blocks - 1).
    """

    block_out_channels: tuple[int, ...] = Field(
        min_length=1, description="channels of each block, highest resolution first"
    )
    latent_channels: int = Field(gt=0, description="d, channels of the latents")
    patch_size: int = Field(default=1, gt=0, description="p, side of the pixel-unshuffle patches")
    layers_per_block: int = Field(default=2, gt=0, description="residual blocks per encoder block; decoder: one more")
    norm_num_groups: int = Field(default=32, gt=0, description="groups of every GroupNorm; divides all block channels")
    mid_attention: bool = Field(default=True, description="self-attention in the middle block")
    lowest_attention: bool = Field(default=False, description="self-attention at each lowest-resolution residual block")
    zero_residuals: bool = Field(default=False, description="residual branches begin as zero, which trains faster")
    # Left out where it is false, so that results from before it was there keep their names.
    frequency_start: bool = Field(
        default=False,
        exclude_if=operator.not_,
        description="the encoder begins as the lowest frequencies of its patches, residual branches as zero: quality "
        "that random weights reach after several times as many steps",
    )
    image_size: int = Field(default=256, gt=0, description="side of the training images; any multiple of f works")

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        odd = [c for c in self.block_out_channels if c <= 0 or c % self.norm_num_groups]
        if odd:
            raise ValueError(f"block_out_channels {odd} are not multiples of norm_num_groups={self.norm_num_groups}")
        return self

    @property
    def f(self) -> int:
        """Downsampling factor: image side / latent side."""
        return int(self.patch_size * 2 ** (len(self.block_out_channels) - 1))

    def diffusers_config(self) -> dict[str, Any]:
        """The arguments of diffusers' AutoencoderKL. The latents are raw, so its scaling factor is 1."""
        plain = len(self.block_out_channels) - 1
        attention = "Attn" if self.lowest_attention else ""
        return {
            "in_channels": 3 * self.patch_size**2,
            "out_channels": 3 * self.patch_size**2,
            "down_block_types": ("DownEncoderBlock2D",) * plain + (f"{attention}DownEncoderBlock2D",),
            "up_block_types": (f"{attention}UpDecoderBlock2D",) + ("UpDecoderBlock2D",) * plain,
            "block_out_channels": self.block_out_channels,
            "layers_per_block": self.layers_per_block,
            "latent_channels": self.latent_channels,
            "norm_num_groups": self.norm_num_groups,
            "mid_block_add_attention": self.mid_attention,
            "sample_size": self.image_size // self.patch_size,
            "scaling_factor": 1.0,
        }


def _latent_diffusion(
    channel_multipliers: tuple[int, ...], latent_channels: int, lowest_attention: bool
) -> AutoencoderConfig:
    return AutoencoderConfig(
        block_out_channels=tuple(128 * m for m in channel_multipliers),
        latent_channels=latent_channels,
        lowest_attention=lowest_attention,
    )


PRESETS: dict[str, AutoencoderConfig] = {
    # For tests: 32 x 32 images to 4 x 4 x 8 latents in milliseconds.
    "nano": AutoencoderConfig(
        block_out_channels=(16, 16),
        latent_channels=8,
        patch_size=4,
        layers_per_block=1,
        norm_num_groups=8,
        mid_attention=False,
        image_size=32,
    ),
    # For two CPU cores: 64 x 64 images to 4 x 4 x 32 latents, 2.9M parameters, 0.37 s per training step of 64 images.
    "tiny": AutoencoderConfig(
        block_out_channels=(48, 64, 128),
        latent_channels=32,
        patch_size=4,
        layers_per_block=1,
        norm_num_groups=16,
        zero_residuals=True,
        frequency_start=True,
        image_size=64,
    ),
    # Stable Diffusion's VAE (REPA-E's f8d4), and VA-VAE's f16 family (arXiv 2501.01423): channels 128 x multipliers,
    # two residual blocks, attention in the middle and, for f16, at the lowest resolution, 1 x 1 quant convolutions.
    "f8d4": _latent_diffusion((1, 2, 4, 4), 4, lowest_attention=False),
    "f16d16": _latent_diffusion((1, 1, 2, 2, 4), 16, lowest_attention=True),
    "f16d32": _latent_diffusion((1, 1, 2, 2, 4), 32, lowest_attention=True),
    "f16d64": _latent_diffusion((1, 1, 2, 2, 4), 64, lowest_attention=True),
}


def resolve_preset(config: AutoencoderConfig | str) -> AutoencoderConfig:
    """The architecture of this name, or the given architecture itself."""
    if isinstance(config, AutoencoderConfig):
        return config
    if config not in PRESETS:
        raise UnknownName(f"Unknown tokenizer preset '{config}'.", suggest(config, PRESETS))
    return PRESETS[config]
