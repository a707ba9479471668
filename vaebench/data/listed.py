"""Published data sets of image files with annotation files: what they share."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from vaebench.core.errors import DataError, MissingPath, some
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import SPLITS
from vaebench.data.folder import read_image
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig
from vaebench.vision.transforms import centre_crop_resize


class ListedConfig(SourceConfig):
    """What these data sets have in common.

    Attributes:
        image_size: images are cropped and resized to it (``vision.transforms.centre_crop_resize``, as ADM does).
        root: the folder described in the data set's module.
        train, validation, test: images of each split at most, drawn by ``seed``; 0 for all.
    """

    root: Path
    train: int = Field(0, ge=0)
    validation: int = Field(0, ge=0)
    test: int = Field(0, ge=0)
    seed: int = 0


@dataclass(frozen=True)
class Listing:
    """A split as its annotation files describe it, in their order: paths below the root, and what they say of them."""

    paths: Sequence[str]
    labels: np.ndarray | None = None
    attributes: np.ndarray | None = None


class ListedSource(ImageSource):
    """A source whose splits are lists of image files. Subclasses write ``listings`` and ``describe``.

    Class attributes:
        images: folder below the root that paths start from.
        layout: files and folders that the root must hold; a missing one is named with ``remedy``.
        published: how many images each official split has, and how many classes and attributes there are.
    """

    Config: ClassVar[type[SourceConfig]] = ListedConfig
    files = ("root",)
    images: ClassVar[str] = "."
    layout: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[dict[str, int]] = {}

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._paths: dict[str, list[str]] = {}

    @classmethod
    def expected(cls, config: Any) -> dict[str, int]:
        """What the data will hold by their publication, for estimates before they are there: images of each split, and
        ``classes`` and ``attributes`` where there are any. Empty where the publication does not say."""
        parts = cls._published_parts(config)
        wanted: dict[str, int] = {split: getattr(config, split) for split in SPLITS}
        return {name: min(count, wanted.get(name) or count) for name, count in parts.items()}

    @classmethod
    def _published_parts(cls, config: Any) -> dict[str, int]:
        return cls.published

    @abstractmethod
    def listings(self) -> dict[str, Listing]:
        """Split -> its images. Called after the layout was found complete."""

    def version(self) -> str:
        return f"pillow {version('pillow')}"

    def identity(self) -> dict[str, Any]:
        # Where the images lie does not change what they are; the digest of the pixels covers that.
        return dict(self.config.model_dump(mode="json", exclude={"root"}))

    def file(self, name: str) -> Path:
        """A file below the root.

        Raises:
            MissingPath: it is not there; the remedy says how to get it.
        """
        path = self.config.root / name
        if not path.exists():
            raise MissingPath(f"'{path}' does not exist.", self.remedy)
        return path

    def plan(self) -> dict[str, Plan]:
        for name in self.layout:
            self.file(name)
        plans: dict[str, Plan] = {}
        start = 0
        for split, listing in self.listings().items():
            count, wanted = len(listing.paths), getattr(self.config, split)
            rows = np.arange(count)
            if 0 < wanted < count:
                rows = np.sort(numpy_generator(self.config.seed, "listed", split).permutation(count)[:wanted])
            self._paths[split] = [listing.paths[int(row)] for row in rows]
            columns = (None if part is None else part[rows] for part in (listing.labels, listing.attributes))
            if len(rows):
                plans[split] = Plan(start + rows.astype(np.int64), *columns)
            start += count
        self._require_images()
        return plans

    def _require_images(self) -> None:
        base = self.config.root / self.images
        absent = [path for paths in self._paths.values() for path in paths if not (base / path).is_file()]
        if absent:
            raise DataError(
                f"The annotations name {len(absent)} image(s) that do not exist below '{base}': {some(absent)}.",
                self.remedy,
            )

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        paths = self._paths[split][start:stop]
        size = self.config.image_size
        images, unreadable = np.zeros((len(paths), 3, size, size), np.uint8), []
        for row, path in enumerate(paths):
            try:
                images[row] = centre_crop_resize(read_image(self.config.root / self.images / path), size)
            except DataError as error:
                unreadable.append(f"{path}: {error.message}")
        return Drawn(images, None, unreadable)


def read_lines(path: Path, header: int = 0) -> list[list[str]]:
    """The fields of every line, split at white space; ``header`` lines and empty ones are passed over.

    Raises:
        DataError: the file is no text.
    """
    return [fields for _, fields in _numbered(path, header)]


def read_records(path: Path, *kinds: Callable[[str], Any], header: int = 0) -> list[tuple[Any, ...]]:
    """As `read_lines`, of lines that all have the same fields; ``kinds`` (str, int) says what each becomes.

    Raises:
        DataError: no text, or a line with more, fewer or other fields; names the first such line.
    """
    records = []
    for number, fields in _numbered(path, header):
        try:
            records.append(tuple(kind(field) for kind, field in zip(kinds, fields, strict=True)))
        except ValueError as error:
            raise bad_line(path, number, " ".join(fields)) from error
    return records


def bad_line(path: Path, number: int, line: str) -> DataError:
    """What to raise where a line of an annotation file is not as it should be."""
    return DataError(
        f"{path}, line {number}: '{line}' is not what this file should hold.",
        "Fetch the file again, or check that it belongs to this data set.",
    )


def _numbered(path: Path, header: int) -> list[tuple[int, list[str]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text file: {error}.", "Fetch it again.") from error
    return [(number, fields) for number, line in enumerate(lines, 1) if number > header and (fields := line.split())]


def attribute_table(path: Path, columns: int, header: int = 0, named: bool = True) -> tuple[dict[str, int], np.ndarray]:
    """A text table with a row of attributes for each image (``named``: after its name) or class.

    Rows are read one by one: as text, the 289 million values of DeepFashion would take 17 GB.

    Returns:
        name -> row, empty without names; and uint8 (n, columns): 1 for present, 0 for absent (0 or -1) or unknown (0).

    Raises:
        DataError: no text, another number of columns, or values beyond -1, 0 and 1; names the first such row.
    """
    place: dict[str, int] = {}
    rows: list[np.ndarray] = []
    # What is no number is so far a DeprecationWarning in NumPy.
    with path.open(encoding="utf-8") as lines, warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            for line in filter(str.strip, islice(lines, header, None)):
                name, text = (*line.split(maxsplit=1), "")[:2] if named else ("", line)
                place.setdefault(name, len(rows))
                rows.append(_signs(path, len(rows), text, columns))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no text file: {error}.", "Fetch it again.") from error
    return place if named else {}, np.stack(rows) if rows else np.empty((0, columns), np.uint8)


def _signs(path: Path, row: int, text: str, columns: int) -> np.ndarray:
    try:
        values = np.fromstring(text, np.int32, sep=" ")
    except (DeprecationWarning, ValueError):
        values = np.empty(0, np.int32)
    if len(values) != columns or values.min(initial=0) < -1 or values.max(initial=0) > 1:
        raise DataError(
            f"{path}: row {row + 1} holds {len(text.split())} values, {columns} of -1, 0 and 1 are expected.",
            "Fetch the file again, or check that it belongs to this data set.",
        )
    return (values > 0).astype(np.uint8)
