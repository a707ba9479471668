"""Figures as SVG text: drawn once in fixed colours, then coloured for a file or for a page with light and dark modes.

Text stays text (searchable, in the reader's font), names are never read as TeX, and the output is the same for the
same input.
"""

import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from reports.names import coefficient, number
from reports.relations import Relation
from vaebench.core.files import atomic_write

INK, SOFT, RULE = "#1d2530", "#5b6675", "#d8dee6"
PAGE_COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)"}
PALETTE = ("#3f7fd9", "#e0792b", "#23a173", "#a35fc9", "#d6475f", "#14a3b5", "#b08a1e", "#8a8f98")
"""Mid tones that stand out on white and on near-black; markers tell them apart for readers who see no colour."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
LABEL_PLACES = (
    (9, 7, "left"), (-9, 7, "right"), (9, -13, "left"), (-9, -13, "right"),
    (0, 12, "center"), (0, -19, "center"), (9, 18, "left"), (-9, 18, "right"),
)  # fmt: skip

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "vaebench", "text.parse_math": False, "axes.unicode_minus": True,
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9.5,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlecolor": INK, "axes.labelcolor": INK,
    "axes.edgecolor": SOFT, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": RULE, "grid.linewidth": 0.7, "axes.facecolor": "none",
    "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.frameon": False, "legend.fontsize": 9,
    "figure.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A drawn figure: a file name stem, a text for readers who cannot see it, SVG source and width in CSS pixels."""

    name: str
    alt: str
    source: str
    width: int

    def inline(self) -> str:
        """SVG for a page: colours follow the page's variables, ids are unique to this figure, no XML prologue."""
        svg = self.source[self.source.index("<svg") :]
        for colour, variable in PAGE_COLOURS.items():
            svg = svg.replace(colour, variable)
        svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{self.name}-", svg)
        svg = re.sub(r"font(-family)?: ([^;\"]*)'DejaVu Sans'[^;\"]*", r"font\1: \2inherit", svg)
        return svg

    def write(self, folder: Path) -> Path:
        """Write a file of its own, on white."""
        path = folder / f"{self.name}.svg"
        page = '<rect width="100%" height="100%" fill="#ffffff"/>'
        with atomic_write(path) as temporary:
            temporary.write_text(re.sub(r"(<svg[^>]*>)", rf"\1{page}", self.source, count=1), encoding="utf-8")
        return path


@dataclass(frozen=True)
class Look:
    """Colour and marker of every tokenizer, the same in all figures and tables."""

    labels: tuple[str, ...]

    def colour(self, label: str) -> str:
        """Colour of a tokenizer."""
        return PALETTE[self.labels.index(label) % len(PALETTE)]

    def marker(self, label: str) -> str:
        """Marker of a tokenizer."""
        place = self.labels.index(label)
        return MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]


def scatter(relation: Relation, look: Look, name: str) -> Picture:
    """Predictor against target, one labelled point per tokenizer with the intervals of both as bars.

    A least-squares line is drawn from five points on: through three it would promise too much.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(5.0, 3.9)
        points = relation.points
        for label, row in points.iterrows():
            colour = look.colour(str(label))
            axes.errorbar(
                row["x"], row["y"], xerr=_bar(row, "x"), yerr=_bar(row, "y"), fmt=look.marker(str(label)), color=colour,
                ecolor=colour, elinewidth=1.3, capsize=2.5, markersize=7.5, markeredgewidth=0,
            )  # fmt: skip
        if len(points) >= 5 and relation.correlation is not None:
            ends = np.array([points["x"].min(), points["x"].max()])
            slope, level = np.polyfit(points["x"], points["y"], 1)
            axes.plot(ends, slope * ends + level, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.margins(0.14)
        axes.set_xlabel(_with_direction(relation.predictor.label, relation.directions[0]))
        axes.set_ylabel(_with_direction(relation.target.label, relation.directions[1]))
        axes.set_title(_headline(relation), fontsize=9, fontweight="normal", color=SOFT)
        _label_points(figure, axes, points, look)
        coordinates = "; ".join(
            f"{label}: {number(x, 3)}, {number(y)}"
            for label, x, y in zip(points.index, points["x"], points["y"], strict=True)
        )
        alt = f"Scatter plot of {relation.target.label} against {relation.predictor.label}. {coordinates}."
        return _picture(figure, name, alt)


def attribute_dots(cells: pd.DataFrame, look: Look, title: str, name: str = "attributes") -> Picture:
    """One row per attribute, one dot per tokenizer, a bar at the trivial baseline; attributes sorted by mean score."""
    table = cells.pivot_table(index="attribute", columns="label", values="value", sort=False)
    baseline = cells.groupby("attribute")["baseline"].mean()
    order = table.mean(axis=1).sort_values().index
    parts = [order] if len(order) <= 16 else [order[len(order) // 2 :], order[: len(order) // 2]]
    per_column = len(parts[0])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.4, 0.62 + 0.215 * per_column), layout="constrained")
        columns = np.atleast_1d(figure.subplots(1, len(parts), sharex=True))
        for axes, part in zip(columns, parts, strict=True):
            rows = np.arange(len(part)) + per_column - len(part)
            for position, attribute in zip(rows, part, strict=True):
                values = table.loc[attribute].dropna()
                axes.plot([values.min(), values.max()], [position] * 2, color=RULE, linewidth=2.5, zorder=1)
                if pd.notna(baseline[attribute]):
                    axes.plot([baseline[attribute]] * 2, [position - 0.32, position + 0.32], color=SOFT, linewidth=1.4)
            for label in table.columns:
                axes.plot(
                    table.loc[part, label], rows, linestyle="none", marker=look.marker(label), markersize=5.2,
                    markeredgewidth=0, color=look.colour(label), label=label, alpha=0.92,
                )  # fmt: skip
            axes.set_yticks(rows, part, color=INK, fontsize=8.5)
            axes.set_ylim(-0.7, per_column - 0.3)
            axes.grid(axis="y", visible=False)
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel(title)
        handles, labels = columns[0].get_legend_handles_labels()
        handles.append(Line2D([], [], color=SOFT, marker="|", markersize=8, linestyle="none", markeredgewidth=1.4))
        figure.legend(handles, [*labels, "trivial baseline"], loc="outside upper left", ncols=min(len(handles), 8))
        alt = f"Dot plot of {title} for {len(order)} attributes and {table.shape[1]} tokenizers."
        return _picture(figure, name, alt)


@dataclass(frozen=True)
class Run:
    """One training run: its name, its tokenizer's label and its loss indexed by step."""

    name: str
    tokenizer: str
    losses: pd.Series


def curves(runs: Sequence[Run], look: Look, y_label: str, name: str) -> Picture:
    """Losses of all runs on one axis, which is fair where the loss is taken on images."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(5.4, 3.4)
        _draw_runs(axes, runs, look)
        axes.set_ylabel(y_label)
        axes.legend(loc="upper right")
        return _picture(figure, name, _curves_alt(runs, y_label))


def separate_curves(runs: Sequence[Run], look: Look, y_label: str, name: str) -> Picture:
    """One panel with a scale of its own per tokenizer, for losses that must not be compared."""
    tokenizers = list(dict.fromkeys(run.tokenizer for run in runs))
    columns = min(len(tokenizers), 3)
    rows = -(-len(tokenizers) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.8 * columns, 2.6 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, tokenizer in itertools.zip_longest(panels, tokenizers):
            if tokenizer is None:
                axes.set_axis_off()
                continue
            _draw_runs(axes, [run for run in runs if run.tokenizer == tokenizer], look)
            axes.set_title(tokenizer, fontsize=9.5, color=look.colour(tokenizer))
        figure.supylabel(y_label, fontsize=9.5, color=INK)
        return _picture(figure, name, _curves_alt(runs, y_label))


def budget_lines(cells: pd.DataFrame, key: str, others: str, look: Look, y_label: str, name: str) -> Picture:
    """A score against one budget entry (`steps`, `cfg` or `nfe`) with the others fixed, one line per tokenizer."""
    titles = {"steps": "SiT training steps", "cfg": "guidance scale (CFG)", "nfe": "function evaluations (NFE)"}
    with mpl.rc_context(STYLE):
        figure, axes = _figure(5.0, 3.3)
        for label in [label for label in look.labels if label in set(cells["label"])]:
            line = cells[cells["label"] == label].sort_values(key)
            x, y = line[key].astype(float).to_numpy(), line["value"].to_numpy()
            colour = look.colour(label)
            axes.plot(
                x,
                y,
                marker=look.marker(label),
                markersize=6,
                markeredgewidth=0,
                linewidth=1.6,
                label=label,
                color=colour,
            )
            bounds = line[["low", "high"]].astype(float)
            if bounds.notna().all(axis=None):
                axes.fill_between(x, bounds["low"], bounds["high"], alpha=0.15, linewidth=0, color=colour)
        axes.set_xlabel(titles.get(key, key))
        axes.set_ylabel(y_label)
        axes.set_title(others, fontsize=9, fontweight="normal", color=SOFT)
        figure.legend(loc="outside upper left", ncols=4, columnspacing=1.2, handlelength=1.6)
        alt = f"{y_label} against {titles.get(key, key)} for {cells['label'].nunique()} tokenizers, {others}."
        return _picture(figure, name, alt)


def _draw_runs(axes: Axes, runs: Sequence[Run], look: Look) -> None:
    """Faint as logged, bold smoothed; a log scale where the losses span a factor of ten."""
    named: set[str] = set()
    for run in runs:
        thin = run.losses.iloc[np.unique(np.linspace(0, len(run.losses) - 1, 250).astype(int))]
        smooth = run.losses.ewm(span=max(2.0, len(run.losses) / 25)).mean().loc[thin.index]
        colour, label = look.colour(run.tokenizer), None if run.tokenizer in named else run.tokenizer
        axes.plot(thin.index, thin, linewidth=0.7, alpha=0.28, color=colour)
        axes.plot(smooth.index, smooth, linewidth=1.8, label=label, color=colour)
        named.add(run.tokenizer)
    lowest, highest = min(run.losses.min() for run in runs), max(run.losses.max() for run in runs)
    if lowest > 0 and highest > 10 * lowest:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training step")


def _curves_alt(runs: Sequence[Run], y_label: str) -> str:
    last = "; ".join(f"{run.name}: {number(run.losses.iloc[-1], 4)} at step {run.losses.index[-1]}" for run in runs)
    return f"Line chart of {y_label} against training step. Last values: {last}."


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _picture(figure: Figure, name: str, alt: str) -> Picture:
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    source = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    width = round(figure.get_figwidth() * 96)
    title = escape(alt, {'"': "&quot;"})
    source = re.sub(
        r'<svg\b([^>]*?) width="[^"]*" height="[^"]*"|<svg\b([^>]*?) height="[^"]*"([^>]*?) width="[^"]*"',
        lambda match: f'<svg{match[1] or (match[2] or "") + (match[3] or "")} role="img" aria-label="{title}"',
        source,
        count=1,
    )
    return Picture(name, alt, source, width)


def _bar(row: pd.Series, axis: str) -> list[list[float]] | None:
    low, high = row[f"{axis}_low"], row[f"{axis}_high"]
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    return [[max(row[axis] - low, 0.0)], [max(high - row[axis], 0.0)]]


def _with_direction(label: str, direction: str) -> str:
    return label if direction == "none" else f"{label} ({direction} is better)"


def _headline(relation: Relation) -> str:
    c = relation.correlation
    if c is None:
        return f"n = {len(relation.points)}: no correlation"
    bounds = f"[{coefficient(c.low)}, {coefficient(c.high)}]"
    text = f"n = {c.n}, r = {coefficient(c.pearson)} {bounds}, ρ = {coefficient(c.spearman)}"
    return text + ("; protocols differ (forced)" if relation.forced else "")


def _bar_boxes(axes: Axes, points: pd.DataFrame) -> list[Bbox]:
    """Where interval bars are, in display coordinates."""
    ends = (("x_low", "y"), ("x_high", "y")), (("x", "y_low"), ("x", "y_high"))
    corners = [[axes.transData.transform(points[list(end)].to_numpy()) for end in bar] for bar in ends]
    pairs = [np.stack(pair) for start, end in corners for pair in zip(start, end, strict=True)]
    return [Bbox(pair) for pair in pairs if np.isfinite(pair).all()]


def _label_points(figure: Figure, axes: Axes, points: pd.DataFrame, look: Look) -> None:
    """Write each tokenizer's name at the first of eight places around its point that nothing else occupies."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is done; names are placed within it
    frame = axes.get_window_extent()
    at = axes.transData.transform(points[["x", "y"]].to_numpy())
    marks = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in at]
    occupied = [*marks, *_bar_boxes(axes, points)]
    for (label, row), own in zip(points.iterrows(), marks, strict=True):
        best: tuple[int, Annotation, Bbox] | None = None
        for dx, dy, side in LABEL_PLACES:
            text = axes.annotate(
                str(label), (row["x"], row["y"]), (dx, dy), textcoords="offset points", ha=side, fontsize=9,
                color=look.colour(str(label)), fontweight="bold",
            )  # fmt: skip
            box = text.get_window_extent()
            clashes = sum(box.overlaps(other) for other in occupied if other is not own)
            clashes += not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
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
