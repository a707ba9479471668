import numpy as np
import pytest
import torch
from PIL import Image

from vaebench.core.errors import DataError
from vaebench.vision.transforms import centre_crop_resize, to_signed, to_uint8, to_unit


def photograph(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def adm_reference(image: Image.Image, size: int) -> np.ndarray:
    """The published recipe, step by step, in floating crop coordinates as its authors describe it."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.Resampling.BICUBIC)
    array = np.array(image)
    y, x = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[y : y + size, x : x + size].transpose(2, 0, 1)


@pytest.mark.parametrize("shape", [(64, 64), (100, 333), (333, 100), (65, 64), (30, 40), (500, 129)])
def test_crop_follows_adm(shape: tuple[int, int]) -> None:
    image = photograph(*shape)
    assert np.array_equal(centre_crop_resize(image, 64), adm_reference(Image.fromarray(image), 64))


def test_crop_of_right_size_is_identity() -> None:
    image = photograph(32, 32)
    assert np.array_equal(centre_crop_resize(image, 32), image.transpose(2, 0, 1))


def test_crop_takes_the_centre() -> None:
    image = np.zeros((16, 48, 3), np.uint8)
    image[:, 16:32] = 200
    assert (centre_crop_resize(image, 16) == 200).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16", "CMYK"])
def test_crop_takes_every_mode(mode: str) -> None:
    result = centre_crop_resize(Image.new(mode, (20, 30)), 8)
    assert result.shape == (3, 8, 8)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous


def test_crop_scales_16_bit_grey() -> None:
    grey = np.array([[0, 128], [257 * 100 + 129, 65535]], np.uint16)
    seen = centre_crop_resize(Image.fromarray(grey), 2)
    assert seen.tolist() == [[[0, 0], [101, 255]]] * 3
    assert np.array_equal(centre_crop_resize(Image.fromarray(grey.astype(">u2")), 2), seen)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_crop_refuses_32_bit_grey(mode: str) -> None:
    with pytest.raises(DataError, match="32-bit grey"):
        centre_crop_resize(Image.new(mode, (8, 8)), 8)


@pytest.mark.parametrize("bad", [np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros(8, np.uint8)])
def test_crop_refuses_other_arrays(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Expected uint8"):
        centre_crop_resize(bad, 8)


def test_crop_refuses_empty() -> None:
    with pytest.raises(ValueError, match="Cannot turn"):
        centre_crop_resize(np.zeros((8, 8, 3), np.uint8), 0)


def test_bytes_come_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_signed(every)), every)
    assert to_unit(every).min() == 0
    assert to_unit(every).max() == 1
    assert to_signed(every.numpy()).min() == -1
    assert to_signed(every).max() == 1


def test_rounding_is_to_the_nearest_and_clamped() -> None:
    values = torch.tensor([-7.0, -1.0, (100.4 - 127.5) / 127.5, (100.6 - 127.5) / 127.5, 1.0, 3.0])
    assert to_uint8(values).tolist() == [0, 0, 100, 101, 255, 255]


def test_ranges_are_not_confused() -> None:
    with pytest.raises(ValueError, match="already in a range"):
        to_unit(torch.zeros(2))
    with pytest.raises(ValueError, match="Expected float"):
        to_uint8(torch.zeros(2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.tensor([float("nan")]))
