"""Pairs of scores over the same tokenizers, and how strongly one goes with the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from reports.axes import Axis, AxisTable, AxisValues, Protocols
from reports.names import GENERATION, coefficient, metric_name, metric_order
from reports.statistics import Correlation, PartialCorrelation, correlate_many, partial_correlation
from reports.statistics.checks import Vector, checked, pearson
from vaebench.core.errors import MismatchError, NumericalError, TooFewSamples

TARGETS = ("gfid", "gfid_vs_reconstructions")
CONFOUNDER = "psnr"
POINT_COLUMNS = ["x", "x_low", "x_high", "y", "y_low", "y_high"]


@dataclass(frozen=True)
class Relation:
    """Predictor and target over the same tokenizers.

    Attributes:
        points: indexed by tokenizer label, columns x, x_low, x_high, y, y_low, y_high.
        correlation: None below three points or where an axis is constant; `note` then says why.
        partial: the correlation with the confounder held fixed, where n allows; `partial_note` says why not.
        directions: which way is better on x and on y: "higher", "lower" or "none".
        forced: whether scores of differing protocols share an axis because the caller insisted.
        controls: as `points`, those that nobody trained, which stand beside and count in nothing.
        size: the correlation with latent size held fixed, where sizes are known and differ.
    """

    predictor: Axis
    target: Axis
    points: pd.DataFrame
    correlation: Correlation | None
    note: str
    partial: PartialCorrelation | None
    partial_note: str
    directions: tuple[str, str]
    forced: bool
    controls: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=POINT_COLUMNS))
    size: PartialCorrelation | None = None

    @property
    def unsettled(self) -> str:
        """Why the sign of r says nothing of the scores, in words that follow 'but'; empty where it does."""
        if self.correlation is None or self.correlation.unsettled:
            return self.correlation.unsettled if self.correlation else "there is no correlation"
        size = self.size
        if size is None or size.low is None or size.high is None or not size.low <= 0 <= size.high:
            return ""
        interval = f"{coefficient(size.low)} to {coefficient(size.high)}"
        return f"most of it goes with latent size: with that held fixed r is {coefficient(size.value)} ({interval})"

    @property
    def everyone(self) -> pd.DataFrame:
        """The points and, after them, the controls."""
        return pd.concat([self.points, self.controls]) if len(self.controls) else self.points

    @property
    def with_controls(self) -> float | None:
        """Pearson's r once the controls count as well; None without any."""
        if self.correlation is None or self.controls.empty:
            return None
        return pearson(self.everyone["x"].to_numpy(), self.everyone["y"].to_numpy())


def relate(
    comparison: pd.DataFrame, protocols: Protocols, predictor: Axis, target: Axis, *, force: bool = False
) -> Relation:
    """Pair two scores by tokenizer and correlate them; the confounder is PSNR unless PSNR is itself the predictor.

    Raises:
        MismatchError: an axis holds scores of differing protocols and `force` is not given; the message names the
            protocol entries that differ. Or the table holds published numbers.
    """
    axes = AxisTable(comparison, protocols, force)
    axes.values(predictor), axes.values(target)
    found = relate_all(axes, [predictor], target)[0]
    assert isinstance(found, Relation)
    return found


def relate_all(axes: AxisTable, predictors: Sequence[Axis], target: Axis) -> list[Relation | str]:
    """`relate` of every predictor with one target; the message in place of a relation that protocols forbid.

    Predictors over the same tokenizers share the work, so this is faster than one at a time.
    """
    pairs: list[tuple[AxisValues, pd.DataFrame] | str] = []
    for predictor in predictors:
        try:
            x = axes.values(predictor)
            pairs.append((x, _points(x, axes.values(target))))
        except MismatchError as error:
            pairs.append(str(error))
    correlations = _correlations([pair[1] for pair in pairs if not isinstance(pair, str)])
    relations: list[Relation | str] = []
    for predictor, pair in zip(predictors, pairs, strict=True):
        if isinstance(pair, str):
            relations.append(pair)
            continue
        x, points = pair
        y = axes.values(target)
        correlation, note = next(correlations)
        partial, partial_note = (None, "") if predictor.metric == CONFOUNDER else _partial(axes, points)
        relations.append(Relation(
            predictor, target, points, correlation, note, partial, partial_note, (x.direction, y.direction),
            forced=len(x.protocols) > 1 or len(y.protocols) > 1,
        ))  # fmt: skip
    return relations


def with_size(relation: Relation, sizes: Mapping[str, float]) -> Relation:
    """The relation with its `size`, of the latent sizes of tokenizers."""
    if relation.correlation is None:
        return relation
    try:
        return replace(relation, size=partial_correlation(*with_confounders(relation.points, [sizes])))
    except (TooFewSamples, NumericalError):  # too few are known, or all are equal
        return relation


def beside(relation: Relation, axes: AxisTable, controls: Sequence[str]) -> Relation:
    """The relation with its `controls`; none where their protocols are others."""
    try:
        points = _points(axes.values(relation.predictor), axes.values(relation.target))
    except MismatchError:
        return relation
    return replace(relation, controls=points[points.index.isin(controls)])


def predictors(comparison: pd.DataFrame) -> Iterator[Axis]:
    """Every score that does not itself come from generated samples."""
    means = comparison[(comparison["attribute"] == "") & (comparison["budget"] == "")]
    keys = means[["metric", "vectorisation"]].drop_duplicates().itertuples(index=False)
    for metric, vectorisation in sorted(keys, key=lambda key: metric_order(key[0])):
        if metric_name(metric).group != GENERATION:
            yield Axis(metric, vectorisation)


def generation_measures(comparison: pd.DataFrame) -> list[Axis]:
    """Every score of generated samples at every budget: what predictors are related to."""
    means = comparison[comparison["attribute"] == ""]
    generated = (means["budget"] != "") | means["metric"].map(lambda metric: metric_name(metric).group == GENERATION)
    keys = means.loc[generated, ["metric", "vectorisation", "budget"]].drop_duplicates()
    axes = [Axis(*map(str, key)) for key in keys.itertuples(index=False)]
    return sorted(axes, key=lambda axis: (axis.budget, metric_order(axis.metric)))


def _points(x: AxisValues, y: AxisValues) -> pd.DataFrame:
    shared = [label for label in x.values if label in y.values]
    rows = np.array([(*x.cells[label], *y.cells[label]) for label in shared], dtype=float).reshape(len(shared), 6)
    return pd.DataFrame(rows, pd.Index(shared, name="label", dtype="str"), POINT_COLUMNS)


def with_confounders(points: pd.DataFrame, confounders: Sequence[Mapping[str, float]]) -> tuple[Vector, Vector, Vector]:
    """x, y (n) and confounders (n, k) of the tokenizers that have all of these."""
    rows = zip(points.index, points["x"].to_numpy(), points["y"].to_numpy(), strict=True)
    known = [
        (x, y, *(one[label] for one in confounders)) for label, x, y in rows if all(label in c for c in confounders)
    ]
    table = np.array(known, dtype=float).reshape(len(known), 2 + len(confounders))
    return table[:, 0], table[:, 1], table[:, 2:]


def _correlations(pairs: Sequence[pd.DataFrame]) -> Iterator[tuple[Correlation | None, str]]:
    """Correlation of every pair, or why there is none; pairs over the same tokenizers are computed together."""
    found: dict[int, tuple[Correlation | None, str]] = {}
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, points in enumerate(pairs):
        try:
            checked(points["x"].to_numpy(), points["y"].to_numpy())
            groups.setdefault(tuple(points.index), []).append(i)
        except (TooFewSamples, NumericalError) as error:
            found[i] = (None, error.message)
    for members in groups.values():
        # One target and the same tokenizers in the same order: y is the same in all.
        first = pairs[members[0]]
        together = correlate_many([pairs[i]["x"].to_numpy() for i in members], first["y"].to_numpy())
        found |= {i: (correlation, "") for i, correlation in zip(members, together, strict=True)}
    return iter([found[i] for i in range(len(pairs))])


def _partial(axes: AxisTable, points: pd.DataFrame) -> tuple[PartialCorrelation | None, str]:
    try:
        held = axes.values(Axis(CONFOUNDER)).values
        if not held.keys() & set(points.index):
            return None, "No PSNR to hold fixed."
        return partial_correlation(*with_confounders(points, [held])), ""
    except (TooFewSamples, NumericalError, MismatchError) as error:
        return None, error.message
