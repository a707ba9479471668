"""Any score against any generation measure: what the page's script draws, and the heat map of all pairs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.axes import Axis
from reports.figures import Look, Picture, heat_map
from reports.names import ARROWS, coefficient, label_of, metric_name, p_value
from reports.relation_tables import COEFFICIENTS
from reports.relations import generation_measures, predictors

Cell = list[float | None]


@dataclass(frozen=True)
class Explorer:
    """Scores and measures that may stand on an axis, and what is known of each pair.

    Attributes:
        scores, measures: axes of one protocol each; measures at the budget that the report leads with.
        cells: axis -> tokenizer label -> value, low, high.
        pairs: (score, measure) -> row of `reports.relation_tables.relation_table` with a coefficient.
    """

    scores: list[Axis]
    measures: list[Axis]
    cells: Mapping[Axis, Mapping[str, Cell]]
    directions: Mapping[Axis, str]
    pairs: Mapping[tuple[Axis, Axis], Mapping[Any, Any]]

    @classmethod
    def of(cls, comparison: pd.DataFrame, relations: pd.DataFrame, budget: str) -> "Explorer":
        """Scores of differing protocols have no place here, as nowhere on one axis."""
        means = comparison[comparison["attribute"] == ""]
        cells: dict[Axis, dict[str, Cell]] = {}
        protocols: dict[Axis, set[str]] = {}
        directions: dict[Axis, str] = {}
        for row in means.to_dict("records"):
            axis = Axis(row["metric"], row["vectorisation"], row["budget"])
            protocols.setdefault(axis, set()).add(row["protocol_hash"])
            directions[axis] = row["direction"]
            value, *bounds = (_plain(row[side]) for side in ("value", "low", "high"))
            if value is not None:
                cells.setdefault(axis, {})[str(row["label"])] = [value, *bounds]
        single = {axis for axis in cells if len(protocols[axis]) == 1}
        scores = [axis for axis in predictors(comparison) if axis in single]
        measures = [axis for axis in generation_measures(comparison) if axis in single and axis.budget == budget]
        pairs = {}
        for row in relations[relations["pearson"].notna()].to_dict("records"):
            x = Axis(row["metric"], row["vectorisation"])
            y = Axis(row["target"], row["target_vectorisation"], row["budget"])
            if x in scores and y in measures:
                pairs[x, y] = row
        return cls(scores, measures, cells, directions, pairs)

    def place(self, x: Axis, y: Axis) -> str:
        """The pair as the page's script knows it."""
        return f"{self.scores.index(x)},{self.measures.index(y)}"

    def label(self, axis: Axis) -> str:
        """Readable name with an arrow for the better direction."""
        return f"{label_of(axis.metric, axis.vectorisation)} {ARROWS[self.directions[axis]]}".strip()

    def data(self, look: Look, first: Axis | None, controls: Collection[str] = ()) -> dict[str, Any]:
        """Tokens, scores and measures (each with a cell per token), and what is said of each pair."""
        return {
            "tokens": [
                {"label": label, "colour": look.colour(label), "control": label in controls} for label in look.labels
            ],
            "scores": [self._axis(axis, look) for axis in self.scores],
            "measures": [self._axis(axis, look) for axis in self.measures],
            "relations": {self.place(x, y): said(row) for (x, y), row in self.pairs.items()},
            "first": [self.scores.index(first) if first in self.scores else 0, 0],
        }

    def _axis(self, axis: Axis, look: Look) -> dict[str, Any]:
        cells = [self.cells[axis].get(label) for label in look.labels]
        return {"label": self.label(axis), "digits": metric_name(axis.metric).digits, "cells": cells}


@dataclass(frozen=True)
class HeatCell:
    """One pair: r, rho and tau (None where there are none), which of them are clear of 0, and what is said of it.

    A coefficient is clear where its interval excludes 0 and, for r, `Relation.unsettled` has nothing against it.
    """

    pearson: float | None = None
    spearman: float | None = None
    kendall: float | None = None
    clear: tuple[str, ...] = ()
    pair: str = ""
    tip: str = ""


@dataclass(frozen=True)
class HeatMap:
    """Rows are scores, columns generation measures; `n` is the number of tokenizers of the pair that has most."""

    columns: list[str]
    rows: list[tuple[str, list[HeatCell]]]
    picture: Picture
    n: int


def heat(explorer: Explorer) -> HeatMap | None:
    """The heat map of all pairs that have a coefficient; None where none has."""
    if not explorer.pairs:
        return None
    lines = [x for x in explorer.scores if any(x == key[0] for key in explorer.pairs)]
    columns = [y for y in explorer.measures if any(y == key[1] for key in explorer.pairs)]
    rows = [(explorer.label(x), [_cell(explorer, x, y) for y in columns]) for x in lines]
    names = [explorer.label(y) for y in columns]
    values = pd.DataFrame([[c.pearson for c in cells] for _, cells in rows], [r[0] for r in rows], names, dtype=float)
    marked = pd.DataFrame([["pearson" in c.clear for c in cells] for _, cells in rows], values.index, names)
    n = max(int(row["n"]) for row in explorer.pairs.values())
    return HeatMap(names, rows, heat_map(values, marked, "Pearson r", "heat-map"), n)


def said(row: Mapping[Any, Any]) -> str:
    """A row of the table of relations in a sentence."""
    interval = f"{coefficient(row['pearson_low'])} to {coefficient(row['pearson_high'])}"
    parts = [
        f"n = {row['n']}, Pearson r = {coefficient(row['pearson'])}, 95% interval {interval}, "
        f"{p_value(row['pearson_p'])}",
        f"after Holm over {row['family_size']} scores {p_value(row['pearson_p_holm'])}",
        f"Spearman \N{GREEK SMALL LETTER RHO} = {coefficient(row['spearman'])}",
        f"Kendall \N{GREEK SMALL LETTER TAU} = {coefficient(row['kendall'])}",
    ]
    if row["unsettled"]:
        parts.append(f"its sign is not settled, or says nothing: {row['unsettled']}")
    if not pd.isna(row["detectable_r"]):
        parts.append(f"so many tokenizers show a true |r| of {row['detectable_r']:.2f} four times in five")
    return "; ".join(parts) + "."


def _cell(explorer: Explorer, x: Axis, y: Axis) -> HeatCell:
    row = explorer.pairs.get((x, y))
    if row is None:
        return HeatCell()
    clear = tuple(
        kind for kind in COEFFICIENTS
        if (row[f"{kind}_low"] > 0 or row[f"{kind}_high"] < 0) and not (kind == "pearson" and row["unsettled"])
    )  # fmt: skip
    tip = f"{x.label} and {y.label}. {said(row)}"
    pearson, spearman, kendall = (float(row[kind]) for kind in COEFFICIENTS)
    return HeatCell(pearson, spearman, kendall, clear, explorer.place(x, y), tip)


def _plain(value: Any) -> float | None:
    return None if pd.isna(value) or not np.isfinite(float(value)) else float(f"{float(value):.6g}")
