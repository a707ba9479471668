"""The alignment objective of Send-VAE: normalise, inject noise, map, compare with the teacher patch by patch."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sendvae.mapper import Mapper
from sendvae.noise import draw_noise, inject_noise
from vaebench.core.errors import MismatchError
from vaebench.tokenizers.base import LatentNormalisation
from vaebench.tokenizers.features import ResampleRule, patch_cosine, resample_features
from vaebench.tokenizers.method import Objective, ObjectiveOutput, StepInputs
from vaebench.training.batch_norm import LatentBatchNorm

NormalisationRule = Literal["batch", "none"] | LatentNormalisation


def alignment_loss(predicted: Tensor, features: Tensor) -> Tensor:
    """mean over images and patches n of 1 - cos(predicted_n, features_n), in [0, 2]; both N x D x h x w."""
    return (1 - patch_cosine(predicted, features)).mean()


class AlignmentObjective(Objective):
    """L_align = mean_n (1 - cos(h(z_t)[n], f(x)[n])) with the mapper h, weighted by lambda."""

    def __init__(
        self,
        mapper: Mapper,
        latent_channels: int,
        *,
        weight: float,
        noise: bool,
        normalisation: NormalisationRule,
        resample: ResampleRule,
    ) -> None:
        super().__init__()
        self.mapper = mapper
        self.weight, self.noise, self.resample = weight, noise, resample
        self.fixed = normalisation if isinstance(normalisation, LatentNormalisation) else None
        self.batch_norm = LatentBatchNorm(latent_channels) if normalisation == "batch" else None

    def forward(self, inputs: StepInputs) -> ObjectiveOutput:
        if inputs.features is None:
            raise MismatchError("Send-VAE aligns with teacher features, and this step has none.", "Pass a teacher.")
        latents = self.normalise(inputs.latents)
        if self.noise:
            latents = inject_noise(latents, *draw_noise(latents, inputs.positions, inputs.seed))
        predicted = self.mapper(latents)
        loss = alignment_loss(predicted, resample_features(inputs.features, self.mapper.grid, self.resample))
        return ObjectiveOutput(loss, self.weight, {"cosine": 1 - loss.detach()})

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents on the scale at which noise of variance 1 is injected."""
        if self.fixed is not None:
            return self.fixed.normalise(latents)
        return latents if self.batch_norm is None else self.batch_norm(latents)
