"""The prepared data file: every split of a data set, as uint8 images, in one HDF5 file.

Layout: per split a group with ``images`` (N, 3, H, W) uint8, ``masks`` (N, H, W) uint8, ``ids`` int64, ``labels``
int64, ``attributes`` uint8, ``factors`` int16, ``nuisance`` float32 (those that exist). File attributes: ``format``,
``schema``, ``info`` (JSON), ``complete``. Nothing is compressed and everything is contiguous, so that pixels are read
through a memory map: any row at the cost of its bytes, the same in every process, without a lock.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from vaebench.core.errors import DataError, MissingPath
from vaebench.data.base import SPLITS, DataInfo, ImageDataset, ImageSplit

if TYPE_CHECKING:
    from vaebench.data.source import Plan

FORMAT = "vaebench-data"
SCHEMA = 1
COLUMNS = {"labels": np.int64, "attributes": np.uint8, "factors": np.int16, "nuisance": np.float32}


class DataWriter:
    """Writes a prepared data file; the file counts as complete only after ``finish``."""

    def __init__(self, path: Path, image_size: int) -> None:
        # Whoever makes this folder holds its lock; HDF5's own is often refused on network disks.
        self._file = h5py.File(path, "w", locking="best-effort")
        self._size = image_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add_split(self, name: str, plan: "Plan", masks: bool) -> None:
        """Write a split's arrays and make room for its pixels."""
        group = self._file.create_group(name)
        n, size = len(plan.ids), self._size
        group.create_dataset("ids", data=plan.ids.astype(np.int64))
        for column, dtype in COLUMNS.items():
            values = getattr(plan, column)
            if values is not None:
                group.create_dataset(column, data=np.asarray(values, dtype))
        group.create_dataset("images", (n, 3, size, size), np.uint8)
        if masks:
            group.create_dataset("masks", (n, size, size), np.uint8)

    def write(self, split: str, start: int, images: np.ndarray, masks: np.ndarray | None) -> None:
        """Write the pixels of the rows from ``start`` on."""
        group = self._file[split]
        group["images"][start : start + len(images)] = images
        if masks is not None:
            group["masks"][start : start + len(masks)] = masks

    def finish(self, info: DataInfo) -> None:
        """Describe the data set and mark the file as complete."""
        self._file.attrs.update(format=FORMAT, schema=SCHEMA, info=info.to_json(), complete=True)


class HDF5Split(ImageSplit):
    """A split of a prepared data file.

    Small arrays are in memory; pixels stay on the disk and are mapped on first use, anew in every process and after
    unpickling.
    """

    def __init__(self, path: Path, name: str, group: Any) -> None:
        self.name = name
        self.ids = group["ids"][:]
        self.labels, self.attributes, self.factors, self.nuisance = (
            group[column][:] if column in group else None for column in COLUMNS
        )
        self._path = path
        self._places = {"images": _place(path, group["images"])}
        if "masks" in group:
            self._places["masks"] = _place(path, group["masks"])
        columns = [self.labels, self.attributes, self.factors, self.nuisance]
        lengths = {len(array) for array in columns if array is not None}
        lengths |= {shape[0] for _, shape in self._places.values()}
        if lengths != {len(self.ids)}:
            raise DataError(f"{path}: split '{name}' has arrays of different lengths.", "Prepare the data again.")
        self._maps: dict[str, np.ndarray] = {}
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def _pixels(self, key: str) -> np.ndarray:
        if self._pid != os.getpid():
            self._maps, self._pid = {}, os.getpid()
        if key not in self._maps:
            offset, shape = self._places[key]
            if 0 in shape:
                self._maps[key] = np.empty(shape, np.uint8)
            else:
                try:
                    self._maps[key] = np.memmap(self._path, np.uint8, "r", offset, shape)
                except (OSError, ValueError) as error:
                    raise DataError(f"{self._path} has changed or gone since it was opened: {error}.") from error
        return self._maps[key]

    def images(self, indices: np.ndarray | slice) -> np.ndarray:
        return np.array(self._pixels("images")[indices])

    def masks(self, indices: np.ndarray | slice) -> np.ndarray | None:
        return np.array(self._pixels("masks")[indices]) if "masks" in self._places else None


class HDF5Dataset(ImageDataset):
    """A prepared data file, opened."""

    def __init__(self, path: Path, info: DataInfo, splits: dict[str, HDF5Split]) -> None:
        self.path = path
        self.info = info
        self.splits = splits


def _place(path: Path, dataset: Any) -> tuple[int, tuple[int, ...]]:
    offset = dataset.id.get_offset()
    if dataset.dtype != np.uint8 or (offset is None and dataset.size):
        raise DataError(f"{path}: '{dataset.name}' is not plain contiguous uint8.", "Prepare the data again.")
    return offset or 0, dataset.shape


def open_data(path: Path | str) -> HDF5Dataset:
    """Open prepared data: the folder that preparing them gave, or the file in it.

    Raises:
        MissingPath: no such file.
        DataError: the file is truncated, is no prepared data file, was not finished, or is of another schema.
    """
    path = Path(path).absolute()
    path = path / "data.h5" if path.is_dir() else path
    remedy = "Prepare the data again: vaebench data prepare NAME."
    if not path.is_file():
        raise MissingPath(f"Prepared data file '{path}' does not exist.", remedy)
    try:
        file = h5py.File(path, "r", locking=False)  # finished files never change
    except OSError as error:
        raise DataError(f"{path} is truncated or no HDF5 file: {error}.", remedy) from error
    with file:
        attrs = file.attrs
        if attrs.get("format") != FORMAT:
            finished = "complete" in attrs or not any(split in file for split in SPLITS)
            what = "is no prepared data file of vaebench" if finished else "was not finished"
            raise DataError(f"{path} {what}.", remedy)
        if attrs.get("schema") != SCHEMA:
            raise DataError(f"{path} has schema {attrs.get('schema')}, and this version reads {SCHEMA}.", remedy)
        if not attrs.get("complete"):
            raise DataError(f"{path} was not finished.", remedy)
        try:
            info = DataInfo.from_json(attrs["info"])
            splits: dict[str, HDF5Split] = {name: HDF5Split(path, name, file[name]) for name in SPLITS if name in file}
        except (KeyError, OSError) as error:
            raise DataError(f"{path} is damaged: {error}.", remedy) from error
    return HDF5Dataset(path, info, splits)
