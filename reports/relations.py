"""Pairs of scores over the same tokenizers, and how strongly one goes with the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.comparison import select
from reports.names import GENERATION, label_of, metric_name, metric_order
from reports.statistics import Correlation, PartialCorrelation, correlate, partial_correlation
from vaebench.core.errors import MismatchError, NumericalError, TooFewSamples

TARGETS = ("gfid", "gfid_vs_reconstructions")
CONFOUNDER = "psnr"


@dataclass(frozen=True)
class Axis:
    """One score as an axis: a metric, and the vectorisation or budget that picks one of its variants."""

    metric: str
    vectorisation: str = ""
    budget: str = ""

    @property
    def label(self) -> str:
        """Readable name."""
        return label_of(self.metric, self.vectorisation)


@dataclass(frozen=True)
class Relation:
    """Predictor and target over the same tokenizers.

    Attributes:
        points: indexed by tokenizer label, columns x, x_low, x_high, y, y_low, y_high.
        correlation: None below three points or where an axis is constant; `note` then says why.
        partial: the correlation with the confounder held fixed, where n allows; `partial_note` says why not.
        directions: which way is better on x and on y: "higher", "lower" or "none".
        forced: whether scores of differing protocols share an axis because the caller insisted.
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


def relate(
    comparison: pd.DataFrame,
    protocols: Mapping[str, Mapping[str, Any]],
    predictor: Axis,
    target: Axis,
    *,
    force: bool = False,
) -> Relation:
    """Pair two scores by tokenizer and correlate them; the confounder is PSNR unless PSNR is itself the predictor.

    Raises:
        MismatchError: an axis holds scores of differing protocols and `force` is not given; the message names the
            protocol entries that differ.
    """
    x = _axis_values(comparison, predictor, protocols, force)
    y = _axis_values(comparison, target, protocols, force)
    points = x.add_prefix("x_").join(y.add_prefix("y_"), how="inner")
    points = points.rename(columns={"x_value": "x", "y_value": "y"}).dropna(subset=["x", "y"])
    forced = x["protocol_hash"].nunique() > 1 or y["protocol_hash"].nunique() > 1
    correlation, note = None, ""
    try:
        correlation = correlate(points["x"], points["y"])
    except (TooFewSamples, NumericalError) as error:
        note = error.message
    partial, partial_note = None, ""
    if predictor.metric != CONFOUNDER:
        partial, partial_note = _partial(comparison, protocols, points, force)
    directions = ("none", "none") if points.empty else (points["x_direction"].iloc[0], points["y_direction"].iloc[0])
    values = points[["x", "x_low", "x_high", "y", "y_low", "y_high"]].astype(float)
    return Relation(predictor, target, values, correlation, note, partial, partial_note, directions, forced)


def predictors(comparison: pd.DataFrame) -> Iterator[Axis]:
    """Every score that does not itself come from generated samples."""
    means = comparison[(comparison["attribute"] == "") & (comparison["budget"] == "")]
    keys = means[["metric", "vectorisation"]].drop_duplicates().itertuples(index=False)
    for metric, vectorisation in sorted(keys, key=lambda key: metric_order(key[0])):
        if metric_name(metric).group != GENERATION:
            yield Axis(metric, vectorisation)


def require_one_protocol(
    hashes: Sequence[str], protocols: Mapping[str, Mapping[str, Any]], what: str, *, force: bool = False
) -> None:
    """Refuse scores of differing protocols.

    Raises:
        MismatchError: more than one hash and not `force`; names every entry that differs and its values.
    """
    unique = list(dict.fromkeys(hashes))
    if len(unique) > 1 and not force:
        raise MismatchError(
            f"{what}: the scores were obtained by different protocols ({', '.join(unique)}), which differ in "
            f"{'; '.join(differences([protocols.get(hash_, {}).get('protocol', {}) for hash_ in unique]))}.",
            "Score them by one protocol, or force the comparison.",
        )


def differences(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """The entries in which protocols differ, as 'sampler.nfe (25 against 50)'; nested entries by dotted name."""
    flat = [_flatten(protocol) for protocol in protocols]
    keys = dict.fromkeys(key for entries in flat for key in entries)
    result = []
    for key in keys:
        values = list(dict.fromkeys(repr(entries[key]) if key in entries else "absent" for entries in flat))
        if len(values) > 1:
            result.append(f"{key} ({' against '.join(values)})")
    return result


def _axis_values(
    comparison: pd.DataFrame, axis: Axis, protocols: Mapping[str, Mapping[str, Any]], force: bool
) -> pd.DataFrame:
    rows = select(comparison, axis.metric, axis.vectorisation, axis.budget)
    require_one_protocol(list(rows["protocol_hash"]), protocols, axis.label, force=force)
    return rows.drop_duplicates("label").set_index("label")[["value", "low", "high", "direction", "protocol_hash"]]


def _partial(
    comparison: pd.DataFrame, protocols: Mapping[str, Mapping[str, Any]], points: pd.DataFrame, force: bool
) -> tuple[PartialCorrelation | None, str]:
    try:
        confounder = _axis_values(comparison, Axis(CONFOUNDER), protocols, force)
        shared = points.join(confounder["value"], how="inner").dropna(subset=["value"])
        if shared.empty:
            return None, "No PSNR to hold fixed."
        return partial_correlation(shared["x"], shared["y"], shared["value"]), ""
    except (TooFewSamples, NumericalError, MismatchError) as error:
        return None, error.message


def _flatten(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entries.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
