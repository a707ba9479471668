"""Files of ADM's evaluation suite (``.npz``): images, and moments of their Inception features.

Arrays: ``arr_0`` uint8 (n, H, W, 3); ``mu``, ``sigma`` of pool_3 (2048 values); ``mu_s``, ``sigma_s`` of the spatial
features (2023). A published reference holds all five, and its moments are those of many more images than it holds; a
batch of samples holds ``arr_0`` alone. ``n``, how many images the moments are of, is an addition of ours that ADM's
scripts pass over.

Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis (2021), evaluation suite.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.core.errors import DataError, MissingPath
from vaebench.core.files import atomic_write
from vaebench.metrics.fidelity.statistics import Statistics

IMAGES = "arr_0"
CHUNK = 256
LAYOUT = f"ADM's layout: {IMAGES} uint8 (n, H, W, 3), mu and sigma, mu_s and sigma_s"


@dataclass(frozen=True)
class Batch:
    """What such a file holds; None for what it does not.

    Attributes:
        images: uint8 (n, 3, H, W), a view of the file's (n, H, W, 3).
        pooled, spatial: moments of the pooled and of the spatial features.
    """

    images: np.ndarray | None = None
    pooled: Statistics | None = None
    spatial: Statistics | None = None


def read_batch(path: Path | str) -> Batch:
    """Read a file of ADM's suite. Images are read whole: 2 GB for 10,000 of 256 x 256.

    Raises:
        MissingPath: no such file.
        DataError: no npz file, none of the arrays, or arrays of another layout; says what was found.
    """
    if not Path(path).is_file():
        raise MissingPath(f"Reference batch '{path}' does not exist.", "Give the path of an .npz file of ADM's suite.")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive of arrays")
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in (IMAGES, "mu", "sigma", "mu_s", "sigma_s", "n") if name in file}
            names = file.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"'{path}' is no readable .npz file: {error}.", f"Wanted is {LAYOUT}.") from error
    n = int(found["n"]) if "n" in found else None
    batch = Batch(
        _images(found.get(IMAGES), path),
        _moments(found, "mu", "sigma", n, path),
        _moments(found, "mu_s", "sigma_s", n, path),
    )
    if batch.images is None and batch.pooled is None:
        raise DataError(f"'{path}' holds neither images nor moments, but {', '.join(names)}.", f"Wanted is {LAYOUT}.")
    return batch


def _images(array: np.ndarray | None, path: Path | str) -> np.ndarray | None:
    if array is None:
        return None
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or len(array) == 0:
        raise DataError(
            f"'{path}': {IMAGES} is {array.dtype} {array.shape}.", f"Wanted is {LAYOUT}; channels come last."
        )
    return array.transpose(0, 3, 1, 2)


def _moments(found: dict[str, np.ndarray], mean: str, covariance: str, n: int | None, path: Path | str) -> Any:
    if mean not in found and covariance not in found:
        return None
    if mean not in found or covariance not in found:
        raise DataError(f"'{path}' holds only one of {mean} and {covariance}.", f"Wanted is {LAYOUT}.")
    first, second = found[mean], found[covariance]
    if (
        first.ndim != 1
        or second.shape != (len(first), len(first))
        or first.dtype.kind != "f"
        or second.dtype.kind != "f"
    ):
        raise DataError(
            f"'{path}': {mean} {first.dtype} {first.shape} and {covariance} {second.dtype} {second.shape} do not "
            "belong together.",
            f"Wanted is {LAYOUT}.",
        )
    if not np.isfinite(first).all() or not np.isfinite(second).all():
        raise DataError(f"'{path}': {mean} or {covariance} hold NaN or infinity.")
    return Statistics(first.astype(np.float64), second.astype(np.float64), n)


def write_batch(
    path: Path | str,
    images: np.ndarray | None = None,
    pooled: Statistics | None = None,
    spatial: Statistics | None = None,
) -> None:
    """Write a file of ADM's suite, uncompressed as theirs are; images are streamed and may be mapped from a file.

    Args:
        path: where; appears whole or not at all.
        images: uint8 (n, 3, H, W).
        pooled, spatial: moments.

    Raises:
        ValueError: nothing to write, or images of another layout.
    """
    if images is None and pooled is None:
        raise ValueError("A batch needs images or moments.")
    if images is not None and (images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3):
        raise ValueError(f"Expected uint8 images (n, 3, H, W), got {images.dtype} {images.shape}.")
    moments: dict[str, np.ndarray] = {}
    for suffix, values in (("", pooled), ("_s", spatial)):
        if values is not None:
            moments |= {f"mu{suffix}": values.mean, f"sigma{suffix}": values.covariance}
    if pooled is not None and pooled.n is not None:
        moments["n"] = np.asarray(pooled.n)
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        if images is not None:
            n, channels, height, width = images.shape
            _write_array(archive, IMAGES, np.dtype(np.uint8), (n, height, width, channels), _channels_last(images))
        for name, array in moments.items():
            _write_array(archive, name, array.dtype, array.shape, [array])


def _channels_last(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), CHUNK):
        yield images[start : start + CHUNK].transpose(0, 2, 3, 1)


def _write_array(archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], parts: Any) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as handle:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        for part in parts:
            handle.write(np.ascontiguousarray(part).tobytes())
