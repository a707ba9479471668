"""The contract of frozen networks: images in [0, 1] go in, a patch grid and a pooled vector come out.

A network owns its preprocessing (resize filter, antialiasing, normalisation), so that no caller can get it wrong.
"""

import hashlib
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.core.config import Config
from vaebench.core.errors import MissingWeights
from vaebench.core.pickles import refusal

Filter = Literal["bilinear", "bicubic"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
WRAPPERS = ("state_dict", "model", "encoder")
"""Keys under which checkpoints keep weights: Lightning and many others, MAE, I-JEPA."""
PARALLEL = "module."
CPU_CHUNK = 16
"""Images that pass through a network at once on a CPU: activations of more leave the cache and halve the speed."""


@dataclass(frozen=True)
class Features:
    """What a frozen network says about n images.

    Attributes:
        patches: (n, D, h, w), one vector per patch of the image.
        pooled: (n, P), one vector per image.
        spatial: (n, S), features that keep positions, of networks that metrics ask for them (sFID).
        logits: (n, K), of networks that keep a classifier (Inception Score).
    """

    patches: Tensor
    pooled: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Preprocessing:
    """Resize to ``size`` x ``size``, clamp to [0, 1], then (x - mean) / std per channel, in channels-last memory.

    The filter is antialiased, and clamping undoes its overshoot, as 8-bit image libraries do; ``antialias`` False
    leaves out both, as VA-VAE's and REPA's scripts do.
    """

    size: int
    resample: Filter
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    antialias: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        images = images.contiguous()  # with channels last, antialiased resizing takes twice as long on CPUs
        if images.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            images = F.interpolate(images, size=size, mode=self.resample, antialias=self.antialias)
            images = images.clamp_(0, 1) if self.antialias else images
        mean = images.new_tensor(self.mean).view(1, 3, 1, 1)
        std = images.new_tensor(self.std).view(1, 3, 1, 1)
        return images.sub(mean).div_(std).contiguous(memory_format=torch.channels_last)


class FrozenNetwork(nn.Module, ABC):
    """A pretrained network in evaluation mode that is never trained.

    A subclass sets the attributes below in its constructor, which takes its ``Config``, and calls :meth:`settle` last.

    Attributes:
        Config: the options that ``load_network`` accepts for this network.
        name: its registered name, with the model where there are several.
        input_size: side in pixels to which it resizes.
        weights_hash: SHA-256 of the weights, as hexadecimal text.
        patch_channels, patch_grid: D and (h, w) of ``Features.patches``.
        pooled_channels: P of ``Features.pooled``.
        sizes: the shape of one image's row of each kind of feature that the network gives.
    """

    Config: ClassVar[type[Config]]
    name: str
    input_size: int
    weights_hash: str
    patch_channels: int
    patch_grid: tuple[int, int]
    pooled_channels: int
    sizes: dict[str, tuple[int, ...]]

    @abstractmethod
    def features(self, images: Tensor) -> Features:
        """Preprocess images (n, 3, H, W) in [0, 1] and run the network."""

    def settle(self) -> None:
        """Freeze, go to channels-last memory, and measure the shapes that the network gives."""
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)
        probe = self.forward(torch.zeros(1, 3, self.input_size, self.input_size))
        self.patch_channels = probe.patches.shape[1]
        self.patch_grid = (probe.patches.shape[2], probe.patches.shape[3])
        self.pooled_channels = probe.pooled.shape[1]
        self.sizes = {kind: tuple(values.shape[1:]) for kind, values in vars(probe).items() if values is not None}

    def train(self, mode: bool = True) -> "FrozenNetwork":
        """Stays in evaluation mode whatever is asked, also as part of a module that is trained."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Features of images.

        Args:
            images: float (n, 3, H, W) in [0, 1], of any size; they are resized inside.

        Returns:
            float32 features without gradient. They do not depend on how images are batched, up to rounding.

        Raises:
            ValueError: another shape or dtype.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"Expected float images (n, 3, H, W) in [0, 1], got {images.dtype} {tuple(images.shape)}.")
        chunks = images.split(CPU_CHUNK) if images.device.type == "cpu" else (images,)
        parts = [self.features(chunk) for chunk in chunks]
        if len(parts) == 1:
            return parts[0]
        given = [kind for kind, values in vars(parts[0]).items() if values is not None]
        return Features(**{kind: torch.cat([getattr(part, kind) for part in parts]) for kind in given})


def load_state(path: Path) -> dict[str, Tensor]:
    """Read weights as plain tensors: safetensors, or a torch file with ``weights_only=True``.

    Weights that lie under one of the usual keys of training scripts (`WRAPPERS`) are unwrapped, and the prefix of
    parallel training is cut off.

    Raises:
        MissingWeights: no such file, or one that is unreadable, unsafe, or holds something other than tensors.
    """
    if not path.is_file():
        raise MissingWeights(f"Weights '{path}' do not exist.", "Give the path of a file of weights.")
    state: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise MissingWeights(*refusal(path, error)) from error
    except Exception as error:  # unpickling a foreign or truncated file can raise nearly anything
        raise MissingWeights(f"'{path}' is no readable file of weights: {error}") from error
    if isinstance(state, Mapping):
        state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), state)
    if isinstance(state, Mapping) and state and all(str(key).startswith(PARALLEL) for key in state):
        state = {key.removeprefix(PARALLEL): value for key, value in state.items()}
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise MissingWeights(f"'{path}' holds no dictionary of tensors.")
    return dict(state)


def in_order(state: Mapping[str, Tensor], target: nn.Module, source: str) -> dict[str, Tensor]:
    """Rename weights to the keys of ``target``, tensor by tensor in the order of definition.

    Two implementations of one architecture that define their layers in the same order differ in names only; every
    shape is compared so that a slip cannot pass.

    Raises:
        MissingWeights: another number of tensors, or another shape; the first difference is named.
    """
    expected = target.state_dict()
    if len(state) != len(expected):
        raise MissingWeights(f"{source} holds {len(state)} tensors, {type(target).__name__} needs {len(expected)}.")
    renamed = {}
    for (key, wanted), (theirs, given) in zip(expected.items(), state.items(), strict=True):
        if given.shape != wanted.shape:
            raise MissingWeights(
                f"{source}: '{theirs}' has shape {tuple(given.shape)}, '{key}' needs {tuple(wanted.shape)}."
            )
        renamed[key] = given
    return renamed


def hash_state(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a module's weights, for networks that come without a file."""
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(f"{key}:{value.dtype}:{tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
