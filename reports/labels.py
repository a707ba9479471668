"""Names beside the points of a scatter plot, where they cover as little as can be."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

LABEL_PLACES = (
    (9, 7, "left"), (-9, 7, "right"), (9, -13, "left"), (-9, -13, "right"),
    (0, 12, "center"), (0, -19, "center"), (9, 18, "left"), (-9, 18, "right"),
)  # fmt: skip
COVERED = 100
"""What it costs to cover a name, a mark or the frame, where covering one of many bars costs 1."""


def label_points(
    figure: Figure, axes: Axes, points: pd.DataFrame, colour: Callable[[str], str], taken: Bbox, many: bool
) -> None:
    """Write each tokenizer's name at the first place around its point that nothing else occupies, or the least bad.

    Args:
        figure, axes: drawn but for the names; the layout is fixed here.
        points: index labels, columns x and y, and x_low, x_high, y_low, y_high of their bars.
        colour: of a label.
        taken: what else must not be covered, in display coordinates.
        many: small letters, also farther off, at the end of a line, and across bars.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is done; names are placed within it
    frame, half = axes.get_window_extent(), 4 if many else 6
    at = axes.transData.transform(points[["x", "y"]].to_numpy())
    marks, bars = [Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half) for x, y in at], _bar_boxes(axes, points)
    occupied = [*marks, taken]
    for (label, row), own in zip(points.iterrows(), marks, strict=True):
        ink = colour(str(label))
        line = {"arrowstyle": "-", "color": ink, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        best: tuple[int, Annotation, Bbox] | None = None
        for dx, dy, side in _places(many):
            far = many and np.hypot(dx, dy) > 19
            text = axes.annotate(
                str(label), (row["x"], row["y"]), (dx, dy), textcoords="offset points", ha=side,
                fontsize=7 if many else 9, color=ink, fontweight="bold",
                arrowprops={**line, "relpos": (0 if side == "left" else 1, 0.4)} if far else None,
            )  # fmt: skip
            text.get_window_extent()  # puts it in its place; with its line, which may cross what it likes
            box = Text.get_window_extent(text)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            clashes = COVERED * (sum(box.overlaps(other) for other in occupied if other is not own) + (not inside))
            clashes += (1 if many else COVERED) * sum(box.overlaps(bar) for bar in bars)
            if best is None or clashes < best[0]:
                if best is not None:
                    best[1].remove()
                best = (clashes, text, box)
            else:
                text.remove()
            if clashes == 0:
                break
        if best is not None:
            occupied.append(best[2])


def _places(many: bool) -> list[tuple[float, float, str]]:
    """Where a name may stand, in points from its mark."""
    near: list[tuple[float, float, str]] = [*LABEL_PLACES]
    if not many:
        return near
    rings = [(radius, angle) for radius in (20, 30, 42, 56) for angle in np.radians(np.arange(15, 375, 30))]
    return near + [(r * np.cos(a), r * np.sin(a) - 2.5, "left" if np.cos(a) > 0 else "right") for r, a in rings]


def _bar_boxes(axes: Axes, points: pd.DataFrame) -> list[Bbox]:
    """Where interval bars are, in display coordinates."""
    ends = (("x_low", "y"), ("x_high", "y")), (("x", "y_low"), ("x", "y_high"))
    corners = [[axes.transData.transform(points[list(end)].to_numpy()) for end in bar] for bar in ends]
    pairs = [np.stack(pair) for start, end in corners for pair in zip(start, end, strict=True)]
    return [Bbox(pair) for pair in pairs if np.isfinite(pair).all()]
