"""Image data sets: embedded, real, and the user's own.

``prepare`` draws or reads a data set into one HDF5 file; ``open_data`` reads it; ``DATASETS`` names the sources.
"""

from typing import TYPE_CHECKING, Any

from vaebench.core.registry import Registry

if TYPE_CHECKING:
    from vaebench.data.hdf5 import open_data
    from vaebench.data.source import prepare

__all__ = ["DATASETS", "open_data", "prepare"]

DATASETS = Registry("data set", "vaebench.datasets")
DATASETS.register(
    "avatars",
    "vaebench.data.avatars:Avatars",
    summary="cartoon people with known factors, attributes and masks; drawn here, no files needed",
)
DATASETS.register(
    "folder",
    "vaebench.data.folder:Folder",
    summary="your own images: a folder per class, or a CSV or Parquet table of paths and attributes",
)
DATASETS.register(
    "fashion-mnist",
    "vaebench.data.fashion_mnist:FashionMNIST",
    summary="photographs of clothing in 10 classes with a class-attribute table; reads the IDX files",
)


def __getattr__(name: str) -> Any:
    # Late, so that naming the data sets imports neither h5py nor NumPy.
    if name == "prepare":
        from vaebench.data.source import prepare

        return prepare
    if name == "open_data":
        from vaebench.data.hdf5 import open_data

        return open_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
