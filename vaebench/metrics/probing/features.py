"""From latents to the features of a probe: vectorisation and standardisation, fitted on the training split alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import scipy.linalg
import torch
from torch import Tensor

from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.metrics.probing.rows import ArrayLike, Rows

Vectorisation = Literal["flattened", "pooled", "pca"]


@dataclass(frozen=True)
class Features:
    """A fitted map from latents to standardised features.

    Attributes:
        transform: block of latents (rows, ...) -> features (rows, width).
        width: number of features.
        constant: features of the training split without variation, which are set to zero.
    """

    transform: Callable[[Tensor], Tensor]
    width: int
    constant: int

    def rows(self, latents: ArrayLike, device: str) -> Rows:
        return Rows(latents, self.transform, self.width, device)


def fit_features(latents: ArrayLike, vectorisation: Vectorisation, components: int, device: str = "cpu") -> Features:
    """Fit the features of a probe on training latents.

    - ``flattened``: every latent value is a feature (d h w of them), as in the Send-VAE paper.
    - ``pooled``: the mean over positions (d features).
    - ``pca``: the leading principal components of the standardised flattened latents, so that tokenizers of different
      latent size are compared at the same dimension. From all training samples, by the eigenvectors of the smaller of
      the covariance and the Gram matrix.

    All are standardised by mean and standard deviation (divisor n) of the training split. Features without variation
    are set to zero.

    Args:
        latents: (n, d, h, w), or (n, d) for ``flattened`` and ``pca``. May be larger than memory.
        vectorisation: see above.
        components: number of principal components.
        device: torch device.

    Raises:
        NumericalError: NaN, infinity, or no variation at all in the latents.
        TooFewSamples: fewer than two samples, or not more samples than components.
        DataError: latents without positions to pool over.
    """
    if latents.shape[0] < 2:
        raise TooFewSamples(f"A probe needs at least 2 training samples, got {latents.shape[0]}.")
    rows = Rows(latents, _flatten, device=device)
    if vectorisation == "pooled":
        if len(latents.shape) < 3:
            raise DataError(f"Latents of shape {latents.shape} have no positions to pool over.", "Use 'flattened'.")
        rows = Rows(latents, _pool, latents.shape[1], device)
    standardised, constant = _standardised(rows)
    if vectorisation == "pca":
        if components >= latents.shape[0]:
            raise TooFewSamples(
                f"{components} principal components need more than {latents.shape[0]} training samples.",
                "Ask for fewer components.",
            )
        directions = _principal_directions(standardised, components)
        projected = standardised.map(lambda block: block @ directions.to(block.dtype), directions.shape[1])
        standardised, _ = _standardised(projected)
    return Features(standardised.transform, standardised.shape[1], constant)


def _flatten(block: Tensor) -> Tensor:
    return block.flatten(1)


def _pool(block: Tensor) -> Tensor:
    return block.flatten(2).mean(2)


def _standardised(rows: Rows) -> tuple[Rows, int]:
    mean, std = rows.mean_and_std()
    if not torch.isfinite(std).all():
        raise NumericalError("The latents hold NaN or infinity.", "Check the tokenizer or extract the latents again.")
    # A spread below the resolution of float32 is rounding, not variation.
    constant = std <= 1e-6 * mean.abs()
    if constant.all():
        raise NumericalError("The latents are constant: every sample has the same.", "Check the tokenizer.")
    scale = torch.where(constant, 0, 1 / std)
    return rows.map(lambda block: (block - mean.to(block.dtype)) * scale.to(block.dtype)), int(constant.sum())


def _principal_directions(rows: Rows, components: int) -> Tensor:
    n, width = rows.shape
    if n >= width:
        return _leading(rows.gram(), components)[1].float()
    everything = rows.to_tensor(torch.float32)
    values, vectors = _leading((everything @ everything.T).double(), components)
    return everything.T @ (vectors / values.sqrt()).float()


def _leading(symmetric: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues and their vectors, at most ``count``, without those that rounding cannot tell from 0."""
    size = len(symmetric)
    values, vectors = scipy.linalg.eigh(symmetric.cpu().numpy(), subset_by_index=(max(size - count, 0), size - 1))
    real = values > 1e-6 * values[-1]
    values, vectors = (torch.from_numpy(found[..., real][..., ::-1].copy()) for found in (values, vectors))
    return values.to(symmetric.device), vectors.to(symmetric.device)
