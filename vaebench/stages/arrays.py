"""Arrays and picture grids on the disk."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from PIL import Image

from vaebench.core.errors import DataError, MissingPath
from vaebench.core.files import atomic_write


def save_array(path: Path, array: np.ndarray) -> None:
    """Save one array atomically as ``.npy``."""
    with atomic_write(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, array)


def load_array(path: Path) -> np.ndarray:
    """Map a ``.npy`` file read-only; never unpickles.

    Raises:
        MissingPath, DataError: it is not there, or is truncated or foreign.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingPath(f"{path} does not exist.") from error
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{path} is truncated or no array file: {error}.", "Delete its folder and run again."
        ) from error


def create_dataset(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, attributes: Mapping[str, Any]
) -> None:
    """Make an HDF5 file with one data set that lies in it in one piece, not yet filled; see :func:`map_dataset`."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    path.unlink(missing_ok=True)
    with h5py.File(path, "w", locking="best-effort") as file:
        dataset = file.create_dataset(name, shape, dtype, dcpl=layout)
        dataset.attrs.update(attributes)


def map_dataset(path: Path, name: str, mode: Literal["r", "r+"] = "r") -> np.ndarray:
    """Map a data set that lies in its file in one piece.

    So rows are read without HDF5's library in between, and several processes may fill rows of their own at once.

    Raises:
        MissingPath, DataError: it is not there, or is truncated, foreign, or in pieces.
    """
    if not path.is_file():
        raise MissingPath(f"{path} does not exist.")
    try:
        with h5py.File(path, "r", locking=False) as file:
            dataset = file[name]
            offset, shape, dtype = dataset.id.get_offset(), dataset.shape, dataset.dtype
        if offset is None:
            raise ValueError(f"'{name}' does not lie in one piece")
        return np.memmap(path, dtype, mode, offset, shape)
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is truncated or no file of '{name}': {error}.", "Delete its folder and run again."
        ) from error


def save_grid(path: Path, images: np.ndarray, columns: int, gap: int = 2) -> None:
    """Save uint8 images N x 3 x H x W as one PNG, row by row, on white."""
    n, _, height, width = images.shape
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    with atomic_write(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
