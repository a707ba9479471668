"""Figures, drawn once: as PNG and SVG files fit for a paper, and as SVG for a page with light and dark modes.

Text stays text (searchable, in the reader's font), names are never read as TeX, and the output is the same for the
same input. On the page parts of a figure carry a `data-tip` (what to say when pointed at) and a `data-token` (the
tokenizer's place, so that all its parts can be shown up together); the page works without the script that reads them.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from reports.labels import label_points
from reports.names import coefficient, metric_name, number, p_value
from reports.relations import Relation
from reports.statistics import fit_band
from vaebench.core.files import atomic_write

INK, SOFT, RULE = "#1d2530", "#5b6675", "#d8dee6"
PAGE_COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)"}
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#cc78bc", "#d55e00", "#56b4e9", "#ca9161", "#949494")
"""Seaborn's colour-blind palette in an order in which neighbours differ most; markers tell them apart in print too."""
PAGE_COLOURS |= {PALETTE[0]: f"var(--first, {PALETTE[0]})"}  # too dark for a dark page, which has a lighter blue
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
MANY = 9
"""From more tokenizers on, panels and letters are smaller."""

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
    figure: Figure | None = field(default=None, compare=False, repr=False)
    marks: Mapping[str, "Mark"] = field(default_factory=dict)

    def inline(self) -> str:
        """SVG for a page: colours follow the page's variables, ids are unique to this figure, no XML prologue."""
        svg = self.source[self.source.index("<svg") :]
        for colour, variable in PAGE_COLOURS.items():
            svg = svg.replace(colour, variable)
        for name, mark in self.marks.items():
            svg = svg.replace(f'id="{name}"', f'id="{name}" {mark.attributes()}')
        svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{self.name}-", svg)
        svg = re.sub(r"font(-family)?: ([^;\"]*)'DejaVu Sans'[^;\"]*", r"font\1: \2inherit", svg)
        return svg

    def write(self, folder: Path) -> list[Path]:
        """Write files of its own, on white: .svg, and .png at 300 dots per inch."""
        path = folder / f"{self.name}.svg"
        page = '<rect width="100%" height="100%" fill="#ffffff"/>'
        with atomic_write(path) as temporary:
            temporary.write_text(re.sub(r"(<svg[^>]*>)", rf"\1{page}", self.source, count=1), encoding="utf-8")
        if self.figure is None:
            return [path]
        with atomic_write(path.with_suffix(".png")) as temporary, mpl.rc_context(STYLE):
            FigureCanvasAgg(self.figure)
            self.figure.savefig(temporary, format="png", dpi=300, facecolor="white", metadata={"Software": None})
        return [path, path.with_suffix(".png")]


@dataclass(frozen=True)
class Mark:
    """What the page knows of a part of a figure: what to say of it, and the place of its tokenizer (None for none)."""

    tip: str
    token: int | None = None

    def attributes(self) -> str:
        """As attributes of an SVG element."""
        token = "" if self.token is None else f' data-token="{self.token}"'
        return f'data-tip="{escape(self.tip, {chr(34): "&quot;"})}"{token}'


@dataclass(frozen=True)
class Look:
    """Colour and marker of every tokenizer, the same in all figures and tables.

    Attributes:
        labels: of the tokenizers.
        families: label -> family. Where several tokenizers share one, colour is the family's and the marker tells its
            members apart; otherwise each tokenizer has a colour of its own.
    """

    labels: tuple[str, ...]
    families: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_family(self) -> bool:
        """Whether colours stand for families."""
        return 1 < len(self._groups) < len(self.labels)

    @property
    def _groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.families.get(label, label) for label in self.labels))

    def place(self, label: str) -> int:
        """Position among the tokenizers."""
        return self.labels.index(label)

    def colour(self, label: str) -> str:
        """Colour of a tokenizer."""
        place = self._groups.index(self.families.get(label, label)) if self.by_family else self.place(label)
        return PALETTE[place % len(PALETTE)]

    def marker(self, label: str) -> str:
        """Marker of a tokenizer."""
        if self.by_family:
            # Not of one family only: from the ninth on, families repeat the colours of earlier ones.
            alike = [other for other in self.labels if self.colour(other) == self.colour(label)]
            return MARKERS[alike.index(label) % len(MARKERS)]
        place = self.place(label)
        return MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]


def scatter(relation: Relation, look: Look, name: str) -> Picture:
    """Predictor against target, one labelled point per tokenizer with the intervals of both as bars.

    From four points on, a least-squares line with the 95% band of its mean; n, r, interval and p stand in the corner.
    Controls are hollow and outside the line.
    """
    with mpl.rc_context(STYLE):
        points, marks = relation.everyone, {}
        many = len(points) > MANY
        figure, axes = _figure(*((7.2, 5.6) if many else (5.4, 4.2)))
        for i, (label, row) in enumerate(points.iterrows()):
            colour, hollow = look.colour(str(label)), label in relation.controls.index
            drawn = axes.errorbar(
                row["x"], row["y"], xerr=_bar(row, "x"), yerr=_bar(row, "y"), fmt=look.marker(str(label)), color=colour,
                ecolor=(colour, 0.5) if many else colour, elinewidth=0.8 if many else 1.3, capsize=1.5 if many else 2.5,
                markersize=6 if many else 8, markeredgewidth=1.3 if hollow else 0,
                markerfacecolor=(colour, 0.0 if hollow else 1.0),
            )  # fmt: skip
            drawn.lines[0].set_gid(f"point-{i}")
            marks[f"point-{i}"] = Mark(_said_of(str(label), row, relation), look.place(str(label)))
        axes.margins(0.16)
        if len(relation.points) >= 4 and relation.correlation is not None:
            _draw_fit(axes, relation.points)
        axes.set_xlabel(_with_direction(relation.predictor.label, relation.directions[0]))
        axes.set_ylabel(_with_direction(relation.target.label, relation.directions[1]))
        label_points(figure, axes, points, look.colour, _corner(figure, axes, relation), many)
        coordinates = "; ".join(
            f"{label}: {number(x, 3)}, {number(y)}"
            for label, x, y in zip(points.index, points["x"], points["y"], strict=True)
        )
        alt = f"Scatter plot of {relation.target.label} against {relation.predictor.label}. {coordinates}."
        return _picture(figure, name, alt, marks)


DIVERGING = LinearSegmentedColormap.from_list("diverging", ["#0173b2", "#f5f5f2", "#d55e00"])
"""Blue for -1, orange for +1: told apart by every kind of colour vision, and pale where there is nothing."""


def ink_on(channels: Sequence[float]) -> str:
    """Black or white: what has more contrast (WCAG 2) with a colour in [0, 1], which is 4.58 at the least."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    light = float(np.dot(linear, [0.2126, 0.7152, 0.0722])) + 0.05
    return "#ffffff" if 1.05 / light > light / 0.05 else "#000000"


def heat_map(table: pd.DataFrame, marked: pd.DataFrame, title: str, name: str) -> Picture:
    """Coefficients in [-1, 1] as a table of colours: rows are scores, columns generation measures.

    Args:
        table: coefficients; NaN where there is none.
        marked: of its shape; True where the interval excludes 0, which is set in bold.
        title: of the colour bar.
        name: of the figure.
    """
    with mpl.rc_context(STYLE):
        height = 1.5 + 0.24 * len(table)
        figure = Figure(figsize=(3.4 + 0.62 * table.shape[1], height), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(table.to_numpy(float), cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(table.to_numpy(float)):
            if np.isfinite(value):
                ink = ink_on(DIVERGING((value + 1) / 2)[:3])
                bold = "bold" if marked.iloc[i, j] else "normal"
                axes.text(j, i, coefficient(value), ha="center", va="center", fontsize=7, color=ink, fontweight=bold)
            else:
                axes.text(j, i, "\N{MIDDLE DOT}", ha="center", va="center", fontsize=8, color=SOFT)
        axes.set_xticks(range(table.shape[1]), table.columns, rotation=40, ha="right", fontsize=8, color=INK)
        axes.set_yticks(range(len(table)), table.index, fontsize=8, color=INK)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, shrink=min(1.0, 2.2 / height), label=title, aspect=18)
        alt = f"Heat map of {title}, {len(table)} scores by {table.shape[1]} generation measures; numbers in the table."
        return _picture(figure, name, alt)


def profiles(table: pd.DataFrame, look: Look, name: str) -> Picture:
    """Parallel coordinates, a panel per tokenizer: each score from worst (bottom) to best (top) of these tokenizers.

    Args:
        table: index labels, columns scores, values in [0, 1] with 1 the best; NaN where missing.
        look: colours.
        name: of the figure.
    """
    ticks, many = np.arange(table.shape[1]), len(table) > MANY
    # One line with gaps instead of a line for each: a page of many panels stays small.
    gapped = np.pad(table.to_numpy(float), ((0, 0), (0, 1)), constant_values=np.nan).ravel()
    everyone = np.tile(np.append(ticks, ticks[-1]), len(table)), gapped
    with mpl.rc_context(STYLE):
        figure, panels = _panels(len(table), 2.05, 1.15, foot=0.9)
        for i, (axes, label) in enumerate(zip(panels, table.index, strict=True)):
            axes.plot(*everyone, color=RULE, linewidth=0.5 if many else 1, zorder=1)
            axes.plot(
                ticks, table.loc[label], color=look.colour(label), linewidth=1.4 if many else 2, zorder=2,
                marker=look.marker(label), markersize=3 if many else 5, markeredgewidth=0, clip_on=False,
            )  # fmt: skip
            axes.set_title(label, fontsize=8 if many else 9.5, color=look.colour(label))
            axes.set_ylim(-0.06, 1.06)
            axes.set_yticks([0, 1], ["worst", "best"] if i % COLUMNS[many] == 0 else ["", ""], fontsize=7.5)
            below = not many or i // COLUMNS[many] == (len(table) - 1) // COLUMNS[many]
            names = table.columns if below else [""] * table.shape[1]
            axes.set_xticks(ticks, names, rotation=90 if many else 38, ha="center" if many else "right", fontsize=7.5)
            axes.grid(axis="y", visible=False)
        alt = "Parallel coordinates of leading scores, a panel per tokenizer: " + "; ".join(
            f"{label}: " + ", ".join(f"{score} {value:.2f}" for score, value in row.dropna().items())
            for label, row in table.iterrows()
        )
        return _picture(figure, name, f"{alt}. 1 is the best of these tokenizers, 0 the worst.")


def standings(cells: pd.DataFrame, look: Look, x_label: str, name: str) -> Picture:
    """One score of every tokenizer with its interval, best on top."""
    lower = cells["direction"].iloc[0] == "lower"
    ranked = cells.sort_values("value", ascending=not lower)
    with mpl.rc_context(STYLE):
        figure, axes = _figure(5.4, 0.9 + 0.34 * len(ranked))
        marks = {}
        for i, row in enumerate(ranked.to_dict("records")):
            label, colour = str(row["label"]), look.colour(str(row["label"]))
            ends = [row["low"], row["high"]]
            if not any(pd.isna(end) for end in ends):
                axes.plot([float(end) for end in ends], [i, i], color=colour, linewidth=2)
            (dot,) = axes.plot(
                row["value"], i, marker=look.marker(label), color=colour, markersize=8, markeredgewidth=0
            )
            dot.set_gid(f"point-{i}")
            marks[f"point-{i}"] = Mark(f"{label}: {x_label} {number(row['value'], 3)}", look.place(label))
        axes.set_yticks(range(len(ranked)), ranked["label"], color=INK)
        axes.set_xlabel(x_label + (", lower is better" if lower else ", higher is better"))
        axes.grid(axis="y", visible=False)
        axes.margins(y=0.12 + 0.2 / len(ranked))
        values = "; ".join(f"{r['label']}: {number(r['value'], 3)}" for r in ranked.to_dict("records"))
        return _picture(figure, name, f"{x_label} with intervals. {values}.", marks)


def latent_maps(maps: Mapping[str, pd.DataFrame], attribute: str, name: str) -> Picture:
    """Every tokenizer's map of the same images (columns x, y and `value`, 0 or 1), coloured by one attribute."""
    with mpl.rc_context(STYLE):
        figure, panels = _panels(len(maps), 3.2, 1.9, foot=0.3)
        for axes in panels:
            axes.set_axis_off()
        for axes, (label, points) in zip(panels, maps.items(), strict=True):
            for value, colour, text in ((0, "#949494", f"not {attribute}"), (1, "#d55e00", attribute)):
                part = points[points["value"] == value]
                size = 1.5 if len(maps) > MANY else 3
                axes.plot(part["x"], part["y"], "o", markersize=size, markeredgewidth=0, color=colour, label=text)
            axes.set_title(label, fontsize=8 if len(maps) > MANY else 9.5)
            axes.set_aspect("equal")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
        return _picture(figure, name, f"Maps of the latents of {len(maps)} tokenizers, coloured by {attribute}.")


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
    """One training run: its name, its tokenizer's label, its loss indexed by step.

    `kind` is what the loss is: its name in the log and, of a reconstruction loss, reduction and norm.
    """

    name: str
    tokenizer: str
    losses: pd.Series
    kind: tuple[str, ...]


def curves(runs: Sequence[Run], look: Look, y_label: str, name: str) -> Picture:
    """Losses of all runs on one axis, which is fair where they are of one kind and taken on images."""
    with mpl.rc_context(STYLE):
        many = len({run.tokenizer for run in runs}) > MANY
        figure, axes = _figure(*((11.4, 4.6) if many else (5.4, 3.4)))
        _draw_runs(axes, runs, look)
        axes.set_ylabel(y_label)
        if many:
            figure.legend(loc="outside right upper", ncols=2, fontsize=7.5, handlelength=1.2, columnspacing=1.0)
        else:
            axes.legend(loc="upper right")
        return _picture(figure, name, _curves_alt(runs, y_label))


def separate_curves(runs: Sequence[Run], look: Look, y_label: str, name: str) -> Picture:
    """One panel with a scale of its own per tokenizer, for losses that must not be compared."""
    tokenizers = list(dict.fromkeys(run.tokenizer for run in runs))
    many = len(tokenizers) > MANY
    with mpl.rc_context(STYLE):
        figure, panels = _panels(len(tokenizers), 2.6, 1.5)
        for i, (axes, tokenizer) in enumerate(zip(panels, tokenizers, strict=True)):
            _draw_runs(axes, [run for run in runs if run.tokenizer == tokenizer], look)
            axes.set_title(tokenizer, fontsize=8 if many else 9.5, color=look.colour(tokenizer))
            if many:
                axes.tick_params(labelsize=7)
                axes.set_xlabel("training step" if i + COLUMNS[many] >= len(tokenizers) else "", fontsize=8)
        figure.supylabel(y_label, fontsize=9.5, color=INK)
        return _picture(figure, name, _curves_alt(runs, y_label))


def budget_lines(cells: pd.DataFrame, key: str, others: str, look: Look, y_label: str, name: str) -> Picture:
    """A score against one budget entry (`steps`, `cfg` or `nfe`) with the others fixed, one line per tokenizer."""
    titles = {"steps": "SiT training steps", "cfg": "guidance scale (CFG)", "nfe": "function evaluations (NFE)"}
    with mpl.rc_context(STYLE):
        figure, axes = _figure(5.0, 3.3)
        marks = {}
        for label in [label for label in look.labels if label in set(cells["label"])]:
            line = cells[cells["label"] == label].sort_values(key)
            x, y = line[key].astype(float).to_numpy(), line["value"].to_numpy()
            colour = look.colour(label)
            (drawn,) = axes.plot(
                x, y, marker=look.marker(label), markersize=6, markeredgewidth=0, linewidth=1.6, label=label,
                color=colour,
            )  # fmt: skip
            drawn.set_gid(f"line-{look.place(label)}")
            said = ", ".join(f"{number(b)} at {a:g}" for a, b in zip(x, y, strict=True))
            marks[f"line-{look.place(label)}"] = Mark(f"{label}: {y_label} {said}", look.place(label))
            bounds = line[["low", "high"]].astype(float)
            if bounds.notna().all(axis=None):
                axes.fill_between(x, bounds["low"], bounds["high"], alpha=0.15, linewidth=0, color=colour)
        axes.set_xlabel(titles.get(key, key))
        axes.set_ylabel(y_label)
        axes.set_title(others, fontsize=9, fontweight="normal", color=SOFT)
        figure.legend(loc="outside upper left", ncols=4, columnspacing=1.2, handlelength=1.6)
        alt = f"{y_label} against {titles.get(key, key)} for {cells['label'].nunique()} tokenizers, {others}."
        return _picture(figure, name, alt, marks)


def _draw_runs(axes: Axes, runs: Sequence[Run], look: Look) -> None:
    """Faint as logged, bold smoothed; a log scale where the losses span a factor of ten."""
    named: set[str] = set()
    for run in runs:
        thin = run.losses.iloc[np.unique(np.linspace(0, len(run.losses) - 1, 250).astype(int))]
        smooth = run.losses.ewm(span=max(2.0, len(run.losses) / 25)).mean().loc[thin.index]
        colour, label = look.colour(run.tokenizer), None if run.tokenizer in named else run.tokenizer
        axes.plot(thin.index, thin, linewidth=0.7, alpha=0.28, color=colour)
        single = look.marker(run.tokenizer) if len(thin) == 1 else None  # a line of one point is not seen
        axes.plot(smooth.index, smooth, linewidth=1.8, label=label, color=colour, marker=single)
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


COLUMNS = {False: 3, True: 6}
"""Panels in a row: of few tokenizers, of many."""


def _panels(count: int, height: float, low: float, foot: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A panel for each of ``count`` tokenizers in rows, ``height`` (of many: ``low``) inches high."""
    many = count > MANY
    columns = min(count, COLUMNS[many])
    rows = -(-count // columns)
    size = (11.6, low * rows + foot) if many else (3.7 * columns, height * rows + foot)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def _picture(figure: Figure, name: str, alt: str, marks: Mapping[str, Mark] | None = None) -> Picture:
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
    return Picture(name, alt, source, width, figure, marks or {})


def _bar(row: pd.Series, axis: str) -> list[list[float]] | None:
    low, high = row[f"{axis}_low"], row[f"{axis}_high"]
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    return [[max(row[axis] - low, 0.0)], [max(high - row[axis], 0.0)]]


def _with_direction(label: str, direction: str) -> str:
    return label if direction == "none" else f"{label} ({direction} is better)"


def _said_of(label: str, row: pd.Series, relation: Relation) -> str:
    """'kl-vae. PSNR 22.60 [22.40, 22.80]. gFID ...'."""
    parts = [label]
    for axis, score in (("x", relation.predictor), ("y", relation.target)):
        digits = metric_name(score.metric).digits
        low, high = row[f"{axis}_low"], row[f"{axis}_high"]
        interval = f" [{number(low, digits)}, {number(high, digits)}]" if np.isfinite([low, high]).all() else ""
        parts.append(f"{score.label} {number(row[axis], digits)}{interval}")
    return ". ".join(parts)


def _draw_fit(axes: Axes, points: pd.DataFrame) -> None:
    """Line and band across the drawn width; the view stays that of the points, however wide the band is."""
    left, right, low, high = *axes.get_xlim(), *axes.get_ylim()
    grid = np.linspace(left, right, 60)
    fit, below, above = fit_band(points["x"].to_numpy(), points["y"].to_numpy(), grid)
    axes.plot(grid, fit, color=SOFT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.fill_between(grid, np.maximum(below, low), np.minimum(above, high), color=SOFT, alpha=0.13, linewidth=0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _corner(figure: Figure, axes: Axes, relation: Relation) -> Bbox:
    """n, r with interval, and p in the corner farthest from the points; returns where that is on the canvas."""
    c = relation.correlation
    lines = [f"n = {len(relation.points)}{' trained' if len(relation.controls) else ''}"]
    if c is None:
        lines.append("no correlation")
    else:
        lines += [f"r = {coefficient(c.pearson)} [{coefficient(c.low)}, {coefficient(c.high)}]", p_value(c.pearson_p)]
    if relation.forced:
        lines.append("protocols differ (forced)")
    figure.draw_without_rendering()
    everyone = relation.everyone[["x", "y"]].to_numpy()
    at = axes.transAxes.inverted().transform(axes.transData.transform(everyone))
    corners = [(x, y) for y in (0.97, 0.03) for x in (0.97, 0.03)]
    x, y = max(corners, key=lambda corner: min(np.hypot(*(at - corner).T), default=0.0))
    text = axes.text(
        x, y, "\n".join(lines), transform=axes.transAxes, ha="right" if x > 0.5 else "left",
        va="top" if y > 0.5 else "bottom", fontsize=8.5, color=SOFT, linespacing=1.35,
    )  # fmt: skip
    return text.get_window_extent()
