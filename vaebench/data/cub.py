"""Caltech-UCSD Birds-200-2011 (Wah et al. 2011): 11,788 images of 200 birds with 312 attributes per image.

Layout of ``root`` (CUB_200_2011.tgz unpacks to CUB_200_2011 and attributes.txt)::

    images.txt                                  number and path a line
    image_class_labels.txt, classes.txt         number and class; number and name
    train_test_split.txt                        number and 1 (train) or 0 (test)
    attributes/image_attribute_labels.txt       image, attribute, present (0 or 1), certainty, seconds
    images/001.Black_footed_Albatross/...
    attributes.txt                              (or ../attributes.txt) number and name

The validation split is a share of the official training images, by a hash of their names.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from vaebench.core.errors import DataError, MissingPath
from vaebench.core.seeds import seed_of
from vaebench.data.base import SPLITS, DataInfo
from vaebench.data.listed import ListedConfig, ListedSource, Listing, bad_line, read_records
from vaebench.data.source import SourceConfig

VALUES = "attributes/image_attribute_labels.txt"


class CUBConfig(ListedConfig):
    """As `ListedConfig`. ``validation_fraction`` of the official training images are held out."""

    image_size: int = 256
    validation_fraction: float = Field(0.1, gt=0, lt=1)


class CUB(ListedSource):
    """Source that reads the official files."""

    Config: ClassVar[type[SourceConfig]] = CUBConfig
    summary = "CUB-200-2011: 200 birds with 312 attributes per image; reads the official files"
    images = "images"
    published = {"train": 5_994, "validation": 0, "test": 5_794, "classes": 200, "attributes": 312}
    layout = (images, "images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt", VALUES)
    remedy = (
        "Get CUB_200_2011.tgz from https://www.vision.caltech.edu/datasets/cub_200_2011/, unpack it, and give "
        "the folder CUB_200_2011 as 'root' (attributes.txt may lie in it or beside it)."
    )

    @classmethod
    def _published_parts(cls, config: CUBConfig) -> dict[str, int]:
        held = round(config.validation_fraction * cls.published["train"])
        return {**cls.published, "train": cls.published["train"] - held, "validation": held}

    def watched(self) -> dict[str, Path]:
        beside = self.config.root.parent / "attributes.txt"
        return {"../attributes.txt": beside} if beside.is_file() else {}

    def listings(self) -> dict[str, Listing]:
        root = self.config.root
        names = next((p for p in (root / "attributes.txt", root.parent / "attributes.txt") if p.is_file()), None)
        if names is None:
            raise MissingPath(f"attributes.txt is neither in '{root}' nor beside it.", self.remedy)
        self._names = tuple(name for _, name in read_records(names, int, str))
        self._classes = tuple(name for _, name in read_records(self.file("classes.txt"), int, str))
        paths = dict(read_records(self.file("images.txt"), int, str))
        labels = {number: label - 1 for number, label in read_records(self.file("image_class_labels.txt"), int, int)}
        training = {number: part == 1 for number, part in read_records(self.file("train_test_split.txt"), int, int)}
        values = self._values({number: row for row, number in enumerate(paths)})
        parts: dict[str, list[int]] = {split: [] for split in SPLITS}
        for number, path in paths.items():
            if number not in labels or number not in training:
                raise DataError(f"Image {number} ({path}) has no class or no split.", self.remedy)
            held = seed_of(self.config.seed, "validation", path) / 2**63 < self.config.validation_fraction
            parts["test" if not training[number] else "validation" if held else "train"].append(number)
        place = {number: row for row, number in enumerate(paths)}
        return {
            split: Listing(
                [paths[n] for n in numbers],
                np.array([labels[n] for n in numbers], np.int64),
                values[[place[n] for n in numbers]],
            )
            for split, numbers in parts.items()
        }

    def _values(self, place: dict[int, int]) -> np.ndarray:
        file = self.file(VALUES)
        values = np.full((len(place), len(self._names)), 255, np.uint8)
        with file.open(encoding="utf-8", errors="replace") as lines:
            # 3.7 million of them; a few have fields too many, so only the first three are read.
            for count, line in enumerate(lines, 1):
                try:
                    image, attribute, present = map(int, line.split(maxsplit=3)[:3])
                except ValueError as error:
                    raise bad_line(file, count, line.strip()) from error
                if image not in place or not 1 <= attribute <= len(self._names) or present not in (0, 1):
                    raise DataError(
                        f"{file}, line {count}, says '{line.strip()}' of an image or attribute that there is not.",
                        self.remedy,
                    )
                values[place[image], attribute - 1] = present
        lacking = int((values == 255).any(1).sum())
        if lacking:
            raise DataError(f"{file} leaves attributes of {lacking} image(s) out.", self.remedy)
        return values

    def describe(self) -> DataInfo:
        return DataInfo(
            name="cub", image_size=self.config.image_size, classes=self._classes, attributes=self._names,
            attribute_level="image", licence="non-commercial research",
            source="https://www.vision.caltech.edu/datasets/cub_200_2011/ (Wah et al. 2011)",
        )  # fmt: skip
