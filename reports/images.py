"""Pictures that stages left, cut and packed for a page.

A page carries its pictures inside, so they are packed as WebP, which takes a fraction of PNG's bytes; the files in the
stage folders stay what they are.
"""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
QUALITIES = (90, 78, 60)
"""From hardly to visibly different from the original; a page takes the first with which it is small enough."""
SMALL_ENOUGH = 3_000_000  # bytes of a page
MOST_PIXELS = 40_000_000  # of a picture; beyond that it is not opened

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Packed:
    """A picture on the page: its bytes as a data URI (empty where there is no readable PNG) and its size in pixels."""

    uri: str
    width: int = 0
    height: int = 0


NOTHING = Packed("")
Packer = Callable[..., Packed]


def packer(quality: int) -> Packer:
    """A function that packs PNG files at one quality: `pack(path, box=None)`, box being left, upper, right, lower."""

    def pack(path: Path | None, box: Box | None = None) -> Packed:
        picture = _open(path)
        if picture is None:
            return NOTHING
        part = picture if box is None else picture.crop(box)
        buffer = io.BytesIO()
        part.save(buffer, format="WEBP", quality=quality, method=4)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        return Packed(f"data:image/webp;base64,{encoded}", part.width, part.height)

    return pack


def size_of(path: Path | None) -> tuple[int, int] | None:
    """Width and height of a readable PNG, or None."""
    picture = _open(path)
    return None if picture is None else picture.size


def _open(path: Path | None) -> Image.Image | None:
    """A PNG by its signature, whatever its name says; None for anything else, for a broken one and for a huge one."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
                return None
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
