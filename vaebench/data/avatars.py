"""Avatars: cartoon people, drawn on demand, with known factors, attributes, masks and class labels.

Drawings are of the package python-avatars (MIT), rasterised by resvg. A sample is a function of (seed, id) alone.
Besides its categorical factors every sample has continuous nuisance (where the person stands, how the light falls, the
shade of every colour), so that the images are not a finite set of tiles.
"""

import io
from typing import ClassVar, Literal

import numpy as np
import resvg_py
from PIL import Image
from pydantic import NonNegativeInt

from vaebench.core.seeds import numpy_generator
from vaebench.data import avatar_parts
from vaebench.data.avatar_factors import (
    ATTRIBUTES,
    CLASSES,
    FACTOR_NAMES,
    FACTORS,
    LABEL_OF_TOP,
    attributes_of,
    choose,
)
from vaebench.data.base import SPLITS, DataInfo, Factor
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig

# Nuisance variable -> lowest and highest value, uniform between them.
NUISANCE: dict[str, tuple[float, float]] = {
    "shift_x": (-0.04, 0.04),  # fraction of the image
    "shift_y": (-0.03, 0.03),
    "scale": (0.93, 1.07),
    "rotation": (-8.0, 8.0),  # degrees
    "brightness": (0.85, 1.08),  # factor on every channel
    "light_x": (-0.15, 0.15),  # how much brighter the right edge is than the middle
    "light_y": (-0.15, 0.15),
    "background_shade": (-0.12, 0.12),  # relative lightness of the factor's colour
    "skin_shade": (-0.06, 0.06),
    "hair_shade": (-0.15, 0.15),
    "clothes_shade": (-0.12, 0.12),
}
# Framing -> left, top and side of the square shown, in units of the drawing (264 x 280).
FRAMES = {"head": (26.0, 11.0, 212.0), "bust": (7.0, 2.0, 250.0)}


class AvatarsConfig(SourceConfig):
    """Configuration of the avatars.

    Attributes:
        image_size: pixels.
        train, validation, test: images per split.
        seed: another seed gives other people.
        framing: "head" shows head and shoulders, large enough for the face to survive 64 x 64; "bust" shows all.
        masks: also store foreground masks.
    """

    train: NonNegativeInt = 8000
    validation: NonNegativeInt = 1000
    test: NonNegativeInt = 2000
    seed: int = 0
    framing: Literal["head", "bust"] = "head"
    masks: bool = True


class Avatars(ImageSource):
    """Source of the embedded data set."""

    Config: ClassVar[type[SourceConfig]] = AvatarsConfig
    summary = "cartoon people: 14 factors, 75 attributes, 11 classes, masks; drawn here, no files needed"

    config: AvatarsConfig

    def __init__(self, config: AvatarsConfig) -> None:
        super().__init__(config)
        self.has_masks = config.masks
        self._plans: dict[str, Plan] = {}

    def describe(self) -> DataInfo:
        factors = tuple(Factor(name, tuple(c.name for c in choices)) for name, choices in FACTORS.items())
        return DataInfo(
            name="avatars",
            image_size=self.config.image_size,
            classes=CLASSES,
            attributes=ATTRIBUTES,
            attribute_level="image",
            factors=factors,
            licence="MIT (package python-avatars)",
            source=self.version(),
            nuisance=tuple(NUISANCE),
        )

    def version(self) -> str:
        return avatar_parts.source_version()

    def plan(self) -> dict[str, Plan]:
        start = 0
        for split in SPLITS:
            count = getattr(self.config, split)
            self._plans[split] = plan_samples(np.arange(start, start + count), self.config.seed)
            start += count
        return self._plans

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        plan = self._plans[split]
        assert plan.factors is not None
        assert plan.nuisance is not None
        images, masks = draw_avatars(
            plan.factors[start:stop], plan.nuisance[start:stop], self.config.image_size, self.config.framing
        )
        return Drawn(images, masks if self.has_masks else None)


def plan_samples(ids: np.ndarray, seed: int) -> Plan:
    """Factors, attributes, labels and nuisance of samples; row i depends on ``seed`` and ``ids[i]`` alone."""
    columns = len(FACTORS) + len(NUISANCE)
    uniform = np.empty((len(ids), columns))
    for row, sample in zip(uniform, ids, strict=True):
        numpy_generator(seed, "avatars", int(sample)).random(out=row)
    factors = choose(uniform[:, : len(FACTORS)])
    low, high = np.array(list(NUISANCE.values())).T
    nuisance = (low + (high - low) * uniform[:, len(FACTORS) :]).astype(np.float32)
    labels = LABEL_OF_TOP[factors[:, FACTOR_NAMES.index("top")]]
    return Plan(ids.astype(np.int64), labels, attributes_of(factors), factors, nuisance)


def draw_avatars(
    factors: np.ndarray, nuisance: np.ndarray, size: int, framing: str = "head"
) -> tuple[np.ndarray, np.ndarray]:
    """Draw people.

    Args:
        factors: int (n, K), as in ``FACTORS``.
        nuisance: float (n, M), as in ``NUISANCE``.
        size: side of the images in pixels.
        framing: a key of ``FRAMES``.

    Returns:
        images uint8 (n, 3, size, size), and foreground masks uint8 (n, size, size).
    """
    rgba = np.empty((len(factors), size, size, 4), np.uint8)
    background = np.empty((len(factors), 1, 1, 3), np.float32)
    for i, (values, continuous) in enumerate(zip(factors, nuisance, strict=True)):
        text, colour = avatar_svg(values, continuous, framing)
        png = resvg_py.svg_to_bytes(svg_string=text, width=size, height=size, skip_system_fonts=True)
        with Image.open(io.BytesIO(png)) as image:
            rgba[i] = np.asarray(image)
        background[i] = colour
    alpha = rgba[..., 3:].astype(np.float32) / 255
    pixels = rgba[..., :3] * alpha + background * (1 - alpha)
    pixels *= _light(nuisance, size)
    images = np.clip(pixels + 0.5, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), (rgba[..., 3] >= 128).astype(np.uint8)


def _light(nuisance: np.ndarray, size: int) -> np.ndarray:
    """Factor on the pixels, float32 (n, size, size, 1): brightness times a linear ramp."""
    brightness, light_x, light_y = (
        nuisance[:, list(NUISANCE).index(name), None, None] for name in ("brightness", "light_x", "light_y")
    )
    across = np.linspace(-1, 1, size, dtype=np.float32)
    return (brightness * (1 + light_x * across + light_y * across[:, None]))[..., None].astype(np.float32)


def _shaded(colour: str, shade: float) -> np.ndarray:
    """RGB in 0..255 of "#RRGGBB", made relatively lighter or darker."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
    return np.clip(rgb * (1 + shade), 0, 255)


def _text(rgb: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*np.rint(rgb).astype(int))


def avatar_svg(values: np.ndarray, nuisance: np.ndarray, framing: str) -> tuple[str, np.ndarray]:
    """One person as an SVG document without background, and the background's RGB in 0..255."""
    chosen = {name: choices[value] for (name, choices), value in zip(FACTORS.items(), values, strict=True)}
    vary = dict(zip(NUISANCE, map(float, nuisance), strict=True))

    def colour(factor: str, shade: str) -> str:
        return _text(_shaded(chosen[factor].drawing or "#000000", vary[shade]))

    skin, hair = colour("skin", "skin_shade"), colour("hair_colour", "hair_shade")
    beard = colour("facial_hair_colour", "hair_shade")

    def drawing(factor: str, fabric: str = "", **slots: str) -> str:
        path = chosen[factor].drawing
        if not path:
            return ""
        folder, _, name = path.rpartition("/")
        return avatar_parts.part(folder, name).format_map(
            {"skin": skin, "hair": hair, "beard": beard, "fabric": fabric, **slots}
        )

    top = drawing(
        "top",
        colour("hat_colour", "clothes_shade"),
        **{"Facial-Hair": drawing("facial_hair"), "Accessory": drawing("eyewear")},
    )
    clothing = drawing("clothing", colour("clothing_colour", "clothes_shade"))
    body = avatar_parts.part("styles", "transparent").format_map(
        {
            "skin": skin,
            "Clothing": clothing,
            "Mouth": drawing("mouth"),
            "Nose": drawing("nose"),
            "Eyes": drawing("eyes"),
            "Eyebrow": drawing("eyebrows"),
            "Top": top,
        }
    )
    left, up, side = FRAMES[framing]
    x, y = left + side / 2, up + side / 2
    move = (
        f"translate({x + side * vary['shift_x']:.3f} {y + side * vary['shift_y']:.3f}) "
        f"rotate({vary['rotation']:.3f}) scale({vary['scale']:.4f}) translate({-x} {-y})"
    )
    document = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {up} {side} {side}"><g transform="{move}">{body}</g></svg>'
    )
    return document, _shaded(chosen["background"].drawing, vary["background_shade"])
