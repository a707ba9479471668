"""Published data sets whose images are known functions of their factors, in their published files.

============ ============================================================ ======================================
name         ``root`` is                                                  grid
============ ============================================================ ======================================
dsprites     dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz               3 x 6 x 40 x 32 x 32, one channel
3dshapes     3dshapes.h5                                                  10 x 10 x 10 x 8 x 4 x 15
mpi3d        mpi3d_toy.npz, mpi3d_realistic.npz or mpi3d_real.npz         6 x 6 x 2 x 3 x 3 x 40 x 40
cars3d       the folder of the 183 cars/*.mat                             183 x 24 x 4
smallnorb    the folder of the six smallnorb-5x46789x9x18x6x2x96x96-*.mat 5 x 10 x 9 x 18 x 6, left camera
============ ============================================================ ======================================

Images are enlarged or reduced to ``image_size`` and repeated on three channels where they have one. Splits are drawn
from the grid without replacement. Files are read through once, and only the images drawn stay in memory (all of MPI3D
would take 12.7 GB).
"""

import struct
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from pydantic import Field
from scipy.io import loadmat

from vaebench.core.errors import ConfigError, DataError, MissingPath
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import SPLITS, DataInfo, Factor
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig
from vaebench.vision.transforms import centre_crop_resize

BLOCK = 4096  # images read at a time
Block = tuple[np.ndarray, np.ndarray]
"""Places in the grid (n,), counted with the last factor running fastest, and their images (n, H, W) or (n, H, W, 3)."""


# What readers of foreign or damaged files raise.
READING = (
    OSError, ValueError, KeyError, EOFError, NotImplementedError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class FactorSetConfig(SourceConfig):
    """Configuration of a published factor set.

    Attributes:
        image_size: pixels.
        root: the file or folder named in the module's table.
        train, validation, test: images, drawn from the grid by ``seed`` without replacement.
    """

    root: Path
    train: int = Field(20_000, gt=0)
    validation: int = Field(2_000, ge=0)
    test: int = Field(5_000, ge=0)
    seed: int = 0


class FactorSet(ImageSource):
    """A grid of images in a file. Subclasses say how the file is read.

    Class attributes:
        name, grid, label: name, factors with their numbers of values, and which factor serves as class label, or None.
        remedy, source, licence: what to download from where.
    """

    Config: ClassVar[type[SourceConfig]] = FactorSetConfig
    files = ("root",)
    name: ClassVar[str]
    grid: ClassVar[dict[str, int]]
    label: ClassVar[str | None] = None
    source: ClassVar[str]
    licence: ClassVar[str] = "unknown"

    config: FactorSetConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._first: dict[str, int] = {}  # row of the split's first image among the pixels
        self._pixels: np.ndarray | None = None

    @abstractmethod
    def blocks(self, path: Path) -> Iterator[Block]:
        """All the images, uint8, block by block; what is wrong with a file may come as any error of its reader."""

    def sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(self.grid.values())

    def version(self) -> str:
        return "1"

    def identity(self) -> dict[str, Any]:
        return dict(self.config.model_dump(mode="json", exclude={"root"}))

    def describe(self) -> DataInfo:
        factors = tuple(Factor(name, tuple(map(str, range(size)))) for name, size in self.grid.items())
        attributes = tuple(f"{f.name}={value}" for f in factors if len(f.values) <= 10 for value in f.values)
        return DataInfo(
            name=self.name,
            image_size=self.config.image_size,
            classes=tuple(map(str, range(self.grid[self.label]))) if self.label else (),
            attributes=attributes,
            attribute_level="image",
            factors=factors,
            licence=self.licence,
            source=self.source,
        )

    def plan(self) -> dict[str, Plan]:
        if not self.config.root.exists():
            raise MissingPath(f"'{self.config.root}' does not exist.", self.remedy)
        total = int(np.prod(self.sizes()))
        counts = {name: getattr(self.config, name) for name in SPLITS}
        if sum(counts.values()) > total:
            raise ConfigError(
                f"{sum(counts.values())} images are asked for, {self.name} has {total}.", "Ask for fewer."
            )
        order, start = numpy_generator(self.config.seed, self.name).permutation(total), 0
        plans: dict[str, Plan] = {}
        for split, count in counts.items():
            if count:
                plans[split] = self._plan_of(np.sort(order[start : start + count]))
                self._first[split] = start
            start += count
        try:
            self._pixels = self._chosen(np.concatenate([plan.ids for plan in plans.values()]), total)
        except READING as error:
            raise DataError(f"'{self.config.root}' is not the published {self.name}: {error}.", self.remedy) from error
        return plans

    def _chosen(self, chosen: np.ndarray, total: int) -> np.ndarray:
        """The images at these places of the grid, in that order.

        Raises:
            ValueError: the grid is not whole.
        """
        place = np.full(total, -1)
        place[chosen] = np.arange(len(chosen))
        seen = np.zeros(total, bool)
        pixels: np.ndarray | None = None
        for rows, images in self.blocks(self.config.root):
            if seen[rows].any():
                raise ValueError("some combinations of factors occur twice")
            seen[rows] = True
            if pixels is None:
                pixels = np.empty((len(chosen), *images.shape[1:]), np.uint8)
            wanted = place[rows] >= 0
            pixels[place[rows][wanted]] = images[wanted]
        if pixels is None or not seen.all():
            raise ValueError(f"it holds {int(seen.sum())} images, {total} are expected")
        return pixels

    def _plan_of(self, rows: np.ndarray) -> Plan:
        factors = np.stack(np.unravel_index(rows, self.sizes()), 1).astype(np.int16)
        small = [factors[:, [k]] == np.arange(size) for k, size in enumerate(self.sizes()) if size <= 10]
        labels = factors[:, list(self.grid).index(self.label)].astype(np.int64) if self.label else None
        return Plan(
            rows.astype(np.int64), labels, np.concatenate(small, 1).astype(np.uint8) if small else None, factors
        )

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        assert self._pixels is not None
        first = self._first[split]
        images = self._pixels[first + start : first + stop]
        return Drawn(np.stack([centre_crop_resize(image, self.config.image_size) for image in images]))


def _in_npz(path: Path, name: str, total: int) -> Iterator[Block]:
    """The images of an array of an npz file, whose first axis is the grid's, without all of it in memory."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(member)
        if dtype != np.uint8 or len(shape) not in (3, 4):
            raise ValueError(f"{name} is {dtype} {shape}")
        if shape[0] != total:
            raise ValueError(f"it holds {shape[0]} images, {total} are expected")
        if fortran:  # images lie across each other
            with np.load(path, allow_pickle=False) as file:
                yield np.arange(total), file[name]
            return
        size = int(np.prod(shape[1:]))
        for start in range(0, total, BLOCK):
            stop = min(start + BLOCK, total)
            content = member.read((stop - start) * size)
            if len(content) != (stop - start) * size:
                raise EOFError(f"{name} ends after {start + len(content) // size} images")
            yield np.arange(start, stop), np.frombuffer(content, np.uint8).reshape(-1, *shape[1:])


class DSprites(FactorSet):
    """dSprites (Matthey et al. 2017): white hearts, squares and ellipses on black."""

    name = "dsprites"
    summary = "dSprites: 737,280 white shapes with 5 factors; reads the published npz"
    grid = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
    label = "shape"
    remedy = (
        "Get dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz from https://github.com/google-deepmind/dsprites-dataset "
        "and give its path as 'root'."
    )
    source = "https://github.com/google-deepmind/dsprites-dataset (Matthey et al. 2017)"
    licence = "zlib/libpng"

    def blocks(self, path: Path) -> Iterator[Block]:
        # Its metadata is a pickle, which is left alone.
        for rows, images in _in_npz(path, "imgs", int(np.prod(self.sizes()))):
            yield rows, images * np.uint8(255)


class Shapes3DPublished(FactorSet):
    """3D Shapes (Burgess and Kim 2018)."""

    name = "3dshapes"
    summary = "3D Shapes: 480,000 rooms with 6 factors; reads the published h5 (the embedded look-alike is shapes3d)"
    grid = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
    label = "shape"
    remedy = "Get 3dshapes.h5 from https://github.com/google-deepmind/3d-shapes and give its path as 'root'."
    source = "https://github.com/google-deepmind/3d-shapes (Burgess and Kim 2018)"
    licence = "Apache-2.0"

    def blocks(self, path: Path) -> Iterator[Block]:
        with h5py.File(path, "r") as file:
            images, total = file["images"], int(np.prod(self.sizes()))
            if images.dtype != np.uint8 or images.ndim != 4 or len(images) != total:
                raise ValueError(f"images are {images.dtype} {images.shape}, {total} are expected")
            for start in range(0, total, BLOCK):
                stop = min(start + BLOCK, total)
                yield np.arange(start, stop), images[start:stop]


class MPI3D(FactorSet):
    """MPI3D (Gondal et al. 2019): a robot arm holding an object, simulated or photographed."""

    name = "mpi3d"
    summary = "MPI3D: 1,036,800 images of a robot arm with 7 factors; reads the published npz"
    grid = {
        "object_colour": 6, "object_shape": 6, "object_size": 2, "camera_height": 3, "background_colour": 3,
        "horizontal_axis": 40, "vertical_axis": 40,
    }  # fmt: skip
    label = "object_shape"
    remedy = (
        "Get mpi3d_toy.npz (or realistic, real) from https://github.com/rr-learning/disentanglement_dataset and give "
        "its path as 'root'."
    )
    source = "https://github.com/rr-learning/disentanglement_dataset (Gondal et al. 2019)"
    licence = "CC BY 4.0"

    def blocks(self, path: Path) -> Iterator[Block]:
        return _in_npz(path, "images", int(np.prod(self.sizes())))


class Cars3D(FactorSet):
    """Cars3D (Reed et al. 2015): 183 models of cars turned about their axis and seen from four heights."""

    name = "cars3d"
    summary = "Cars3D: 17,568 renderings of cars with 3 factors; reads the published mat files"
    grid = {"elevation": 4, "azimuth": 24, "car": 183}
    remedy = (
        "Get nips2015-analogy-data.tar.gz from http://www.scottreed.info/files/nips2015-analogy-data.tar.gz, unpack "
        "it, and give the folder data/cars as 'root'."
    )
    source = "Reed et al., Deep Visual Analogy-Making (2015)"

    def blocks(self, path: Path) -> Iterator[Block]:
        files = sorted(path.glob("car_*_mesh.mat")) or sorted(path.glob("*.mat"))
        if len(files) != self.grid["car"]:
            raise ValueError(f"it holds {len(files)} mat files, {self.grid['car']} are expected")
        views = self.grid["elevation"] * self.grid["azimuth"]
        for car, file in enumerate(files):
            # im is (H, W, 3, azimuth, elevation).
            images = loadmat(file)["im"].transpose(4, 3, 0, 1, 2)
            rows = np.arange(views) * self.grid["car"] + car
            yield rows, images.reshape(views, *images.shape[2:])


class SmallNORB(FactorSet):
    """SmallNORB (LeCun, Huang and Bottou 2004): grey photographs of toys; the left camera's pictures."""

    name = "smallnorb"
    summary = "SmallNORB: 48,600 photographs of toys with 5 factors; reads the published binary mat files"
    grid = {"category": 5, "instance": 10, "elevation": 9, "azimuth": 18, "lighting": 6}
    label = "category"
    remedy = (
        "Get the six smallnorb-5x46789x9x18x6x2x96x96-{training,testing}-{dat,cat,info}.mat from "
        "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/, unpack them, and give their folder as 'root'."
    )
    source = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/ (LeCun, Huang and Bottou 2004)"
    licence = "research"
    _types: ClassVar[dict[int, Any]] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}

    def blocks(self, path: Path) -> Iterator[Block]:
        for part in ("5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing"):
            data, category, info = (self._matrix(path, part, kind) for kind in ("dat", "cat", "info"))
            facts = np.column_stack([category, info])
            facts[:, 3] //= 2  # azimuths are even numbers of tens of degrees
            yield np.ravel_multi_index(tuple(facts.T), self.sizes()), data[:, 0]

    def _matrix(self, folder: Path, part: str, kind: str) -> np.ndarray:
        found = sorted(folder.glob(f"*{part.rpartition('-')[2]}-{kind}.mat"))
        if len(found) != 1:
            raise ValueError(f"it holds {len(found)} files *{part.rpartition('-')[2]}-{kind}.mat, one is expected")
        content = found[0].read_bytes()
        magic, dimensions = struct.unpack("<ii", content[:8])
        if magic not in self._types:
            raise ValueError(f"{found[0].name} is no matrix of NORB's")
        start = 8 + 4 * max(dimensions, 3)
        shape = struct.unpack(f"<{dimensions}i", content[8 : 8 + 4 * dimensions])
        return np.frombuffer(content, self._types[magic], offset=start).reshape(shape)
