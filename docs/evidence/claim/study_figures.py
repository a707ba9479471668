"""The figures of the evidence."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from study_tables import CLAIMED, HERE, OWN, REAL, Study, named

from reports.figures import INK, PALETTE, SOFT, STYLE
from reports.labels import label_points
from reports.names import label_of

GROUPS = {
    "plain KL": ("kl-vae",),
    "direct alignment": ("va-vae",),
    "alignment behind a mapper": ("send-vae",),
    "disentangling": ("beta-vae", "beta-tcvae", "factor-vae"),
    "other objectives": ("eq-vae", "se-vae", "l-detok", "e2e-vae"),
}
COLUMNS = ((CLAIMED, "trained"), (CLAIMED, "same size"), ("psnr", "trained"))


def main_figure(study: Study) -> Figure:
    """What the paper claims to predict generation, and plain reconstruction, against both gFIDs.

    Of trained tokenizers: a random projection is so far off that the others would be one spot.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(15.5, 9), layout="constrained")
        panels = figure.subplots(2, len(COLUMNS), sharex="col", sharey="row")
        for row, target in zip(panels, (REAL, OWN), strict=True):
            row[0].set_ylabel(f"{label_of(target)}, lower is better", color=INK)
            for axes, (score, over) in zip(row, COLUMNS, strict=True):
                _panel(axes, study, score, target, over)
        for axes, (score, over) in zip(panels[1], COLUMNS, strict=True):
            axes.set_xlabel(f"{named(score)}{', same size' if over == 'same size' else ''}", color=INK)
        handles = [
            Line2D([], [], marker="o", linestyle="", color=_colour(members[0]), label=name)
            for name, members in GROUPS.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        for row, target in zip(panels, (REAL, OWN), strict=True):
            for axes, (score, over) in zip(row, COLUMNS, strict=True):
                figure.draw_without_rendering()
                frame = axes.get_window_extent()
                nothing = Bbox.from_bounds(frame.x0, frame.y0, 0, 0)  # no legend to keep clear of
                points = _points(study, score, target, over)
                if COLUMNS[0] == (score, over):  # the others are named in the next column
                    points = points.drop(study.same_size)
                label_points(figure, axes, points, lambda label: _colour(study.families[label]), nothing, True)
    return figure


def _panel(axes: Axes, study: Study, score: str, target: str, over: str) -> None:
    for label, row in _points(study, score, target, over).iterrows():
        colour = _colour(study.families[str(label)])
        bars = [[[row[axis] - row[f"{axis}_low"]], [row[f"{axis}_high"] - row[axis]]] for axis in "xy"]
        axes.errorbar(
            row["x"], row["y"], xerr=bars[0], yerr=bars[1], fmt="o", color=colour, ecolor=(colour, 0.45),
            elinewidth=0.8, markersize=5, markeredgewidth=0,
        )  # fmt: skip
    who = f"{len(study.over(over))} {'trained' if over == 'trained' else 'of the same size'}"
    axes.set_title(f"{who}: ρ = {study.rho(score, target, over)}", fontsize=9.5, fontweight="normal")
    axes.margins(0.12)


def _points(study: Study, score: str, target: str, over: str) -> pd.DataFrame:
    x, y = (study.cells(name).loc[study.over(over)] for name in (score, target))
    parts = {f"{axis}{end}": table[column] for axis, table in (("x", x), ("y", y))
             for end, column in (("", "value"), ("_low", "low"), ("_high", "high"))}  # fmt: skip
    return pd.DataFrame(parts, index=x.index).astype(float)


def _colour(family: str) -> str:
    return PALETTE[next(i for i, members in enumerate(GROUPS.values()) if family in members)]


def forest_figure(study: Study, most: int = 24) -> Figure:
    """Spearman's rho of the leading scores with both gFIDs, over trained tokenizers and over those of the same size."""
    tables = {(target, over): study.tested(target, over) for target in (REAL, OWN) for over in ("trained", "same size")}
    shown = _leading(tables[REAL, "trained"], tables[OWN, "trained"], most)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 1.5 + 0.3 * len(shown)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, target in zip(panels, (REAL, OWN), strict=True):
            for over, colour, offset in (("trained", PALETTE[0], 0.14), ("same size", PALETTE[1], -0.16)):
                _forest(axes, tables[target, over].reindex(shown[::-1]), colour, offset)
            axes.axvline(0, color=SOFT, linewidth=0.8)
            axes.set_xlim(-1.02, 1.02)
            axes.set_ylim(-0.6, len(shown) - 0.4)
            axes.set_title(f"ρ with {label_of(target)}", fontsize=9.5)
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(shown)), [named(score) for score in reversed(shown)], color=INK, fontsize=8)
        for tick, score in zip(panels[0].get_yticklabels(), reversed(shown), strict=True):
            tick.set_fontweight("bold" if score == CLAIMED else "normal")
        handles = [
            Line2D([], [], marker="o", color=colour, label=f"{len(study.over(over))} {said}")
            for over, said, colour in (
                ("trained", "trained", PALETTE[0]),
                ("same size", "of the same size", PALETTE[1]),
            )
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
        figure.supxlabel(
            "left of 0: more of the score, better generation. Filled: p < 0.05, adjusted by Holm over all scores.",
            fontsize=8.5, color=SOFT,
        )  # fmt: skip
    return figure


def _forest(axes: Axes, table: pd.DataFrame, colour: str, offset: float) -> None:
    for place, (_, row) in enumerate(table.iterrows()):
        strong, y = row["holm"] < 0.05, place + offset
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.5, alpha=0.9 if strong else 0.45)
        axes.plot(row["value"], y, "o", color=colour, markersize=4.5, markerfacecolor=colour if strong else "white")


def _leading(real: pd.DataFrame, own: pd.DataFrame, most: int) -> list[str]:
    """One variant per metric, the one that goes most with either target; the claimed score, PSNR and rFID always."""
    strength = np.maximum(real["value"].abs(), own["value"].abs().reindex(real.index))
    ordered = [str(score) for score in strength.sort_values(ascending=False, kind="stable").index]
    always = (CLAIMED, "psnr", "rfid")
    metrics = {score.partition(" [")[0]: score for score in always}
    for score in ordered:
        metrics.setdefault(score.partition(" [")[0], score)
    chosen = [score for score in ordered if score in set(metrics.values())]
    return sorted({*chosen[:most], *always}, key=lambda score: (float(real["value"][score]), score))


def write_figure(figure: Figure, name: str) -> None:
    """As PNG and SVG beside the text."""
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure)
        figure.savefig(HERE / f"{name}.png", dpi=160, facecolor="white", metadata={"Software": None})
        figure.savefig(HERE / f"{name}.svg", facecolor="white", metadata={"Date": None})
