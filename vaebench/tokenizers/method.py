"""The contract for methods that train a tokenizer.

A method says which network to build and which objective to add to reconstruction, KL and GAN. The training loop owns
everything else (batches, optimisers, checkpoints), and knows no method by name: a method of your own, registered under
the entry-point group "vaebench.tokenizers", is trained, extracted and scored like those that ship.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebench.core.config import Config as BaseConfig
from vaebench.core.config import build as validated
from vaebench.core.errors import ConfigError
from vaebench.tokenizers.base import LatentNormalisation, Posterior, Tokenizer, TrainableTokenizer

if TYPE_CHECKING:
    from vaebench.tokenizers.architecture import AutoencoderConfig


@dataclass(frozen=True)
class TeacherSpec:
    """The frozen network whose features the objective sees: name, channels D of its patches, patch grid (h, w)."""

    name: str
    channels: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class StepInputs:
    """What an objective may look at in one training step. The rows are a part of the global batch.

    Attributes:
        images: N x 3 x H x W in [-1, 1].
        posterior, latents: of the RAW latents, N x d x h x w, and the sample of it, both with graph.
        reconstruction: images decoded from what `Objective.to_decode` made of the latents, with graph.
        features: the teacher's patches N x D x h x w in float32; None when the method needs no teacher.
        labels: class labels (N,), int64; None when the data have none.
        reconstruction_loss: a scalar with graph; together with `encoder_last_weight` it serves adaptive weights.
        decode: raw latents to images, with graph, in the precision of training; for passes beside the main one.
        distance: of images decoded in such a pass to the images that they should be, a scalar: training's own
            reconstruction and perceptual losses with their weights, as in `reconstruction_loss`.
        step: number of the step, from 0.
        positions, seed: int64 (N,) places of the rows in the endless stream of batches, and the seed of this step's
            draws. What is drawn per row as sample_normal(positions, shape, seed, "purpose") or by `sample_uniform`
            (`vaebench.core.seeds`), and what is one for the whole step as numpy_generator(seed, "purpose"), depends
            neither on the number of processes nor on accumulation. Draw so.
        generator: on the CPU, for draws that belong to these rows together, such as a permutation of them. It differs
            from part to part of the global batch.
        autocast: makes a context in the precision of training, for large networks of the objective's own; everything
            else should stay in float32.
    """

    images: Tensor
    posterior: Posterior
    latents: Tensor
    reconstruction: Tensor
    features: Tensor | None
    labels: Tensor | None
    reconstruction_loss: Tensor
    encoder_last_weight: nn.Parameter
    decode: Callable[[Tensor], Tensor]
    step: int
    positions: np.ndarray
    seed: int
    generator: torch.Generator
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    distance: Callable[[Tensor, Tensor], Tensor] = functional.l1_loss


@dataclass(frozen=True)
class ObjectiveOutput:
    """The loop minimises `weight * loss`. `loss` is the unweighted scalar with graph, `weight` carries no gradient,
    `logs` are detached scalars worth a curve."""

    loss: Tensor
    weight: float | Tensor = 1.0
    logs: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """What a method adds to the tokenizer's training: a loss, or a change to what the decoder sees and is to show.

    It owns its mapper or projection, whose parameters the loop trains beside the tokenizer's; the formulas themselves
    are pure functions elsewhere.

    Attributes:
        averaged: whether the loop keeps an average (EMA) of this module as it does of the tokenizer; `normalisation` is
            then asked of the average.
        classes: labels must lie in [0, classes); None for an objective that takes any. The loop checks it.
    """

    averaged: ClassVar[bool] = False
    classes: int | None = None

    @abstractmethod
    def forward(self, inputs: StepInputs) -> ObjectiveOutput | None:
        """The loss of this step and its weight; None when there is none to add."""

    def to_decode(self, latents: Tensor, positions: np.ndarray, seed: int) -> Tensor:
        """What the decoder sees in place of these raw latents (with graph); by default themselves.

        `positions` and `seed` are those of `StepInputs`.
        """
        return latents

    def to_compare(self, images: Tensor, positions: np.ndarray, seed: int) -> Tensor:
        """What the reconstruction, perceptual and adversarial losses compare the reconstruction with in place of these
        images, of the size that is decoded from `to_decode`; by default themselves.
        """
        return images

    def normalisation(self) -> LatentNormalisation | None:
        """The normalisation of latents that the trained tokenizer is to publish in its spec; by default none."""
        return None


def require_teacher(teacher: TeacherSpec | None, method: str) -> TeacherSpec:
    """The teacher of a method that aligns with one.

    Raises:
        ConfigError: there is none.
    """
    if teacher is None:
        raise ConfigError(
            f"{method} aligns with a teacher, and none is given.", "Name one, such as efficientnet-lite0."
        )
    return teacher


class Method(ABC):
    """A way to train a tokenizer.

    Subclasses set `name`, `summary` (one line), `Config` (every setting, documented) and write `objective`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type[BaseConfig]] = BaseConfig
    trainable: ClassVar[bool] = True

    def __init__(self, config: BaseConfig | Mapping[str, Any] | None = None) -> None:
        if not isinstance(config, self.Config):
            config = validated(self.Config, dict(config or {}), where=f"method '{self.name}'")
        self.config = config

    @property
    def needs_teacher(self) -> bool:
        """Whether `objective` needs teacher features in every step."""
        return False

    @abstractmethod
    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> Objective | None:
        """The objective for latents of this shape, its weights initialised from `generator`; None for no objective."""

    @classmethod
    def load(cls, folder: Path) -> TrainableTokenizer:
        """The tokenizer that a training with this method saved in `folder`; override it together with `build`."""
        from vaebench.tokenizers.autoencoder import DiffusersTokenizer

        return DiffusersTokenizer.from_folder(folder)

    def build(self, config: AutoencoderConfig | str, generator: torch.Generator) -> TrainableTokenizer:
        """A fresh tokenizer from an architecture or the name of a preset, initialised from `generator`."""
        from vaebench.tokenizers.autoencoder import build_autoencoder

        return build_autoencoder(config, generator, method=self.name)


class Images(Protocol):
    """What training asks of a data split. Its `labels`, an integer array (N,), are used where it has them."""

    def __len__(self) -> int: ...
    def images(self, indices: np.ndarray) -> np.ndarray:
        """uint8 (n, 3, H, W) of these rows."""


class FittedMethod(Method):
    """A method that needs no gradient steps: it computes its tokenizer from the training images at once."""

    trainable = False

    @abstractmethod
    def fit(self, images: Images, seed: int) -> Tokenizer:
        """The tokenizer for these images; it must know how to `save` itself, and `load` how to read it again."""

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> None:
        """There is nothing to train."""


@contextmanager
def initialised_by(generator: torch.Generator) -> Iterator[None]:
    """Make modules built inside draw their initial weights from `generator` alone.

    PyTorch's initialisers know only the global generator, so it is seeded from `generator` for the length of the block
    and put back afterwards: the caller's global random state is neither used nor moved.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # unlike torch.manual_seed, leaves accelerators alone
        yield
