"""A latent score: how sparse latents are, by Hoyer's measure (2004)."""

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.scores import Score
from vaebench.metrics.base import Metric, MetricInputs


def hoyer_sparsity(x: np.ndarray) -> np.ndarray:
    """(sqrt(D) - |x|_1 / |x|_2) / (sqrt(D) - 1) of each row of x (n, D): 0 for equal entries, 1 for a single one."""
    root = np.sqrt(x.shape[1])
    ratio = np.abs(x).sum(1) / np.maximum(np.linalg.norm(x, axis=1), np.finfo(float).tiny)
    return np.asarray((root - ratio) / (root - 1))


class SparsityConfig(Config):
    """Settings: ``images`` of the test split at most. What is here is part of the protocol of every score."""

    images: int = Field(default=1000, gt=0)


class Sparsity(Metric):
    """Mean over test images, with its bootstrap interval."""

    name = "example-sparsity"
    summary = "Hoyer's sparsity of normalised latents"
    Config = SparsityConfig
    needs = frozenset()  # works on any latents; names of what else it could ask for: vaebench.metrics.base.NEEDS

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        rows = inputs.rows("test", self.config.images)
        per_image = np.concatenate([hoyer_sparsity(b.reshape(len(b), -1)) for b in inputs.blocks(inputs.test, rows)])
        return [self.mean_score("example_sparsity", per_image, "none", seed=seed)]
