"""Helpers for objectives that align latents with teacher features: one grid for both, and cosine similarity."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from vaebench.core.errors import MismatchError

ResampleRule = Literal["bilinear", "average", "refuse"]


def resample_features(features: Tensor, grid: tuple[int, int], rule: ResampleRule = "bilinear") -> Tensor:
    """Teacher patches N x D x h x w on another grid, N x D x grid.

    Args:
        rule: "bilinear": bilinear interpolation of patch centres, antialiased when the grid shrinks (so every patch
            counts); "average": mean of the patches that each cell touches (adaptive average pooling);
            "refuse": MismatchError unless the grids are equal. Equal grids leave the features as they are.
    """
    if tuple(features.shape[2:]) == tuple(grid):
        return features
    if rule == "refuse":
        h, w = features.shape[2:]
        raise MismatchError(
            f"The teacher's features are {h} x {w} and the latents {grid[0]} x {grid[1]}.",
            "Give the teacher an input size with a matching grid, or set resample to bilinear or average.",
        )
    if rule == "average":
        return functional.adaptive_avg_pool2d(features, grid)
    return functional.interpolate(features, grid, mode="bilinear", align_corners=False, antialias=True)


def patch_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity over channels of each patch: two N x D x h x w to N x h x w, in float32."""
    return functional.cosine_similarity(a.float(), b.float(), dim=1)
