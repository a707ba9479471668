"""VA-VAE (arXiv 2501.01423): latents aligned directly, through one linear map, with a vision foundation model.

Matched to the authors' code (hustvl/LightningDiT, `vavae/ldm`): two margin losses on the projected, sampled latents,
and a weight that keeps their pull on the encoder at a tenth of the reconstruction's.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from vaebench.core.config import Config
from vaebench.core.errors import MismatchError
from vaebench.tokenizers.features import ResampleRule, patch_cosine, resample_features
from vaebench.tokenizers.method import (
    Method,
    Objective,
    ObjectiveOutput,
    StepInputs,
    TeacherSpec,
    initialised_by,
    require_teacher,
)
from vaebench.training.losses import adaptive_weight


class VAVAEConfig(Config):
    """Settings of VA-VAE; the defaults are those of its f16d32 configuration.

    Attributes:
        weight: strength of the alignment; with `adaptive`, its share of the reconstruction's gradient norm. The
            released checkpoint was trained in three stages with 0.5, 0.1, 0.1.
        adaptive: scale by |grad reconstruction| / (|grad alignment| + 1e-4) at the encoder's last convolution.
        adaptive_maximum: upper clamp of that ratio.
        cosine_weight, distance_weight: of the two losses in their sum.
        cosine_margin: m1; a patch whose cosine similarity exceeds 1 - m1 is aligned enough.
        distance_margin: m2; similarities between patches may differ by m2. (The released checkpoint's first two
            stages used no margins: 0 and 0.)
        resample: rule for a teacher grid that is not the latents' (see `resample_features`). The paper has equal
            grids (16 x 16 from a 224 input at patch 14, and 256 / 16), where no rule applies.
    """

    weight: float = Field(default=0.1, ge=0)
    adaptive: bool = True
    adaptive_maximum: float = Field(default=1e8, gt=0)
    cosine_weight: float = Field(default=1.0, ge=0)
    distance_weight: float = Field(default=1.0, ge=0)
    cosine_margin: float = Field(default=0.5, ge=0, le=2)
    distance_margin: float = Field(default=0.25, ge=0, le=2)
    resample: ResampleRule = "bilinear"


def marginal_cosine_loss(projected: Tensor, features: Tensor, margin: float) -> Tensor:
    """mean over images and patches of relu(1 - margin - cos(z_i, f_i)); both N x D x h x w, result a scalar."""
    return functional.relu(1 - margin - patch_cosine(projected, features)).mean()


def marginal_distance_matrix_loss(projected: Tensor, features: Tensor, margin: float) -> Tensor:
    """mean over images and patch pairs (i, j) of relu(|cos(z_i, z_j) - cos(f_i, f_j)| - margin), a scalar.

    Both are N x D x h x w (channels may differ); pairs are those of one image, i = j among them.
    """
    difference = patch_similarities(projected) - patch_similarities(features)
    return functional.relu(difference.abs() - margin).mean()


def patch_similarities(x: Tensor) -> Tensor:
    """Cosine similarities of all pairs of patches: N x D x h x w to N x hw x hw, in float32."""
    unit = functional.normalize(x.float().flatten(2), dim=1)
    return unit.transpose(1, 2) @ unit


class VAVAEObjective(Objective):
    """1 x 1 projection (no bias) of the sampled latents to the teacher's channels, and the two margin losses."""

    def __init__(self, config: VAVAEConfig, latent_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Conv2d(latent_channels, teacher_channels, kernel_size=1, bias=False)

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        if inputs.features is None:
            raise MismatchError("VA-VAE aligns with teacher features, and this step has none.", "Pass a teacher.")
        config = self.config
        projected = self.projection(inputs.latents)
        features = resample_features(inputs.features, tuple(projected.shape[2:]), config.resample)
        cosine = marginal_cosine_loss(projected, features, config.cosine_margin)
        distance = marginal_distance_matrix_loss(projected, features, config.distance_margin)
        loss = config.cosine_weight * cosine + config.distance_weight * distance
        weight: float | Tensor = config.weight
        if config.adaptive:
            weight = adaptive_weight(
                inputs.reconstruction_loss, loss, inputs.encoder_last_weight, config.weight, config.adaptive_maximum
            )
        logs = {"cosine": cosine.detach(), "distance": distance.detach()}
        return ObjectiveOutput(loss, weight, logs)


class VAVAE(Method):
    """A KL autoencoder with direct alignment of its latents."""

    name = "va-vae"
    summary = "direct alignment of latents with a teacher (margin losses, adaptive weight)"
    Config = VAVAEConfig
    config: VAVAEConfig

    @property
    def needs_teacher(self) -> bool:
        return True

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> VAVAEObjective:
        teacher = require_teacher(teacher, "VA-VAE")
        with initialised_by(generator):
            return VAVAEObjective(self.config, latent_channels, teacher.channels)
