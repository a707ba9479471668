"""A training method: settings, and an objective that the bench's own loop minimises beside reconstruction and KL."""

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebench.core.config import Config
from vaebench.tokenizers.features import patch_cosine, resample_features
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, StepInputs, TeacherSpec, initialised_by


class AlignConfig(Config):
    """Settings: ``weight`` of the loss, and ``margin``, the cosine distance that is near enough."""

    weight: float = Field(default=0.1, ge=0)
    margin: float = Field(default=0.0, ge=0, le=2)


class AlignObjective(Objective):
    """mean of relu(1 - margin - cos(projection of the latents, teacher's patches)); the projection is trained too."""

    def __init__(self, config: AlignConfig, latent_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Conv2d(latent_channels, teacher_channels, 1)

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        projected: Tensor = self.projection(inputs.latents)
        assert inputs.features is not None  # needs_teacher asks for them
        features = resample_features(inputs.features, (projected.shape[2], projected.shape[3]))
        cosine = patch_cosine(projected, features)
        loss = (1 - self.config.margin - cosine).relu().mean()
        return ObjectiveOutput(loss, self.config.weight, {"cosine": cosine.mean().detach()})


class Align(Method):
    """Plain alignment of latents with a teacher's patches."""

    name = "example-align"
    summary = "latents aligned with a teacher by cosine"
    Config = AlignConfig
    config: AlignConfig

    @property
    def needs_teacher(self) -> bool:
        return True

    def objective(
        self,
        latent_channels: int,
        latent_grid: tuple[int, int],
        teacher: TeacherSpec | None,
        generator: torch.Generator,
    ) -> AlignObjective:
        assert teacher is not None
        with initialised_by(generator):  # weights from the run's seed and from nothing else
            return AlignObjective(self.config, latent_channels, teacher.channels)
