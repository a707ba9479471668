"""CelebA (Liu et al. 2015): 202,599 aligned faces of 10,177 people with 40 binary attributes.

Layout of ``root``::

    img_align_celeba/000001.jpg ...
    list_attr_celeba.txt          count, names, then a file name and 40 values of -1 or 1 a line
    list_eval_partition.txt       file name and 0 (train), 1 (validation) or 2 (test)
    identity_CelebA.txt           file name and identity; needed for labels: identity, and checked when there

No person is in two partitions, so that a probe cannot learn attributes by recognising people; this is checked.

``labels: identity`` is for telling people apart, and needs the same people in every split: only the official training
partition is used, and a tenth of its images each, by a hash of their names, are the validation and the test split.
"""

from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from vaebench.core.errors import DataError
from vaebench.core.seeds import seed_of
from vaebench.data.base import SPLITS, DataInfo
from vaebench.data.listed import ListedConfig, ListedSource, Listing, attribute_table, read_records
from vaebench.data.source import SourceConfig

ATTRIBUTES, PARTITION, IDENTITIES = "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"
HELD_OUT = 0.1  # of the images with identities, for the validation and for the test split


class CelebAConfig(ListedConfig):
    """As `ListedConfig`. ``labels``: none, or who is in the picture, with splits of their own (see the module)."""

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

    @classmethod
    def _published_parts(cls, config: CelebAConfig) -> dict[str, int]:
        if config.labels == "none":
            return cls.published
        held = round(HELD_OUT * cls.published["train"])
        return {**cls.published, "train": cls.published["train"] - 2 * held, "validation": held, "test": held}

    def listings(self) -> dict[str, Listing]:
        file = self.file(ATTRIBUTES)
        with file.open(encoding="utf-8", errors="replace") as lines:
            self._names = tuple(next(islice(lines, 1, None), "").split())
        if not self._names:
            raise DataError(f"{file} holds no attributes.", self.remedy)
        place, values = attribute_table(file, len(self._names), header=2)
        partition = dict(read_records(self.file(PARTITION), str, _partition))
        lacking = sorted(set(partition) - set(place))
        if lacking:
            raise DataError(f"{file} lacks {len(lacking)} image(s) of {PARTITION}, such as {lacking[0]}.", self.remedy)
        people = self._identities(partition)
        persons: list[int] = []
        if self.config.labels == "identity":
            partition = {name: self._share(name) for name, part in partition.items() if part == 0}
            persons = sorted({people[name] for name in partition})
        self._people = tuple(map(str, persons))
        number = {person: index for index, person in enumerate(persons)}
        found: dict[str, Listing] = {}
        for index, split in enumerate(SPLITS):
            paths = [name for name, part in partition.items() if part == index]
            labels = np.array([number[people[name]] for name in paths], np.int64) if persons else None
            found[split] = Listing(paths, labels, values[np.array([place[name] for name in paths], np.int64)])
        return found

    def _share(self, name: str) -> int:
        place = seed_of(self.config.seed, "identity", name) / 2**63
        return 2 if place < HELD_OUT else 1 if place < 2 * HELD_OUT else 0

    def _identities(self, partition: dict[str, int]) -> dict[str, int]:
        if self.config.labels == "none" and not (self.config.root / IDENTITIES).is_file():
            return {}
        people = dict(read_records(self.file(IDENTITIES), str, int))
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
            classes=self._people,
            licence="non-commercial research",
            source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Liu et al. 2015)",
        )  # fmt: skip


def _partition(field: str) -> int:
    if field not in ("0", "1", "2"):
        raise ValueError(f"'{field}' is no partition")
    return int(field)
