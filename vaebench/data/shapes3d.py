"""shapes3d: a room with one object, drawn here; every combination of six factors exists exactly once.

A look-alike of 3D Shapes (Burgess and Kim 2018, the set ``3dshapes``), with its factors but not its pixels: floor, wall
and object hue (10 each), scale (8), shape (4) and orientation (15), 480,000 images. As the whole grid can be drawn,
scores that hold factors fixed need no download. The renderer is a vectorised ray caster: each pixel's ray meets the
floor, a wall or the object's distance field, with one light. What rays meet does not depend on hues, so it is found
once for each of the 480 other combinations.
"""

import colorsys
from functools import lru_cache
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from vaebench.core.seeds import numpy_generator
from vaebench.data.base import DataInfo, Factor
from vaebench.data.source import Drawn, ImageSource, Plan, SourceConfig

SHAPES = ("cube", "cylinder", "sphere", "capsule")
HUES = tuple(f"{hue / 10:g}" for hue in range(10))
SCALES = tuple(f"{scale:.3f}" for scale in np.linspace(0.75, 1.25, 8))
ORIENTATIONS = tuple(f"{angle:.1f}" for angle in np.linspace(-30, 30, 15))
FACTORS = (
    Factor("floor_hue", HUES),
    Factor("wall_hue", HUES),
    Factor("object_hue", HUES),
    Factor("scale", SCALES),
    Factor("shape", SHAPES),
    Factor("orientation", ORIENTATIONS),
)
SIZES = tuple(len(factor.values) for factor in FACTORS)
TOTAL = int(np.prod(SIZES))

FLOOR, WALL, OBJECT = range(3)  # the order of their hues among the factors
MARCHING_STEPS = 40
CAMERA, TARGET, FIELD = np.array([0.0, 1.9, 3.7]), np.array([0.0, 0.62, 0.0]), 0.62
LIGHT = np.array([0.35, 0.85, 0.4]) / np.linalg.norm([0.35, 0.85, 0.4])
WALL_DISTANCE = 2.6
WALL_SHADES = np.array([0.78, 0.88, 0.7])  # left, back, right


class Shapes3DConfig(SourceConfig):
    """Configuration of the look-alike.

    Attributes:
        image_size: pixels.
        subset: how many values of each factor are kept, in the order of `FACTORS`, evenly spread; all by default. A
            small grid, such as [3, 3, 3, 2, 4, 3], still has every combination.
        train, validation, test: images, drawn from the grid without replacement; if all are 0, the whole grid is drawn
            as the training split.
        seed: of the division.
    """

    subset: tuple[int, int, int, int, int, int] = SIZES  # type: ignore[assignment]
    train: int = Field(8000, ge=0)
    validation: int = Field(1000, ge=0)
    test: int = Field(2000, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "Shapes3DConfig":
        if any(not 1 <= kept <= size for kept, size in zip(self.subset, SIZES, strict=True)):
            raise ValueError(f"subset {self.subset} must lie between 1 and {SIZES}")
        wanted, there = self.train + self.validation + self.test, int(np.prod(self.subset))
        if wanted > there:
            raise ValueError(f"{wanted} images are asked for, the grid has {there}")
        return self


class Shapes3D(ImageSource):
    """Source that draws the grid."""

    Config: ClassVar[type[SourceConfig]] = Shapes3DConfig
    summary = "a room with one object: six factors, every combination; drawn here, no files needed"
    has_masks = True

    config: Shapes3DConfig

    def __init__(self, config: Shapes3DConfig) -> None:
        super().__init__(config)
        self._plans: dict[str, Plan] = {}

    def version(self) -> str:
        return "renderer 1"

    def describe(self) -> DataInfo:
        kept = [_spread(size, count) for size, count in zip(SIZES, self.config.subset, strict=True)]
        factors = tuple(
            Factor(factor.name, tuple(factor.values[v] for v in values))
            for factor, values in zip(FACTORS, kept, strict=True)
        )
        attributes = tuple(
            f"{factor.name}={value}" for factor in factors for value in factor.values if len(factor.values) > 1
        )
        return DataInfo(
            name="shapes3d", image_size=self.config.image_size, classes=factors[4].values, attributes=attributes,
            attribute_level="image", factors=factors, licence="Apache-2.0",
            source="drawn by vaebench after 3D Shapes (Burgess and Kim 2018)",
        )  # fmt: skip

    def plan(self) -> dict[str, Plan]:
        cfg = self.config
        counts = {"train": cfg.train, "validation": cfg.validation, "test": cfg.test}
        total = int(np.prod(cfg.subset))
        if not any(counts.values()):
            self._plans = {"train": self._plan_of(np.arange(total))}
            return self._plans
        order, start = numpy_generator(cfg.seed, "shapes3d").permutation(total), 0
        for split, count in counts.items():
            if count:
                self._plans[split] = self._plan_of(np.sort(order[start : start + count]))
            start += count
        return self._plans

    def _plan_of(self, ids: np.ndarray) -> Plan:
        factors = np.stack(np.unravel_index(ids, self.config.subset), 1).astype(np.int16)
        columns = [factors[:, [k]] == np.arange(count) for k, count in enumerate(self.config.subset) if count > 1]
        attributes = np.concatenate(columns, 1).astype(np.uint8) if columns else None
        return Plan(ids.astype(np.int64), factors[:, 4].astype(np.int64), attributes, factors)

    def draw(self, split: str, start: int, stop: int) -> Drawn:
        factors = self._plans[split].factors
        assert factors is not None
        kept = [_spread(size, count) for size, count in zip(SIZES, self.config.subset, strict=True)]
        full = np.stack([values[factors[start:stop, k]] for k, values in enumerate(kept)], 1)
        return Drawn(*draw_shapes(full, self.config.image_size))


def _spread(size: int, count: int) -> np.ndarray:
    """``count`` of ``size`` values, evenly spread; hues are a circle, so their last is not the first again."""
    return np.arange(count) * size // count if size == 10 else np.linspace(0, size - 1, count).round().astype(int)


def draw_shapes(factors: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 3, size, size) and object masks uint8 (n, size, size) of factors int (n, 6), see `FACTORS`."""
    palette = np.array([colorsys.hsv_to_rgb(hue / 10, 0.85, 0.9) for hue in range(10)])
    images = np.empty((len(factors), 3, size, size), np.uint8)
    masks = np.empty((len(factors), size, size), np.uint8)
    for i, (*hues, scale, shape, orientation) in enumerate(factors.tolist()):
        surface, light = _traced(scale, shape, orientation, size)
        colours = palette[hues][surface] * light[:, None]
        images[i] = np.clip(colours * 255 + 0.5, 0, 255).astype(np.uint8).T.reshape(3, size, size)
        masks[i] = (surface == OBJECT).reshape(size, size)
    return images, masks


@lru_cache(maxsize=SIZES[3] * SIZES[4] * SIZES[5])
def _traced(scale: int, shape: int, orientation: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What the rays meet and how light it is there: all but colour, which 480 combinations of factors share."""
    angle = np.deg2rad(np.linspace(-30, 30, 15))[orientation]
    cosine, sine = np.cos(angle), np.sin(angle)
    # The whole room turns about the vertical axis, as in 3D Shapes; so the camera turns the other way.
    rotation = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return _trace(CAMERA @ rotation, _rays(size) @ rotation, shape, float(np.linspace(0.75, 1.25, 8)[scale]))


def _rays(size: int) -> np.ndarray:
    """Unit directions (size * size, 3) through the pixels, row by row."""
    forward = (TARGET - CAMERA) / np.linalg.norm(TARGET - CAMERA)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    offsets = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(-offsets, offsets, indexing="ij")
    rays = forward + FIELD * (x.ravel()[:, None] * right + y.ravel()[:, None] * up)
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _trace(origin: np.ndarray, directions: np.ndarray, shape: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Which surface each ray meets (`FLOOR`, `WALL` or `OBJECT`), uint8 (rays,), and how light it is there, (rays,)."""
    distance = np.zeros(len(directions))
    for _ in range(MARCHING_STEPS):
        distance += _field(origin + distance[:, None] * directions, shape, scale)
    points = origin + distance[:, None] * directions
    hit = (_field(points, shape, scale) < 0.01) & (distance < 12)
    with np.errstate(divide="ignore"):
        to_floor = np.where(directions[:, 1] < 0, -origin[1] / directions[:, 1], np.inf)
        walls = [
            np.where(directions[:, axis] < 0, (-WALL_DISTANCE - origin[axis]) / directions[:, axis], np.inf)
            for axis in (0, 2)
        ]
        walls += [np.where(directions[:, 0] > 0, (WALL_DISTANCE - origin[0]) / directions[:, 0], np.inf)]
    ahead = np.where(np.array(walls) > 0, walls, np.inf)
    on_floor = to_floor < ahead.min(0)
    light = np.where(on_floor, 1.0, WALL_SHADES[ahead.argmin(0)])
    ground = origin + np.where(on_floor, to_floor, 0)[:, None] * directions
    shadow = np.hypot(ground[:, 0] + 0.25 * scale, ground[:, 2] + 0.25 * scale) < 0.75 * scale
    light = np.where(on_floor & shadow, 0.6 * light, light)
    normal = _normals(points[hit], shape, scale)
    light[hit] = 0.45 + 0.55 * np.clip(normal @ LIGHT, 0, None)
    surface = np.where(hit, OBJECT, np.where(on_floor, FLOOR, WALL)).astype(np.uint8)
    return surface, light


def _field(points: np.ndarray, shape: int, scale: float) -> np.ndarray:
    """Signed distance of points (n, 3) to the object, which stands on the floor at the origin."""
    x, y, z = (points / scale - [0, 0.6, 0]).T
    if SHAPES[shape] == "sphere":
        found = np.sqrt(x**2 + y**2 + z**2) - 0.6
    elif SHAPES[shape] == "cube":
        found = _outside(np.abs(np.stack([x, y, z])) - 0.52)
    elif SHAPES[shape] == "cylinder":
        found = _outside(np.stack([np.hypot(x, z) - 0.5, np.abs(y) - 0.6]))
    else:
        found = np.sqrt(x**2 + np.maximum(np.abs(y) - 0.3, 0) ** 2 + z**2) - 0.36
    return np.asarray(found * scale)


def _outside(q: np.ndarray) -> np.ndarray:
    """Distance to a box from distances (k, n) beyond its sides."""
    return np.asarray(np.linalg.norm(np.maximum(q, 0), axis=0) + np.minimum(q.max(0), 0))


def _normals(points: np.ndarray, shape: int, scale: float) -> np.ndarray:
    step = 1e-3
    slopes = [
        _field(points + step * axis, shape, scale) - _field(points - step * axis, shape, scale) for axis in np.eye(3)
    ]
    normal = np.stack(slopes, 1)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12))
