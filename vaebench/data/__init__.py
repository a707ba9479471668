"""Image data sets: embedded, real, and the user's own.

``prepare`` draws or reads a data set into one HDF5 file; ``open_data`` reads it; ``DATASETS`` names the sources.
"""

from typing import TYPE_CHECKING, Any

from vaebench.core.registry import Registry

if TYPE_CHECKING:
    from vaebench.data.hdf5 import open_data
    from vaebench.data.source import prepare

__all__ = ["DATASETS", "open_data", "prepare"]

DATASETS = Registry("data set", "vaebench.datasets", "vaebench.data.source:ImageSource")
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
for _name, _target, _summary in (
    ("imagenet", "imagenet:ImageNet", "ImageNet-1k, 1,000 classes; reads a tree of train/ and val/"),
    ("celeba", "celeba:CelebA", "202,599 faces with 40 attributes, split by person; reads the official files"),
    (
        "deepfashion",
        "deepfashion:DeepFashion",
        "clothes with 1,000 coarse or 26 fine attributes; reads the official files",
    ),
    ("awa2", "awa2:AwA2", "50 animals with 85 class-level attributes, split by images or by unseen classes"),
    ("cub", "cub:CUB", "CUB-200-2011, 200 birds with 312 attributes per image; reads the official files"),
    ("shapes3d", "shapes3d:Shapes3D", "a room with one object, six factors, every combination; drawn here, no files"),
    ("dsprites", "factor_sets:DSprites", "737,280 white shapes with 5 factors; reads the published npz"),
    ("3dshapes", "factor_sets:Shapes3DPublished", "480,000 rooms with 6 factors; reads the published h5"),
    ("mpi3d", "factor_sets:MPI3D", "1,036,800 images of a robot arm with 7 factors; reads the published npz"),
    ("cars3d", "factor_sets:Cars3D", "17,568 renderings of cars with 3 factors; reads the published mat files"),
    ("smallnorb", "factor_sets:SmallNORB", "48,600 photographs of toys with 5 factors; reads the published files"),
    ("hub", "hub:Hub", "a Hugging Face data set or local Parquet files with an image column"),
):
    DATASETS.register(_name, f"vaebench.data.{_target}", summary=_summary)


def __getattr__(name: str) -> Any:
    # Late, so that naming the data sets imports neither h5py nor NumPy.
    if name == "prepare":
        from vaebench.data.source import prepare

        return prepare
    if name == "open_data":
        from vaebench.data.hdf5 import open_data

        return open_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
