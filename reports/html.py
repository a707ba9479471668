"""The report as one HTML file that needs nothing else: no script, no network, pictures inside.

Everything read from a file passes through Jinja2's autoescaping; the only markup let through is the SVG drawn here.
"""

import base64
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from reports.collect import Results, Stage, Study
from reports.comparison import Standing, standing
from reports.figures import Look
from reports.findings import Finding
from reports.names import ARROWS, GENERATION, GROUPS, budget_label, coefficient, label_of, metric_name, number, p_plain
from reports.pictures import Leading, Shown
from reports.relations import Axis, Relation, differences
from reports.statistics import caution
from vaebench.core.config import dump_yaml
from vaebench.core.files import atomic_write

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Row:
    """One score in the comparison table: its name and, per tokenizer label, the comparison rows that hold it."""

    metric: str
    label: str
    arrow: str
    digits: int
    meaning: str
    baseline: float | None
    n: str
    cells: Mapping[str, list[dict[Any, Any]]]
    standing: Standing
    leading: bool


@dataclass(frozen=True)
class Grid:
    """A picture made of many: a title, an alternative text, and its bytes as a data URI (or why there are none)."""

    title: str
    alt: str
    uri: str
    colour: str = ""


@dataclass(frozen=True)
class Report:
    """All that the template shows."""

    results: Results
    comparison: pd.DataFrame
    leading: Leading
    look: Look
    findings: list[Finding]
    scatters: list[Shown]
    relations: list[tuple[Axis, Axis, Relation | str]]
    attribute_chart: Shown | None
    attribute_rows: tuple[Axis, pd.DataFrame] | None
    curves: list[Shown]
    budgets: list[Shown]


def write_html(report: Report, path: Path | str) -> Path:
    """Render the report and write it atomically."""
    path = Path(path)
    text = render(report)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def render(report: Report) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": _number, "duration": duration, "p_plain": p_plain, "coefficient": coefficient}
    environment.globals |= {"svg": lambda picture: Markup(picture.inline()), "caution": caution}
    style = Markup((Path(__file__).parent / "report.css").read_text(encoding="utf-8"))
    results, groups = report.results, table_groups(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        style=style,
        title=_title(results),
        groups=groups,
        leading_groups=_only(groups, leading=True),
        further_groups=_only(groups, leading=False),
        relations_by_target=_by_target(report),
        four_or_more=any(isinstance(r, Relation) and len(r.points) > 3 for *_, r in report.relations),
        other_budgets=_other_budgets(report),
        reconstructions=reconstruction_grids(report),
        samples=sample_grids(report),
        attribute_table=_attribute_table(report),
        protocols=_protocols(results),
        caveats=caveats(report),
        seconds=_seconds_by_kind(results),
        commands=[_command(study) for study in results.studies],
        configs=[(study.name, dump_yaml(study.index.get("config") or {})) for study in results.studies],
        stage_hash=lambda stage: stage.folder.name,
        interval_kinds=sorted({kind for kind in report.comparison["interval"] if kind}),
    )


def table_groups(report: Report, budget: str | None = None) -> list[tuple[str, list[Row]]]:
    """(group name, rows) of the comparison table; scores with a budget are those at `budget` (default: the leading)."""
    budget = report.leading.budget if budget is None else budget
    table = report.comparison
    table = table[(table["attribute"] == "") & ((table["budget"] == "") | (table["budget"] == budget))]
    groups: dict[str, list[Row]] = {name: [] for name in GROUPS}
    for key, cells in table.groupby(["metric", "vectorisation"], sort=False):
        metric, vectorisation = map(str, key)
        known = metric_name(metric)
        ns = sorted(set(cells["n"]))
        groups[known.group].append(Row(
            metric=metric,
            label=label_of(metric, vectorisation),
            arrow=ARROWS[cells["direction"].iloc[0]],
            digits=known.digits,
            meaning=known.meaning,
            baseline=float(cells["baseline"].mean()) if cells["baseline"].notna().any() else None,
            n=f"{ns[0]:,}" if len(ns) == 1 else f"{ns[0]:,} to {ns[-1]:,}",
            cells={str(label): part.to_dict("records") for label, part in cells.groupby("label", sort=False)},
            standing=standing(cells),
            leading=known.leading,
        ))  # fmt: skip
    return [(name, rows) for name, rows in groups.items() if rows]


def reconstruction_grids(report: Report) -> list[list[Grid]]:
    """Per set of originals, the originals and then every tokenizer's reconstructions (first seed) in the same order."""
    sets: dict[str, list[Grid]] = {}
    for study, stage, label in _first_of_each(report, "reconstruct"):
        originals = data_uri(stage.image("originals.png"))
        where = f" of {study.name}" if len(report.results.studies) > 1 else ""
        first = Grid(f"Originals{where}", f"Grid of original test images{where}", originals)
        grids = sets.setdefault(originals, [first])
        alt = f"The same images, reconstructed by {label}, in the same order"
        grids.append(Grid(label, alt, data_uri(stage.image("reconstructions.png")), report.look.colour(label)))
    return list(sets.values())


def sample_grids(report: Report) -> list[tuple[str, list[Grid]]]:
    """(budget, grids of every tokenizer's samples of the first seed), the leading budget first."""
    budgets: dict[str, list[Grid]] = {report.leading.budget: []}
    for _, stage, label in _first_of_each(report, "generate"):
        alt = f"Samples of the SiT trained on the latents of {label}, one row per class label"
        grid = Grid(label, alt, data_uri(stage.image("samples.png")), report.look.colour(label))
        budgets.setdefault(stage.budget_label, []).append(grid)
    return [(budget, grids) for budget, grids in budgets.items() if grids]


def data_uri(path: Path | None) -> str:
    """A PNG as a data URI; empty where there is no file or it is not a PNG."""
    content = path.read_bytes() if path else b""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(PNG_SIGNATURE) else ""


def caveats(report: Report) -> list[str]:
    """What limits these numbers, from the numbers themselves."""
    table, protocols = report.comparison, report.results.protocols
    found = []
    tokenizers = table["label"].nunique()
    found.append(f"{tokenizers} tokenizer{'s' * (tokenizers != 1)}: {caution(tokenizers)}")
    pairs = sum(
        isinstance(relation, Relation) and relation.correlation is not None for *_, relation in report.relations
    )
    if pairs > 1:
        found.append(f"{pairs} correlations are shown, none adjusted for their number; some look strong by chance.")
    if len(table) and table["seeds"].max() == 1:
        found.append("One training seed: the intervals cover samples, not what another training run would give.")
    frechet = table[table["metric"].isin(["rfid", "gfid", "gfid_vs_reconstructions"])]
    if len(frechet):
        n = int(frechet["n"].min())
        found.append(
            f"Fréchet distances are biased upwards at small n (here n = {n:,} at the least), by an amount that depends "
            "on the tokenizer; compare only at equal n, and see KID, which is unbiased."
        )
        extractors = _extractors(protocols)
        names = f" ({', '.join(extractors)})" if extractors else ""
        if not extractors or not all("inception" in name.lower() for name in extractors):
            found.append(
                f"The feature network of rFID, gFID and KID{names} is not the Inception network of published numbers: "
                "these values compare tokenizers within this report and nothing else."
            )
    if any(entries["metric"].startswith("probe_") for entries in protocols.values()):
        found.append(
            "A linear probe on flattened latents sees more dimensions where the latent grid is larger; the pooled and "
            "PCA rows tell whether a lead comes from that."
        )
    return [*found, *report.results.problems]


def duration(seconds: float | None) -> str:
    """'12 s', '3 min 20 s', '2 h 5 min'."""
    if seconds is None:
        return "—"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _first_of_each(report: Report, kind: str) -> list[tuple[Study, Stage, str]]:
    """The stage of the first seed for every study, tokenizer and budget, with the tokenizer's label."""
    chosen: dict[tuple[str, str, str], tuple[Study, Stage, str]] = {}
    for study in report.results.studies:
        for stage in sorted(study.of_kind(kind), key=lambda stage: stage.seed or 0):
            label = report.results.labels[study.name, stage.tokenizer]
            chosen.setdefault((study.name, stage.tokenizer, stage.budget_label), (study, stage, label))
    order = {label: place for place, label in enumerate(report.look.labels)}
    return sorted(chosen.values(), key=lambda item: order[item[2]])


def _title(results: Results) -> str:
    titles = [str((study.index.get("config") or {}).get("title") or study.name) for study in results.studies]
    return ", ".join(titles)


def _other_budgets(report: Report) -> list[tuple[str, list[Row]]]:
    budgets = [b for b in dict.fromkeys(report.comparison["budget"]) if b and b != report.leading.budget]
    return [(b, [row for name, rows in table_groups(report, b) for row in rows if name == GENERATION]) for b in budgets]


def _only(groups: list[tuple[str, list[Row]]], *, leading: bool) -> list[tuple[str, list[Row]]]:
    chosen = [(name, [row for row in rows if row.leading == leading]) for name, rows in groups]
    return [(name, rows) for name, rows in chosen if rows]


def _by_target(report: Report) -> list[tuple[str, list[tuple[Axis, Relation | str]]]]:
    by_target: dict[str, list[tuple[Axis, Relation | str]]] = {}
    for x, y, relation in report.relations:
        by_target.setdefault(y.label, []).append((x, relation))
    return list(by_target.items())


def _attribute_table(report: Report) -> pd.DataFrame | None:
    if report.attribute_rows is None:
        return None
    rows = report.attribute_rows[1]
    table = rows.pivot_table(index="attribute", columns="label", values="value", sort=False)
    table.insert(0, "baseline", rows.groupby("attribute")["baseline"].mean().astype(float))
    order = table[[column for column in table if column != "baseline"]].mean(axis=1).sort_values(ascending=False).index
    return table.loc[order]


def _protocols(results: Results) -> list[dict[str, Any]]:
    """Per metric its protocols (hash, entries) and, where there are several, the entries that differ."""
    grouped: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for hash_, entry in results.protocols.items():
        grouped.setdefault(entry["metric"], []).append((hash_, entry["protocol"]))
    return [
        {
            "label": metric_name(metric).label,
            "variants": [(hash_, _entries(protocol)) for hash_, protocol in variants],
            "differences": differences([protocol for _, protocol in variants]) if len(variants) > 1 else [],
        }
        for metric, variants in grouped.items()
    ]


def _entries(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, budget_label(value) if isinstance(value, Mapping) else str(value)) for key, value in protocol.items()]


def _extractors(protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the feature networks that Fréchet protocols state, under whichever of the usual keys."""
    names = set()
    for entry in protocols.values():
        if entry["metric"] in ("rfid", "gfid", "gfid_vs_reconstructions"):
            for key in ("network", "extractor", "features", "feature_network"):
                value = entry["protocol"].get(key)
                value = value.get("name") if isinstance(value, Mapping) else value
                names |= {str(value)} if value else set()
    return sorted(names)


def _seconds_by_kind(results: Results) -> list[tuple[str, int, float]]:
    totals: dict[str, list[float]] = {}
    for study in results.studies:
        for stage in study.stages:
            if stage.seconds is not None:
                totals.setdefault(stage.kind, []).append(stage.seconds)
    return [(kind, len(seconds), sum(seconds)) for kind, seconds in totals.items()]


def _command(study: Study) -> str:
    command = study.index.get("command")
    if command:
        return shlex.join(command) if isinstance(command, list) else str(command)
    return "vaebench study run study.yaml --output-dir OUTPUT_DIR"


def _number(value: float | None, digits: int = 2) -> str:
    return number(None if value is None or pd.isna(value) else float(value), digits)
