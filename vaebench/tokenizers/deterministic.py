"""Diffusers' autoencoders without a posterior: DC-AE, the tiny autoencoders (TAESD) and RAE. Their std is 0.

All take and give images in [-1, 1] here, whatever range the network itself wants.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import diffusers
import torch
from torch import Tensor

from vaebench.core.errors import DataError, MissingDependency, import_optional
from vaebench.tokenizers.base import (
    LatentNormalisation,
    Posterior,
    Tokenizer,
    TokenizerSpec,
    check_images,
    weights_hash,
)
from vaebench.tokenizers.diffusers_folder import (
    class_name,
    folder_name,
    load_model,
    model_folder,
    read_spec,
    require_spec,
    save_model,
)


class DeterministicTokenizer(Tokenizer):
    """A tokenizer around one of diffusers' autoencoders without a posterior. `model` is that module."""

    deterministic = True
    diffusers_class: ClassVar[str]

    def __init__(self, model: Any, name: str, method: str = "", source: str = "") -> None:
        self.model = model
        self._name, self._method, self._source = name, method, source
        self._f, self._d = self.geometry(model.config)
        channels = {key: model.config.get(key, 3) for key in ("in_channels", "out_channels", "num_channels")}
        if set(channels.values()) != {3}:
            raise DataError(f"{name} does not take colour images: {channels}.", "Use an autoencoder for RGB images.")

    @classmethod
    @abstractmethod
    def geometry(cls, config: Any) -> tuple[int, int]:
        """Downsampling factor f and latent channels d by this diffusers config."""

    @abstractmethod
    def _latents(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] to raw latents."""

    @abstractmethod
    def _images(self, latents: Tensor) -> Tensor:
        """Raw latents to images on the [-1, 1] scale."""

    def normalisation(self) -> LatentNormalisation | None:
        """What diffusers' config publishes: z' = (z - shift_factor) * scaling_factor; None for the identity."""
        scale = float(self.model.config.get("scaling_factor") or 1.0)
        shift = float(self.model.config.get("shift_factor") or 0.0)
        if scale == 1.0 and shift == 0.0:
            return None
        return LatentNormalisation(
            shift=(shift,) * self._d, scale=(scale,) * self._d, source="diffusers shift_factor, scaling_factor"
        )

    @property
    def spec(self) -> TokenizerSpec:
        return TokenizerSpec(
            name=self._name,
            method=self._method,
            f=self._f,
            d=self._d,
            normalisation=self.normalisation(),
            source=self._source,
            checkpoint_hash=weights_hash(self.model.state_dict()),
        )

    def encode(self, images: Tensor) -> Posterior:
        check_images(images, self._f)
        if self.image_size is not None and tuple(images.shape[2:]) != (self.image_size, self.image_size):
            raise DataError(
                f"{self._name} takes images of {self.image_size} x {self.image_size}, not {images.shape[2]} x "
                f"{images.shape[3]}.",
                f"Prepare the data with image_size={self.image_size}.",
            )
        mean = self._latents(images).float().contiguous()
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents: Tensor) -> Tensor:
        if latents.ndim != 4 or latents.shape[1] != self._d:
            raise DataError(
                f"{self._name} decodes latents N x {self._d} x h x w, not {tuple(latents.shape)}.",
                "Decode latents with the tokenizer that made them.",
            )
        return self._images(latents).contiguous()

    def to(self, device: str | torch.device) -> Self:
        self.model.to(device)
        return self

    def with_identity(self, name: str, method: str, source: str) -> Self:
        """The same network under another name in its spec."""
        return type(self)(self.model, name, method, source)

    def save(self, folder: Path) -> None:
        save_model(self.model, Path(folder), self.spec)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a diffusers folder. Raises MissingPath, MissingWeights, DataError, MissingDependency."""
        folder = model_folder(folder)
        kind = class_name(folder)
        if kind != cls.diffusers_class:
            raise DataError(f"{folder} is a diffusers {kind}, not an {cls.diffusers_class}.")
        model, spec = load_model(folder, cls.model_class()), read_spec(folder)
        if spec is None:
            return cls(model, name=folder_name(folder), source=f"diffusers folder {folder}")
        tokenizer = cls(model, spec.name, spec.method, spec.source)
        require_spec(folder, spec, tokenizer.spec)
        return tokenizer

    @classmethod
    def model_class(cls) -> Any:
        """The diffusers class. Raises MissingDependency where the installed diffusers has none."""
        found = getattr(diffusers, cls.diffusers_class, None)
        if found is None:
            raise MissingDependency(
                f"diffusers {diffusers.__version__} has no {cls.diffusers_class}.",
                "Install a newer one: pip install -U diffusers",
            )
        return found


class DCAETokenizer(DeterministicTokenizer):
    """DC-AE (arXiv 2410.10733): every stage but one halves the resolution, f = 2^(stages - 1)."""

    diffusers_class = "AutoencoderDC"

    @classmethod
    def geometry(cls, config: Any) -> tuple[int, int]:
        return 2 ** (len(config["encoder_block_out_channels"]) - 1), int(config["latent_channels"])

    def _latents(self, images: Tensor) -> Tensor:
        latents: Tensor = self.model.encode(images).latent
        return latents

    def _images(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample
        return images


class TinyTokenizer(DeterministicTokenizer):
    """TAESD and its kin (github.com/madebyollin/taesd): a distilled copy of another autoencoder.

    Its latents are that autoencoder's after normalisation. The decoder bends them: z -> 3 tanh(z / 3).
    """

    diffusers_class = "AutoencoderTiny"

    @classmethod
    def geometry(cls, config: Any) -> tuple[int, int]:
        f = 2 ** (len(config["encoder_block_out_channels"]) - 1)
        up = config["upsampling_scaling_factor"] ** (len(config["decoder_block_out_channels"]) - 1)
        if up != f:
            raise DataError(f"This AutoencoderTiny reduces images by {f} and enlarges latents by {up}.")
        return f, int(config["latent_channels"])

    def _latents(self, images: Tensor) -> Tensor:
        latents: Tensor = self.model.encode(images).latents
        return latents

    def _images(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample
        return images


class RAETokenizer(DeterministicTokenizer):
    """RAE (arXiv 2510.11690): a frozen vision transformer as encoder, a trained one as decoder, for one image size.

    The network takes and gives images in [0, 1]. Its published statistics are of each channel at each position, which a
    `LatentNormalisation` (of channels) cannot express; so raw latents are here what diffusers' `encode` gives, in which
    they are applied already, and the spec publishes no further normalisation.
    """

    diffusers_class = "AutoencoderRAE"

    def __init__(self, model: Any, name: str, method: str = "", source: str = "") -> None:
        super().__init__(model, name, method, source)
        if not model.config["reshape_to_2d"]:
            raise DataError(f"{name} gives tokens, not a grid.", "Set reshape_to_2d to true in its config.json.")
        self.image_size = int(model.decoder_image_size)

    @classmethod
    def model_class(cls) -> Any:
        import_optional("transformers", "pretrained")  # diffusers builds the encoder from it
        return super().model_class()

    @classmethod
    def geometry(cls, config: Any) -> tuple[int, int]:
        return int(config["patch_size"]), int(config["encoder_hidden_size"])

    def normalisation(self) -> None:
        """None: see the class."""

    def _latents(self, images: Tensor) -> Tensor:
        latents: Tensor = self.model.encode((images + 1) / 2).latent
        return latents

    def _images(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample * 2 - 1
        return images


DETERMINISTIC: dict[str, type[DeterministicTokenizer]] = {
    kind.diffusers_class: kind for kind in (DCAETokenizer, TinyTokenizer, RAETokenizer)
}
