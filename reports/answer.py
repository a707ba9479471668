"""The answer of a report in two plain sentences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.comparison import select, standing
from reports.names import coefficient, in_prose, listed, metric_name, number
from reports.relations import Relation


def answer(
    comparison: pd.DataFrame,
    budget: str,
    relations: Mapping[str, Relation | str],
    predictions: pd.DataFrame,
) -> tuple[str, str]:
    """(whether readable latents went with good generation, which tokenizer to take and what it costs to find out).

    Args:
        comparison: of `reports.comparison.compare`.
        budget: the one that the report leads with.
        relations: of `reports.pictures.headline_relations`; 'probe' is looked at.
        predictions: of `reports.prediction.prediction_table`.
    """
    return _claim(relations.get("probe"), relations.get("psnr")), _choice(comparison, budget, predictions)


def _claim(relation: Relation | str | None, rival: Relation | str | None) -> str:
    if relation is None:
        return "Whether readable latents generate better cannot be told: probe scores and gFID are not both there."
    if isinstance(relation, str):
        return "Whether readable latents generate better was not tested: the scores come from differing protocols."
    c, n = relation.correlation, len(relation.points)
    tokenizers = f"{n} {'trained ' * bool(len(relation.controls))}tokenizer{'s' * (n != 1)}"
    if c is None:
        return f"Whether readable latents generate better cannot be told from {tokenizers}."
    name = in_prose(relation.predictor.label)
    numbers = f"r = {coefficient(c.pearson)} between {name} and gFID, 95% interval {_range(c.low, c.high)}"
    if relation.unsettled:
        open_ = f"These {tokenizers} do not settle whether latents that show attributes generate better ({numbers}"
        return f"{open_})." if not c.excludes_zero else f"{open_}, but {relation.unsettled})."
    how, also = "better" if c.pearson < 0 else "worse", _as_close(c.pearson, rival)
    return f"Over these {tokenizers}, latents that show attributes more plainly generated {how} ({numbers}){also}."


def _as_close(r: float, rival: Relation | str | None) -> str:
    """That reconstruction explains as much, where it does: the sentence must not stand without it."""
    found = rival.correlation if isinstance(rival, Relation) else None
    if found is None or abs(found.pearson) < abs(r) - 0.1:
        return ""
    return f", but PSNR went with gFID as closely (r = {coefficient(found.pearson)})"


def _choice(comparison: pd.DataFrame, budget: str, predictions: pd.DataFrame) -> str:
    cells = select(comparison, "gfid", budget=budget)
    place = standing(cells)
    if place.best is None:
        return "No tokenizer can be named best: there is no gFID that two of them share."
    value: Any = cells.set_index("label").loc[place.best, "value"]
    ahead = f"{place.best} generated best (gFID {number(float(value), metric_name('gfid').digits)})"
    if place.reason == "no interval":
        ahead += ", by a margin of unknown certainty"
    elif place.reason == "one training seed":
        ahead += ", though on one training seed, and another might change the order"
    elif not place.clear:
        ahead += f", though within noise of {listed(list(place.tied[1:]))}"
    return f"{ahead}; {_picking(predictions)}."


def _picking(predictions: pd.DataFrame) -> str:
    """What the latent scores say of tokenizers that the model has not seen, and what asking them takes.

    Every prediction comes from a model of all the others' measured values: nothing was saved on these tokenizers.
    """
    ridge = predictions[
        (predictions["model"] == "latent scores, ridge")
        & (predictions["target"] == "gfid")
        & (predictions["left_out"] == "tokenizer")
    ]
    if ridge.empty or pd.isna(ridge["r2"].iloc[0]):
        return "whether latent scores predict it without training a diffusion model needs five tokenizers to say"
    one = ridge.iloc[0]
    if not one["picked"]:
        return "each tokenizer's gFID was predicted from its latent scores no better than by the mean of the others"
    which = "it" if one["picked"] == one["best"] else f"{one['picked']} ({number(one['regret'], 1)} gFID worse)"
    said = f"latent scores, in models fitted to the gFID of all others, put {which} first"
    if pd.isna(one["scoring_share"]):
        return said
    share = f"{one['scoring_share']:.0%}"
    return f"{said}; for a further tokenizer, once these are generated, scoring takes {share} of the time of generating"


def _range(low: float, high: float) -> str:
    return f"{coefficient(low)} to {coefficient(high)}"
