"""The user's own images: a tree with a folder per class, or a table (CSV, Parquet) of paths, attributes and labels."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from pydantic import Field, model_validator

from vaebench.core.errors import ConfigError, DataError, MissingPath, UnknownName, some, suggest
from vaebench.core.files import file_states, require_path
from vaebench.core.seeds import seed_of
from vaebench.data.base import SPLITS, DataInfo
from vaebench.data.own import user_file_states
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig, unreadable_message
from vaebench.vision.transforms import as_rgb, centre_crop_resize

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
# Names that people give to splits, as folders and in tables.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
CELEBA_SPLITS = {"0": "train", "1": "validation", "2": "test"}  # in tables only: a folder "0" is a class


class FolderConfig(SourceConfig):
    """Configuration of a folder or table of images.

    Attributes:
        image_size: images are scaled and centre-cropped to it (``vision.transforms.centre_crop_resize``).
        root: folder of the images. It holds either splits (train, val, test) and no other folder with images, each
            with a folder per class, or the class folders themselves; images without class folders have no labels.
            Folders in it that vaebench made (results, studies, reports, contact sheets) are left out.
        table: CSV, TSV or Parquet file with one row per image; paths in it are relative to ``root``, or to the table's
            own folder when there is no ``root``.
        path_column, label_column, split_column: columns of the table. The last two are used if they exist, must exist
            if they are named otherwise than by default, and are not looked for when None.
        attributes: attribute columns, 0/1 or -1/1; all remaining columns when None, none when empty.
        validation_fraction, test_fraction: shares of the images that go to splits which are not given. Which image goes
            where follows from a hash of its path, so that adding images moves no other.
        seed: another seed divides the images differently.
        skip_unreadable: leave out images that cannot be read, with a warning, instead of stopping.
    """

    root: Path | None = None
    table: Path | None = None
    path_column: str = "path"
    label_column: str | None = "label"
    split_column: str | None = "split"
    attributes: tuple[str, ...] | None = None
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    test_fraction: float = Field(0.1, ge=0, lt=1)
    seed: int = 0
    skip_unreadable: bool = False

    @model_validator(mode="after")
    def _something_to_read(self) -> "FolderConfig":
        if self.root is None and self.table is None:
            raise ValueError("'root' (a folder of images) or 'table' (a CSV or Parquet file) must be given")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must stay below 1")
        return self


class Folder(ImageSource):
    """Source of images on the user's disk."""

    Config: ClassVar[type[SourceConfig]] = FolderConfig
    summary = "your own images: a folder per class, or a CSV or Parquet table of paths and attributes"
    files = ("root", "table")
    remedy = "Give a folder of images as 'root', or a table of paths (CSV, TSV or Parquet) as 'table'."

    config: FolderConfig

    def __init__(self, config: FolderConfig) -> None:
        super().__init__(config)
        self._base = Path()
        self._classes: tuple[str, ...] = ()
        self._attributes: tuple[str, ...] = ()
        self._level: Literal["image", "class"] | None = None
        self._paths: dict[str, list[str]] = {}
        self._values: dict[str, np.ndarray] = {}  # attributes by path

    def version(self) -> str:
        return f"pillow {version('pillow')}"

    def identity(self) -> dict[str, Any]:
        # Where the images lie does not change what they are; the digest of the pixels covers that.
        return dict(self.config.model_dump(mode="json", exclude={"root", "table"}))

    def describe(self) -> DataInfo:
        return DataInfo(
            name="folder",
            image_size=self.config.image_size,
            classes=self._classes,
            attributes=self._attributes,
            attribute_level=self._level,
            source=str(self.config.table or self.config.root),
        )

    def contents(self, setting: str, place: Path) -> list[tuple[str, int, int]]:
        if setting != "root" or not place.is_dir():
            return file_states(place)
        if self.config.table is None:
            return user_file_states(place)
        # Other files below the root, such as results, are none of a table's business.
        states = {Path(name).as_posix(): file.stat() for name, file in self._named(place).items()}
        return sorted((name, state.st_size, state.st_mtime_ns) for name, state in states.items())

    def watched(self) -> dict[str, Path]:
        table = self.config.table
        return {} if table is None or self.config.root is not None else self._named(table.parent)

    def _named(self, base: Path) -> dict[str, Path]:
        """The files that the table names and that exist, by the names they have there."""
        table = self.config.table
        if table is None or not table.is_file():
            return {}
        named = {str(name): base / str(name) for name in _load_table(table).get(self.config.path_column, [])}
        return {name: file for name, file in named.items() if file.is_file()}

    def plan(self) -> dict[str, Plan]:
        table = self._read_table() if self.config.table is not None else self._read_tree()
        if self.config.skip_unreadable:
            table = table[~table["path"].isin(self._find_unreadable(table["path"].tolist()))]
            if table.empty:
                raise DataError(f"No image of '{self.config.table or self.config.root}' can be read.")
        lacking = set[str](SPLITS) - set(table["split"])
        table["split"] = [
            self._share(path, lacking) if split in (None, "train") else split
            for path, split in zip(table["path"], table["split"], strict=True)
        ]
        if table["label"].notna().any():
            self._classes = _class_names(table["label"])
        if self._attributes:
            labels = [_class_name(label) for label in table["label"]] if self._classes else None
            values = np.stack([self._values[path] for path in table["path"]])
            self._level = attribute_level(labels, values, str(self.config.table))
        plans: dict[str, Plan] = {}
        for split in SPLITS:
            rows = table[table["split"] == split].sort_values("path")
            if len(rows):
                self._paths[split] = rows["path"].tolist()
                plans[split] = self._plan_of(rows)
        return plans

    def _plan_of(self, rows: pd.DataFrame) -> Plan:
        ids = np.array([seed_of("folder", path) for path in rows["path"]], np.int64)
        labels = None
        if self._classes:
            place = {name: index for index, name in enumerate(self._classes)}
            labels = np.array([place[_class_name(label)] for label in rows["label"]], np.int64)
        attributes = np.stack([self._values[path] for path in rows["path"]]) if self._attributes else None
        return Plan(ids, labels, attributes)

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        size = self.config.image_size
        paths = self._paths[split][start:stop]
        images = np.zeros((len(paths), 3, size, size), np.uint8)
        unreadable = []
        for row, path in enumerate(paths):
            try:
                images[row] = centre_crop_resize(read_image(self._base / path), size)
            except DataError as error:
                unreadable.append(f"{path}: {error.message}")
        return Drawn(images, None, unreadable)

    def _share(self, path: str, lacking: set[str]) -> str:
        """The split of an image that is free to go to any of those that lack images, else to the training set."""
        place = seed_of(self.config.seed, "split", path) / 2**63
        test, validation = self.config.test_fraction, self.config.validation_fraction
        split = "test" if place < test else "validation" if place < test + validation else "train"
        return split if split in lacking else "train"

    def _find_unreadable(self, paths: list[str]) -> list[str]:
        def fault(path: str) -> str | None:
            try:
                read_image(self._base / path)
            except DataError as error:
                return error.message
            return None

        with ThreadPoolExecutor() as pool:
            faults = {
                path: reason for path, reason in zip(paths, pool.map(fault, paths), strict=True) if reason is not None
            }
        if faults:
            named = [f"{path}: {reason}" for path, reason in faults.items()]
            warnings.warn(f"Skipped: {unreadable_message(named)}", stacklevel=3)
        return list(faults)

    def _read_tree(self) -> pd.DataFrame:
        assert self.config.root is not None
        self._base = require_path(self.config.root, "Image folder")
        if not self._base.is_dir():
            raise MissingPath(f"'{self._base}' is no folder.", "Give a CSV or Parquet file as 'table'.")
        files = (Path(name) for name, *_ in user_file_states(self._base))
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        if not images:
            raise DataError(
                f"'{self._base}' holds no images.",
                f"Known suffixes: {', '.join(sorted(SUFFIXES))}. Folders that vaebench made do not count.",
            )
        tops = sorted({path.parts[0] for path in images})  # a file, where an image lies in the root itself
        splits = {top: SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
        if splits and (others := [top for top in tops if top not in splits]):
            raise DataError(
                f"'{self._base}' holds the split(s) {', '.join(splits)}, and beside them images that are in none: "
                f"{some(others)}.",
                "Move the others elsewhere; or, if these are classes, give them other names or list the images in a "
                "table.",
            )
        rows = []
        for path in images:
            classes = path.parts[1 if splits else 0 : -1]
            split = splits[path.parts[0]] if splits else None
            rows.append((path.as_posix(), classes[0] if classes else None, split))
        table = pd.DataFrame(rows, columns=["path", "label", "split"], dtype=object)
        stray = table.loc[table["label"].isna(), "path"].tolist()
        if stray and len(stray) < len(table):
            classed = table.loc[table["label"].notna(), "path"].tolist()
            # The smaller side is the one that is there by mistake.
            few, where = stray, "no class folder while others do"
            if len(classed) < len(stray):
                few, where = classed, "class folders while others lie in none"
            raise DataError(
                f"{len(few)} image(s) of '{self._base}' lie in {where}: {some(few)}.",
                "Put every image into a class folder, or none.",
            )
        return table

    def _read_table(self) -> pd.DataFrame:
        config = self.config
        assert config.table is not None
        file = require_path(config.table, "Table")
        self._base = require_path(config.root, "Image folder") if config.root is not None else file.parent
        data = _load_table(file)
        if config.path_column not in data:
            raise UnknownName(
                f"{file} has no column '{config.path_column}' (path_column).",
                _other_separator(data, file) or suggest(config.path_column, map(str, data.columns)),
            )
        require_named(config, str(file), list(map(str, data.columns)), "label_column", "split_column")
        if data.empty:
            raise DataError(f"{file} has no rows.")
        if (empty := data[config.path_column].isna()).any():
            raise DataError(
                f"{file}: {int(empty.sum())} row(s) have no '{config.path_column}'; the first is {_first(empty)}.",
                "Name their images, or remove these rows.",
            )
        table = pd.DataFrame({"path": data[config.path_column].astype(str)})
        repeated = table.loc[table["path"].duplicated(), "path"].tolist()
        if repeated:
            raise DataError(f"{file} names {len(repeated)} path(s) more than once: {some(repeated)}.")
        missing = [path for path in table["path"] if not (self._base / path).is_file()]
        if missing:
            raise DataError(
                f"{file} names {len(missing)} file(s) that do not exist under '{self._base}': {some(missing)}.",
                "Set 'root' to the folder that the paths start from.",
            )
        special = {config.path_column, config.label_column, config.split_column}
        table["label"] = data.get(config.label_column)
        if (empty := table["label"].isna()).any() and not empty.all():
            raise DataError(
                f"{file}: {int(empty.sum())} row(s) have no '{config.label_column}'; the first is "
                f"{_first(empty, table['path'])}.",
                "Fill them in, or set label_column: null.",
            )
        column = config.split_column
        splits: list[str | None] = [None] * len(data)
        if column is not None and column in data:
            if (empty := data[column].isna()).any():
                raise DataError(
                    f"{file}: {int(empty.sum())} cell(s) of the column '{column}' are empty; the first is in "
                    f"{_first(empty, table['path'])}.",
                    "Write train, validation or test there, or set split_column: null.",
                )
            splits = [_split_name(split, file, column) for split in data[column]]
        table["split"] = pd.Series(splits, table.index, dtype=object)
        remaining = tuple(str(c) for c in data.columns if c not in special)
        self._attributes = remaining if config.attributes is None else config.attributes
        for name in self._attributes:
            if name not in data:
                raise UnknownName(f"{file} has no attribute column '{name}'.", suggest(name, map(str, data.columns)))
        if self._attributes:
            columns = [_binary(data[name], file, table["path"]) for name in self._attributes]
            self._values = dict(zip(table["path"], np.stack(columns, axis=1), strict=True))
        return table


def attribute_level(labels: Sequence[str] | None, attributes: np.ndarray, source: str) -> Literal["image", "class"]:
    """ "class" where attributes (n, A) never differ within a class: probing them then measures class recognition.

    That is said as a warning, for attributes of classes are easily taken for those of images.
    """
    if labels is None:
        return "image"
    rows: dict[str, set[bytes]] = {}
    for label, values in zip(labels, attributes, strict=True):
        rows.setdefault(label, set()).add(values.tobytes())
    if len(rows) == len(labels) or max(map(len, rows.values())) > 1:
        return "image"
    warnings.warn(
        f"The attributes in '{source}' are the same for all images of a class, so they are taken as class-level: a "
        "probe on them recognises classes unless its test classes are unseen.",
        stacklevel=4,
    )
    return "class"


def require_named(config: SourceConfig, source: str, columns: Sequence[str], *settings: str) -> None:
    """Check columns that are only used if they exist: one that is not there has to be None or the default.

    Raises:
        UnknownName: another name was given; the remedy is the nearest column.
    """
    for setting in settings:
        name = getattr(config, setting)
        # Not by `model_fields_set`: a stage hands on every setting, whether it was given or not.
        if name not in (None, type(config).model_fields[setting].default, *columns):
            raise UnknownName(f"'{source}' has no column '{name}' ({setting}).", suggest(name, columns))


def read_image(path: Path) -> Image.Image:
    """Read an image, turned upright (EXIF), in RGB.

    Raises:
        DataError: the file is empty, is no image, is cut off, or is of 32-bit grey.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError("empty file")
        with Image.open(path) as image:
            return as_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        # Pillow puts the path into some of its messages; the caller names it already.
        reason = "not an image" if "cannot identify" in str(error) else str(error)
        raise DataError(reason) from error


def _load_table(file: Path) -> pd.DataFrame:
    readers: dict[str, Any] = {
        ".csv": pd.read_csv,
        ".tsv": lambda path: pd.read_csv(path, sep="\t"),
        ".parquet": pd.read_parquet,
    }
    if file.suffix.lower() not in readers:
        raise ConfigError(f"Table '{file}' is neither CSV, TSV nor Parquet (judged by its suffix).")
    try:
        return pd.DataFrame(readers[file.suffix.lower()](file))
    except UnicodeDecodeError as error:
        raise DataError(f"Table '{file}' cannot be read: it is not UTF-8 ({error}).", "Save it as UTF-8.") from error
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors derive from these
        raise DataError(f"Table '{file}' cannot be read: {error}.") from error


def _other_separator(data: pd.DataFrame, file: Path) -> str:
    """A remedy for a table whose columns another sign parts than the one that its suffix stands for, else ""."""
    head, suffix = str(data.columns[0]), file.suffix.lower()
    other = next((sign for sign in ";\t|," if sign in head), None)
    if suffix == ".parquet" or len(data.columns) > 1 or other is None:
        return ""
    sign = "a tab" if other == "\t" else f"'{other}'"
    rename = " or name it .tsv" if other == "\t" else " or name it .csv" if other == "," else ""
    want = "commas" if suffix == ".csv" else "tabs"
    return f"Its columns are parted by {sign}: save it with {want}{',' if rename else ''}{rename}."


def _first(where: pd.Series, paths: pd.Series | None = None) -> str:
    """The first row of those, counted from 1 below the header, and its image."""
    row = int(where.to_numpy().argmax())
    return f"row {row + 1}" + (f" ({paths.iloc[row]})" if paths is not None else "")


def _split_name(value: Any, file: Path, column: str) -> str:
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip().lower()
    split = SPLIT_NAMES.get(text) or CELEBA_SPLITS.get(text)
    if split is None:
        raise DataError(f"{file}: '{value}' in column '{column}' is no split.", "Use train, validation and test.")
    return split


def _binary(column: pd.Series, file: Path, paths: pd.Series) -> np.ndarray:
    numbers, empty = pd.to_numeric(column, errors="coerce"), column.isna()
    values = set(numbers.dropna().unique().tolist())
    if numbers.isna().any() or not (values <= {0, 1} or values <= {-1, 1}):
        odd = column[~numbers.isin([0, 1, -1]) & ~empty].unique().tolist()
        if not odd and not (values <= {0, 1} or values <= {-1, 1}):
            odd = sorted(values)
        faults = [f"it holds {some(list(map(repr, odd)))}"] if odd else []
        if empty.any():
            faults.append(f"{int(empty.sum())} row(s) have no value, the first is {_first(empty, paths)}")
        raise DataError(
            f"{file}: attribute column '{column.name}' is not binary (0/1 or -1/1): {'; '.join(faults)}.",
            "List the columns that are attributes under 'attributes', or correct the values.",
        )
    return (numbers.to_numpy() > 0).astype(np.uint8)


def _class_name(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _class_names(labels: pd.Series) -> tuple[str, ...]:
    names = {_class_name(label) for label in labels}
    return tuple(sorted(names, key=lambda name: (0, int(name), name) if name.isdigit() else (1, 0, name)))
