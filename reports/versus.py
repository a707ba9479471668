"""Two tokenizers head to head: differences of every score that both have, paired where the data allow it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.axes import Axis, differences, seed_values
from reports.collect import Results, collect
from reports.comparison import compare
from reports.names import label_of, metric_name, metric_order
from reports.statistics import seed_interval
from reports.statistics.resampling import REPEATS, percentiles
from vaebench.core.errors import UnknownName, suggest

COLUMNS = {
    "score": "str", "budget": "str", "a": "float64", "b": "float64", "difference": "Float64", "low": "Float64",
    "high": "Float64", "better": "str", "how": "str", "note": "str", "digits": "Int64",
}  # fmt: skip
SEVERAL = 5  # attributes, from which a bootstrap over them says something


@dataclass(frozen=True)
class Versus:
    """The comparison of `a` with `b`: a row per score (`COLUMNS`); `difference` is a less b.

    Where both have two training seeds or more in common, all three are over these.

    `better` is the tokenizer that the interval of the difference favours, 'undecided' where it holds 0, empty where
    there is no interval or no better direction. `how` says what the interval is over.
    """

    a: str
    b: str
    table: pd.DataFrame

    @property
    def sentence(self) -> str:
        """How many scores favour which, in words."""
        counts = self.table["better"].value_counts()
        single = bool(self.table["how"].str.contains("one training seed").any())
        judged = int((self.table["better"] != "").sum())
        return (
            f"Of {judged} scores with an interval, {counts.get(self.a, 0)} favour {self.a}, {counts.get(self.b, 0)} "
            f"favour {self.b}, and {counts.get('undecided', 0)} do not decide. The scores are not independent of each "
            "other, and no interval is adjusted for their number."
            + " Those of one training seed do not cover retraining."
            * single
        )


def versus(study_dirs: Sequence[Path | str], a: str, b: str) -> Versus:
    """Compare two tokenizers of these study folders, by the names that reports show.

    Raises:
        UnknownName: a name that no study has; the nearest is suggested.
        MissingPath, DataError: as `reports.collect.collect`.
    """
    results = collect(study_dirs)
    known = list(results.labels.values())
    for name in (a, b):
        if name not in known:
            raise UnknownName(f"No tokenizer is called '{name}' in these studies.", suggest(name, known))
    comparison = compare(results.scores)
    rows = [*_scores(results, comparison, a, b), *_attributes(comparison, a, b)]
    return Versus(a, b, pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS))


def paired_t(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[float, float] | None:
    """Student's 95% interval of the mean difference over the seeds that both have; None below two."""
    shared = [seed for seed in first if seed in second]
    return seed_interval([first[seed] - second[seed] for seed in shared])


def mover(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float]:
    """Interval of a - b from two intervals of independent estimates (Zou and Donner 2008, Statistics in Medicine 27).

        low  = a - b - sqrt((a - low_a)^2 + (high_b - b)^2),    high = a - b + sqrt((high_a - a)^2 + (b - low_b)^2)

    Args:
        a, b: (value, low, high).
    """
    difference = a[0] - b[0]
    return (
        difference - math.hypot(a[0] - a[1], b[2] - b[0]),
        difference + math.hypot(a[2] - a[0], b[0] - b[1]),
    )


def _scores(results: Results, comparison: pd.DataFrame, a: str, b: str) -> Iterator[dict[str, Any]]:
    means = comparison[comparison["attribute"] == ""]
    seeds = seed_values(results.scores)
    groups: dict[tuple[str, str, str], dict[str, list[dict[Any, Any]]]] = {}
    for row in means[means["label"].isin([a, b]) & means["value"].notna()].to_dict("records"):
        key = (row["metric"], row["vectorisation"], row["budget"])
        groups.setdefault(key, {}).setdefault(row["label"], []).append(row)
    for key in sorted(groups, key=lambda key: (metric_order(key[0]), key[1:])):
        sides = groups[key]
        if a not in sides or b not in sides:
            continue
        first, second = sides[a][0], sides[b][0]
        said = {
            "score": label_of(key[0], key[1]), "budget": key[2], "a": first["value"], "b": second["value"],
            "digits": metric_name(key[0]).digits, "better": "", "how": "", "note": "",
        }  # fmt: skip
        hashes = list(dict.fromkeys(cell["protocol_hash"] for cell in (*sides[a], *sides[b])))
        if len(hashes) > 1:
            found = differences([results.protocols.get(h, {}).get("protocol", {}) for h in hashes])
            yield {**said, "note": f"Not compared: the protocols differ in {'; '.join(found)}."}
            continue
        yield {**said, **_difference(first, second, seeds.get(Axis(*key), {}), a, b)}


def _difference(
    first: Mapping[Any, Any], second: Mapping[Any, Any], seeds: Mapping[str, Mapping[int, float]], a: str, b: str
) -> dict[str, Any]:
    own, other = seeds.get(a, {}), seeds.get(b, {})
    shared = [seed for seed in own if seed in other]
    if len(shared) >= 2:
        values = {name: sum(side[seed] for seed in shared) / len(shared) for name, side in (("a", own), ("b", other))}
        interval, how = paired_t(own, other), f"paired over {len(shared)} training seeds, Student's t"
    else:
        values = {"a": float(first["value"]), "b": float(second["value"])}
        cells = _bounds(first), _bounds(second)
        interval = mover(*cells) if np.isfinite(cells).all() else None
        how = "both intervals, taken as independent" + _seeds_said(min(first["seeds"], second["seeds"]))
    values["difference"] = values["a"] - values["b"]
    if interval is None:
        return {**values, "note": "No interval on both sides."}
    return {
        **values, "low": interval[0], "high": interval[1], "how": how,
        "better": _better(interval, first["direction"], a, b),
    }  # fmt: skip


def _seeds_said(seeds: int) -> str:
    """What the interval lacks; images in common widen it, but training again moves scores by more."""
    return "" if seeds > 1 else "; one training seed: does not cover retraining, so it may well be too narrow"


def _bounds(cell: Mapping[Any, Any]) -> tuple[float, float, float]:
    value, low, high = (math.nan if pd.isna(cell[side]) else float(cell[side]) for side in ("value", "low", "high"))
    return value, low, high


def _attributes(comparison: pd.DataFrame, a: str, b: str) -> Iterator[dict[str, Any]]:
    """Mean difference over the attributes that both have, with a bootstrap over attributes: these are paired."""
    cells = comparison[(comparison["attribute"] != "") & comparison["label"].isin([a, b]) & comparison["value"].notna()]
    for (metric, vectorisation, budget), part in cells.groupby(["metric", "vectorisation", "budget"], sort=False):
        if part.groupby("attribute")["protocol_hash"].nunique().max() > 1:
            continue
        table = part.pivot_table(index="attribute", columns="label", values="value").dropna()
        if len(table) < SEVERAL or not {a, b} <= set(table.columns):
            continue
        difference = (table[a] - table[b]).to_numpy()
        drawn = np.random.default_rng(0).integers(0, len(difference), (REPEATS, len(difference)))
        interval = percentiles(difference[drawn].mean(axis=1), 0.95)
        yield {
            "score": f"{label_of(str(metric), str(vectorisation))}, by attribute", "budget": budget,
            "a": table[a].mean(), "b": table[b].mean(), "digits": metric_name(str(metric)).digits,
            "difference": difference.mean(), "low": interval[0], "high": interval[1], "note": "",
            "how": f"paired over {len(table)} attributes, bootstrap" + _seeds_said(part["seeds"].min()),
            "better": _better(interval, part["direction"].iloc[0], a, b),
        }  # fmt: skip


def _better(interval: tuple[float, float], direction: str, a: str, b: str) -> str:
    if direction == "none":
        return ""
    if interval[0] <= 0 <= interval[1]:
        return "undecided"
    return a if (interval[0] > 0) == (direction == "higher") else b
