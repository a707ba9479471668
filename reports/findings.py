"""What the numbers say, in plain sentences, including when they say nothing or the opposite of the claim.

The claim under test: a tokenizer whose latents let a linear probe read attributes is a tokenizer that generates well,
so higher probe scores should go with lower gFID (Send-VAE, arXiv 2601.05823, reports r = -0.957 over six tokenizers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from reports.axes import Axis
from reports.collect import Results
from reports.comparison import Standing, select, standing
from reports.names import coefficient, in_prose, listed, metric_name, number, p_value
from reports.relations import Relation
from reports.statistics import caution

Verdict = Literal["supports", "contradicts", "open", "fact", "warning"]


@dataclass(frozen=True)
class Finding:
    """One headline: a verdict (how it is marked), the sentence, and a smaller one with the numbers behind it."""

    verdict: Verdict
    text: str
    detail: str = ""


def findings(
    results: Results, comparison: pd.DataFrame, probe: Axis | None, budget: str, relations: Mapping[str, Relation | str]
) -> list[Finding]:
    """Headline findings, most important first.

    `relations` holds, under 'probe', 'probe_own' (gFID to own reconstructions) and 'psnr', a relation or the reason
    why there is none.
    """
    found = [_claim(relations["probe"], "gFID", cautioned=True)] if "probe" in relations else []
    if "probe_own" in relations:
        found.append(_claim(relations["probe_own"], "gFID to the tokenizer's own reconstructions"))
    found += [*_confounder(relations.get("probe"), relations.get("psnr"))]
    axes = [Axis("gfid", budget=budget), Axis("gfid_vs_reconstructions", budget=budget), probe, Axis("psnr")]
    found += [finding for axis in axes if axis for finding in _leader(comparison, axis)]
    found += _decoder_share(results, comparison, budget)
    if not found:
        found.append(Finding("warning", "No scores yet: no complete stage of these studies has any."))
    missing = sum(len(study.incomplete) for study in results.studies)
    if missing:
        stages = "1 stage is" if missing == 1 else f"{missing} stages are"
        found.append(Finding("warning", f"{stages} not complete, so this report is preliminary."))
    return found


def describe(relation: Relation) -> str:
    """Every statistic of a relation with its n, for a caption; `caution` says what that n can carry."""
    c = relation.correlation
    if c is None:
        return f"n = {len(relation.points)}. {relation.note}"
    trained = " trained" if len(relation.controls) else ""
    parts = [
        f"n = {c.n}{trained}. Pearson r = {coefficient(c.pearson)}, 95% interval {_range(c.low, c.high)} (Fisher)",
        f"permutation {p_value(c.pearson_p)}",
        f"Spearman ρ = {coefficient(c.spearman)}, {p_value(c.spearman_p)} (smallest possible: {c.smallest_p:.2g})",
    ]
    if c.bootstrap_low is not None and c.bootstrap_high is not None:
        parts.append(f"bootstrap over tokenizers {_range(c.bootstrap_low, c.bootstrap_high)}")
    if c.leave_one_out is not None:
        parts.append(f"leaving one out, r runs from {_range(*c.leave_one_out)}")
    text = "; ".join(parts) + "."
    if relation.partial is not None:
        text += f" With PSNR held fixed, r = {coefficient(relation.partial.value)} ({p_value(relation.partial.p)})."
    if relation.with_controls is not None:
        controls = f"the {len(relation.controls)} controls" if len(relation.controls) > 1 else "the control"
        text += f" With {controls} (hollow) r = {coefficient(relation.with_controls)}."
    return text


def _claim(relation: Relation | str, target: str, *, cautioned: bool = False) -> Finding:
    if isinstance(relation, str):
        return Finding("open", f"Whether probe scores go with {target} was not tested.", relation)
    name = in_prose(relation.predictor.label)
    c = relation.correlation
    if c is None:
        text = f"Whether a higher {name} goes with a lower {target} cannot be told here."
        return Finding("open", text, describe(relation))
    detail = describe(relation) + (f" {caution(c.n, c.smallest_p)}" if cautioned else "")
    order = "in line with the claim" if c.pearson < 0 else "against the claim"
    if c.pearson < 0 and not relation.unsettled:
        text = f"The claim holds here, as far as {c.n} tokenizers can show: a higher {name} came with a lower {target}."
        return Finding("supports", text, detail)
    if c.pearson > 0 and not relation.unsettled:
        text = f"The claim does not hold here: a higher {name} came with a higher, worse {target}."
        return Finding("contradicts", text, detail)
    text = (
        f"{relation.predictor.label} against {target}: r = {coefficient(c.pearson)} over {c.n} tokenizers, {order}, "
        f"but {relation.unsettled}, so the claim is neither shown nor refuted."
    )
    return Finding("open", text, detail)


def _confounder(probe: Relation | str | None, psnr: Relation | str | None) -> list[Finding]:
    if not isinstance(probe, Relation) or not isinstance(psnr, Relation):
        return []
    if probe.correlation is None or psnr.correlation is None:
        return []
    r_probe, r_psnr = probe.correlation.pearson, psnr.correlation.pearson
    name = in_prose(probe.predictor.label)
    detail = f"r of PSNR = {coefficient(r_psnr)}, r of {name} = {coefficient(r_probe)}, n = {probe.correlation.n}. "
    detail += (
        f"With PSNR held fixed the probe's r is {coefficient(probe.partial.value)} ({p_value(probe.partial.p)})."
        if probe.partial
        else f"PSNR cannot be held fixed: {probe.partial_note}"
    )
    close = abs(r_psnr) >= abs(r_probe) - 0.1
    if psnr.unsettled or probe.unsettled:
        which = psnr if psnr.unsettled else probe
        name = "PSNR" if which is psnr else "the probe score"
        size = "is about as large as" if close else "is smaller than"
        text = f"PSNR's r with gFID {size} the probe score's, but that of {name} is not settled: {which.unsettled}."
        if close:
            text += " These tokenizers cannot tell the two explanations apart."
        return [Finding("warning" if close else "open", text, detail)]
    if close:
        side = "higher (worse)" if r_psnr > 0 else "lower (better)"
        text = (
            "PSNR goes with gFID as closely as the probe score does: a higher PSNR came with a "
            f"{side} gFID. These tokenizers cannot tell the two explanations apart."
        )
        return [Finding("warning", text, detail)]
    return [Finding("fact", "PSNR goes with gFID less closely than the probe score does.", detail)]


def _leader(comparison: pd.DataFrame, axis: Axis) -> list[Finding]:
    cells = select(comparison, axis.metric, axis.vectorisation, axis.budget)
    place: Standing = standing(cells)
    if place.best is None:
        return []
    by_label = cells.set_index("label")
    lower = cells["direction"].iloc[0] == "lower"
    superlative = "lowest" if lower else "highest"
    ranked = by_label.sort_values("value", ascending=lower)
    values = ", ".join(_value(label, row, metric_name(axis.metric).digits) for label, row in ranked.iterrows())
    if place.clear:
        text = f"{place.best} has the {superlative} {in_prose(axis.label)}; its interval overlaps no other."
    elif place.reason == "one training seed":
        text = (
            f"{place.best} has the {superlative} {in_prose(axis.label)}; its interval overlaps no other, but it or the "
            "runner-up has one training seed: training again might change the order."
        )
    elif place.reason == "no interval":
        text = (
            f"{place.best} has the {superlative} {in_prose(axis.label)}; without intervals for all, the difference may "
            "be chance."
        )
    else:
        text = (
            f"{place.best} has the {superlative} {in_prose(axis.label)}, but its interval overlaps "
            f"{_possessive(list(place.tied[1:]))}: the order of these is not settled."
        )
    kinds = listed(sorted({kind for kind in cells["interval"] if kind})) if cells["interval"].any() else ""
    note = f" Intervals: {kinds}." if kinds else ""
    return [Finding("fact", text, f"{values}.{note}")]


def _decoder_share(results: Results, comparison: pd.DataFrame, budget: str) -> list[Finding]:
    rfid, gfid = (
        select(comparison, metric, budget=budget).drop_duplicates("label").set_index("label")
        for metric in ("rfid", "gfid")
    )
    both = pd.concat({"rfid": rfid["value"], "gfid": gfid["value"]}, axis=1).dropna()
    both = both[both["gfid"] > 0]
    # Fréchet distances of other n have other biases, and those to other images other floors.
    if both.empty or len({_measured_on(results, cells.loc[both.index]) for cells in (rfid, gfid)}) > 1:
        return []
    share = (both["rfid"] / both["gfid"]).sort_values()
    low, high = f"{share.iloc[0]:.0%}", f"{share.iloc[-1]:.0%}"
    extent = low if low == high else f"{low} to {high}"
    pairs = (f"{label}: rFID {number(row['rfid'])}, gFID {number(row['gfid'])}" for label, row in both.iterrows())
    return [Finding(
        "fact",
        f"Reconstruction alone is already at {extent} of the gFID to real images; the gFID to own reconstructions "
        "leaves the decoder's share out.",
        f"{'; '.join(pairs)}. Fréchet distances do not add up, so the share is a guide.",
    )]  # fmt: skip


def _measured_on(results: Results, cells: pd.DataFrame) -> tuple[Any, ...]:
    """Numbers of images and the reference images, of every protocol."""
    protocols = [results.protocols[hash_]["protocol"] for hash_ in cells["protocol_hash"].unique()]
    references = {(str(one.get("reference")), str(one.get("reference_samples"))) for one in protocols}
    return tuple(sorted(set(cells["n"]))), tuple(sorted(references))


def _value(label: Any, row: pd.Series, digits: int) -> str:
    interval = ""
    if pd.notna(row["low"]) and pd.notna(row["high"]):
        interval = f" [{number(row['low'], digits)}, {number(row['high'], digits)}]"
    return f"{label} {number(row['value'], digits)}{interval}"


def _possessive(names: Sequence[str]) -> str:
    return "that of " + listed(list(names)) if len(names) == 1 else "those of " + listed(list(names))


def _range(low: float, high: float) -> str:
    return f"{coefficient(low)} to {coefficient(high)}"
