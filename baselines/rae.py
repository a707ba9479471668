"""RAE (arXiv 2510.11690, "Diffusion Transformers with Representation Autoencoders"): frozen encoder, trained decoder.

    z = LN(patches of a frozen vision network),  x' = D(z),  in training x' = D(z + sigma n),  n ~ N(0, I),

with sigma = |N(0, tau^2)| per image and tau = 0.8, so that the decoder bears the small errors of generated latents.
Only D learns, by reconstruction, LPIPS and GAN; the encoder has no posterior (std = 0), so there is no KL.

d is the network's number of patch channels, f the side of the images over the side of its patch grid: DINOv2-B/14 at
224 on images of 256 gives f16d768, EfficientNet-Lite0 at 128 on images of 64 gives f16d1280.

From the paper: tau, and LN over the channels of a patch without affine part, in place of the network's own last layer
norm (for timm's ViTs that is encoder_options {norm: false}; norm: true norms twice). Convolutional networks, which the
paper does not use, are normed all the same. Where this differs or the source is silent:
    Decoder: "conv" (default) is the decoder of the architecture that the other methods train, so that only latents
        differ; "vit" is of the paper's kind (MAE decoder with fixed sine-cosine positions, here without class token),
        whose ViT-XL is width 1152, depth 28, heads 16.
    sigma: |N(0, tau^2)| in the paper, tau U(0, 1) in the authors' code (nyu-visionx/RAE): `noise_law`.
    Normalisation of latents for diffusion (the authors' is per channel and position) is that of the latent file.
    The paper's discriminator stands on DINO features; here it is the one of the training loop.
    The encoder resizes images itself, and computes in float32 also under mixed precision.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from vaebench.core.config import Config
from vaebench.core.config import build as validated
from vaebench.core.errors import ConfigError, DataError, MismatchError, MissingPath
from vaebench.core.files import read_json, write_json
from vaebench.core.seeds import sample_normal, sample_uniform
from vaebench.generation.sit import sincos_positions
from vaebench.tokenizers.architecture import AutoencoderConfig, resolve_preset
from vaebench.tokenizers.autoencoder import SPEC_FILE, build_autoencoder
from vaebench.tokenizers.base import (
    LatentNormalisation,
    Posterior,
    TokenizerNetwork,
    TokenizerSpec,
    TrainableTokenizer,
    check_images,
    weights_hash,
)
from vaebench.tokenizers.method import Method, Objective, StepInputs, TeacherSpec, initialised_by
from vaebench.training.step import to_device
from vaebench.vision import load_network
from vaebench.vision.base import FrozenNetwork

SETTINGS_FILE = "rae.json"
WEIGHTS_FILE = "decoder.safetensors"
NoiseLaw = Literal["half-normal", "uniform"]


class RAEConfig(Config):
    """Settings of RAE.

    Attributes:
        encoder, encoder_options: registered name of a frozen network, and its options.
        layer_norm: norm every patch over its channels.
        noise: tau; 0 for no noise.
        noise_law: of sigma: "half-normal", |N(0, tau^2)|, or "uniform", tau U(0, 1).
        decoder: "conv" or "vit".
        width, depth, heads: of the decoder "vit".
    """

    encoder: str = "efficientnet-lite0"
    encoder_options: dict[str, Any] = {}
    layer_norm: bool = True
    noise: float = Field(default=0.8, ge=0)
    noise_law: NoiseLaw = "half-normal"
    decoder: Literal["conv", "vit"] = "conv"
    width: int = Field(default=384, gt=0, multiple_of=4)
    depth: int = Field(default=6, gt=0)
    heads: int = Field(default=6, gt=0)


class FrozenEncoder:
    """Images in [-1, 1] to latents. No module on purpose: its weights are not saved, averaged or optimised with the
    decoder's, and copies of the tokenizer's network share it."""

    def __init__(self, network: FrozenNetwork, layer_norm: bool) -> None:
        self.network, self.layer_norm = network, layer_norm

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __call__(self, images: Tensor) -> Tensor:
        if next(self.network.parameters()).device != images.device:
            self.network.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            patches = self.network(((images.float() + 1) / 2).clamp(0, 1)).patches
            if self.layer_norm:
                patches = functional.layer_norm(patches.movedim(1, -1), patches.shape[1:2], eps=1e-6).movedim(-1, 1)
        return patches.contiguous()


class ConvDecoder(nn.Module):
    """The decoder of a convolutional autoencoder: latents N x d x h x w to images, f = p 2^(blocks - 1)."""

    def __init__(self, architecture: AutoencoderConfig, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        changes = {"latent_channels": channels, "frequency_start": False}  # which is the encoder's matter
        whole = build_autoencoder(architecture.model_copy(update=changes), generator)
        self.decoder = whole.network.autoencoder.decoder
        self.patch_size = architecture.patch_size

    @property
    def last_weight(self) -> nn.Parameter:
        return cast(nn.Parameter, self.decoder.conv_out.weight)

    def forward(self, latents: Tensor) -> Tensor:
        latents = latents.contiguous(memory_format=torch.channels_last)
        return functional.pixel_shuffle(self.decoder(latents), self.patch_size).contiguous()


class ViTDecoder(nn.Module):
    """A plain ViT: one token per latent position, fixed positions, and a linear map to the f x f pixels of each."""

    positions: Tensor

    def __init__(self, config: RAEConfig, channels: int, grid: tuple[int, int], f: int) -> None:
        super().__init__()
        width = config.width
        self.f, self.grid = f, grid
        self.embedding = nn.Linear(channels, width)
        self.register_buffer("positions", sincos_positions(width, grid), persistent=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                config.heads,
                dim_feedforward=4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 3 * f * f)

    @property
    def last_weight(self) -> nn.Parameter:
        return cast(nn.Parameter, self.output.weight)

    def forward(self, latents: Tensor) -> Tensor:
        tokens = self.embedding(latents.flatten(2).transpose(1, 2)) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        patches = self.output(self.norm(tokens)).transpose(1, 2).unflatten(2, self.grid)
        return functional.pixel_shuffle(patches, self.f)


class RAENetwork(TokenizerNetwork):
    """Frozen encoder (not among the weights) and decoder, for images of one size."""

    def __init__(self, encoder: FrozenEncoder, decoder: ConvDecoder | ViTDecoder, image_size: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.image_size = encoder, decoder, image_size

    def encode(self, images: Tensor) -> Posterior:
        if tuple(images.shape[2:]) != (self.image_size, self.image_size):
            raise DataError(
                f"This RAE takes images of {self.image_size} x {self.image_size}, "
                f"not {images.shape[2]} x {images.shape[3]}: its encoder resizes all to one patch grid.",
                "Train one with the image_size of the data in its network.",
            )
        mean = self.encoder(images)
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images


class RAETokenizer(TrainableTokenizer):
    """A frozen encoder with its trained decoder.

    Raises:
        ConfigError: the encoder's patch grid does not fit the images, or not the decoder's f.
    """

    deterministic = True
    network: RAENetwork

    def __init__(
        self,
        config: RAEConfig,
        architecture: AutoencoderConfig,
        generator: torch.Generator,
        name: str,
        method: str = "",
        source: str = "initial decoder",
        normalisation: LatentNormalisation | None = None,
    ) -> None:
        self.config, self.architecture = config, architecture
        self._name, self._method, self._source, self._normalisation = name, method, source, normalisation
        encoder = load_network(config.encoder, **config.encoder_options)
        self._d, size = encoder.patch_channels, architecture.image_size
        self._f = _downsampling(size, encoder)
        if config.decoder == "conv":
            if architecture.f != self._f:
                raise ConfigError(
                    f"The decoder has f={architecture.f}, but {config.encoder}'s {encoder.patch_grid[0]} x "
                    f"{encoder.patch_grid[1]} patches of images of {size} x {size} are f={self._f}.",
                    "Choose another network, encoder_options.input_size or layer, or decoder: vit.",
                )
            decoder: ConvDecoder | ViTDecoder = ConvDecoder(architecture, self._d, generator)
        elif config.width % config.heads:
            raise ConfigError(f"A decoder of width {config.width} cannot have {config.heads} heads.")
        else:
            with initialised_by(generator):
                decoder = ViTDecoder(config, self._d, encoder.patch_grid, self._f)
        self.network = RAENetwork(FrozenEncoder(encoder, config.layer_norm), decoder, size)
        self.image_size = size

    @property
    def spec(self) -> TokenizerSpec:
        # What the encoder computes and with which weights, but not from which path they were read.
        options = {name: value for name, value in self.config.encoder_options.items() if name != "checkpoint"}
        decoder_hash = weights_hash(self.network.decoder.state_dict())
        parts = [self.encoder_hash, decoder_hash, options, self.config.layer_norm]
        return TokenizerSpec(
            name=self._name,
            method=self._method,
            f=self._f,
            d=self._d,
            normalisation=self._normalisation,
            source=self._source,
            checkpoint_hash=hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest(),
        )

    @property
    def encoder_hash(self) -> str:
        """SHA-256 of the frozen network's weights."""
        return self.network.encoder.network.weights_hash

    def encode(self, images: Tensor) -> Posterior:
        check_images(images, self._f)
        return self.network.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        shape = (self._d, *self.network.encoder.network.patch_grid)
        if latents.ndim != 4 or tuple(latents.shape[1:]) != shape:
            raise DataError(
                f"{self._name} decodes latents N x {' x '.join(map(str, shape))}, not {tuple(latents.shape)}.",
                "Decode latents with the tokenizer that made them.",
            )
        return self.network.decode(latents)

    def to(self, device: str | torch.device) -> Self:
        self.network.to(device)
        return self

    @property
    def encoder_last_weight(self) -> nn.Parameter:
        """The last matrix of the frozen network; no gradient ever reaches it."""
        return [p for p in self.network.encoder.network.parameters() if p.ndim > 1][-1]

    @property
    def decoder_last_weight(self) -> nn.Parameter:
        return self.network.decoder.last_weight

    def with_identity(
        self,
        name: str,
        method: str,
        source: str,
        *,
        retrained: bool = False,
        normalisation: LatentNormalisation | None = None,
    ) -> Self:
        # The encoder never changes, so a published normalisation outlives training.
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, "_name": name, "_method": method, "_source": source}
        other._normalisation = normalisation or self._normalisation
        return other

    def save(self, folder: Path) -> None:
        """Write the decoder's weights (safetensors), `rae.json` (settings, and the hash of the encoder's weights, which
        are not written) and `tokenizer.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.network.decoder.state_dict()
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, folder / WEIGHTS_FILE)
        settings = {
            "config": self.config.model_dump(mode="json"),
            "network": self.architecture.model_dump(mode="json"),
            "encoder_hash": self.encoder_hash,
        }
        write_json(folder / SETTINGS_FILE, settings)
        write_json(folder / SPEC_FILE, self.spec.model_dump(mode="json"))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load what `save` wrote, with the frozen network from where it is installed.

        Raises:
            MissingPath: a file is not there. MissingWeights: the frozen network's weights are not.
            MismatchError: the frozen network has other weights than the decoder was trained for.
            DataError: the decoder's weights do not fit, or are not those of the spec.
        """
        folder = Path(folder)
        if absent := [name for name in (SETTINGS_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]:
            raise MissingPath(f"{folder} holds no {' and no '.join(absent)}, so it is no RAE.")
        settings = read_json(folder / SETTINGS_FILE)
        spec = validated(TokenizerSpec, read_json(folder / SPEC_FILE), where=str(folder / SPEC_FILE))
        config = validated(RAEConfig, settings["config"], where=str(folder / SETTINGS_FILE))
        architecture = validated(AutoencoderConfig, settings["network"], where=str(folder / SETTINGS_FILE))
        tokenizer = cls(
            config, architecture, torch.Generator(), spec.name, spec.method, spec.source, spec.normalisation
        )
        if tokenizer.encoder_hash != settings["encoder_hash"]:
            raise MismatchError(
                f"The RAE in {folder} was trained on {config.encoder} with weights {settings['encoder_hash'][:12]}; "
                f"here it has weights {tokenizer.encoder_hash[:12]}.",
                "Install the weights it was trained on.",
            )
        try:
            tokenizer.network.decoder.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise DataError(f"The weights in {folder} do not load: {error}.", "Restore the folder.") from error
        tokenizer.network.eval()
        if tokenizer.spec != spec:
            raise DataError(
                f"The weights in {folder} are not those that its {SPEC_FILE} was written for.", "Restore the folder."
            )
        return tokenizer


def _downsampling(image_size: int, encoder: FrozenNetwork) -> int:
    h, w = encoder.patch_grid
    if h != w or image_size % h:
        raise ConfigError(
            f"Images of {image_size} x {image_size} do not divide into {encoder.name}'s {h} x {w} patches.",
            "Choose another input_size in encoder_options, or another image_size of the network.",
        )
    return image_size // h


class NoisedDecoding(Objective):
    """Adds noise to what the decoder sees; adds no loss and has no weights."""

    def __init__(self, noise: float, law: NoiseLaw) -> None:
        super().__init__()
        self.noise, self.law = noise, law

    def to_decode(self, latents: Tensor, positions: np.ndarray, seed: int) -> Tensor:
        """z + sigma n."""
        draw = sample_normal if self.law == "half-normal" else sample_uniform
        sigma = self.noise * draw(positions, (1, 1, 1), seed, "rae sigma").abs()
        noise = sample_normal(positions, tuple(latents.shape[1:]), seed, "rae noise")
        return latents + to_device(sigma * noise, latents.device)

    def forward(self, inputs: StepInputs) -> None:
        if inputs.step == 0 and bool(inputs.posterior.std.any()):
            raise ConfigError("RAE trains a decoder on a frozen encoder, and the initial tokenizer has an encoder.")


class RAE(Method):
    """A decoder for the features of a frozen vision network."""

    name = "rae"
    summary = "representation autoencoder: frozen vision network as encoder, trained decoder"
    Config = RAEConfig
    config: RAEConfig

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> NoisedDecoding:
        return NoisedDecoding(self.config.noise, self.config.noise_law)

    def build(self, config: AutoencoderConfig | str, generator: torch.Generator) -> RAETokenizer:
        architecture = resolve_preset(config)
        return RAETokenizer(self.config, architecture, generator, f"rae-{self.config.encoder}", self.name)

    @classmethod
    def load(cls, folder: Path) -> RAETokenizer:
        return RAETokenizer.from_folder(folder)
