"""Fashion-MNIST: 70,000 photographs of articles sold by Zalando, in ten classes, with a class-attribute table.

Source: Xiao, Rasul and Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms
(2017). The images are 28 x 28 grey. They are enlarged bicubically to ``image_size`` and repeated on three channels. The
default of 64 gives an f16 tokenizer a grid of 4 x 4; at 32 it would be left with 2 x 2.

Attributes belong to classes, as in Animals with Attributes: what nearly every article of the class has. A probe on them
measures how well groups of classes separate, not how images of one class differ.
"""

import gzip
import struct
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from vaebench.core.errors import ConfigError, DataError, MissingPath
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import DataInfo
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig
from vaebench.vision.transforms import centre_crop_resize

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
TOP, TROUSER, PULLOVER, DRESS, COAT, SANDAL, SHIRT, SNEAKER, BAG, BOOT = range(10)

# Attribute -> the classes that have it. No two attributes have the same classes.
CLASS_ATTRIBUTES: dict[str, tuple[int, ...]] = {
    "garment": (TOP, TROUSER, PULLOVER, DRESS, COAT, SHIRT),  # cloth worn on the body
    "upper_body": (TOP, PULLOVER, DRESS, COAT, SHIRT),  # covers the chest
    "legwear": (TROUSER, DRESS),  # covers the thighs
    "footwear": (SANDAL, SNEAKER, BOOT),
    "carried": (BAG,),  # held, not worn
    "sleeves": (TOP, PULLOVER, COAT, SHIRT),  # of any length; most dresses here have none
    "long_sleeves": (PULLOVER, COAT, SHIRT),
    "short_sleeves": (TOP,),
    "open_front": (COAT, SHIRT),  # opens from top to bottom, with buttons or a zip
    "pulled_over_head": (TOP, PULLOVER, DRESS),
    "has_straps": (SANDAL, BAG),  # straps or a handle
    "closed_shoe": (SNEAKER, BOOT),  # covers the toes
    "ankle_high": (BOOT,),
    "reaches_ankle": (TROUSER, BOOT),
    "dress_length": (DRESS, COAT),  # falls well below the hip
    "two_legs": (TROUSER,),
    "bares_skin": (TOP, DRESS, SANDAL),  # for warm weather
    "warm": (PULLOVER, COAT, BOOT),  # for cold weather
}

IMAGES_MAGIC, LABELS_MAGIC = 0x00000803, 0x00000801
OFFICIAL = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEFAULT_FOLDERS = (DEBIAN_FOLDER, Path("data"))


class FashionMNISTConfig(SourceConfig):
    """Configuration of Fashion-MNIST.

    Attributes:
        image_size: pixels; the 28 x 28 originals are enlarged bicubically.
        root: folder of the four IDX files (plain or .gz), or the root that torchvision was given; when None, the folder
            of Debian's package dataset-fashion-mnist, then ``data`` in the working directory.
        train, validation: images from the official training set (together at most 60,000), chosen by ``seed``.
        test: images from the official test set (at most 10,000), chosen by ``seed``.
    """

    root: Path | None = None
    train: int = Field(55_000, gt=0)
    validation: int = Field(5_000, ge=0)
    test: int = Field(10_000, ge=0)
    seed: int = 0


class FashionMNIST(ImageSource):
    """Source that reads the IDX files."""

    Config: ClassVar[type[SourceConfig]] = FashionMNISTConfig
    summary = "photographs of clothing in 10 classes with a class-attribute table; reads the IDX files"

    config: FashionMNISTConfig

    def __init__(self, config: FashionMNISTConfig) -> None:
        super().__init__(config)
        self._pixels: dict[str, np.ndarray] = {}

    def version(self) -> str:
        return f"pillow {version('pillow')}"

    def identity(self) -> dict[str, Any]:
        return dict(self.config.model_dump(mode="json", exclude={"root"}))

    def watched(self) -> dict[str, Path]:
        if self.config.root is not None:
            return {}
        try:
            folder = find_folder(None)
        except MissingPath:
            return {}
        if folder.is_relative_to(DEBIAN_FOLDER):  # the same on every machine, whatever their times
            return {}
        return {path.name: path for path in folder.glob("*-idx?-ubyte*") if path.is_file()}

    def describe(self) -> DataInfo:
        return DataInfo(
            name="fashion-mnist",
            image_size=self.config.image_size,
            classes=CLASSES,
            attributes=tuple(CLASS_ATTRIBUTES),
            attribute_level="class",
            licence="MIT",
            source="https://github.com/zalandoresearch/fashion-mnist (Xiao, Rasul and Vollgraf 2017)",
        )

    def plan(self) -> dict[str, Plan]:
        config = self.config
        folder = find_folder(config.root)
        wanted = {"train": (config.train, config.validation), "test": (config.test,)}
        plans = {}
        for official, counts in wanted.items():
            prefix, _ = OFFICIAL[official]
            images = read_idx(folder, f"{prefix}-images", IMAGES_MAGIC)
            labels = read_idx(folder, f"{prefix}-labels", LABELS_MAGIC)
            if len(images) != len(labels):
                raise DataError(f"{folder}: {len(images)} {official} images but {len(labels)} labels.")
            if labels.size and labels.max() >= len(CLASSES):
                raise DataError(f"{folder}: a {official} label is {labels.max()}; there are {len(CLASSES)} classes.")
            if sum(counts) > len(images):
                raise ConfigError(
                    f"{' + '.join(map(str, counts))} images are asked for, but the official {official} set in {folder} "
                    f"has {len(images)}.",
                    "Lower train and validation, or test.",
                )
            order = numpy_generator(config.seed, "fashion-mnist", official).permutation(len(images))
            first = 0 if official == "train" else OFFICIAL["train"][1]
            start = 0
            for split, count in zip(("train", "validation") if official == "train" else ("test",), counts, strict=True):
                rows = np.sort(order[start : start + count])
                start += count
                self._pixels[split] = images[rows]
                split_labels = labels[rows].astype(np.int64)
                plans[split] = Plan(first + rows, split_labels, class_attributes()[split_labels])
        return plans

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        size = self.config.image_size
        return Drawn(np.stack([centre_crop_resize(image, size) for image in self._pixels[split][start:stop]]))


def class_attributes() -> np.ndarray:
    """The class-attribute table, uint8 (10 classes, A attributes)."""
    return np.array([[c in having for having in CLASS_ATTRIBUTES.values()] for c in range(len(CLASSES))], np.uint8)


def find_folder(root: Path | None) -> Path:
    """The folder that holds the IDX files.

    Raises:
        MissingPath: none of the places has them; the remedy says how to get them and where to put them.
    """
    roots = DEFAULT_FOLDERS if root is None else (root,)
    places = [place for r in roots for place in (r, r / "FashionMNIST" / "raw", r / "raw")]
    for place in places:
        if any(place.glob("train-images*idx3-ubyte*")):
            return place
    raise MissingPath(
        f"Fashion-MNIST's IDX files are in none of {', '.join(map(str, places))}.",
        "On Debian: apt install dataset-fashion-mnist. Elsewhere: download train-images-idx3-ubyte.gz, "
        "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz from "
        "https://github.com/zalandoresearch/fashion-mnist, put them into one folder and give it as 'root'.",
    )


def read_idx(folder: Path, name: str, magic: int) -> np.ndarray:
    """Read ``name-idx{1,3}-ubyte`` or the same with ``.gz``.

    IDX is a big-endian header (magic number, one 32-bit size per dimension) followed by the bytes.

    Raises:
        MissingPath: no such file.
        DataError: it is no such IDX file, or is truncated.
    """
    dimensions = magic & 0xFF
    plain = folder / f"{name}-idx{dimensions}-ubyte"
    packed = plain.with_name(plain.name + ".gz")
    path = plain if plain.is_file() else packed
    if not path.is_file():
        raise MissingPath(f"{folder} has neither {plain.name} nor {packed.name}.", "Fetch all four IDX files.")
    try:
        content = gzip.decompress(path.read_bytes()) if path == packed else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated or not gzip: {error}.", "Fetch the file again.") from error
    header = 4 + 4 * dimensions
    if len(content) < header or struct.unpack(">I", content[:4])[0] != magic:
        raise DataError(f"{path} is no IDX file of {dimensions} dimension(s).", "Fetch the file again.")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) != header + int(np.prod(shape)):
        raise DataError(f"{path} is truncated: it should hold {shape} bytes.", "Fetch the file again.")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
