import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, NumericalError, UnknownName
from vaebench.vision import NETWORKS, extract, load_network
from vaebench.vision.base import Features, FrozenNetwork, Preprocessing


class Averages(FrozenNetwork):
    """A network whose features are plain to see: the image at 2 x 2, and its mean colour."""

    Config = Config
    name = "averages"
    input_size = 2
    weights_hash = ""

    def __init__(self, config: Config, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.settle()

    def features(self, images: Tensor) -> Features:
        patches = nn.functional.adaptive_avg_pool2d(images, 2) * self.factor
        return Features(patches, patches.mean((2, 3)))


IMAGES = np.random.default_rng(0).integers(0, 256, (70, 3, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("batch_size", [1, 32, 64, 100])
def test_every_image_in_its_row(batch_size: int, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = extract(Averages(Config()), lambda rows: IMAGES[rows], len(IMAGES), batch_size=batch_size, title="look")
    assert arrays["patches"].dtype == np.float16
    assert arrays["pooled"].dtype == np.float32
    assert arrays["patches"].shape == (70, 3, 2, 2)
    np.testing.assert_allclose(arrays["pooled"], IMAGES.mean((2, 3)) / 255, atol=1e-6)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_hold_images(batch_size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch_size must be positive, got {batch_size}"):
        extract(Averages(Config()), lambda rows: IMAGES[rows], len(IMAGES), batch_size=batch_size)


def test_only_what_is_wanted() -> None:
    assert set(extract(Averages(Config()), lambda rows: IMAGES[rows], 3, want=("pooled",))) == {"pooled"}


@pytest.mark.parametrize("factor", [float("nan"), 1e6])
def test_features_that_are_not_finite(factor: float) -> None:
    with pytest.raises(NumericalError, match="patches that are not finite"):
        extract(Averages(Config(), factor), lambda rows: IMAGES[rows], 5, want=("patches",))


def test_preprocessing_resizes_with_antialias() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1.0
    same = Preprocessing(16, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(stripes)
    assert (same - 0.5).abs().max() < 0.05
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    normalised = Preprocessing(64, "bicubic", mean, std)(stripes)
    expected = (stripes - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalised, expected)


def test_registry() -> None:
    assert {"efficientnet-lite0", "mobilenetv2", "inception", "timm"} <= set(NETWORKS.names())
    with pytest.raises(UnknownName, match="Did you mean 'mobilenetv2'"):
        load_network("mobilenet-v2")


def test_importing_the_room_is_cheap() -> None:
    code = "import sys, vaebench.vision; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
