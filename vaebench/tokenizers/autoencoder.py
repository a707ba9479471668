"""The Tokenizer around diffusers' `AutoencoderKL`: building, loading and saving it.

A tokenizer saved here is a plain diffusers folder plus `tokenizer.json` (the spec), and a plain diffusers folder loads.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Self, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from vaebench.core.errors import DataError
from vaebench.tokenizers.architecture import PRESETS, AutoencoderConfig, resolve_preset
from vaebench.tokenizers.base import (
    LatentNormalisation,
    Posterior,
    TokenizerNetwork,
    TokenizerSpec,
    TrainableTokenizer,
    check_images,
    weights_hash,
)
from vaebench.tokenizers.diffusers_folder import (
    SPEC_FILE,
    class_name,
    folder_name,
    load_model,
    model_folder,
    read_spec,
    require_spec,
    save_model,
)
from vaebench.tokenizers.frequency_start import start_with_frequencies
from vaebench.tokenizers.method import initialised_by

__all__ = [
    "PRESETS",
    "SPEC_FILE",
    "AutoencoderConfig",
    "AutoencoderNetwork",
    "DiffusersTokenizer",
    "build_autoencoder",
    "diffusers_normalisation",
    "resolve_preset",
]

LOGVAR_RANGE = (-30.0, 20.0)


UNTOLD = {"norm_num_groups": 32, "act_fn": "silu"}
"""Settings of an AutoencoderKL that leave no trace in its weights, with their usual values."""


class AutoencoderNetwork(TokenizerNetwork):
    """Patches, encoder, posterior and decoder as one module, in the channels-last memory format (twice as fast)."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        channels = int(autoencoder.config["in_channels"])
        self.patch_size = math.isqrt(channels // 3)
        if 3 * self.patch_size**2 != channels or autoencoder.config["out_channels"] != channels:
            raise DataError(
                f"An autoencoder of {channels} input and {autoencoder.config['out_channels']} output channels does not "
                "take colour images: 3 p^2 of both are needed.",
                "Use an image autoencoder for RGB images.",
            )
        self.autoencoder = autoencoder
        self.to(memory_format=torch.channels_last).train(autoencoder.training)

    def encode(self, images: Tensor) -> Posterior:
        """Images to the posterior of raw latents, logvar clamped to [-30, 20] as in latent diffusion."""
        patches = functional.pixel_unshuffle(images, self.patch_size).contiguous(memory_format=torch.channels_last)
        moments = self.autoencoder.encoder(patches)
        if self.autoencoder.quant_conv is not None:
            moments = self.autoencoder.quant_conv(moments)
        mean, logvar = moments.float().chunk(2, dim=1)  # also under mixed precision
        return Posterior(mean.contiguous(), logvar.clamp(*LOGVAR_RANGE).mul(0.5).exp().contiguous())

    def decode(self, latents: Tensor) -> Tensor:
        """Raw latents to images."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        if self.autoencoder.post_quant_conv is not None:
            latents = self.autoencoder.post_quant_conv(latents)
        return functional.pixel_shuffle(self.autoencoder.decoder(latents), self.patch_size).contiguous()


class DiffusersTokenizer(TrainableTokenizer):
    """A tokenizer around diffusers' `AutoencoderKL`. `network.autoencoder` is that module."""

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        name: str,
        method: str = "",
        source: str = "",
        normalisation: LatentNormalisation | None = None,
    ) -> None:
        self.network: AutoencoderNetwork = AutoencoderNetwork(autoencoder)
        self._name, self._method, self._source, self._normalisation = name, method, source, normalisation
        self._d = int(autoencoder.config["latent_channels"])
        self._f = self.network.patch_size * 2 ** (len(autoencoder.config["block_out_channels"]) - 1)

    @property
    def spec(self) -> TokenizerSpec:
        """The spec with the hash of the present weights, which may be in training: hold on to it, it is not free."""
        config = self.network.autoencoder.config
        # Of weights from elsewhere somebody says these, perhaps wrong at first; of those trained here they are known.
        told = {} if self._method else {name: config[name] for name in UNTOLD if config[name] != UNTOLD[name]}
        return TokenizerSpec(
            name=self._name,
            method=self._method,
            f=self._f,
            d=self._d,
            normalisation=self._normalisation,
            source=self._source,
            checkpoint_hash=weights_hash(self.network.autoencoder.state_dict(), told),
        )

    def encode(self, images: Tensor) -> Posterior:
        check_images(images, self._f)
        return self.network.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        if latents.ndim != 4 or latents.shape[1] != self._d:
            raise DataError(
                f"{self._name} decodes latents N x {self._d} x h x w, not {tuple(latents.shape)}.",
                "Decode latents with the tokenizer that made them.",
            )
        return self.network.decode(latents)

    def to(self, device: str | torch.device) -> Self:
        self.network.to(device)
        return self

    @property
    def encoder_last_weight(self) -> nn.Parameter:
        return cast(nn.Parameter, self.network.autoencoder.encoder.conv_out.weight)

    @property
    def decoder_last_weight(self) -> nn.Parameter:
        return cast(nn.Parameter, self.network.autoencoder.decoder.conv_out.weight)

    def with_identity(
        self,
        name: str,
        method: str,
        source: str,
        *,
        retrained: bool = False,
        normalisation: LatentNormalisation | None = None,
    ) -> DiffusersTokenizer:
        if normalisation is None and not retrained:
            normalisation = self._normalisation
        # Not `type(self)`: what is derived from this class may be made of other arguments.
        return DiffusersTokenizer(self.network.autoencoder, name, method, source, normalisation)

    def save(self, folder: Path) -> None:
        """Write a diffusers folder (config.json, safetensors) and `tokenizer.json`."""
        save_model(self.network.autoencoder, Path(folder), self.spec)

    @classmethod
    def load(cls, folder: Path) -> DiffusersTokenizer:
        return DiffusersTokenizer.from_folder(folder)

    @staticmethod
    def from_folder(folder: Path | str) -> DiffusersTokenizer:
        """Load a diffusers folder (or a pipeline's folder with `vae/`) in float32, ready for inference.

        With `tokenizer.json` the spec is read from it, else it follows from diffusers' config. Raises MissingPath,
        MissingWeights, and DataError when the weights do not fit the architecture or are not those of the spec.
        """
        folder = model_folder(folder)
        kind = class_name(folder)
        if kind != "AutoencoderKL":
            raise DataError(
                f"{folder} is a diffusers {kind}, not an AutoencoderKL.",
                "Load it with load_tokenizer, which knows the other kinds; only AutoencoderKL can be trained.",
            )
        autoencoder = load_model(folder, AutoencoderKL)
        spec = read_spec(folder)
        if spec is None:
            return DiffusersTokenizer(
                autoencoder,
                name=folder_name(folder),
                source=f"diffusers folder {folder}",
                normalisation=diffusers_normalisation(autoencoder),
            )
        tokenizer = DiffusersTokenizer(autoencoder, spec.name, spec.method, spec.source, spec.normalisation)
        require_spec(folder, spec, tokenizer.spec)
        return tokenizer


def diffusers_normalisation(autoencoder: AutoencoderKL) -> LatentNormalisation | None:
    """The normalisation that diffusers' config publishes; None when it leaves latents as they are.

    diffusers' pipelines apply z' = (z - latents_mean) * scaling_factor / latents_std where a mean and a std are given,
    else z' = (z - shift_factor) * scaling_factor.
    """
    config = autoencoder.config
    d, scaling = int(config["latent_channels"]), float(config["scaling_factor"])
    if config["latents_mean"] is not None and config["latents_std"] is not None:
        return LatentNormalisation(
            shift=tuple(map(float, config["latents_mean"])),
            scale=tuple(scaling / float(s) for s in config["latents_std"]),
            source="diffusers latents_mean, latents_std, scaling_factor",
        )
    shift = float(config["shift_factor"] or 0.0)
    if scaling == 1.0 and shift == 0.0:
        return None
    return LatentNormalisation(
        shift=(shift,) * d, scale=(scaling,) * d, source="diffusers shift_factor, scaling_factor"
    )


def build_autoencoder(
    config: AutoencoderConfig | str, generator: torch.Generator, method: str = ""
) -> DiffusersTokenizer:
    """A fresh tokenizer of this architecture or preset, its weights drawn from `generator` alone."""
    resolved = resolve_preset(config)
    with initialised_by(generator):
        autoencoder = AutoencoderKL(**resolved.diffusers_config())
    if resolved.zero_residuals or resolved.frequency_start:
        for module in autoencoder.modules():
            if isinstance(module, ResnetBlock2D):
                for parameter in module.conv2.parameters():
                    nn.init.zeros_(parameter)
    if resolved.frequency_start:
        start_with_frequencies(autoencoder, resolved.patch_size)
    name = config if isinstance(config, str) else f"f{resolved.f}d{resolved.latent_channels}"
    return DiffusersTokenizer(autoencoder, name=name, method=method, source="initial weights")
