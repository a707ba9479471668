"""Images of a Hugging Face data set, or of a local Parquet file, whose rows hold the pictures themselves.

``root`` names a Parquet file, a folder of them (``data/train-00000-of-00001.parquet``, as the hub lays them out), or a
data set of the hub as ``owner/name`` (or ``owner/name@revision``), which the extra ``vaebench[hub]`` fetches. An image
is a struct with ``bytes``, as the library `datasets` writes it, or plain bytes.

Which split a file of a folder belongs to is said by its name or by a folder above it (``default/train/0000.parquet``).
A split in which every label is -1 or missing, as in the test splits of competitions, has no labels, nor has one that
lacks the column.
"""

import io
import json
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps
from pydantic import Field

from vaebench.core.errors import DataError, MissingPath, UnknownName, import_optional, some, suggest
from vaebench.core.files import file_states
from vaebench.core.offline import offline
from vaebench.core.seeds import seed_of
from vaebench.data.base import SPLITS, DataInfo, SplitName
from vaebench.data.folder import SPLIT_NAMES, attribute_level, require_named
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig
from vaebench.vision.transforms import as_rgb, centre_crop_resize

PARTS = {"of", "part", "shard"}  # words in the name of a file that number it


class HubConfig(SourceConfig):
    """Configuration of a data set of rows with pictures.

    Attributes:
        image_size: images are cropped and resized to it.
        root: see the module.
        image_column, label_column: columns. The second is used where it exists, must exist in some split if it is named
            otherwise than by default, and is not looked for when None: the images then have no labels.
        attributes: columns of 0 and 1.
        validation_fraction, test_fraction: of the training rows, for splits that the data set does not have.
        seed: of that division.
    """

    root: str
    image_column: str = "image"
    label_column: str | None = "label"
    attributes: tuple[str, ...] = ()
    validation_fraction: float = Field(0.1, ge=0, lt=0.5)
    test_fraction: float = Field(0.1, ge=0, lt=0.5)
    seed: int = 0


class Hub(ImageSource):
    """Source that reads Parquet files."""

    Config: ClassVar[type[SourceConfig]] = HubConfig
    summary = "a Hugging Face data set or local Parquet files with an image column"
    files = ("root",)
    remedy = (
        "Give a Parquet file, a folder of them or owner/name as 'root'; `hf download --repo-type dataset OWNER/NAME "
        "--local-dir FOLDER` fetches such a folder."
    )

    config: HubConfig

    def __init__(self, config: HubConfig) -> None:
        super().__init__(config)
        self._parts: dict[str, tuple[_Table, np.ndarray]] = {}
        self._classes: tuple[str, ...] = ()
        self._level: Literal["image", "class"] | None = None

    def version(self) -> str:
        return "1"

    def identity(self) -> dict[str, Any]:
        return dict(self.config.model_dump(mode="json", exclude={"root"}))

    def describe(self) -> DataInfo:
        attributes = self.config.attributes
        return DataInfo(
            name="hub", image_size=self.config.image_size, classes=self._classes, attributes=attributes,
            attribute_level=self._level, source=self.config.root,
        )  # fmt: skip

    def plan(self) -> dict[str, Plan]:
        tables = self._tables()
        for table in tables.values():
            for column in (self.config.image_column, *self.config.attributes):
                if column not in table.columns:
                    raise UnknownName(f"'{self.config.root}' has no column '{column}'.", suggest(column, table.columns))
        columns = sorted({column for table in tables.values() for column in table.columns})
        require_named(self.config, self.config.root, columns, "label_column")
        if not any(table.n for table in tables.values()):
            raise DataError(f"'{self.config.root}' has no rows.")
        rows = self._with_missing_splits({split: np.arange(table.n) for split, table in tables.items()})
        labels = {split: self._labels(split, table) for split, table in tables.items()}
        plans: dict[str, Plan] = {}
        named: dict[SplitName, list[str]] = {}
        start = 0
        for split in SPLITS:
            if split not in rows or not len(rows[split]):
                continue
            given = split if split in tables else "train"
            table, names = tables[given], labels.get(given)
            self._parts[split] = (table, rows[split])
            if names is not None:
                named[split] = [names[row] for row in rows[split]]
            ids = start + np.arange(len(rows[split]), dtype=np.int64)
            plans[split] = Plan(ids, None, self._attributes(table, rows[split]))
            start += len(ids)
        self._classes = tuple(sorted({name for names in named.values() for name in names}, key=_order))
        number = {name: index for index, name in enumerate(self._classes)}
        for split, names in named.items():
            plans[split] = replace(plans[split], labels=np.array([number[name] for name in names], np.int64))
        if self.config.attributes:
            parts = [plans[split].attributes for split in named or plans]
            values = np.concatenate([part for part in parts if part is not None])
            every = [name for names in named.values() for name in names]
            self._level = attribute_level(every or None, values, self.config.root)
        return plans

    def _labels(self, split: str, table: "_Table") -> list[str] | None:
        """The class of each row by name; None where no row has one."""
        column = self.config.label_column
        if column is None or column not in table.columns:
            return None
        values, called = table.column(column), table.class_names(column)
        if all(value is None or value == -1 for value in values):
            return None
        # NaN, the other way of saying that a number is missing, is unlike itself.
        wrong = [
            row
            for row, value in enumerate(values)
            if value is None or value != value or (called and not 0 <= value < len(called))
        ]
        if wrong:
            raise DataError(
                f"'{self.config.root}', {split}: '{column}' names no class in row {some(wrong)} "
                f"(such as {values[wrong[0]]!r}).",
                "Remove those rows, or set label_column: null for images without labels.",
            )
        return [called[value] if called else str(value) for value in values]

    def _attributes(self, table: "_Table", rows: np.ndarray) -> np.ndarray | None:
        if not self.config.attributes:
            return None
        values = np.stack([np.asarray(table.column(name))[rows] for name in self.config.attributes], 1)
        if not np.isin(values, [0, 1]).all():
            raise DataError(f"Attribute columns of '{self.config.root}' hold values other than 0 and 1.")
        return values.astype(np.uint8)

    def _with_missing_splits(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows of each split; splits that there are not take theirs from the training rows."""
        if "train" not in rows:
            return rows
        place = np.array([seed_of(self.config.seed, "split", row) / 2**63 for row in range(len(rows["train"]))])
        edge, found = 0.0, dict(rows)
        free = np.ones(len(place), bool)
        for split, share in (("test", self.config.test_fraction), ("validation", self.config.validation_fraction)):
            if split not in rows:
                chosen = (place >= edge) & (place < edge + share)
                found[split], edge, free = rows["train"][chosen], edge + share, free & ~chosen
        return {**found, "train": rows["train"][free]}

    def _tables(self) -> dict[str, "_Table"]:
        path = Path(self.config.root)
        if path.is_file():
            return {"train": _Parquet([path])}
        if path.is_dir():
            return {split: _Parquet(parts) for split, parts in _by_split(path).items()}
        if path.is_absolute() or self.config.root.count("/") != 1:
            raise MissingPath(f"'{path}' does not exist.", "Give a Parquet file, a folder of them, or owner/name.")
        return self._fetched()

    def _fetched(self) -> dict[str, "_Table"]:
        datasets = import_optional("datasets", "hub")
        name, _, revision = self.config.root.partition("@")
        if offline():  # the library reads that variable only when it is imported
            datasets.config.HF_HUB_OFFLINE = datasets.config.HF_DATASETS_OFFLINE = True
        try:
            loaded = datasets.load_dataset(name, revision=revision or None)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise MissingPath(
                f"'{name}' is no path here, and could not be had from the hub: {str(error).partition(chr(10))[0]}",
                f"Where there is a network, run `hf download --repo-type dataset {name} --local-dir FOLDER`, and give "
                "that FOLDER.",
            ) from error
        column = self.config.image_column
        named: dict[str, list[str]] = {}
        for split in loaded:
            if split.lower() in SPLIT_NAMES:
                named.setdefault(SPLIT_NAMES[split.lower()], []).append(split)
        if not named:
            raise DataError(f"'{name}' has the splits {', '.join(loaded)}; none of them is train, validation or test.")
        _require_one_name(name, named)
        others = [f"{split} ({len(part)} rows)" for split, part in loaded.items() if split.lower() not in SPLIT_NAMES]
        if others:
            warnings.warn(
                f"'{name}' has splits that are none of train, validation and test, and are left out: {some(others)}.",
                stacklevel=4,
            )
        parts = {split: loaded[given] for split, (given,) in named.items()}
        return {
            split: _Loaded(
                part.cast_column(column, datasets.Image(decode=False)) if column in part.column_names else part
            )
            for split, part in parts.items()
        }

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        size = self.config.image_size
        table, rows = self._parts[split]
        pictures = table.pictures(self.config.image_column, rows[start:stop])
        images, unreadable = np.zeros((len(pictures), 3, size, size), np.uint8), []
        for row, picture in enumerate(pictures):
            try:
                content = _content(picture)
                with Image.open(io.BytesIO(content)) as image:
                    images[row] = centre_crop_resize(as_rgb(ImageOps.exif_transpose(image)), size)
            except (DataError, OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
                unreadable.append(f"{split} row {rows[start + row]}: {error}")
        return Drawn(images, None, unreadable)


class _Table(Protocol):
    """Rows of which only what is asked for is in memory: the pictures are most of a data set."""

    columns: list[str]
    n: int

    def column(self, name: str) -> Any:
        """All values of a column without pictures, a sequence (n,)."""

    def class_names(self, name: str) -> list[str] | None:
        """What the integers of a column of class labels stand for, where the data set says so."""

    def pictures(self, name: str, rows: np.ndarray) -> list[Any]:
        """Values of the column with pictures at these ascending rows. Several threads call it at once."""


class _Parquet:
    """Parquet files one after the other; pictures are read row group by row group."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        with _readable(files[0]):
            opened = [pq.ParquetFile(file) for file in files]
        self._schema = opened[0].schema_arrow
        self.columns = list(self._schema.names)
        for file, parquet in zip(files, opened, strict=True):
            if list(parquet.schema_arrow.names) != self.columns:
                raise DataError(f"'{file}' has other columns than '{files[0]}'.", "Give files of one data set.")
        self._groups = [(number, group) for number, p in enumerate(opened) for group in range(p.num_row_groups)]
        sizes = [opened[number].metadata.row_group(group).num_rows for number, group in self._groups]
        self._starts = np.cumsum([0, *sizes])
        self.n = int(self._starts[-1])
        self._group = lru_cache(maxsize=8)(self._read_group)

    def column(self, name: str) -> Any:
        with _readable(self.files[0]):
            parts = [pq.read_table(file, columns=[name]).column(name).to_pylist() for file in self.files]
        return [value for part in parts for value in part]

    def class_names(self, name: str) -> list[str] | None:
        # As the library `datasets` describes its columns in the files that it writes.
        described = json.loads((self._schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = described.get("info", {}).get("features", {}).get(name, {})
        return feature.get("names") if isinstance(feature, dict) else None

    def pictures(self, name: str, rows: np.ndarray) -> list[Any]:
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        return [
            self._group(name, int(group))[int(row - self._starts[group])].as_py()
            for row, group in zip(rows, groups, strict=True)
        ]

    def _read_group(self, name: str, index: int) -> Any:
        number, group = self._groups[index]
        with _readable(self.files[number]):
            return pq.ParquetFile(self.files[number]).read_row_group(group, columns=[name]).column(name)


class _Loaded:
    """A split that the library `datasets` has loaded, which maps it from its cache."""

    def __init__(self, split: Any) -> None:
        self.split, self.columns, self.n = split, list(split.column_names), len(split)

    def column(self, name: str) -> Any:
        return self.split.select_columns([name])[:][name]

    def class_names(self, name: str) -> list[str] | None:
        return getattr(self.split.features[name], "names", None)

    def pictures(self, name: str, rows: np.ndarray) -> list[Any]:
        found: list[Any] = self.split.select_columns([name])[rows.tolist()][name]
        return found


def _by_split(folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of each split; one file alone, whatever its name, is for training.

    Raises:
        DataError: there are none, or files of several configurations, or one that neither its name nor a folder's puts
            into a split, or a split that is called by several names.
    """
    files = sorted(Path(name) for name, *_ in file_states(folder) if name.endswith(".parquet"))
    if not files:
        raise DataError(f"'{folder}' holds no Parquet files.")
    found: dict[str, list[Path]] = {}
    called: dict[str, set[str]] = {}
    configurations, unnamed = set(), []
    for file in files:
        above = file.parts[:-1]
        # "train_extra-0" names no split that is known: it would be merged with "train-0".
        names = [file.stem] if len(files) == 1 or not _words_after_split(file.stem) else []
        names = [name for name in (*names, *reversed(above)) if _split_in(name)]
        if not names and len(files) > 1:
            unnamed.append(file.as_posix())
        split = (_split_in(names[0]) if names else None) or "train"
        called.setdefault(split, set()).add("_".join(_words(names[0])) if names else "")
        found.setdefault(split, []).append(folder / file)
        configurations.add("/".join(takewhile(lambda name: not _split_in(name), above)) or ".")
    if unnamed:
        raise DataError(
            f"'{folder}' holds {len(files)} Parquet files, and of these no split is named by {some(unnamed)}.",
            "Call them train-..., validation-... and test-..., with no other word behind, or put them into folders of "
            "these names.",
        )
    if len(configurations) > 1:
        raise DataError(
            f"'{folder}' holds several configurations of a data set: {', '.join(sorted(configurations))}.",
            "Give the folder of one of them as 'root'.",
        )
    _require_one_name(str(folder), called)
    return found


def _require_one_name(source: str, called: Mapping[str, Collection[str]]) -> None:
    for split, names in called.items():
        if len(names) > 1:
            raise DataError(
                f"'{source}' has several splits that would be the {split} split: {', '.join(sorted(names))}.",
                "Give a folder with the Parquet files of one of them as 'root'.",
            )


def _split_in(name: str) -> str | None:
    return next((SPLIT_NAMES[word] for word in _words(name) if word in SPLIT_NAMES), None)


def _words_after_split(name: str) -> list[str]:
    return list(dropwhile(lambda word: word not in SPLIT_NAMES, _words(name)))[1:]


def _words(name: str) -> list[str]:
    """Words of a name but for `PARTS`; the letters of a hash, as the hub appends it, are none."""
    found = []
    for token in re.findall("[a-z0-9]+", name.lower()):
        words = re.findall("[a-z]+", token)
        if token.isalpha() or not SPLIT_NAMES.keys().isdisjoint(words):
            found += [word for word in words if word not in PARTS]
    return found


def _content(picture: Any) -> bytes:
    """The bytes of an image file: themselves, or as `datasets` keeps them, a struct of bytes and path."""
    if isinstance(picture, dict):
        return picture.get("bytes") or Path(picture.get("path") or "").read_bytes()
    return bytes(picture)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise DataError(f"'{file.parent}' holds Parquet files that cannot be read: {error}.") from error


def _order(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdigit() else (1, 0, name)
