"""REPA: aligning a hidden layer of the SiT with a vision foundation model (Yu et al. 2025)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Sequential):
    """Three-layer MLP D -> hidden -> hidden -> teacher channels with SiLU, on tokens (N, T, D)."""

    def __init__(self, width: int, channels: int, hidden: int = 2048, generator: torch.Generator | None = None):
        super().__init__(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, channels)
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)


def features_as_tokens(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Teacher features (N, D, h, w) as tokens (N, T, D) on the SiT's token grid, row by row.

    Another grid is resampled bilinearly (with antialiasing), which REPA avoids by choosing the teacher's input size.
    """
    if features.shape[-2:] != grid:
        features = F.interpolate(features, grid, mode="bilinear", antialias=True, align_corners=False)
    return features.flatten(2).transpose(1, 2)


def alignment_loss(projected: Tensor, features: Tensor) -> Tensor:
    """-mean cosine similarity between projected tokens and teacher tokens, both (N, T, D); in [-1, 1]."""
    return -F.cosine_similarity(projected.float(), features.float(), dim=-1).mean()
