"""Scores as axes: one value per tokenizer, of one protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.names import label_of
from reports.published import refuse_published
from vaebench.core.config import flattened
from vaebench.core.errors import MismatchError

Protocols = Mapping[str, Mapping[str, Any]]


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
class AxisValues:
    """Values of one score.

    Attributes:
        cells: tokenizer label -> value and the ends of its interval; NaN where missing.
        direction: which way is better; 'none' without any value.
        protocols: hashes of the protocols behind the values; more than one only where the caller insisted.
    """

    cells: Mapping[str, tuple[float, float, float]]
    direction: str
    protocols: tuple[str, ...]

    @property
    def values(self) -> dict[str, float]:
        """Label -> value, where there is a finite one."""
        return {label: cell[0] for label, cell in self.cells.items() if np.isfinite(cell[0])}


class AxisTable:
    """A comparison table looked up by axis; every axis is put together once.

    Args:
        comparison: of `reports.comparison.compare`.
        protocols: hash -> protocol, for the message about those that differ.
        force: let scores of differing protocols share an axis.

    Raises:
        MismatchError: the table holds published numbers, which no fit may use.
    """

    def __init__(self, comparison: pd.DataFrame, protocols: Protocols, force: bool = False) -> None:
        refuse_published(comparison)
        self.protocols, self.force = protocols, force
        self._cells: dict[Axis, list[dict[Any, Any]]] = {}
        self._values: dict[Axis, AxisValues | MismatchError] = {}
        for cell in comparison[comparison["attribute"] == ""].to_dict("records"):
            axis = Axis(cell["metric"], cell["vectorisation"], cell["budget"])
            self._cells.setdefault(axis, []).append(cell)

    def values(self, axis: Axis) -> AxisValues:
        """Values of one score; its budget only narrows scores that have one.

        Raises:
            MismatchError: the scores have differing protocols and `force` is not given.
        """
        if axis not in self._values:
            try:
                self._values[axis] = self._gather(axis)
            except MismatchError as error:
                self._values[axis] = error
        found = self._values[axis]
        if isinstance(found, MismatchError):
            raise found
        return found

    def _gather(self, axis: Axis) -> AxisValues:
        cells = list(self._cells.get(axis, []))
        if axis.budget:
            cells += self._cells.get(Axis(axis.metric, axis.vectorisation), [])
        hashes = tuple(dict.fromkeys(cell["protocol_hash"] for cell in cells))
        require_one_protocol(hashes, self.protocols, axis.label, force=self.force)
        values: dict[str, tuple[float, float, float]] = {}
        for cell in cells:
            values.setdefault(cell["label"], (_float(cell["value"]), _float(cell["low"]), _float(cell["high"])))
        return AxisValues(values, cells[0]["direction"] if cells else "none", hashes)


def require_one_protocol(hashes: Sequence[str], protocols: Protocols, what: str, *, force: bool = False) -> None:
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
    flat = [flattened(protocol) for protocol in protocols]
    keys = dict.fromkeys(key for entries in flat for key in entries)
    result = []
    for key in keys:
        values = list(dict.fromkeys(repr(entries[key]) if key in entries else "absent" for entries in flat))
        if len(values) > 1:
            result.append(f"{key} ({' against '.join(values)})")
    return result


def seed_values(scores: pd.DataFrame) -> dict[Axis, dict[str, dict[int, float]]]:
    """Axis -> tokenizer label -> training seed -> mean of the finite values; seed -1 for scores without one.

    Scores of single attributes are left out. Raises MismatchError for a table with published numbers.
    """
    refuse_published(scores)
    means = scores[(scores["attribute"] == "") & np.isfinite(scores["value"])]
    means = means.assign(seed=means["seed"].fillna(-1).astype(int))
    keys = ["metric", "vectorisation", "budget", "label", "seed"]
    found: dict[Axis, dict[str, dict[int, float]]] = {}
    for (metric, vectorisation, budget, label, seed), value in means.groupby(keys)["value"].mean().items():
        found.setdefault(Axis(metric, vectorisation, budget), {}).setdefault(label, {})[seed] = value
    return found


def _float(value: Any) -> float:
    return float("nan") if pd.isna(value) else float(value)
