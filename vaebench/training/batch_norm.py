"""Batch normalisation of latents, as REPA-E (arXiv 2504.10483) puts it between tokenizer and diffusion model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaebench.tokenizers.base import LatentNormalisation
from vaebench.training.collectives import mean_with_graph


class LatentBatchNorm(nn.Module):
    """y = (x - mean) / sqrt(variance + eps) per channel of latents N x d x h x w, without affine part.

    In training mean and variance are the batch's, and running ones follow them as in `nn.BatchNorm2d` (their variance
    with Bessel's correction); in evaluation the running ones are used. With several processes the statistics, and the
    gradients through them, are those of the batch of all processes; accumulated parts of a batch are normalised one by
    one.

    Args:
        channels: d.
        eps, momentum: as in `nn.BatchNorm2d`; the defaults are REPA-E's.
        initial: running statistics to begin with; None: mean 0 and variance 1.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(
        self, channels: int, eps: float = 1e-4, momentum: float = 0.1, initial: LatentNormalisation | None = None
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        mean, variance = torch.zeros(channels), torch.ones(channels)
        if initial is not None:
            mean, variance = torch.tensor(initial.shift), 1 / torch.tensor(initial.scale).square()
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, latents: Tensor) -> Tensor:
        if not self.training:
            return self.by_running(latents)
        mean, variance = self.statistics(latents)
        self.update(mean, variance, latents)
        return self.by(mean, variance, latents)

    def by_running(self, latents: Tensor) -> Tensor:
        """Latents normalised by the running statistics, whatever the mode."""
        # Copies, since autograd keeps them, and the next update writes into the buffers.
        return self.by(self.mean.clone(), self.variance.clone(), latents)

    def by(self, mean: Tensor, variance: Tensor, latents: Tensor) -> Tensor:
        """Latents normalised by these statistics, (d,) each."""
        return (latents - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]

    def statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and (biased) variance of every channel, (d,), over the batch of all processes; with graph."""
        mean = mean_with_graph(latents.mean((0, 2, 3)))
        return mean, mean_with_graph((latents - mean[:, None, None]).square().mean((0, 2, 3)))

    @torch.no_grad()
    def begin(self, mean: Tensor, variance: Tensor) -> None:
        """Take these as running statistics if no batch has been seen yet."""
        first = (self.batches == 0).to(mean.dtype)
        self.mean.lerp_(mean, first)
        self.variance.lerp_(variance, first)

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, latents: Tensor) -> None:
        """Move the running statistics towards those of these latents by the momentum."""
        processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        count = processes * latents.shape[0] * latents.shape[2] * latents.shape[3]
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        self.batches += 1

    def normalisation(self, source: str) -> LatentNormalisation:
        """The running statistics as a normalisation of latents, without eps: scale = 1 / sqrt(variance)."""
        return LatentNormalisation.from_statistics(self.mean.tolist(), self.variance.sqrt().tolist(), source)
