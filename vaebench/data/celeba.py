"""CelebA (Liu et al. 2015): 202,599 aligned faces of 10,177 people with 40 binary attributes.

Layout of ``root``::

    img_align_celeba/000001.jpg ...
    list_attr_celeba.txt          count, names, then a file name and 40 values of -1 or 1 a line
    list_eval_partition.txt       file name and 0 (train), 1 (validation) or 2 (test)
    identity_CelebA.txt           file name and identity; needed for labels: identity, and checked when there

No person is in two partitions, so that a probe cannot learn attributes by recognising people; this is checked.
"""

from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from vaebench.core.errors import DataError
from vaebench.data.base import SPLITS, DataInfo
from vaebench.data.listed import ListedConfig, ListedSource, Listing, attribute_table, read_lines
from vaebench.data.source import SourceConfig

ATTRIBUTES, PARTITION, IDENTITIES = "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"


class CelebAConfig(ListedConfig):
    """As `ListedConfig`. ``labels``: none, or who is in the picture (people of the training split only are classes)."""

    image_size: int = 256
    labels: Literal["none", "identity"] = "none"


class CelebA(ListedSource):
    """Source that reads the official files."""

    Config: ClassVar[type[SourceConfig]] = CelebAConfig
    summary = "CelebA: 202,599 faces with 40 attributes, split by person; reads the official files"
    images = "img_align_celeba"
    layout = (images, ATTRIBUTES, PARTITION)
    published = {"train": 162_770, "validation": 19_867, "test": 19_962, "attributes": 40}
    remedy = (
        "From https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html get img_align_celeba.zip (unpack it), "
        f"{ATTRIBUTES}, {PARTITION} and {IDENTITIES}, and give the folder that holds them as 'root'."
    )

    def listings(self) -> dict[str, Listing]:
        file = self.file(ATTRIBUTES)
        with file.open(encoding="utf-8", errors="replace") as lines:
            self._names = tuple(next(islice(lines, 1, None), "").split())
        if not self._names:
            raise DataError(f"{file} holds no attributes.", self.remedy)
        place, values = attribute_table(file, len(self._names), header=2)
        partition = {name: int(part) for name, part in read_lines(self.file(PARTITION))}
        lacking = sorted(set(partition) - set(place))
        if lacking:
            raise DataError(f"{file} lacks {len(lacking)} image(s) of {PARTITION}, such as {lacking[0]}.", self.remedy)
        people = self._identities(partition)
        self._people = (
            tuple(sorted({people[n] for n, part in partition.items() if part == 0}, key=int)) if people else ()
        )
        number = {person: index for index, person in enumerate(self._people)}
        found = {}
        for index, split in enumerate(SPLITS):
            paths = [name for name, part in partition.items() if part == index]
            labels = None
            if self.config.labels == "identity":
                paths = [name for name in paths if people[name] in number]
                labels = np.array([number[people[name]] for name in paths], np.int64)
            found[split] = Listing(paths, labels, values[np.array([place[name] for name in paths], np.int64)])
        return found

    def _identities(self, partition: dict[str, int]) -> dict[str, str]:
        if self.config.labels == "none" and not (self.config.root / IDENTITIES).is_file():
            return {}
        people = dict(read_lines(self.file(IDENTITIES)))
        parts: dict[str, int] = {}
        for name, part in partition.items():
            if name not in people:
                raise DataError(f"{IDENTITIES} does not say who is in {name}.", self.remedy)
            if parts.setdefault(people[name], part) != part:
                raise DataError(
                    f"Person {people[name]} is in two partitions ({name} is in {part}): probes would recognise people.",
                    f"Use the official {PARTITION}.",
                )
        return people

    def describe(self) -> DataInfo:
        return DataInfo(
            name="celeba", image_size=self.config.image_size, attributes=self._names, attribute_level="image",
            classes=self._people if self.config.labels == "identity" else (),
            licence="non-commercial research",
            source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Liu et al. 2015)",
        )  # fmt: skip
