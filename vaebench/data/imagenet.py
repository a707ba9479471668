"""ImageNet-1k (Russakovsky et al. 2015) as a tree of folders.

Layout of ``root``::

    train/n01440764/n01440764_10026.JPEG ...      1,281,167 images in 1,000 folders
    val/n01440764/ILSVRC2012_val_00000293.JPEG ...     50,000 images in the same folders

``val`` is the test split here; the validation split is a share of ``train``, which generation then does without. Crop
and resize are ADM's, on every side alike.
"""

from typing import ClassVar

import numpy as np
from pydantic import Field

from vaebench.core.errors import DataError
from vaebench.core.seeds import seed_of
from vaebench.data.base import DataInfo
from vaebench.data.folder import SUFFIXES
from vaebench.data.listed import ListedConfig, ListedSource, Listing
from vaebench.data.source import SourceConfig


class ImageNetConfig(ListedConfig):
    """As `ListedConfig`. ``validation_fraction`` of the training images, by a hash of their names, are held out; with 0
    all are trained on, and probes have no split to choose on."""

    image_size: int = 256
    validation_fraction: float = Field(0.01, ge=0, lt=1)


class ImageNet(ListedSource):
    """Source that reads the folders."""

    Config: ClassVar[type[SourceConfig]] = ImageNetConfig
    summary = "ImageNet-1k, 1,000 classes; reads a tree of train/ and val/"
    layout = ("train", "val")
    published = {"train": 1_281_167, "validation": 0, "test": 50_000, "classes": 1000}
    remedy = (
        "Get ILSVRC2012 from https://image-net.org (registration), unpack train and val with a folder per class (val "
        "is sorted by the devkit's labels), and give the folder that holds both as 'root'."
    )

    @classmethod
    def _published_parts(cls, config: ImageNetConfig) -> dict[str, int]:
        held = round(config.validation_fraction * cls.published["train"])
        return {**cls.published, "train": cls.published["train"] - held, "validation": held}

    def listings(self) -> dict[str, Listing]:
        folders = {
            name: sorted(p.name for p in (self.config.root / name).iterdir() if p.is_dir()) for name in self.layout
        }
        self._classes = tuple(folders["train"])
        strangers = sorted(set(folders["val"]) - set(self._classes))
        if not self._classes or strangers:
            said = f"classes of val that train lacks: {', '.join(strangers[:5])}" if strangers else "no class folders"
            raise DataError(f"'{self.config.root}' has {said}.", self.remedy)
        train, test = (
            [f"{name}/{c}/{file}" for c in folders[name] for file in self._images(name, c)] for name in self.layout
        )
        held = [
            seed_of(self.config.seed, "validation", path) / 2**63 < self.config.validation_fraction for path in train
        ]
        parts = {
            "train": [path for path, out in zip(train, held, strict=True) if not out],
            "validation": [path for path, out in zip(train, held, strict=True) if out],
            "test": test,
        }
        place = {name: index for index, name in enumerate(self._classes)}
        return {
            split: Listing(paths, np.array([place[path.split("/")[1]] for path in paths], np.int64))
            for split, paths in parts.items()
        }

    def _images(self, split: str, name: str) -> list[str]:
        folder = self.config.root / split / name
        return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)

    def describe(self) -> DataInfo:
        return DataInfo(
            name="imagenet", image_size=self.config.image_size, classes=self._classes,
            licence="non-commercial research (image-net.org terms)",
            source="https://image-net.org (Russakovsky et al. 2015)",
        )  # fmt: skip
