"""A data set that is drawn: stripes of a colour, a direction and a width on grey."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from vaebench.core.seeds import numpy_generator
from vaebench.data.base import DataInfo, Factor
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig

FACTORS = (
    Factor("colour", ("red", "green", "blue")),
    Factor("direction", ("horizontal", "vertical", "diagonal")),
    Factor("width", ("thin", "thick")),
)
ATTRIBUTES = ("red", "vertical", "thick")


class StripesConfig(SourceConfig):
    """Settings: how many images each split has, and the seed by which their factors and phases are drawn."""

    train: int = Field(default=512, gt=0)
    validation: int = Field(default=128, gt=0)
    test: int = Field(default=128, gt=0)
    seed: int = 0


class Stripes(ImageSource):
    """Classes are the directions; the mask marks the stripes."""

    Config: ClassVar[type[SourceConfig]] = StripesConfig
    summary = "coloured stripes with three factors; drawn, no files"
    has_masks = True

    def __init__(self, config: StripesConfig) -> None:
        super().__init__(config)
        self._plans: dict[str, Plan] = {}

    def version(self) -> str:
        return "1"

    def describe(self) -> DataInfo:
        return DataInfo(
            name="example-stripes", image_size=self.config.image_size, classes=FACTORS[1].values, attributes=ATTRIBUTES,
            attribute_level="image", factors=FACTORS, licence="CC0-1.0", source="drawn by vaebench-example",
        )  # fmt: skip

    def plan(self) -> dict[str, Plan]:
        first = 0
        for split in ("train", "validation", "test"):
            n = getattr(self.config, split)
            draw = numpy_generator(self.config.seed, "stripes", split)
            factors = np.stack([draw.integers(len(f.values), size=n) for f in FACTORS], 1).astype(np.int16)
            attributes = np.stack([factors[:, 0] == 0, factors[:, 1] == 1, factors[:, 2] == 1], 1).astype(np.uint8)
            ids = np.arange(first, first + n)  # unique over all splits
            self._plans[split] = Plan(ids, factors[:, 1].astype(np.int64), attributes, factors)
            first += n
        return self._plans

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        factors, ids = self._plans[split].factors, self._plans[split].ids
        assert factors is not None
        size = self.config.image_size
        images = np.full((stop - start, 3, size, size), 128, np.uint8)
        masks = np.zeros((stop - start, size, size), np.uint8)
        rows, columns = np.indices((size, size))
        for row, (colour, direction, width) in enumerate(factors[start:stop]):
            # What is drawn for an image depends on its id alone, not on the order in which images are asked for.
            phase = numpy_generator(self.config.seed, "phase", int(ids[start + row])).integers(size)
            period = max(2, size // (4 if width else 8))
            place = np.stack([rows, columns, rows + columns])[direction] + phase
            mask = place % period < period // 2
            images[row, :, mask] = np.eye(3, dtype=np.uint8)[colour] * 255
            masks[row] = mask
        return Drawn(images, masks)
