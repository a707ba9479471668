"""Which figures a report has, from its results: each is drawn, or replaced by the reason why it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reports.axes import Axis, AxisTable, require_one_protocol
from reports.collect import Results, Stage
from reports.comparison import primary_budget, primary_probe, select
from reports.convergence import protocol_kinds
from reports.figures import (
    Look,
    Picture,
    Run,
    attribute_dots,
    budget_lines,
    curves,
    latent_maps,
    profiles,
    scatter,
    separate_curves,
    standings,
)
from reports.findings import describe
from reports.gallery import gallery
from reports.images import NOTHING
from reports.names import GENERATION, PROBES, RECONSTRUCTION, label_of, listed, metric_name
from reports.relations import TARGETS, Relation, beside, predictors, relate_all, with_size
from reports.tokenizers import latent_sizes
from vaebench.core.errors import MismatchError

TOTAL = "loss"
# Names in metrics.jsonl, first choice first; a total may hold other terms.
RECONSTRUCTION_KEYS = ("loss_reconstruction", "reconstruction", TOTAL)
VELOCITY_KEYS = ("loss_velocity", "velocity", TOTAL)
MOST_AXES = 20
"""Of a picture of parallel coordinates: more names under a panel cover each other."""


@dataclass(frozen=True)
class Shown:
    """A figure with its caption, or (picture None) the notice that stands in its place."""

    title: str
    caption: str
    picture: Picture | None = None


@dataclass(frozen=True)
class Leading:
    """The score variants that a report leads with."""

    probe: Axis | None
    budget: str

    @classmethod
    def of(cls, comparison: pd.DataFrame) -> "Leading":
        """Chosen by fixed rules, not by the outcome."""
        probe = primary_probe(comparison)
        return cls(Axis(*probe) if probe else None, primary_budget(comparison))


def headline_relations(
    results: Results, comparison: pd.DataFrame, leading: Leading, force: bool
) -> dict[str, Relation | str]:
    """The relations behind the findings, where both scores exist: keys 'probe', 'probe_own', 'psnr', 'psnr_own'.

    Or the message of the protocol mismatch that forbids one.
    """
    everyone, sizes = AxisTable(comparison, results.protocols, force), latent_sizes(results)
    comparison = results.counted(comparison)
    axes = AxisTable(comparison, results.protocols, force)
    found: dict[str, Relation | str] = {}
    for prefix, axis in (("probe", leading.probe), ("psnr", Axis("psnr"))):
        for suffix, target in (("", TARGETS[0]), ("_own", TARGETS[1])):
            y = Axis(target, budget=leading.budget)
            if axis and _exists(comparison, axis) and _exists(comparison, y):
                relation = relate_all(axes, [axis], y)[0]
                if not isinstance(relation, str):
                    relation = beside(with_size(relation, sizes), everyone, results.controls)
                found[prefix + suffix] = relation
    return found


def scatters(relations: Mapping[str, Relation | str], look: Look) -> list[Shown]:
    """The scatter plots of the headline relations."""
    titles = {
        "probe": "Probe score and gFID",
        "probe_own": "Probe score and gFID to own reconstructions",
        "psnr": "The confounder: PSNR and gFID",
        "psnr_own": "The confounder: PSNR and gFID to own reconstructions",
    }
    shown = []
    for key, relation in relations.items():
        if isinstance(relation, str):
            shown.append(Shown(titles[key], f"Not drawn. {relation}"))
        elif relation.points.empty:
            shown.append(Shown(titles[key], "Not drawn: no tokenizer has both scores."))
        else:
            picture = scatter(relation, look, f"scatter-{key.replace('_', '-')}")
            shown.append(Shown(titles[key], describe(relation), picture))
    return shown


def answer_figure(comparison: pd.DataFrame, leading: Leading, drawn: Sequence[Shown], look: Look) -> Shown | None:
    """The plot that shows the answer: probe score and gFID, or, without both, gFID alone."""
    if drawn and drawn[0].picture is not None and drawn[0].picture.name == "scatter-probe":
        return drawn[0]
    cells = select(comparison, "gfid", budget=leading.budget)
    cells = cells[cells["value"].notna()]
    if cells.empty or cells["label"].duplicated().any() or cells["protocol_hash"].nunique() > 1:
        return None
    label = metric_name("gfid").label
    return Shown(label, "Bars are intervals.", standings(cells, look, label, "standings-gfid"))


def profile_cards(comparison: pd.DataFrame, leading: Leading, look: Look) -> Shown | None:
    """Parallel coordinates of the leading scores with a better direction, a panel per tokenizer.

    Of those with several vectorisations the first; latent scores give way where there are too many to be read.
    """
    rows = comparison[(comparison["attribute"] == "") & comparison["budget"].isin(["", leading.budget])]
    rows = rows[(rows["direction"] != "none") & rows["metric"].map(lambda metric: metric_name(metric).leading)]
    if rows[["metric", "vectorisation"]].drop_duplicates().shape[0] > MOST_AXES:
        rows = rows[rows["vectorisation"] == rows.groupby("metric")["vectorisation"].transform("first")]
    if rows["metric"].nunique() > MOST_AXES:
        rows = rows[
            rows["metric"].map(lambda metric: metric_name(metric).group in {RECONSTRUCTION, PROBES, GENERATION})
        ]
    columns = {}
    for (metric, vectorisation), cells in rows.groupby(["metric", "vectorisation"], sort=False):
        values = cells.drop_duplicates("label").set_index("label")["value"].astype(float)
        extent = values.max() - values.min()
        if cells["protocol_hash"].nunique() == 1 and len(values.dropna()) >= 2 and extent > 0:
            share = (values - values.min()) / extent
            better = 1 - share if cells["direction"].iloc[0] == "lower" else share
            columns[_short(str(metric), str(vectorisation))] = better
    table = pd.DataFrame(columns).reindex([label for label in look.labels if label in set(rows["label"])])
    if table.shape[0] < 2 or table.shape[1] < 3:
        return None
    caption = (
        "Each score runs from the worst of these tokenizers (bottom) to the best (top), so a difference within noise "
        "may fill the whole height: the table says how large it is. Grey: the others."
    )
    return Shown("Every tokenizer by its leading scores", caption, profiles(table, look, "profiles"))


def map_figures(results: Results) -> list[Picture]:
    """The maps of latents, coloured by the attribute that is traversed first or else by the first there is."""
    shown = gallery(results, lambda path, box=None: NOTHING)
    pictures = []
    for number, one in enumerate(shown.maps):
        names = [traversal.name for traversal in shown.traversals if traversal.name in one.attributes]
        name = next(iter([*names, *one.attributes]), None)
        if name is not None:
            points = {
                label: pd.DataFrame({"x": x, "y": y, "value": one.attributes[name]})
                for label, (x, y) in one.places.items()
            }
            pictures.append(latent_maps(points, name, "latent-map" + (f"-{number + 1}" if number else "")))
    return pictures


def _short(metric: str, vectorisation: str) -> str:
    """A label that fits under an axis."""
    label = label_of(metric, vectorisation).replace("Probe ", "").replace("average precision", "AP")
    return label.replace("gFID to real images", "gFID").replace("gFID to own reconstructions", "gFID, own")


def all_relations(
    results: Results, comparison: pd.DataFrame, leading: Leading, force: bool
) -> list[tuple[Axis, Axis, Relation | str]]:
    """Every score that is not generation's own against both gFIDs at the leading budget, in a fixed order."""
    comparison = comparison[comparison["attribute"] == ""]
    targets = [Axis(target, budget=leading.budget) for target in TARGETS]
    every = list(predictors(comparison))
    axes = AxisTable(comparison, results.protocols, force)
    found = {y: relate_all(axes, every, y) for y in targets if _exists(comparison, y)}
    return [(x, y, relations[i]) for i, x in enumerate(every) for y, relations in found.items()]


def attributes(comparison: pd.DataFrame, leading: Leading) -> tuple[Axis, pd.DataFrame] | None:
    """The per-attribute scores of the leading probe, or of the first probe that has any."""
    rows = comparison[comparison["attribute"] != ""]
    if rows.empty:
        return None
    probe = leading.probe
    if probe is not None:
        own = rows[(rows["metric"] == probe.metric) & (rows["vectorisation"] == probe.vectorisation)]
        if len(own):
            return probe, own
    first = rows.iloc[0]
    same = (rows["metric"] == first["metric"]) & (rows["vectorisation"] == first["vectorisation"])
    return Axis(first["metric"], first["vectorisation"]), rows[same]


def attribute_chart(comparison: pd.DataFrame, leading: Leading, look: Look) -> Shown | None:
    """The dot plot of per-attribute scores."""
    found = attributes(comparison, leading)
    if found is None:
        return None
    axis, rows = found
    title = "What a linear probe reads off each latent space"
    if rows.groupby("label")["protocol_hash"].nunique().max() > 1 or _protocols_differ(rows):
        return Shown(title, "Not drawn: the tokenizers' probes have different protocols; see the protocol section.")
    label = label_of(axis.metric, axis.vectorisation).replace("macro-F1", "F1")
    caption = (
        f"{label} on the test split, one row per attribute, sorted by the mean over tokenizers. The grey bar is the "
        "trivial baseline of that attribute: a probe beside its bar reads nothing."
    )
    return Shown(title, caption, attribute_dots(rows, look, label))


def training_curves(results: Results, look: Look) -> list[Shown]:
    """Loss of tokenizer training, on one axis if that is one reconstruction loss; of SiT training, a panel for each."""
    shown = []
    if runs := _runs(results, "train", RECONSTRUCTION_KEYS):
        kinds, y_label = list(dict.fromkeys(run.kind for run in runs)), _loss_label(runs, "reconstruction loss")
        caption, draw = "Faint: as logged; bold: smoothed.", curves
        if len(kinds) > 1 or kinds == [(TOTAL,)]:
            said = ["the total" if kind == (TOTAL,) else " ".join(kind) for kind in kinds]
            caption += f" Every panel has a scale of its own, because these losses do not compare: {'; '.join(said)}."
            draw = separate_curves
        shown.append(Shown("Tokenizer training", caption, draw(runs, look, y_label, "curves-train")))
    if runs := _runs(results, "sit", VELOCITY_KEYS):
        caption = (
            "Every panel has a scale of its own. SiT losses in different latent spaces are not comparable: how large "
            "and how predictable the target is belongs to the latent space. A lower curve does not mean better samples."
        )
        y_label = _loss_label(runs, "velocity loss")
        shown.append(Shown("SiT training", caption, separate_curves(runs, look, y_label, "curves-sit")))
    return shown


def budget_charts(results: Results, comparison: pd.DataFrame, leading: Leading, look: Look, force: bool) -> list[Shown]:
    """Both gFIDs against every budget entry that takes several values, the others held at the leading budget."""
    shown = []
    for target in TARGETS:
        rows = comparison[comparison["metric"] == target]
        lead = rows[rows["budget"] == leading.budget].head(1)
        for key in ("steps", "cfg", "nfe"):
            if rows[key].nunique() < 2 or lead.empty:
                continue
            fixed = [other for other in ("steps", "cfg", "nfe") if other != key and pd.notna(lead[other].iloc[0])]
            cells = rows
            for other in fixed:
                cells = cells[cells[other] == lead[other].iloc[0]]
            if cells[key].nunique() < 2:
                continue
            label = metric_name(target).label
            title = f"{label} against {key}"
            kinds = protocol_kinds(results.protocols, cells["protocol_hash"], key)
            try:
                require_one_protocol(list(kinds), kinds, label, force=force)
            except MismatchError as error:
                shown.append(Shown(title, f"Not drawn. {error}"))
                continue
            others = ", ".join(f"{other} = {lead[other].iloc[0]:g}" for other in fixed)
            picture = budget_lines(cells, key, others, look, label, f"budget-{target.replace('_', '-')}-{key}")
            caption = f"Bands: {listed(sorted(set(cells['interval']) - {''}))}."
            shown.append(Shown(title, caption + " Protocols differ (forced)." * (len(kinds) > 1), picture))
    return shown


def _exists(comparison: pd.DataFrame, axis: Axis) -> bool:
    return not select(comparison, axis.metric, axis.vectorisation, axis.budget).empty


def _protocols_differ(rows: pd.DataFrame) -> bool:
    return bool(rows.groupby("attribute")["protocol_hash"].nunique().max() > 1)


def _runs(results: Results, kind: str, keys: tuple[str, ...]) -> list[Run]:
    several = len(results.studies) > 1
    runs = []
    for study in results.studies:
        for stage in study.of_kind(kind):
            found, label = _losses(stage, keys), results.labels.get((study.name, stage.tokenizer))
            if found is not None and label is not None:
                key, losses = found
                settings = {} if key == TOTAL else stage.training()
                rest = [str(settings[name]) for name in ("reduction", "reconstruction") if name in settings]
                runs.append(Run(f"{stage.id} ({study.name})" if several else stage.id, label, losses, (key, *rest)))
    return runs


def _loss_label(runs: Sequence[Run], name: str) -> str:
    """The name of the loss, unless what was logged is the total."""
    totals = {run.kind == (TOTAL,) for run in runs}
    return name if totals == {False} else "total loss" if totals == {True} else "loss"


def _losses(stage: Stage, keys: tuple[str, ...]) -> tuple[str, pd.Series] | None:
    log = stage.curve()
    for key in keys:
        if key in log.columns:
            losses = pd.to_numeric(log.set_index("step")[key], errors="coerce").dropna()
            losses = losses[~losses.index.duplicated(keep="last")].sort_index()
            return (key, losses) if len(losses) else None
    return None
