"""Generation against training steps, and how many times fewer steps a tokenizer needs to be as good as a rival.

Between two snapshots the Fréchet distance is taken to be linear in the logarithm of the steps; before the first and
after the last it is taken to be unknown, never extrapolated.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from reports.axes import Protocols
from reports.names import metric_order
from reports.published import refuse_published
from reports.statistics import standard_error
from reports.statistics.checks import Vector
from vaebench.core.config import flattened

METRICS = ("gfid", "gfid_vs_reconstructions")
DRAWS = 4_999
VARIED = {"steps": "sit_steps", "cfg": "sampler.cfg", "nfe": "sampler.nfe"}
"""Entry of a budget -> the entry of the protocol that holds it, in which points of one curve may differ."""

CURVE_COLUMNS = ["metric", "label", "cfg", "nfe", "steps", "value", "low", "high", "seeds", "n", "protocol_hash"]
SPEEDUP_TYPES = {
    "metric": "str", "cfg": "Float64", "nfe": "Int64", "label": "str", "rival": "str", "rival_steps": "Int64",
    "rival_value": "float64", "steps_to_reach": "Float64", "speedup": "Float64", "low": "Float64", "high": "Float64",
    "share_reached": "Float64", "note": "str",
}  # fmt: skip


def convergence_curves(comparison: pd.DataFrame) -> pd.DataFrame:
    """Every point of every curve of `METRICS` with an interval (`CURVE_COLUMNS`), in the order of metric and steps."""
    refuse_published(comparison)
    points = comparison[comparison["metric"].isin(METRICS) & comparison["steps"].notna()]
    order = points["metric"].map(metric_order)
    return (
        points.assign(order=order)
        .sort_values(["order", "cfg", "nfe", "label", "steps"], kind="stable")[CURVE_COLUMNS]
        .reset_index(drop=True)
    )


def steps_to_reach(steps: Vector, values: Vector, wanted: float | Vector) -> Vector:
    """Steps at which a curve first comes down to `wanted`, by interpolation linear in log steps.

    Args:
        steps: rising, shape (k,).
        values: shape (k,) or, several curves at a time, (m, k).
        wanted: one number, or one for each curve.

    Returns:
        Shape (m,): 0 where the first snapshot is already there (so it took that many steps or fewer), infinity where
        none is.
    """
    curves = np.atleast_2d(np.asarray(values, dtype=np.float64))
    goal = np.broadcast_to(np.asarray(wanted, dtype=np.float64), len(curves))
    there = curves <= goal[:, None]
    first = there.argmax(axis=1)
    before, rows = np.maximum(first - 1, 0), np.arange(len(curves))
    above, below, logs = curves[rows, before], curves[rows, first], np.log(np.asarray(steps, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (above - goal) / (above - below)
        crossing = np.exp(logs[before] + share * (logs[first] - logs[before]))
    return np.where(~there.any(axis=1), np.inf, np.where(first == 0, 0.0, crossing))


def protocol_kinds(protocols: Protocols, hashes: Iterable[str], varied: str = "steps") -> Protocols:
    """Protocols less the entry of the budget that a curve runs over; of those that are then the same the first."""
    kinds: dict[str, tuple[str, dict[str, Any]]] = {}
    for hash_ in hashes:
        entries = flattened(protocols.get(hash_, {}).get("protocol", {"hash": hash_}))
        entries.pop(VARIED[varied], None)
        kinds.setdefault(repr(sorted(entries.items())), (hash_, entries))
    return {hash_: {"protocol": entries} for hash_, entries in kinds.values()}


def speedups(comparison: pd.DataFrame, protocols: Protocols, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """For every two tokenizers at one guidance and NFE: rival's steps / steps to reach the rival's last value.

    The interval is a parametric bootstrap of the values behind both curves: each is drawn anew from its interval
    (Student over training seeds, normal where there is one seed), independently of the others. Values share their
    reference images, and snapshots share a training run, so that their errors in truth go together and the interval is
    rather too wide. An interval that starts at 0 says that the rival's value may never be reached within the steps
    trained; one that ends at infinity, that it may be reached before the first snapshot.

    Returns:
        Columns of `SPEEDUP_TYPES`. `speedup` is missing where it is only bounded, which `note` then tells;
        `share_reached` is the share of draws that reach the rival's value. Protocols must agree but for the steps.
    """
    rows = []
    rng = np.random.default_rng(seed)
    curves = convergence_curves(comparison)
    for (metric, cfg, nfe), part in curves.groupby(["metric", "cfg", "nfe"], sort=False, dropna=False):
        by_label = {str(label): points for label, points in part.groupby("label", sort=False)}
        for label, rival in itertools.permutations(by_label, 2):
            subject = {"metric": metric, "cfg": cfg, "nfe": nfe, "label": label, "rival": rival}
            rows.append({**subject, **_speedup(by_label[label], by_label[rival], protocols, level, rng)})
    return pd.DataFrame(rows, columns=list(SPEEDUP_TYPES)).astype(SPEEDUP_TYPES)


def _speedup(
    own: pd.DataFrame,
    rival: pd.DataFrame,
    protocols: Protocols,
    level: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    last = rival.iloc[-1]
    target, target_steps = float(last["value"]), int(last["steps"])
    found: dict[str, Any] = {"rival_steps": target_steps, "rival_value": target, "note": ""}
    kinds = protocol_kinds(protocols, [*own["protocol_hash"], *rival["protocol_hash"]])
    if len(kinds) > 1 or own["steps"].duplicated().any() or rival["steps"].duplicated().any():
        return {**found, "note": "Protocols differ in more than the steps."}
    steps, values = own["steps"].to_numpy(float), own["value"].to_numpy(float)
    reached = float(steps_to_reach(steps, values, target)[0])
    if 0 < reached < np.inf:
        found |= {"steps_to_reach": reached, "speedup": target_steps / reached}
    elif reached == 0:
        found["note"] = f"Reached by the first snapshot: at least {target_steps / steps[0]:.3g} times."
    else:
        found["note"] = f"Not reached within {steps[-1]:g} steps: less than {target_steps / steps[-1]:.3g} times."
    errors = _errors(own), _errors(rival.iloc[[-1]])
    if all(np.isfinite(error).all() for error in errors):
        curves = values + errors[0] * _noise(own["seeds"], rng)
        goals = target + errors[1] * _noise(rival["seeds"].iloc[[-1]], rng)
        drawn = steps_to_reach(steps, curves, goals[:, 0])
        with np.errstate(divide="ignore"):
            # 'inverted_cdf' takes values of the sample itself, which infinities ask for.
            bounds = np.quantile(target_steps / drawn, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        found |= {"low": bounds[0], "high": bounds[1], "share_reached": float(np.mean(drawn < np.inf))}
    return found


def _errors(points: pd.DataFrame) -> Vector:
    low, high = (points[side].astype("Float64").to_numpy(float, na_value=np.nan) for side in ("low", "high"))
    return standard_error(low, high, points["seeds"])


def _noise(seeds: pd.Series, rng: np.random.Generator) -> Vector:
    """Draws of (value - mean) / standard error: Student's t over seeds, normal for one seed; (DRAWS, points)."""
    columns = [rng.standard_t(k - 1, DRAWS) if k > 1 else rng.standard_normal(DRAWS) for k in seeds]
    return np.stack(columns, axis=1)
