"""From the long table to one value per tokenizer, metric and budget: the mean over training seeds with an interval."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.names import metric_order
from reports.statistics import seed_interval

CELL = ["label", "study", "tokenizer", "metric", "vectorisation", "attribute", "budget", "protocol_hash"]

COMPARISON_COLUMNS = [
    *CELL, "value", "low", "high", "interval", "seeds", "n", "direction", "baseline",
    "steps", "cfg", "nfe",
]  # fmt: skip


def compare(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per tokenizer, metric, vectorisation, attribute, budget and protocol.

    With two or more training seeds the value is their mean and the interval Student's over seeds; with one seed both
    are the score's own. `interval` always says which.
    """
    groups: dict[tuple[str, ...], list[dict[Any, Any]]] = {}
    for record in scores.to_dict("records"):
        groups.setdefault(tuple(record[column] for column in CELL), []).append(record)
    rows = []
    for key, records in groups.items():
        first = records[0]
        per_seed = _means_by_seed(records)
        over_seeds = seed_interval(per_seed)
        low: float | None
        high: float | None
        if over_seeds:
            low, high, interval = *over_seeds, f"95% t interval over {len(per_seed)} training seeds"
        elif len(records) == 1:
            low, high, interval = first["low"], first["high"], first["interval"]
        else:
            low, high, interval = _mean_bounds(records)
        rows.append({
            **dict(zip(CELL, key, strict=True)),
            "value": _mean(per_seed), "low": low, "high": high, "interval": interval,
            "seeds": len(per_seed), "n": min(record["n"] for record in records),
            **{column: first[column] for column in ("direction", "baseline", "steps", "cfg", "nfe")},
        })  # fmt: skip
    table = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    table = table.sort_values("metric", kind="stable", key=lambda metrics: metrics.map(metric_order))
    types = {"low": "Float64", "high": "Float64", "baseline": "Float64", "steps": "Int64", "cfg": "Float64"}
    return table.astype({**types, "nfe": "Int64"}).reset_index(drop=True)


def wide(comparison: pd.DataFrame) -> pd.DataFrame:
    """One row per tokenizer; per score the columns NAME, 'NAME low', 'NAME high', 'NAME interval', 'NAME n'.

    NAME is the metric with its vectorisation and budget, such as 'probe_macro_f1 [pca]' or 'gfid [steps=600 cfg=1
    nfe=25]'. Scores of one name and differing protocols get columns of their own, told apart by their hash.
    """
    means = comparison[comparison["attribute"] == ""]
    rows: dict[tuple[str, str], dict[str, object]] = {}
    clashes = means.groupby(["metric", "vectorisation", "budget"])["protocol_hash"].nunique()
    for cell in means.to_dict("records"):
        notes = [cell["vectorisation"], cell["budget"]]
        if clashes[(cell["metric"], cell["vectorisation"], cell["budget"])] > 1:
            notes.append(f"protocol {cell['protocol_hash']}")
        name = " ".join([cell["metric"], *(f"[{note}]" for note in notes if note)])
        subject = {"study": cell["study"], "tokenizer": cell["tokenizer"]}
        row = rows.setdefault((cell["study"], cell["tokenizer"]), subject)
        row[name] = cell["value"]
        row |= {f"{name} {companion}": cell[companion] for companion in ("low", "high", "interval", "n")}
    return pd.DataFrame(list(rows.values()))


@dataclass(frozen=True)
class Standing:
    """How the tokenizers of one table row compare.

    Attributes:
        best: label of the best value, or None where no direction is better.
        tied: labels (the best included) whose intervals overlap the best's, or have none to compare.
        reason: why the best is not marked alone; empty where it is. An interval of one training seed covers samples
            and no retraining, so the best and the runner-up need two seeds each.
    """

    best: str | None
    tied: tuple[str, ...]
    reason: str = ""

    @property
    def clear(self) -> bool:
        """Whether the best one's interval overlaps no other, retraining included."""
        return self.best is not None and not self.reason

    @property
    def within_noise(self) -> tuple[str, ...]:
        """Labels that the intervals do not tell from the best, which is one of them; none where it is clear."""
        return self.tied if self.reason == "intervals overlap" else ()


def standing(cells: pd.DataFrame) -> Standing:
    """Best of the comparison rows of one metric (one row per tokenizer), and whether intervals tell it apart."""
    direction = cells["direction"].iloc[0] if len(cells) else "none"
    finite = cells[cells["value"].notna()]
    if direction == "none" or len(finite) < 2:
        return Standing(None, ())
    if finite["protocol_hash"].nunique() > 1:
        return Standing(None, (), "different protocols: not comparable")
    if finite["label"].duplicated().any():
        return Standing(None, ())
    ranked = finite.sort_values("value", ascending=direction == "lower", kind="stable")
    best, others = ranked.iloc[0], ranked.iloc[1:]
    if finite[["low", "high"]].isna().any(axis=None):
        return Standing(str(best["label"]), tuple(ranked["label"]), "no interval")
    overlap = others[(others["low"] <= best["high"]) & (others["high"] >= best["low"])]
    if len(overlap):
        return Standing(str(best["label"]), (str(best["label"]), *map(str, overlap["label"])), "intervals overlap")
    reason = "one training seed" if ranked["seeds"].iloc[:2].min() < 2 else ""
    return Standing(str(best["label"]), (str(best["label"]),), reason)


def primary_budget(comparison: pd.DataFrame) -> str:
    """The budget that the report leads with: guidance nearest to none (CFG 1), then most steps, then most NFE."""
    generated = comparison[comparison["metric"].isin(["gfid", "gfid_vs_reconstructions"])]
    if generated.empty:
        return ""
    ranked = generated.assign(guidance=(generated["cfg"].fillna(1.0) - 1).abs())
    ranked = ranked.sort_values(["guidance", "steps", "nfe"], ascending=[True, False, False], kind="stable")
    return str(ranked["budget"].iloc[0])


def primary_probe(comparison: pd.DataFrame) -> tuple[str, str] | None:
    """(metric, vectorisation) of the probe score that the report leads with: the paper's, macro-F1 on flattened."""
    probes = comparison[comparison["metric"].str.startswith("probe_") & (comparison["attribute"] == "")]
    for metric in ("probe_macro_f1", "probe_average_precision"):
        for vectorisation in ("flattened", "pooled", "pca"):
            if ((probes["metric"] == metric) & (probes["vectorisation"] == vectorisation)).any():
                return metric, vectorisation
    return (probes["metric"].iloc[0], probes["vectorisation"].iloc[0]) if len(probes) else None


def select(
    comparison: pd.DataFrame, metric: str, vectorisation: str = "", budget: str = "", attribute: str = ""
) -> pd.DataFrame:
    """Rows of one score. `budget` only narrows scores that have one."""
    rows = comparison[(comparison["metric"] == metric) & (comparison["attribute"] == attribute)]
    rows = rows[rows["vectorisation"] == vectorisation]
    return rows[(rows["budget"] == budget) | (rows["budget"] == "")]


def _mean_bounds(records: list[dict[Any, Any]]) -> tuple[float | None, float | None, str]:
    """Means of the bounds of several sampling seeds; what they share, samples and data, is not averaged away."""
    bounds = [(record["low"], record["high"]) for record in records]
    if any(pd.isna(bound) for pair in bounds for bound in pair):
        return None, None, ""
    low, high = (sum(side) / len(bounds) for side in zip(*bounds, strict=True))
    return low, high, f"{records[0]['interval']}; mean bounds of {len(records)} sampling seeds"


def _means_by_seed(records: list[dict[Any, Any]]) -> list[float]:
    """Mean value of every training seed; records without a seed count as one."""
    values: dict[int | None, list[float]] = {}
    for record in records:
        seed = None if pd.isna(record["seed"]) else int(record["seed"])
        values.setdefault(seed, []).append(record["value"])
    return [_mean(v) for v in values.values()]


def _mean(values: list[float]) -> float:
    """About the first, so that equal values have themselves as mean and not what rounding makes of it."""
    return values[0] + sum(value - values[0] for value in values) / len(values)
