"""Scale equivariance (arXiv 2502.14831, "Improving the Diffusability of Autoencoders"): downsized latents decode to the
downsized image, which keeps latents from carrying high frequencies that images do not have.

    L(x) = d(x, D(z)) + alpha d(x', D(z')) + KL,        z ~ q(z | x),

x' and z' being x and z downsized by the same factor, bilinearly, by 2 or 4. d is training's own reconstruction and
perceptual loss. Gradients reach decoder and encoder; the adversarial loss acts on D(z) alone.

Where the source is silent, or its text was not at hand:
    Both factors count in every step, as the mean of their losses. A factor that does not divide the latents' grid, or
        leaves less than 2 x 2 of it (of a single cell a group norm leaves little), is left out.
    alpha is 0.25, not taken from the source. Under reduction "sum", d of a downsized image sums over fewer elements, so
        that alpha weighs 1 / factor^2 of what it does under "mean".
    z is the sample, as in the main pass. Corners are not aligned, and nothing is low-passed first (`antialias`): at
        factor 2 that is the mean of 2 x 2, at factor 4 the mean of the inner 2 x 2 of 4 x 4.
    The paper tunes ready autoencoders for 10,000 to 20,000 steps; here the start and the steps are the training's.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, StepInputs, TeacherSpec

SMALLEST = 2


class SEVAEConfig(Config):
    """Settings of scale equivariance.

    Attributes:
        weight: alpha.
        factors: by which images and latents are downsized.
        antialias: low-pass images and latents before they are downsized.
    """

    weight: float = Field(default=0.25, ge=0)
    factors: tuple[Annotated[int, Field(ge=2)], ...] = Field(default=(2, 4), min_length=1)
    antialias: bool = False


def downsized(planes: Tensor, factor: int, antialias: bool = False) -> Tensor:
    """Planes N x c x H x W to N x c x H/factor x W/factor, bilinear."""
    size = (planes.shape[2] // factor, planes.shape[3] // factor)
    return functional.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=antialias)


class ScaleEquivariance(Objective):
    """The mean over the factors of d(x', D(z')); has no weights."""

    def __init__(self, config: SEVAEConfig, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.factors = config, factors

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        losses, antialias = {}, self.config.antialias
        for factor in self.factors:
            decoded = inputs.decode(downsized(inputs.latents, factor, antialias))
            losses[f"loss_scale_{factor}"] = inputs.distance(decoded, downsized(inputs.images, factor, antialias))
        loss = torch.stack(list(losses.values())).mean()
        return ObjectiveOutput(loss, self.config.weight, {name: value.detach() for name, value in losses.items()})


class SEVAE(Method):
    """A KL autoencoder whose decoder commutes with downsizing."""

    name = "se-vae"
    summary = "scale equivariance: downsized latents decode to downsized images"
    Config = SEVAEConfig
    config: SEVAEConfig

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> ScaleEquivariance:
        def fits(factor: int) -> bool:
            return all(side % factor == 0 and side // factor >= SMALLEST for side in latent_grid)

        factors = tuple(filter(fits, self.config.factors))
        if not factors:
            raise ConfigError(
                f"None of the factors {self.config.factors} divides latents of {latent_grid[0]} x {latent_grid[1]} "
                f"and leaves {SMALLEST} x {SMALLEST}.",
                "Choose another factor, or larger images.",
            )
        return ScaleEquivariance(self.config, factors)
