"""The contract for methods that train a tokenizer.

A method says which network to build and which objective to add to reconstruction, KL and GAN. The training loop owns
everything else (batches, optimisers, checkpoints), and knows no method by name: a method of your own, registered under
the entry-point group "vaebench.tokenizers", is trained, extracted and scored like those that ship.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from vaebench.core.config import Config as BaseConfig
from vaebench.core.config import build as validated
from vaebench.tokenizers.base import Posterior, TrainableTokenizer

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
    """What an objective may look at in one training step.

    `latents` are the sampled RAW latents, with graph. `features` are the teacher's patches N x D x h x w in float32,
    None when the method needs no teacher. `reconstruction_loss` is a scalar with graph; together with
    `encoder_last_weight` it serves adaptive weights. `generator` is the step's own source of randomness (on CPU).
    """

    images: Tensor
    posterior: Posterior
    latents: Tensor
    reconstruction: Tensor
    features: Tensor | None
    reconstruction_loss: Tensor
    encoder_last_weight: nn.Parameter
    step: int
    generator: torch.Generator


@dataclass(frozen=True)
class ObjectiveOutput:
    """The loop minimises `weight * loss`. `loss` is the unweighted scalar with graph, `weight` carries no gradient,
    `logs` are detached scalars worth a curve."""

    loss: Tensor
    weight: float | Tensor = 1.0
    logs: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """What a method adds to the tokenizer's loss. It owns its mapper or projection, whose parameters the loop trains
    beside the tokenizer's; the formulas themselves are pure functions elsewhere."""

    @abstractmethod
    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        """The loss of this step and its weight."""


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
