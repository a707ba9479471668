"""PatchGAN discriminator (Isola et al., arXiv 1611.07004)."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from vaebench.core.errors import DataError

Norm = Literal["batch", "none"]


class PatchDiscriminator(nn.Module):
    """4 x 4 convolutions that give one logit per overlapping patch.

    One strided convolution without norm, ``layers - 1`` strided ones and one unstrided with norm, each followed by
    LeakyReLU(0.2), and an unstrided one to a single channel. Channels double up to eight times the first. With 3
    layers a logit sees 70 x 70 pixels and images of 24 x 24 or more are needed.

    Batch norm uses the statistics of the batch it is given (that of one process and accumulation step), never running
    ones; with norm "none" the result does not depend on how the global batch is split.
    """

    def __init__(self, channels: int = 64, layers: int = 3, norm: Norm = "batch", image_channels: int = 3) -> None:
        super().__init__()
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(image_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, (width_in, width_out) in enumerate(pairwise(widths)):
            stride = 2 if i < layers - 1 else 1
            blocks.append(nn.Conv2d(width_in, width_out, 4, stride, 1, bias=norm == "none"))
            if norm == "batch":
                blocks.append(nn.BatchNorm2d(width_out, track_running_stats=False))
            blocks.append(nn.LeakyReLU(0.2))
        blocks.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.blocks = nn.Sequential(*blocks)
        self.minimum_size = 3 * 2**layers
        for block in self.blocks:
            if isinstance(block, nn.Conv2d):
                nn.init.normal_(block.weight, 0.0, 0.02)
                if block.bias is not None:
                    nn.init.zeros_(block.bias)
            elif isinstance(block, nn.BatchNorm2d):
                nn.init.normal_(block.weight, 1.0, 0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Images N x 3 x H x W in [-1, 1] to logits N x 1 x h x w; large means real."""
        if min(images.shape[-2:]) < self.minimum_size:
            raise DataError(
                f"Images of {images.shape[-2]} x {images.shape[-1]} are too small for this discriminator, which needs "
                f"{self.minimum_size} x {self.minimum_size}.",
                "Lower gan.layers.",
            )
        return self.blocks(images.contiguous(memory_format=torch.channels_last))
