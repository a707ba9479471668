"""Images at the door: the one crop-and-resize function and the conversions between value ranges.

Images are stored as uint8 in [0, 255], enter frozen networks as float in [0, 1] and tokenizers as float in [-1, 1].
Every image of either side of a comparison passes through these functions and no others.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaebench.core.errors import DataError

ROUNDING = "round"
"""How floats become bytes: 127.5 x + 127.5 rounded to the nearest integer (ties to even), then clamped to [0, 255].
SiT and LightningDiT round, REPA and REPA-E truncate; the choice moves FID, so it belongs to a score's protocol."""


def as_rgb(image: Image.Image) -> Image.Image:
    """A PIL image in RGB, transparency dropped; 16-bit grey is divided by 257, so that 65535 becomes 255.

    Raises:
        DataError: 32-bit grey (modes I and F), which has no range of its own.
    """
    if image.mode in ("I", "F"):
        raise DataError(f"32-bit grey (mode {image.mode}) has no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):  # Pillow would clip it at 255: all white
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    return image.convert("RGB")


def centre_crop_resize(image: Image.Image | np.ndarray, size: int) -> np.ndarray:
    """Scale the shorter side to ``size`` and cut the centre square, as ADM prepared ImageNet.

    While the shorter side is at least twice ``size`` the image is halved by box averaging; then it is scaled by PIL's
    antialiased bicubic filter and cropped. An image already of that size comes back unchanged.

    Args:
        image: a PIL image (brought to RGB by :func:`as_rgb`), or a uint8 array (H, W) or (H, W, 3).
        size: side of the result in pixels.

    Returns:
        uint8 array (3, size, size).

    Raises:
        ValueError: an array that is not uint8 or has another shape; a size or side below one.
        DataError: as :func:`as_rgb`.

    Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis (2021), ``center_crop_arr``.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            raise ValueError(f"Expected uint8 (H, W) or (H, W, 3), got {image.dtype} {image.shape}.")
        image = Image.fromarray(image)
    if size < 1 or min(image.size) < 1:
        raise ValueError(f"Cannot turn an image of {image.size[0]} x {image.size[1]} into {size} x {size}.")
    image = as_rgb(image)
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    scaled = (round(image.width * scale), round(image.height * scale))
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.ascontiguousarray(np.asarray(image)[top : top + size, left : left + size].transpose(2, 0, 1))


def _as_bytes(images: np.ndarray | Tensor) -> Tensor:
    tensor = torch.as_tensor(images)
    if tensor.dtype != torch.uint8:
        raise ValueError(f"Expected uint8 images, got {tensor.dtype}; floats are already in a range of their own.")
    return tensor


def to_unit(images: np.ndarray | Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]: x / 255, any shape."""
    return _as_bytes(images).float().div_(255.0)


def to_signed(images: np.ndarray | Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]: x / 127.5 - 1, any shape."""
    return _as_bytes(images).float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] (values outside are clamped) -> uint8, by the rule :data:`ROUNDING`.

    Inverse of :func:`to_signed`: every byte comes back as it was.

    Raises:
        ValueError: integers, or values that are not finite.
    """
    if not images.is_floating_point():
        raise ValueError(f"Expected float images in [-1, 1], got {images.dtype}.")
    if not torch.isfinite(images).all():
        raise ValueError("Images hold NaN or infinity.")
    return rounded(images)


def rounded(images: Tensor) -> Tensor:
    """:func:`to_uint8` of floats that are known to be finite: a GPU is not waited for to look again."""
    return images.float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
