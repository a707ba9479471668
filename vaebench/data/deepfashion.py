"""DeepFashion, Category and Attribute Prediction Benchmark (Liu et al. 2016): 289,222 images of clothes.

Layout of ``root``, as its archives unpack::

    img/...                                     (or Img/img/...)
    Anno_coarse/list_attr_cloth.txt             count, header, then a name and a type (1..5) a line: 1,000 attributes
    Anno_coarse/list_attr_img.txt               count, header, then a path and 1,000 values of -1, 0, 1 a line
    Anno_coarse/list_category_cloth.txt         50 categories
    Anno_coarse/list_category_img.txt           path and category
    Eval/list_eval_partition.txt                path and train, val or test
    Anno_fine/list_attr_cloth.txt, train.txt, train_attr.txt, train_cate.txt, val..., test...     26 attributes

``attributes: coarse`` are the 1,000, of which unknown ones (0) count as absent; ``fine`` are the 26 clean ones.
"""

from typing import ClassVar, Literal

import numpy as np

from vaebench.core.errors import DataError
from vaebench.data.base import DataInfo
from vaebench.data.listed import ListedConfig, ListedSource, Listing, attribute_table, read_lines, read_records
from vaebench.data.source import SourceConfig

OFFICIAL = {"train": "train", "val": "validation", "test": "test"}


class DeepFashionConfig(ListedConfig):
    """As `ListedConfig`. ``attributes``: the 1,000 coarse ones of the paper, or the 26 fine ones."""

    image_size: int = 256
    attributes: Literal["coarse", "fine"] = "coarse"


class DeepFashion(ListedSource):
    """Source that reads the official files."""

    Config: ClassVar[type[SourceConfig]] = DeepFashionConfig
    summary = "DeepFashion Category and Attribute: 1,000 coarse or 26 fine attributes; reads the official files"
    published = {"train": 209_222, "validation": 40_000, "test": 40_000, "classes": 50, "attributes": 1000}
    remedy = (
        "Ask for the Category and Attribute Prediction Benchmark at "
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html, unpack img.zip (password from its authors), "
        "Anno_coarse, Anno_fine and Eval, and give the folder that holds them as 'root'."
    )

    @classmethod
    def _published_parts(cls, config: DeepFashionConfig) -> dict[str, int]:
        fine = {"train": 14_000, "validation": 2_000, "test": 4_000, "attributes": 26}
        return {**cls.published, **fine} if config.attributes == "fine" else cls.published

    def listings(self) -> dict[str, Listing]:
        self._categories = tuple(
            line[0] for line in read_lines(self.file("Anno_coarse/list_category_cloth.txt"), header=2)
        )
        found = self._fine() if self.config.attributes == "fine" else self._coarse()
        if not (self.config.root / "img").is_dir():
            inner = {
                split: Listing([f"Img/{p}" for p in item.paths], item.labels, item.attributes)
                for split, item in found.items()
            }
            return inner if (self.config.root / "Img" / "img").is_dir() else found
        return found

    def _coarse(self) -> dict[str, Listing]:
        file = self.file("Anno_coarse/list_attr_img.txt")
        self._names = _names(read_lines(self.file("Anno_coarse/list_attr_cloth.txt"), header=2))
        place, values = attribute_table(file, len(self._names), header=2)
        file = self.file("Anno_coarse/list_category_img.txt")
        category = {path: number - 1 for path, number in read_records(file, str, int, header=2)}
        found: dict[str, list[str]] = {split: [] for split in OFFICIAL.values()}
        for path, part in read_records(self.file("Eval/list_eval_partition.txt"), str, str, header=2):
            if part not in OFFICIAL:
                raise DataError(
                    f"Eval/list_eval_partition.txt puts {path} into '{part}'; train, val and test are known."
                )
            if path not in place or path not in category:
                raise DataError(f"Eval/list_eval_partition.txt names {path}, which the annotations lack.", self.remedy)
            found[OFFICIAL[part]].append(path)
        return {
            split: Listing(paths, np.array([category[p] for p in paths], np.int64), values[[place[p] for p in paths]])
            for split, paths in found.items()
        }

    def _fine(self) -> dict[str, Listing]:
        self._names = _names(read_lines(self.file("Anno_fine/list_attr_cloth.txt"), header=2))
        found = {}
        for part, split in OFFICIAL.items():
            paths = [line[0] for line in read_lines(self.file(f"Anno_fine/{part}.txt"))]
            file = self.file(f"Anno_fine/{part}_attr.txt")
            _, values = attribute_table(file, len(self._names), named=False)
            categories = read_records(self.file(f"Anno_fine/{part}_cate.txt"), int)
            labels = np.array([number - 1 for (number,) in categories], np.int64)
            if not len(paths) == len(values) == len(labels):
                raise DataError(
                    f"Anno_fine/{part}*.txt have {len(paths)} images, {len(values)} rows of attributes and "
                    f"{len(labels)} categories.", self.remedy,
                )  # fmt: skip
            found[split] = Listing(paths, labels, values)
        return found

    def describe(self) -> DataInfo:
        return DataInfo(
            name="deepfashion", image_size=self.config.image_size, classes=self._categories, attributes=self._names,
            attribute_level="image", licence="non-commercial research",
            source="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html (Liu et al. 2016)",
        )  # fmt: skip


def _names(lines: list[list[str]]) -> tuple[str, ...]:
    """Attribute names, which may hold spaces, without the type number that ends each line."""
    return tuple(" ".join(line[:-1]) for line in lines)
