"""Arrays and picture grids on the disk."""

import math
from pathlib import Path

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
