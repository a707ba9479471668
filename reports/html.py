"""The report as one HTML file that needs nothing else: no network, pictures, style and script inside.

Everything read from a file passes through Jinja2's autoescaping or, for the script's data, through `script_data`; the
only markup let through is the SVG drawn here. The page's policy lets no request out and runs one script, known by its
hash. That script is 300 lines of our own rather than plotly.js: plots that are read on paper too are drawn once, by
matplotlib, and the script adds what only a screen can do, for 15 kB instead of plotly's 1 MB at the least, a third of
what a page may weigh.
"""

import base64
import hashlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from reports import gallery
from reports.analysis import Analysis
from reports.axes import Axis, differences
from reports.collect import Results, Stage, Study
from reports.comparison import Standing, standing
from reports.costs import computed_on
from reports.explorer import Explorer, HeatMap
from reports.figures import Look, ink_on
from reports.findings import Finding
from reports.images import QUALITIES, SMALL_ENOUGH, Packed, Packer, packer, size_of
from reports.names import (
    ARROWS,
    GENERATION,
    GROUPS,
    METRICS,
    MINUS,
    budget_label,
    coefficient,
    label_of,
    metric_name,
    number,
    p_plain,
)
from reports.pictures import Leading, Shown
from reports.published import beside
from reports.relations import Relation
from reports.statistics import caution
from vaebench.core.config import dump_yaml
from vaebench.core.files import atomic_write

FURTHER_ROWS = 4  # of samples at budgets other than the leading one


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

    @property
    def mixed(self) -> bool:
        """Whether several protocols are behind its values, which then do not compare."""
        found = [cell for cells in self.cells.values() for cell in cells if not pd.isna(cell["value"])]
        return len({cell["protocol_hash"] for cell in found}) > 1


@dataclass(frozen=True)
class Grid:
    """A picture made of many: a title, an alternative text, the picture, and the tokenizer's colour."""

    title: str
    alt: str
    picture: Packed
    colour: str = ""


@dataclass(frozen=True)
class Report:
    """All that the template shows.

    Attributes:
        answer: two sentences. answer_figure: the plot that shows it. answer_n: tokenizers behind the first, or 0.
        heat: of scores and generation measures, None without any relation. cards: parallel coordinates.
    """

    answer: tuple[str, str]
    answer_figure: Shown | None
    answer_n: int
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
    analysis: Analysis
    explorer: Explorer
    heat: HeatMap | None
    cards: Shown | None


def write_html(report: Report, path: Path | str) -> Path:
    """Render the report and write it atomically; pictures give way, in quality, where it would be too large."""
    path = Path(path)
    text = ""
    for quality in QUALITIES:
        text = render(report, quality)
        if len(text) <= SMALL_ENOUGH:
            break
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def render(report: Report, quality: int = QUALITIES[0]) -> str:
    """The page as text, with pictures packed at this quality."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "number": _number,
        "duration": duration,
        "p_plain": p_plain,
        "coefficient": coefficient,
        "cell": cell,
        "signed": _signed,
        "score_name": lambda text: METRICS[text].label if text in METRICS else text,
        "sortable": _sortable,
    }
    environment.globals |= {
        "svg": lambda picture: Markup(picture.inline()), "caution": caution, "shade": shade,
        "digits_of": lambda metric: metric_name(metric).digits,
    }  # fmt: skip
    style, script = (Markup(_beside(name)) for name in ("report.css", "report.js"))
    results, groups, pack = report.results, table_groups(report), packer(quality)
    shown = gallery.gallery(results, pack)
    return environment.get_template("report.html.j2").render(
        report=report,
        style=style,
        script=script,
        script_hash=_hash(script),
        data=Markup(script_data(_script_values(report, shown))),
        quality=quality,
        title=_title(results),
        groups=groups,
        leading_rows=[row for _, rows in groups for row in rows if row.leading],
        mixed=any(row.mixed for _, rows in groups for row in rows),
        other_budgets=_other_budgets(report),
        relations_by_target=_by_target(report),
        four_or_more=any(isinstance(r, Relation) and len(r.points) > 3 for *_, r in report.relations),
        reconstructions=reconstruction_grids(report, pack),
        samples=sample_grids(report, pack),
        gallery=shown,
        selectivity=gallery.selectivity(shown.traversals),
        attribute_table=_attribute_table(report),
        facts=report.analysis.tokenizers.to_dict("records"),
        partial=_partial_shown(report),
        judged=report.analysis.prediction[report.analysis.prediction["r2"].notna()],
        published=beside(report.comparison),
        protocols=_protocols(results),
        protocol_of=lambda hash_: _protocol_said(results, hash_),
        caveats=caveats(report),
        missing=[*results.gaps(), *shown.problems],
        seconds=_seconds_by_kind(results),
        machines=_machines,
        commands=[_command(study) for study in results.studies],
        configs=[(study.name, dump_yaml(study.index.get("config") or {})) for study in results.studies],
        stage_hash=lambda stage: stage.folder.name,
        interval_kinds=sorted({kind for kind in report.comparison["interval"] if kind}),
    )  # fmt: skip


def script_data(value: Any) -> str:
    """JSON that may stand inside a script element, whatever its texts hold; missing numbers are null."""
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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
        by_label: dict[str, list[dict[Any, Any]]] = {}
        for record in cells.to_dict("records"):  # a frame for each label would take most of the page's time
            by_label.setdefault(str(record["label"]), []).append(record)
        groups[known.group].append(Row(
            metric=metric,
            label=label_of(metric, vectorisation),
            arrow=ARROWS[cells["direction"].iloc[0]],
            digits=known.digits,
            meaning=known.meaning,
            baseline=float(cells["baseline"].mean()) if cells["baseline"].notna().any() else None,
            n=f"{ns[0]:,}" if len(ns) == 1 else f"{ns[0]:,} to {ns[-1]:,}",
            cells=by_label,
            standing=standing(report.results.counted(cells)),
            leading=known.leading,
        ))  # fmt: skip
    return [(name, rows) for name, rows in groups.items() if rows]


def reconstruction_grids(report: Report, pack: Packer) -> list[tuple[int, list[Grid]]]:
    """Per set of originals (side of a tile, the originals and then every tokenizer's reconstructions, first seed)."""
    sets: dict[str, tuple[int, list[Grid]]] = {}
    for study, stage, label in _first_of_each(report, "reconstruct"):
        path = stage.image("originals.png")
        originals = pack(path)
        where = f" of {study.name}" if len(report.results.studies) > 1 else ""
        first = Grid(f"Originals{where}", f"Grid of original test images{where}", originals)
        _, grids = sets.setdefault(originals.uri, (_tile(path), [first]))
        alt = f"The same images, reconstructed by {label}, in the same order"
        grids.append(Grid(label, alt, pack(stage.image("reconstructions.png")), report.look.colour(label)))
    return list(sets.values())


def sample_grids(report: Report, pack: Packer) -> list[tuple[str, int, list[Grid]]]:
    """(budget, side of a tile, grids of every tokenizer's samples of the first seed), the leading budget first.

    Of the other budgets the first rows are enough, and a page must stay small.
    """
    budgets: dict[str, list[Grid]] = {report.leading.budget: []}
    tiles = [_tile(stage.image("originals.png")) for _, stage, _ in _first_of_each(report, "reconstruct")]
    tile = tiles[0] if tiles else 0
    for _, stage, label in _first_of_each(report, "generate"):
        path = stage.image("samples.png")
        size, rows = size_of(path), FURTHER_ROWS * (tile + 2) - 2
        part = stage.budget_label != report.leading.budget and tile and size and size[1] > rows
        alt = f"Samples of the SiT trained on the latents of {label}, one row per class label"
        picture = pack(path, (0, 0, size[0], rows) if part and size else None)
        budgets.setdefault(stage.budget_label, []).append(Grid(label, alt, picture, report.look.colour(label)))
    return [(budget, tile, grids) for budget, grids in budgets.items() if grids]


def caveats(report: Report) -> list[str]:
    """What limits these numbers, from the numbers themselves."""
    table, protocols = report.results.counted(report.comparison), report.results.protocols
    found = []
    tokenizers = table["label"].nunique()
    found.append(f"{tokenizers} tokenizer{'s' * (tokenizers != 1)}: {caution(tokenizers)}")
    pairs = sum(
        isinstance(relation, Relation) and relation.correlation is not None for *_, relation in report.relations
    )
    if pairs > 1:
        found.append(
            f"{pairs} correlations are shown; some look strong by chance. Only p values called Holm's are adjusted for "
            "their number, and no interval is."
        )
    if controls := report.results.controls:
        found.append(
            f"Controls, which nobody trained ({', '.join(controls)}), count in no correlation or prediction and are "
            "never the best; --with-controls counts them."
        )
    seeds = table.groupby("label")["seeds"].max()
    single = int((seeds == 1).sum())
    if single:
        found.append(
            f"{single} of {len(seeds)} tokenizers {'have' if single > 1 else 'has'} one training seed: the intervals "
            "of these cover samples, not what another training run would give."
        )
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
    return found


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


def shade(r: float) -> tuple[str, bool]:
    """The colour of a coefficient in the heat map, as the page's script has it, and whether white is read on it."""
    end, middle = ((1, 115, 178) if r < 0 else (213, 94, 0)), (245, 245, 242)
    channels = [round(c + (e - c) * abs(r)) for c, e in zip(middle, end, strict=True)]
    return f"rgb({' '.join(map(str, channels))})", ink_on([c / 255 for c in channels]) == "#ffffff"


def cell(value: Any, digits: int | None = None) -> str:
    """A value with this many digits after the point, or else with three in all or as many as stand before the point."""
    if pd.isna(value):
        return number(None)
    if not isinstance(value, float):
        return str(value)
    if digits is not None:
        return number(value, digits)
    if value and not 1e-6 <= abs(value) < 1e6:
        return f"{value:.3g}".replace("-", MINUS)
    shown = round(value) if abs(value) >= 100 else float(f"{value:.3g}")
    return f"{shown:.8f}".rstrip("0").rstrip(".").replace("-", MINUS)


def _seconds_by_kind(results: Results) -> list[tuple[str, int, float]]:
    totals: dict[str, list[float]] = {}
    for study in results.studies:
        for stage in study.stages:
            if stage.seconds is not None:
                totals.setdefault(stage.kind, []).append(stage.seconds)
    return [(kind, len(seconds), sum(seconds)) for kind, seconds in totals.items()]


def _machines(study: Study) -> list[tuple[str, int]]:
    """What stages were computed on, and how many on each, the commonest first."""
    return Counter(filter(None, (computed_on(stage) for stage in study.stages if stage.complete))).most_common()


def _command(study: Study) -> str:
    command = study.index.get("command")
    if command:
        return shlex.join(command) if isinstance(command, list) else str(command)
    return "vaebench study run study.yaml --output-dir OUTPUT_DIR"


def _number(value: float | None, digits: int = 2) -> str:
    return number(None if value is None or pd.isna(value) else float(value), digits)


def _signed(value: float | None, digits: int = 0) -> str:
    """'+3' and '\N{MINUS SIGN}3'."""
    text = _number(value, digits)
    return text if text[0] in (MINUS, number(None)) or float(text) == 0 else f"+{text}"


def _sortable(value: Any) -> str:
    """What a table sorts a cell by: a plain number, or nothing where there is none."""
    return "" if value is None or pd.isna(value) else repr(float(value))


def _tile(path: Path | None) -> int:
    """Side of a tile in a grid of eight columns with a gap of two pixels; 0 where the picture is none."""
    size = size_of(path)
    return (size[0] + 2) // 8 - 2 if size and (size[0] + 2) % 8 == 0 else 0


def _beside(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """As a content security policy names a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _partial_shown(report: Report) -> pd.DataFrame:
    table = report.analysis.partial
    leading = (table["target"] == "gfid") & (table["budget"] == report.leading.budget)
    return table[leading & table["partial"].notna()]


def _script_values(report: Report, shown: gallery.Gallery) -> dict[str, Any]:
    maps = [_map_data(one, shown, report.look) for one in shown.maps]
    data = report.explorer.data(report.look, report.leading.probe, report.results.controls)
    return {**data, "maps": maps}


def _map_data(one: gallery.LatentMap, shown: gallery.Gallery, look: Look) -> dict[str, Any]:
    first = next((t.name for t in shown.traversals if t.name in one.attributes), "")
    return {
        "attributes": {name: "".join(map(str, values)) for name, values in sorted(one.attributes.items())},
        "first": first, "side": one.side, "columns": one.columns,
        "tokens": [
            {"label": label, "token": look.place(label), "x": [round(1000 * v) for v in x],
             "y": [round(1000 * v) for v in y]}
            for label, (x, y) in one.places.items()
        ],
    }  # fmt: skip


def _protocol_said(results: Results, hash_: str) -> str:
    """A protocol in a line, for who points at a number."""
    entries = _entries(results.protocols.get(hash_, {}).get("protocol", {}))
    said = "; ".join(f"{key}: {value}" for key, value in entries)
    return f"Protocol {hash_}. {said[:420]}{'...' if len(said) > 420 else ''}"
