"""A frozen network, usable as a teacher and for Fréchet distances: colours and edges of patches, no training."""

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from vaebench.core.config import Config
from vaebench.vision.base import Features, FrozenNetwork


class ColoursConfig(Config):
    """Settings: side of the patch grid, whose patches have 4 x 4 pixels."""

    grid: int = Field(default=8, gt=0)


class Colours(FrozenNetwork):
    """Per patch: mean colour, and mean absolute differences along rows and columns, of each channel (D = 9)."""

    Config = ColoursConfig
    summary = "mean colours and edges of patches, no weights"

    def __init__(self, config: ColoursConfig) -> None:
        super().__init__()
        self.name = "example-colours"
        self.input_size = 4 * config.grid
        self.weights_hash = "none"  # SHA-256 of the weights, of a network that has some
        self.settle()

    def features(self, images: Tensor) -> Features:
        # A network does its own resizing and normalising; images come as floats in [0, 1] of any size.
        images = functional.interpolate(images, (self.input_size, self.input_size), mode="bilinear", antialias=True)
        rows = functional.pad(images.diff(dim=2).abs(), (0, 0, 0, 1))
        columns = functional.pad(images.diff(dim=3).abs(), (0, 1, 0, 0))
        patches = functional.avg_pool2d(images, 4)
        edges = [functional.avg_pool2d(part, 4) for part in (rows, columns)]
        maps = images.new_empty(len(images), 9, *patches.shape[2:])
        for start, part in zip((0, 3, 6), (patches, *edges), strict=True):
            maps[:, start : start + 3] = part
        return Features(maps, maps.mean((2, 3)))
