"""Every score against every generation measure, with all that is known of each relation, as tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.axes import Axis, AxisTable, seed_values
from reports.collect import Results
from reports.names import label_of
from reports.relations import Relation, generation_measures, predictors, relate_all, with_confounders, with_size
from reports.statistics import (
    benjamini_hochberg,
    critical_r,
    detectable_r,
    disattenuate,
    hierarchical_bootstrap,
    holm,
    partial_correlation,
    pooled_covariance,
)
from reports.statistics.checks import Vector
from reports.tokenizers import latent_sizes
from vaebench.core.errors import MismatchError, NumericalError, TooFewSamples

LATENT_DIM = "latent_dim"
CONFOUNDERS = ("psnr", "rfid", LATENT_DIM)
Related = Mapping[Axis, Mapping[Axis, Relation | str]]
"""Target -> predictor -> relation, or why there is none."""

SUBJECT = ["metric", "vectorisation", "score", "target", "target_vectorisation", "budget"]
COEFFICIENTS = ("pearson", "spearman", "kendall")
FIELDS = ("low", "high", "bootstrap_low", "bootstrap_high", "p", "exact")

RELATION_COLUMNS = [
    *SUBJECT, "n",
    *(name for kind in COEFFICIENTS for name in
      (kind, *(f"{kind}_{field}" for field in FIELDS), f"{kind}_p_holm", f"{kind}_p_bh")),
    "permutations", "smallest_p", "leave_one_out_low", "leave_one_out_high", "hierarchical_low", "hierarchical_high",
    "critical_r", "detectable_r", "score_reliability", "target_reliability", "disattenuated", "disattenuated_low",
    "disattenuated_high", "family", "family_size", "forced", "unsettled", "note",
]  # fmt: skip
PARTIAL_COLUMNS = [
    *SUBJECT, "confounders", "n", "degrees", "partial", "low", "high", "p", "score_explained", "target_explained",
    "note",
]  # fmt: skip


def related(
    results: Results, comparison: pd.DataFrame, *, targets: Sequence[Axis] | None = None, force: bool = False
) -> Related:
    """Every score with every generation measure (default: all, at every budget); the message where protocols forbid.

    Raises:
        MismatchError: published numbers are in the table.
    """
    axes, every = AxisTable(comparison, results.protocols, force), list(predictors(comparison))
    wanted = generation_measures(comparison) if targets is None else targets
    sizes, found = latent_sizes(results), {}
    for target in wanted:
        relations = (r if isinstance(r, str) else with_size(r, sizes) for r in relate_all(axes, every, target))
        found[target] = dict(zip(every, relations, strict=True))
    return found


def relation_table(results: Results, relations: Related) -> pd.DataFrame:
    """One row per score and generation measure (`RELATION_COLUMNS`); missing where n or the protocols allow none.

    The family over which p values are adjusted is all scores against one generation measure at one budget, separately
    for each coefficient; `family` and `family_size` say so in every row. `hierarchical` is the interval of Pearson's r
    over tokenizers and their training seeds, `disattenuated` Pearson's r corrected for the errors of both axes,
    `critical_r` the |r| at which Student's test reaches p = 0.05 and `detectable_r` the true |r| found with 80% power;
    `unsettled` says why the sign of r is not settled, or says nothing of the scores, if that is so.
    """
    rows: list[dict[str, Any]] = []
    seeds = seed_values(results.scores)
    for target, found in relations.items():
        family = [_row(relation, predictor, target, seeds) for predictor, relation in found.items()]
        for kind in COEFFICIENTS:
            p = [row.get(f"{kind}_p", np.nan) for row in family]
            for name, adjusted in (("holm", holm(p)), ("bh", benjamini_hochberg(p))):
                for row, value in zip(family, adjusted, strict=True):
                    row[f"{kind}_p_{name}"] = value
        size = sum("pearson" in row for row in family)
        about = f"all scores against {target.label}{' at ' + target.budget if target.budget else ''}"
        rows += [{**row, "family": about, "family_size": size} for row in family]
    return _typed(rows, RELATION_COLUMNS)


def partial_table(
    results: Results,
    comparison: pd.DataFrame,
    relations: Related,
    *,
    confounders: Sequence[str] = CONFOUNDERS,
    force: bool = False,
) -> pd.DataFrame:
    """Per score and generation measure, Pearson's r with each confounder held fixed, and with all of them.

    Confounders are metrics without vectorisation, or 'latent_dim'. A confounder that is the score itself, or that
    nobody measured, is passed over, and among several one that is the same for all tokenizers is fixed as it is;
    `note` says why a row has no number, too few tokenizers first of all.
    """
    axes = AxisTable(comparison, results.protocols, force)
    known = {name: values for name in confounders if (values := _confounder(results, axes, name))}
    rows = []
    for target, found in relations.items():
        for predictor, relation in found.items():
            if isinstance(relation, Relation) and relation.correlation is not None:
                usable = [name for name in known if Axis(name) != predictor]
                varied = [name for name in usable if _varies(known[name], relation)]
                sets = [[name] for name in usable] + ([varied] if len(varied) > 1 else [])
                rows += [{**_subject(predictor, target), **_partial(relation, known, names)} for names in sets]
    return _typed(rows, PARTIAL_COLUMNS)


def _subject(predictor: Axis, target: Axis) -> dict[str, Any]:
    return {
        "metric": predictor.metric, "vectorisation": predictor.vectorisation, "score": predictor.label,
        "target": target.metric, "target_vectorisation": target.vectorisation, "budget": target.budget,
    }  # fmt: skip


def _row(
    relation: Relation | str, predictor: Axis, target: Axis, seeds: Mapping[Axis, Mapping[str, dict[int, float]]]
) -> dict[str, Any]:
    subject = _subject(predictor, target)
    if isinstance(relation, str):
        return {**subject, "note": relation}
    n = len(relation.points)
    row = {**subject, "n": n, "forced": relation.forced, "note": relation.note}
    c = relation.correlation
    if c is None:
        return row
    for kind, coefficient in c.coefficients.items():
        row[kind] = coefficient.value
        row |= {f"{kind}_{field}": getattr(coefficient, field) for field in FIELDS}
    row |= {"permutations": c.permutations, "smallest_p": c.smallest_p, "unsettled": relation.unsettled}
    row |= {"critical_r": critical_r(n), "detectable_r": detectable_r(n)}
    if c.leave_one_out:
        row["leave_one_out_low"], row["leave_one_out_high"] = c.leave_one_out
    labels = relation.points.index
    paired = [list(seeds[predictor][label]) == list(seeds[target][label]) for label in labels]
    xs, ys = ([np.array(list(seeds[axis][label].values())) for label in labels] for axis in (predictor, target))
    if interval := hierarchical_bootstrap(xs, ys, paired):
        row["hierarchical_low"], row["hierarchical_high"] = interval
    return {**row, **_disattenuated(relation, xs, ys, paired)}


def _disattenuated(relation: Relation, xs: list[Vector], ys: list[Vector], paired: list[bool]) -> dict[str, Any]:
    """Errors from the variance over training seeds, pooled over tokenizers.

    A tokenizer of one seed has the error of one run, which its own interval, of samples, does not cover. Runs that
    both axes share move both, by their covariance over seeds.
    """
    x_variance, y_variance = (pooled_covariance([(runs, runs) for runs in side]) for side in (xs, ys))
    if x_variance is None or y_variance is None:
        return {"note": "No reliability: on one axis no tokenizer has two training seeds."}
    covariance = pooled_covariance([(x, y) for x, y, both in zip(xs, ys, paired, strict=True) if both]) or 0.0
    x_error, y_error = (
        [math.sqrt(variance / len(runs)) for runs in side] for side, variance in ((xs, x_variance), (ys, y_variance))
    )
    shared = [covariance / len(x) if both else 0.0 for x, both in zip(xs, paired, strict=True)]
    found = disattenuate(relation.points["x"], relation.points["y"], x_error, y_error, shared)
    return {
        "score_reliability": found.x_reliability, "target_reliability": found.y_reliability,
        "disattenuated": found.value, "disattenuated_low": found.low, "disattenuated_high": found.high,
    }  # fmt: skip


def _confounder(results: Results, axes: AxisTable, name: str) -> dict[str, float]:
    """Values by label; empty where there are none or their protocols differ."""
    if name == LATENT_DIM:
        return latent_sizes(results)
    try:
        return axes.values(Axis(name)).values
    except MismatchError:
        return {}


def _varies(values: Mapping[str, float], relation: Relation) -> bool:
    return len({values[label] for label in relation.points.index if label in values}) > 1


def _partial(relation: Relation, known: Mapping[str, Mapping[str, float]], names: list[str]) -> dict[str, Any]:
    x, y, held = with_confounders(relation.points, [known[name] for name in names])
    named = " + ".join(label_of(name) if name != LATENT_DIM else "latent dimension" for name in names)
    row = {"confounders": named, "n": len(x), "note": ""}
    try:
        found = partial_correlation(x, y, held)
    except (TooFewSamples, NumericalError) as error:
        return {**row, "note": error.message}
    return {
        **row, "degrees": found.degrees, "partial": found.value, "low": found.low, "high": found.high, "p": found.p,
        "score_explained": found.x_explained, "target_explained": found.y_explained,
    }  # fmt: skip


def _typed(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    texts = {*SUBJECT, "family", "unsettled", "note", "confounders"}
    whole, flags = {"n", "permutations", "family_size", "degrees"}, {"forced", *(f"{k}_exact" for k in COEFFICIENTS)}
    table = pd.DataFrame(rows, columns=columns)
    for name in columns:
        if name in texts:
            table[name] = table[name].fillna("").astype("str")
        else:
            table[name] = table[name].astype("Int64" if name in whole else "boolean" if name in flags else "Float64")
    return table
