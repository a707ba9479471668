"""How well can the tokenizer that generates best be picked without training a diffusion model?

A model predicts gFID from scores, judged on tokenizers (or whole families) that it has not seen, against baselines that
know only rFID, only PSNR, only the leading probe score, or nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.axes import Axis, AxisTable, AxisValues, seed_values
from reports.collect import Results
from reports.comparison import primary_budget, primary_probe
from reports.costs import RECONSTRUCTING, SCORING, spent, stage_costs
from reports.held_out import (
    SMALLEST,
    Kind,
    bootstrap_of,
    held_out,
    lowest_by_pairs,
    mean_of_others,
    pair_margins,
    r_squared,
    rank_agreement,
)
from reports.names import RECONSTRUCTION, metric_name
from reports.relations import TARGETS, predictors
from reports.statistics.checks import Vector
from reports.tokenizers import tokenizer_facts
from vaebench.core.errors import MismatchError, NumericalError, TooFewSamples


@dataclass(frozen=True)
class Prediction:
    """One model judged on held-out tokenizers.

    Attributes:
        model: what it is, such as 'latent scores, ridge'.
        inputs: labels of the scores that it sees.
        target, budget: what it predicts.
        left_out: 'tokenizer' or 'family': what is left out together, with all its training seeds.
        n: tokenizers. rows: tokenizers times seeds.
        r2: 1 - squared error / squared error of the mean of the others, both of means over seeds; 0 for the constant.
            low, high: 95% bootstrap over tokenizers of the held-out predictions, models as fitted.
        kendall: rank agreement: the share of pairs of tokenizers that a model fitted without both puts in the measured
            order, less the share that it does not (`reports.held_out.pair_margins`). None for the constant, which ranks
            nothing, the elastic net, for which all pairs take too long, and below four groups.
        picked: the tokenizer that is predicted better in most of its pairs, best: the one measured best. Missing, with
            what follows from it, where R^2 is not above 0: scores that say nothing make no fair draw but lean to the
            worse, for each value enters the models of the pairs without it.
        regret: measured value of the picked one less that of the best; for the constant, of one picked at random.
        within: the margin; picked_within: whether regret is at most that (the chance of it, for the constant).
        scoring_seconds: of computing the inputs for all tokenizers. generating_seconds: of extraction, SiT training and
            sampling for all. scoring_share: the former's share of the latter, which is what a further tokenizer takes;
            nothing is saved on these, with which the model is fitted.
        note: what the reader must know, or why there is no number.
    """

    model: str
    inputs: str
    target: str
    budget: str
    left_out: str
    n: int
    rows: int = 0
    r2: float | None = None
    low: float | None = None
    high: float | None = None
    kendall: float | None = None
    picked: str = ""
    best: str = ""
    regret: float | None = None
    within: float | None = None
    picked_within: float | None = None
    scoring_seconds: float | None = None
    generating_seconds: float | None = None
    scoring_share: float | None = None
    note: str = ""


TEXTS = ("model", "inputs", "target", "budget", "left_out", "picked", "best", "note")
SMALLEST_OF_PAIRS = 4  # groups: a pair is left out, one more for the inner choice, and one is left to fit
HELD_OUT_COLUMNS = ["model", "target", "budget", "left_out", "label", "measured", "predicted"]


@dataclass(frozen=True)
class Inputs:
    """Rows of tokenizer and training seed: scores x, what is to be predicted y, and which scores were left off."""

    labels: np.ndarray
    x: pd.DataFrame
    y: Vector
    left_off: tuple[str, ...]


def predict(
    results: Results,
    comparison: pd.DataFrame,
    *,
    target: str = TARGETS[0],
    within: float | None = None,
    left_out: str = "tokenizer",
    force: bool = False,
) -> tuple[list[Prediction], pd.DataFrame]:
    """Judge every model on the leading budget of `target`.

    Args:
        results, comparison: as read and compared.
        target: a generation measure of which lower is better.
        within: margin of 'picked the best or within'; default: the half width of the best one's interval.
        left_out: 'tokenizer' or 'family'.
        force: use scores of differing protocols.

    Returns:
        The judgements, and the held-out predictions (`HELD_OUT_COLUMNS`).

    Raises:
        MismatchError: the target has differing protocols and `force` is not given, or published numbers are in the
            table.
    """
    budget = primary_budget(comparison)
    axes = AxisTable(comparison, results.protocols, force)
    margin = _margin(axes.values(Axis(target, budget=budget))) if within is None else within
    seeds = seed_values(results.scores)
    facts = tokenizer_facts(results).set_index("label")["family"]
    costs, judged, predictions = stage_costs(results), [], []
    for model, kind, inputs, stages in _models(comparison):
        said: dict[str, Any] = {"model": model, "target": target, "budget": budget, "left_out": left_out}
        try:
            rows = gather(axes, seeds, inputs, Axis(target, budget=budget))
            tokens = list(dict.fromkeys(rows.labels))
            groups = rows.labels if left_out == "tokenizer" else facts.loc[rows.labels].to_numpy()
            _enough(groups, rows.y, left_out)
            predicted = held_out(rows.x.to_numpy(float), rows.y, groups, kind) if kind else None
            margins = None
            if kind and kind != "elastic net" and len(np.unique(groups)) >= SMALLEST_OF_PAIRS:
                margins = pair_margins(rows.x.to_numpy(float), rows.y, rows.labels, groups, kind)
            constant = mean_of_others(rows.y, groups)
            means = _means(rows.labels, rows.y, constant if predicted is None else predicted, constant)
        except (TooFewSamples, NumericalError) as error:
            n = len(seeds.get(Axis(target, budget=budget), {}))
            judged.append(Prediction(**said, inputs=_named(inputs), n=n, note=error.message))
            continue
        took = spent(costs, tokens, budget, stages)
        note = f"Left off, not there for every tokenizer: {', '.join(rows.left_off)}." if rows.left_off else ""
        judged.append(Prediction(
            **said, inputs=", ".join(map(str, rows.x.columns)), n=len(tokens), rows=len(rows.y),
            **_judged(means, kind is None, margin, margins),
            within=margin, scoring_seconds=took.scoring, generating_seconds=took.generating, scoring_share=took.share,
            note=note,
        ))  # fmt: skip
        shown = means.reset_index()[["label", "measured", "predicted"]]
        predictions.append(shown.assign(**said)[HELD_OUT_COLUMNS])
    frame = pd.concat(predictions, ignore_index=True) if predictions else pd.DataFrame(columns=HELD_OUT_COLUMNS)
    return judged, frame


def prediction_table(judged: Sequence[Prediction]) -> pd.DataFrame:
    """The judgements as a table, a row each, with the fields of `Prediction` as columns."""
    fields = list(Prediction.__dataclass_fields__)
    types = {name: "str" if name in TEXTS else "Int64" if name in ("n", "rows") else "Float64" for name in fields}
    return pd.DataFrame([asdict(one) for one in judged], columns=fields).astype(types)


def gather(
    axes: AxisTable, seeds: Mapping[Axis, Mapping[str, Mapping[int, float]]], inputs: Sequence[Axis], target: Axis
) -> Inputs:
    """Scores and target per tokenizer and training seed of the target.

    A score that lacks that seed (one that depends on no seed, or on fewer) enters with its mean over the seeds it has.
    Scores that some tokenizer lacks, or whose protocols differ, are left off.

    Raises:
        TooFewSamples: none of the scores is there for every tokenizer.
    """
    rows = [(label, seed, value) for label, own in seeds.get(target, {}).items() for seed, value in own.items()]
    columns, left_off = {}, []
    for axis in inputs:
        known = seeds.get(axis, {})
        try:
            axes.values(axis)
        except MismatchError:
            known = {}
        if known.keys() >= {label for label, _, _ in rows}:
            columns[axis.label] = [
                known[label].get(seed, np.mean(list(known[label].values()))) for label, seed, _ in rows
            ]
        else:
            left_off.append(axis.label)
    if inputs and not columns:
        raise TooFewSamples(
            f"None of these scores is there for every tokenizer: {', '.join(left_off)}.", "Score them all alike."
        )
    x = pd.DataFrame(columns, index=range(len(rows)), dtype=float)
    return Inputs(np.array([row[0] for row in rows]), x, np.array([row[2] for row in rows]), tuple(left_off))


def _models(comparison: pd.DataFrame) -> list[tuple[str, Kind | None, list[Axis], tuple[str, ...]]]:
    """(name, kind or None for the constant, inputs, stages that compute these)."""
    available = list(predictors(comparison))
    latent = [axis for axis in available if metric_name(axis.metric).group != RECONSTRUCTION]
    models: list[tuple[str, Kind | None, list[Axis], tuple[str, ...]]] = []
    if latent:
        models += [("latent scores, ridge", "ridge", latent, SCORING)]
        models += [("latent scores, elastic net", "elastic net", latent, SCORING)]
    if probe := primary_probe(comparison):
        models.append(("leading probe only", "line", [Axis(*probe)], SCORING[:2]))
    for metric in ("rfid", "psnr"):
        if Axis(metric) in available:
            models.append((f"{metric_name(metric).label} only", "line", [Axis(metric)], RECONSTRUCTING))
    return [*models, ("constant", None, [], ())]


def _enough(groups: np.ndarray, y: Vector, left_out: str) -> None:
    n = len(np.unique(groups))
    needed = SMALLEST if left_out == "tokenizer" else 3
    if n < needed:
        many = "tokenizers" if left_out == "tokenizer" else "families"
        raise TooFewSamples(f"Leaving one {left_out} out needs at least {needed} {many}, here are {n}.", "Add some.")
    if np.ptp(y) == 0:
        raise NumericalError("All tokenizers have the same value: there is nothing to predict.")


def _means(labels: np.ndarray, measured: Vector, predicted: Vector, constant: Vector) -> pd.DataFrame:
    rows = pd.DataFrame({"label": labels, "measured": measured, "predicted": predicted, "constant": constant})
    return rows.groupby("label", sort=False).mean()


def _judged(means: pd.DataFrame, constant: bool, margin: float, margins: Vector | None) -> dict[str, Any]:
    y, predicted, baseline = (means[name].to_numpy() for name in ("measured", "predicted", "constant"))
    best = means["measured"].idxmin()
    found: dict[str, Any] = {"best": best, "r2": r_squared(y, predicted, baseline)}
    regrets = y - y.min()
    if constant:
        return {**found, "regret": float(regrets.mean()), "picked_within": float(np.mean(regrets <= margin))}
    found["low"], found["high"] = bootstrap_of(lambda i: r_squared(y[i], predicted[i], baseline[i]), len(y))
    if margins is None or not margins.any():
        return found
    found["kendall"] = rank_agreement(y, margins)
    if not found["r2"] > 0:
        return found
    picked = lowest_by_pairs(margins)
    return {**found, "picked": means.index[picked], "regret": float(regrets[picked]),
            "picked_within": float(regrets[picked] <= margin)}  # fmt: skip


def _margin(y: AxisValues) -> float:
    """Half width of the interval of the best value; 0 without one."""
    if not y.values:
        return 0.0
    _, low, high = y.cells[min(y.values, key=y.values.__getitem__)]
    return (high - low) / 2 if np.isfinite([low, high]).all() else 0.0


def _named(axes: Sequence[Axis]) -> str:
    return ", ".join(axis.label for axis in axes)
