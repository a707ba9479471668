"""Animals with Attributes 2 (Xian et al. 2018): 37,322 images of 50 animals; 85 attributes, the same for a whole class.

Layout of ``root`` (AwA2-data.zip unpacks to Animals_with_Attributes2)::

    JPEGImages/antelope/antelope_10001.jpg ...
    classes.txt, predicates.txt                 number and name a line
    predicate-matrix-binary.txt                 50 lines of 85 values of 0 or 1
    trainclasses.txt, testclasses.txt           40 and 10 names

Because attributes belong to classes, a split of *images* measures whether a probe recognises animals; a split of
*classes*, the data set's own, measures whether it reads attributes off animals that it has never seen.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from vaebench.core.errors import DataError
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import SPLITS, DataInfo
from vaebench.data.folder import SUFFIXES
from vaebench.data.listed import ListedConfig, ListedSource, Listing, attribute_table, read_lines
from vaebench.data.source import SourceConfig

MATRIX = "predicate-matrix-binary.txt"
DRAWS = 200
"""Of so many draws of validation classes that is taken in which most attributes occur both ways, in training as in
validation. Only those can be probed, and of a few classes drawn once many attributes have one value only."""


class AwA2Config(ListedConfig):
    """As `ListedConfig`.

    Attributes:
        split: images (of every class some in each split), or classes (test classes are unseen in training; the
            validation classes are drawn from the training classes, see `DRAWS`).
        validation_fraction, test_fraction: of the images of every class, or (validation only) of the training classes.
    """

    image_size: int = 256
    split: Literal["images", "classes"] = "images"
    validation_fraction: float = Field(0.1, gt=0, lt=0.5)
    test_fraction: float = Field(0.2, gt=0, lt=0.5)


class AwA2(ListedSource):
    """Source that reads the official files."""

    Config: ClassVar[type[SourceConfig]] = AwA2Config
    summary = "Animals with Attributes 2: 50 classes with 85 class-level attributes; split by images or unseen classes"
    images = "JPEGImages"
    published = {"train": 30_337, "validation": 0, "test": 6_985, "classes": 50, "attributes": 85}
    layout = (images, "classes.txt", "predicates.txt", MATRIX, "trainclasses.txt", "testclasses.txt")
    remedy = (
        "Get AwA2-data.zip from https://cvml.ista.ac.at/AwA2/, unpack it, and give the folder "
        "Animals_with_Attributes2 as 'root'."
    )

    @classmethod
    def _published_parts(cls, config: AwA2Config) -> dict[str, int]:
        parts = dict(cls.published)
        if config.split == "images":
            total = parts["train"] + parts["test"]
            parts |= {"train": total, "test": round(config.test_fraction * total)}
            parts["train"] -= parts["test"]
            parts["validation"] = round(config.validation_fraction * total)
        else:
            parts["validation"] = round(config.validation_fraction * parts["train"])
        parts["train"] -= parts["validation"]
        return parts

    def listings(self) -> dict[str, Listing]:
        self._classes = tuple(line[-1] for line in read_lines(self.file("classes.txt")))
        self._names = tuple(line[-1] for line in read_lines(self.file("predicates.txt")))
        file = self.file(MATRIX)
        _, matrix = attribute_table(file, len(self._names), named=False)
        if len(matrix) != len(self._classes):
            raise DataError(
                f"{file} has {len(matrix)} rows for {len(self._classes)} classes: attributes are given per class here.",
                self.remedy,
            )
        images = {name: self._images(name) for name in self._classes}
        number = {name: index for index, name in enumerate(self._classes)}
        attributes = {name: matrix[index] for name, index in number.items()}
        parts = self._by_classes(images, attributes) if self.config.split == "classes" else self._by_images(images)
        found: dict[str, Listing] = {}
        for split in SPLITS:
            labels = np.array([number[path.split("/")[0]] for path in parts[split]], np.int64)
            found[split] = Listing(parts[split], labels, matrix[labels])
        return found

    def _images(self, name: str) -> list[str]:
        folder = self.config.root / self.images / name
        if not folder.is_dir():
            raise DataError(f"classes.txt names '{name}', and '{folder}' is no folder.", self.remedy)
        return [f"{name}/{path.name}" for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]

    def _by_images(self, images: dict[str, list[str]]) -> dict[str, list[str]]:
        cfg = self.config
        parts: dict[str, list[str]] = {split: [] for split in SPLITS}
        for name, paths in images.items():
            order = numpy_generator(cfg.seed, "awa2", name).permutation(len(paths))
            test, validation = round(cfg.test_fraction * len(paths)), round(cfg.validation_fraction * len(paths))
            edges = {"test": order[:test], "validation": order[test:][:validation], "train": order[test + validation :]}
            for split, rows in edges.items():
                parts[split] += [paths[row] for row in sorted(rows)]
        return parts

    def _by_classes(self, images: dict[str, list[str]], attributes: dict[str, np.ndarray]) -> dict[str, list[str]]:
        seen, unseen = ([line[0] for line in read_lines(self.file(f"{part}classes.txt"))] for part in ("train", "test"))
        strangers = (set(seen) | set(unseen)) - set(images)
        if strangers or set(seen) & set(unseen):
            wrong = ", ".join(sorted(strangers or set(seen) & set(unseen)))
            raise DataError(f"trainclasses.txt and testclasses.txt do not divide classes.txt: {wrong}.", self.remedy)
        count = max(1, round(self.config.validation_fraction * len(seen)))
        generator, names = numpy_generator(self.config.seed, "awa2 classes"), sorted(seen)
        draws = [generator.permutation(names)[:count].tolist() for _ in range(DRAWS)]

        def probed(held: list[str]) -> int:
            sides = (held, [name for name in names if name not in held])
            return int(
                np.logical_and.reduce([np.ptp([attributes[n] for n in side], axis=0) > 0 for side in sides]).sum()
            )

        held = max(draws, key=probed)
        chosen = {"train": [c for c in seen if c not in held], "validation": sorted(held), "test": unseen}
        return {split: [path for name in names for path in images[name]] for split, names in chosen.items()}

    def describe(self) -> DataInfo:
        return DataInfo(
            name="awa2", image_size=self.config.image_size, classes=self._classes, attributes=self._names,
            attribute_level="class", licence="per image, see AwA2's licences folder",
            source="https://cvml.ista.ac.at/AwA2/ (Xian et al. 2018)",
        )  # fmt: skip
