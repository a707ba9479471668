"""The Tokenizer contract: images in [-1, 1] to a Gaussian posterior over raw latents, and back.

Raw latents are what the encoder gives. Their normalisation, which a diffusion model needs, is never hidden inside
`encode` or `decode`: it travels as a `LatentNormalisation` in the spec and in every latent file.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from vaebench.core.config import Config
from vaebench.core.errors import DataError

# Images may leave [-1, 1] by resampling overshoot and by rounding, but not by more than this.
RANGE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian q(z|x). `mean` and `std` are N x d x h x w; a deterministic encoder has std = 0."""

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor | torch.Generator) -> Tensor:
        """mean + std * noise. A generator draws on its own device, so a CPU one gives the same draws everywhere."""
        if isinstance(noise, torch.Generator):
            noise = torch.randn(self.mean.shape, generator=noise, device=noise.device, dtype=torch.float32)
        return self.mean + self.std * noise.to(self.mean)

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) of each image in nats, summed over its latents: 0.5 sum(mean^2 + std^2 - 1 - log std^2)."""
        terms = self.mean.square() + self.std.square() - 1 - 2 * self.std.log()
        return 0.5 * terms.flatten(1).sum(1)


class LatentNormalisation(Config):
    """Per-channel affine map of raw latents, z' = (z - shift) * scale (so scale = 1 / sigma, as in REPA-E).

    `source` says where the numbers come from, e.g. "diffusers scaling_factor" or "statistics of <file>".
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    source: str

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if len(self.shift) != len(self.scale) or not self.shift:
            raise ValueError(f"shift has {len(self.shift)} channels and scale has {len(self.scale)}; both need d")
        if not all(map(math.isfinite, self.shift)) or not all(math.isfinite(s) and s > 0 for s in self.scale):
            raise ValueError("shift must be finite, and scale finite and positive")
        return self

    @classmethod
    def from_statistics(cls, mean: Sequence[float], std: Sequence[float], source: str) -> Self:
        """The normalisation that takes channels of this mean and standard deviation to mean 0 and variance 1."""
        flat = [i for i, s in enumerate(std) if not s > 0]
        if flat:
            raise DataError(
                f"Latent channels {flat} are constant or not numbers: no scale can normalise them.",
                "Train the tokenizer longer, lower its KL weight, or drop the dead channels.",
            )
        return cls(shift=tuple(map(float, mean)), scale=tuple(1 / float(s) for s in std), source=source)

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents N x d x h x w to normalised ones."""
        shift, scale = self._columns(latents)
        return (latents - shift) * scale

    def denormalise(self, latents: Tensor) -> Tensor:
        """Normalised latents N x d x h x w back to raw ones, as `Tokenizer.decode` takes them."""
        shift, scale = self._columns(latents)
        return latents / scale + shift

    def _columns(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if latents.ndim < 3 or latents.shape[-3] != len(self.shift):
            raise DataError(
                f"Latents of shape {tuple(latents.shape)} do not have the {len(self.shift)} channels of the "
                f"normalisation from '{self.source}'.",
                "Use the normalisation stored with these latents.",
            )
        return latents.new_tensor(self.shift)[:, None, None], latents.new_tensor(self.scale)[:, None, None]


class TokenizerSpec(Config):
    """What a tokenizer is: everything about it that latents and scores must record.

    f is the downsampling factor (image side / latent side), d the number of latent channels. `normalisation` is the
    tokenizer's own published one, None if it has none. `checkpoint_hash` is `weights_hash` of its weights.
    """

    name: str
    method: str
    f: int
    d: int
    image_range: tuple[float, float] = (-1.0, 1.0)
    normalisation: LatentNormalisation | None = None
    source: str = ""
    checkpoint_hash: str = ""


class Tokenizer(ABC):
    """An image tokenizer. Write `spec`, `encode` and `decode`; `vaebench.tokenizers.check` tests that they agree.

    Neither method fixes the gradient mode: who only wants numbers calls them under `torch.inference_mode()`.

    Attributes:
        deterministic: the posterior's std is 0 whatever the weights: there is no KL term and nothing to sample.
        image_size: side of the images where it takes only one, as vision transformers may; None for any multiple of f.
    """

    deterministic: bool = False
    image_size: int | None = None

    @property
    @abstractmethod
    def spec(self) -> TokenizerSpec:
        """What this tokenizer is, as of its present weights."""

    @abstractmethod
    def encode(self, images: Tensor) -> Posterior:
        """Float images N x 3 x H x W in [-1, 1], H and W divisible by f, to the posterior of RAW latents
        N x d x H/f x W/f. Row i depends on image i only. Raises DataError for other images (see `check_images`)."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """RAW latents N x d x h x w to images N x 3 x h*f x w*f on the [-1, 1] scale, not clamped."""

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place. A tokenizer without tensors of its own has nothing to move."""
        return self

    def save(self, folder: Path) -> None:
        """Write the tokenizer so that `load_tokenizer(folder)` gives it back: its spec as `tokenizer.json`, with the
        registered name of this class as `method`, beside whatever `load` reads."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to save itself")

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer that `save` wrote in this folder."""
        raise NotImplementedError(f"{cls.__name__} does not say how it is loaded")


class TokenizerNetwork(nn.Module, ABC):
    """Encoder and decoder as one module. It checks nothing about its inputs: that is the tokenizer's part."""

    @abstractmethod
    def encode(self, images: Tensor) -> Posterior:
        """Images in [-1, 1] to the posterior of raw latents, in float32 also under mixed precision."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Raw latents to images on the [-1, 1] scale."""


class TrainableTokenizer(Tokenizer):
    """A tokenizer whose network `train_tokenizer` can train. `network` holds every weight that training may change."""

    network: TokenizerNetwork

    @property
    @abstractmethod
    def encoder_last_weight(self) -> nn.Parameter:
        """Weight of the encoder's last layer, where VA-VAE measures gradient norms."""

    @property
    @abstractmethod
    def decoder_last_weight(self) -> nn.Parameter:
        """Weight of the decoder's last convolution, where the GAN's adaptive weight is measured."""

    @abstractmethod
    def with_identity(
        self,
        name: str,
        method: str,
        source: str,
        *,
        retrained: bool = False,
        normalisation: LatentNormalisation | None = None,
    ) -> TrainableTokenizer:
        """The same network under another name in its spec, with this normalisation as its published one.

        Without one it keeps its own, unless it was retrained: those statistics are no longer those of its latents.
        """


def check_images(images: Tensor, f: int) -> None:
    """Raise DataError unless `images` are finite float N x 3 x H x W in [-1, 1] with sides divisible by f."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise DataError(
            f"A tokenizer takes float images N x 3 x H x W, not {images.dtype} of shape {tuple(images.shape)}.",
            "Convert uint8 images with vaebench.vision.transforms.to_signed; repeat grey images over 3 channels.",
        )
    height, width = images.shape[2:]
    if not height or not width or height % f or width % f:
        lower, upper = (max(f, height // f * f), (height // f + 1) * f)
        raise DataError(
            f"Image size {height} x {width} is not divisible by the downsampling factor f={f}.",
            f"Resize or crop the images, e.g. to {lower} x {lower} or {upper} x {upper}.",
        )
    if not images.numel():
        return
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    # Written so that a NaN, which compares as false, is refused too.
    if not (low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise DataError(
            f"Image values run from {low:.4g} to {high:.4g}; a tokenizer takes [-1, 1].",
            "Convert uint8 images with vaebench.vision.transforms.to_signed, floats in [0, 1] with 2 * x - 1.",
        )


def weights_hash(tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None) -> str:
    """SHA-256 (hex) of the names, types, shapes and bytes of the tensors in sorted order, and of settings if any.

    Settings are for what changes the results of the same weights, such as the groups of a normalisation.
    It hashes the content and not a file, so saving and loading, or moving to another device, leaves it as it is.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    if settings:
        digest.update(json.dumps(dict(settings), sort_keys=True).encode())
    return digest.hexdigest()
