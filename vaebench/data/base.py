"""The contract of an image data set: what it holds, and how its pixels are read."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from vaebench.core.errors import DataError, UnknownName, suggest

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Factor:
    """A generative factor: its name and the names of its values, in the order of their integers."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class DataInfo:
    """What a data set is.

    Attributes:
        name: registered name of its source.
        image_size: images are 3 x image_size x image_size.
        classes: names of the class labels; empty without labels.
        attributes: names of the binary attributes, in the order of the columns.
        attribute_level: whether attributes differ between images of one class ("image") or not ("class").
        factors: generative factors, in the order of the columns.
        fingerprint: hash of the configuration, the versions of what drew the images, and every byte of the content.
        licence: of the images.
        source: where they come from.
        nuisance: names of the recorded continuous nuisance variables.
    """

    name: str
    image_size: int
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    attribute_level: Literal["image", "class"] | None = None
    factors: tuple[Factor, ...] = ()
    fingerprint: str = ""
    licence: str = "unknown"
    source: str = ""
    nuisance: tuple[str, ...] = ()

    def to_json(self) -> str:
        """JSON text that ``from_json`` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "DataInfo":
        """The description written by ``to_json``.

        Raises:
            DataError: the text is not such a description.
        """
        try:
            values = json.loads(text)
            factors = tuple(Factor(f["name"], tuple(f["values"])) for f in values.pop("factors"))
            plain: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
            }
            for key in ("classes", "attributes", "nuisance"):
                if not all(isinstance(name, str) for name in plain.get(key, ())):
                    raise TypeError(f"'{key}' must be names")
            return cls(factors=factors, **plain)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"Not a data set description: {error}.") from error


class ImageSplit(ABC):
    """One split. Row i of every array belongs to the sample with the global id ``ids[i]``.

    Attributes:
        name: "train", "validation" or "test".
        ids: int64 (N,), unique across the splits of a data set.
        labels: int64 (N,), class labels, or None.
        attributes: uint8 (N, A) of 0 and 1, or None.
        factors: int16 (N, K), or None.
        nuisance: float32 (N, M), or None.
    """

    name: str
    ids: np.ndarray
    labels: np.ndarray | None
    attributes: np.ndarray | None
    factors: np.ndarray | None
    nuisance: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def images(self, indices: np.ndarray | slice) -> np.ndarray:
        """uint8 (n, 3, H, W) of the rows ``indices``, in the order asked for; repeats are allowed."""

    @abstractmethod
    def masks(self, indices: np.ndarray | slice) -> np.ndarray | None:
        """uint8 (n, H, W), 1 on the foreground and 0 on the background; None where the data set has no masks."""

    def in_memory(self) -> np.ndarray:
        """All images as one array, uint8 (N, 3, H, W). Takes 3 N H W bytes."""
        return self.images(slice(None))


class ImageDataset(ABC):
    """A data set: its description and its splits."""

    info: DataInfo
    splits: Mapping[str, ImageSplit]

    def split(self, name: str) -> ImageSplit:
        """The split of that name.

        Raises:
            UnknownName: the data set has no such split.
        """
        if name not in self.splits:
            raise UnknownName(f"Data set '{self.info.name}' has no split '{name}'.", suggest(name, self.splits))
        return self.splits[name]
