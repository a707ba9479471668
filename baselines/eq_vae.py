"""EQ-VAE (arXiv 2502.09509): decoding transformed latents must give the transformed image.

For a spatial transformation tau, that is a scaling followed by a rotation by 90, 180 or 270 degrees, acting on images
and on latents alike, training replaces

    L(x, D(z))    by    L(tau x, D(tau z)),        z ~ q(z | x),

with probability 0.5, where L is the whole of reconstruction, perceptual and adversarial losses; KL stays as it is. In
the other steps tau is the identity ("prior preservation"). Nothing acts on the encoder alone: comparing E(tau x) with
tau E(x) directly lets latents collapse, says the paper.

Matched to the authors' code (zelaki/eqvae, `ldm/models/autoencoder.py`): one tau for the whole batch of a step; a step
that transforms always both scales and rotates; bilinear resampling without antialiasing, corners not aligned; scales
8/32, 9/32 ... 31/32 at latents of 32 x 32. Such latents then have 8 to 31 rows, each as likely, and so it is here for
every grid: the resized latents have a whole number of rows m, h/4 <= m < h (and m >= 2), and the images exactly f m.

Where this differs from the source or the source is silent:
    Scales differ between the axes by default, as in the paper's description; the released configuration sets
        `anisotropic: false`.
    Left out is a detail of the code: a quarter of its untransformed steps train on downsized images, encoded anew.
    The paper tunes a ready tokenizer for 5 to 44 epochs; here the start and the steps are the training's.
    Small images: `minimum_scale` bounds what the PatchGAN and LPIPS get to see, which need some 24 and 16 pixels.

`loss_reconstruction` in the log belongs to transformed images in the steps that transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from vaebench.core.config import Config
from vaebench.core.seeds import numpy_generator
from vaebench.tokenizers.method import Method, Objective, StepInputs, TeacherSpec

SMALLEST = 2  # rows and columns: of a single cell a group norm leaves little


class EQVAEConfig(Config):
    """Settings of EQ-VAE.

    Attributes:
        probability: of a step that transforms.
        minimum_scale: smallest scale of an axis; 1 turns scaling off.
        anisotropic: draw the scales of the two axes apart from each other.
        rotate: whether tau rotates.
        antialias: low-pass images and latents before they are downsized.
    """

    probability: float = Field(default=0.5, ge=0, le=1)
    minimum_scale: float = Field(default=0.25, gt=0, le=1)
    anisotropic: bool = True
    rotate: bool = True
    antialias: bool = False


@dataclass(frozen=True)
class Transformation:
    """tau: to `rows` x `columns` of the latents' grid, then rotated by `quarters` of a turn, from rows to columns."""

    rows: int
    columns: int
    quarters: int


def draw(config: EQVAEConfig, grid: tuple[int, int], generator: np.random.Generator) -> Transformation | None:
    """tau for latents of this grid (h, w), None for the identity."""
    if generator.random() >= config.probability:
        return None
    rows, columns = (_sizes(side, config.minimum_scale) for side in grid)
    i, j = generator.random(2)
    if not config.anisotropic:
        j = i
    quarters = int(generator.integers(1, 4)) if config.rotate else 0
    return Transformation(rows[int(i * len(rows))], columns[int(j * len(columns))], quarters)


def _sizes(side: int, minimum: float) -> list[int]:
    """Sizes below `side` that are at least `minimum` of it and 2; `side` itself where there are none."""
    return list(range(max(SMALLEST, math.ceil(minimum * side - 1e-9)), side)) or [side]


def transform(planes: Tensor, tau: Transformation, factor: int = 1, antialias: bool = False) -> Tensor:
    """tau of planes N x c x H x W whose sides are `factor` times those of the latents: f for images, 1 for latents."""
    size = (factor * tau.rows, factor * tau.columns)
    if size != tuple(planes.shape[2:]):
        planes = functional.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=antialias)
    return torch.rot90(planes, tau.quarters, dims=(2, 3))


class Equivariance(Objective):
    """Transforms what the decoder sees and what its images are compared with; adds no loss and has no weights."""

    def __init__(self, config: EQVAEConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.grid = config, grid

    def to_decode(self, latents: Tensor, positions: np.ndarray, seed: int) -> Tensor:
        tau = self._draw(seed)
        return latents if tau is None else transform(latents, tau, 1, self.config.antialias)

    def to_compare(self, images: Tensor, positions: np.ndarray, seed: int) -> Tensor:
        tau = self._draw(seed)
        return images if tau is None else transform(images, tau, images.shape[2] // self.grid[0], self.config.antialias)

    def _draw(self, seed: int) -> Transformation | None:
        return draw(self.config, self.grid, numpy_generator(seed, "eq-vae transformation"))

    def forward(self, inputs: StepInputs) -> None:
        return None


class EQVAE(Method):
    """A KL autoencoder whose decoder commutes with scaling and rotation."""

    name = "eq-vae"
    summary = "equivariance: transformed latents decode to transformed images"
    Config = EQVAEConfig
    config: EQVAEConfig

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> Equivariance:
        return Equivariance(self.config, latent_grid)
