"""A tokenizer and a data set small enough to compute by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebench.data.base import DataInfo, Factor, ImageSplit
from vaebench.latents import LatentFile, write_latents
from vaebench.latents.schema import Provenance, Transform
from vaebench.tokenizers.base import LatentNormalisation, Posterior, Tokenizer, TokenizerSpec

SIZE, F, D = 8, 4, 5


class Killed(BaseException):
    """Stands for kill -9: nothing in the code under test catches it."""


class BlockTokenizer(Tokenizer):
    """Projects each f x f block of pixels with fixed random weights; std is a function of the block too."""

    def __init__(
        self, gain: float = 1.0, normalisation: LatentNormalisation | None = None, name: str = "blocks"
    ) -> None:
        generator = torch.Generator().manual_seed(7)
        self.weight = gain * torch.randn(D, 3, F, F, generator=generator)
        self._spec = TokenizerSpec(
            name=name,
            method="test",
            f=F,
            d=D,
            normalisation=normalisation,
            source="tests",
            checkpoint_hash=f"hash-of-{gain:g}",
        )
        self.calls = 0
        self.kill_at_call: int | None = None

    @property
    def spec(self) -> TokenizerSpec:
        return self._spec

    def encode(self, images: Tensor) -> Posterior:
        self.calls += 1
        if self.calls == self.kill_at_call:
            raise Killed
        mean = torch.nn.functional.conv2d(images, self.weight, stride=F)
        return Posterior(mean, torch.sigmoid(mean) + 0.1)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.conv_transpose2d(latents, self.weight, stride=F)


class ArraySplit(ImageSplit):
    """A split held in memory."""

    def __init__(self, n: int, name: str = "train", first_id: int = 1000, size: int = SIZE) -> None:
        generator = np.random.default_rng(first_id)
        self.name = name
        self.ids = np.arange(first_id, first_id + n)
        self.labels = generator.integers(0, 3, n)
        self.attributes = generator.integers(0, 2, (n, 4)).astype(np.uint8)
        self.factors = generator.integers(0, 5, (n, 2)).astype(np.int16)
        self.nuisance = None
        self.pixels = generator.integers(0, 256, (n, 3, size, size)).astype(np.uint8)

    def images(self, indices: np.ndarray | slice) -> np.ndarray:
        return self.pixels[indices]

    def masks(self, indices: np.ndarray | slice) -> None:
        return None


def info(fingerprint: str = "f00d", name: str = "noise") -> DataInfo:
    return DataInfo(
        name=name,
        image_size=SIZE,
        classes=("a", "b", "c"),
        attributes=("p", "q", "r", "s"),
        attribute_level="image",
        factors=(Factor("x", tuple("12345")), Factor("y", tuple("12345"))),
        fingerprint=fingerprint,
    )


def provenance(dtype: str = "float32", flip: str = "none", split: str = "train", d: int = D) -> Provenance:
    return Provenance(
        tokenizer=TokenizerSpec(name="made", method="test", f=F, d=d, checkpoint_hash="abc"),
        data=json.loads(info().to_json()),
        split=split,
        transform=Transform(image_size=(SIZE, SIZE), flip=flip),
        dtype=dtype,
    )


@pytest.fixture
def split() -> ArraySplit:
    return ArraySplit(50)


@pytest.fixture
def tokenizer() -> BlockTokenizer:
    return BlockTokenizer()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.h5"


@pytest.fixture
def kit() -> object:
    """The helpers of this file, for tests that need more than one of them."""

    class Kit:
        Killed, Tokenizer, Split = Killed, BlockTokenizer, ArraySplit
        size, f, d = SIZE, F, D

    Kit.info = staticmethod(info)
    Kit.provenance = staticmethod(provenance)
    return Kit


@pytest.fixture
def random_file(tmp_path: Path) -> Callable[..., LatentFile]:
    """Write a latent file of random numbers: random_file(n, shape, dtype)."""

    def write(
        n: int = 300, shape: tuple[int, int, int] = (D, 2, 2), dtype: str = "float32", name: str = "random.h5"
    ) -> LatentFile:
        generator = np.random.default_rng(n)
        mean = generator.normal(3, 2, (n, *shape)).astype(np.float32)
        std = generator.uniform(0.1, 1, (n, *shape)).astype(np.float32)
        return write_latents(tmp_path / name, mean, std, provenance(dtype, d=shape[0]), np.arange(n) + 10)

    return write
