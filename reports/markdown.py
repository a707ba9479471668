"""Markdown: a summary of the report, and a model card for every tokenizer as model hubs want them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from reports.captions import budget_said, comparison_said
from reports.formats import file_name, markdown_text
from reports.html import Report, Row, caveats, table_groups
from reports.names import coefficient, label_of, metric_name, number, p_plain
from vaebench.core.files import atomic_write


def write_markdown(report: Report, folder: Path) -> list[Path]:
    """Write `report.md`, and `cards/NAME.md` for every tokenizer."""
    written = [_write(folder / "report.md", summary(report))]
    taken: list[str] = []
    for label in report.look.labels:
        taken.append(file_name(label, taken))
        written.append(_write(folder / "cards" / f"{taken[-1]}.md", model_card(report, label)))
    return written


def summary(report: Report) -> str:
    """The answer, the leading scores and the leading relations."""
    lines = [f"# {markdown_text(_title(report))}", "", *(markdown_text(sentence) for sentence in report.answer), ""]
    rows = [row for _, rows in table_groups(report) for row in rows if row.leading]
    if rows:
        lines += ["## Comparison", "", *_table(
            ["Tokenizer", *(f"{row.label} {row.arrow}".strip() for row in rows)],
            [[label, *(_cell(row, label) for row in rows)] for label in report.look.labels],
        ), "", *map(markdown_text, filter(None, comparison_said(report, rows, "In brackets"))),
            "Bold: best beyond noise. \\*: within noise of the best."
            + " †: protocols differ, so these values do not compare." * any(row.mixed for row in rows), ""]  # fmt: skip
    table = report.analysis.relations
    table = table[(table["target"] == "gfid") & (table["budget"] == report.leading.budget) & table["pearson"].notna()]
    if len(table):
        lines += ["## What goes with gFID", "", *_table(
            ["Score", "n", "Pearson r", "95% interval", "p", "p, Holm", "Spearman"],
            [[row["score"], str(row["n"]), coefficient(row["pearson"]) + "†" * bool(row["unsettled"]),
              f"{coefficient(row['pearson_low'])} to {coefficient(row['pearson_high'])}", p_plain(row["pearson_p"]),
              p_plain(row["pearson_p_holm"]), coefficient(row["spearman"])] for row in table.to_dict("records")],
        ), "", markdown_text(budget_said(report)), *(
            ["†: the sign of r is not settled, or most of r goes with latent size."] if table["unsettled"].any() else []
        ), ""]  # fmt: skip
    said = [*caveats(report), *report.results.gaps()]
    return "\n".join([*lines, "## Caveats", "", *(f"- {markdown_text(one)}" for one in said), ""])


def model_card(report: Report, label: str) -> str:
    """A card with the front matter that model hubs read (results under `model-index`), and a table for people.

    The front matter is JSON, which is YAML, so no name can break out of it.
    """
    facts = report.analysis.tokenizers.set_index("label").loc[label]
    cells = report.comparison[
        (report.comparison["label"] == label)
        & (report.comparison["attribute"] == "")
        & report.comparison["budget"].isin(["", report.leading.budget])
        & report.comparison["value"].notna()
    ].to_dict("records")
    results = [{
        "task": {"type": "image-to-image", "name": "image tokenization"},
        "dataset": {"name": _data_name(report, str(facts["study"])), "type": _data_name(report, str(facts["study"]))},
        "metrics": [{"type": c["metric"], "value": float(c["value"]),
                     "name": label_of(c["metric"], c["vectorisation"])} for c in cells],
    }]  # fmt: skip
    head = {"tags": ["image-tokenizer", "vae", "vaebench"], "model-index": [{"name": label, "results": results}]}
    shape = [f"d = {facts['d']}", f"f = {facts['f']}", f"{facts['height']} x {facts['width']} positions"]
    known = not pd.isna(facts["d"])
    lines = [
        "---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "",
        f"# {markdown_text(label)}", "",
        f"An image tokenizer of the family {markdown_text(facts['family'])}"
        f"{' with latents of ' + ', '.join(shape) if known else ''}, measured by vaebench in the study "
        f"{markdown_text(facts['study'])}.", "", "## Scores", "",
        *_table(["Score", "Value", "Interval", "n", "Protocol"], [_score(cell) for cell in cells]), "",
        f"Generation at {markdown_text(report.leading.budget)}." if report.leading.budget else "", "",
        "## What these numbers do not say", "", *(f"- {markdown_text(one)}" for one in caveats(report)), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _score(cell: dict[Any, Any]) -> list[str]:
    digits = metric_name(cell["metric"]).digits
    bounded = not (pd.isna(cell["low"]) or pd.isna(cell["high"]))
    interval = (
        f"{number(cell['low'], digits)} to {number(cell['high'], digits)} ({cell['interval']})" if bounded else ""
    )
    name = label_of(cell["metric"], cell["vectorisation"])
    return [name, number(float(cell["value"]), digits), interval, f"{cell['n']:,}", cell["protocol_hash"]]


def _cell(row: Row, label: str) -> str:
    best, tied = row.standing.clear and row.standing.best == label, label in row.standing.within_noise
    shown = []
    for cell in row.cells.get(label, []):
        value, low, high = number(float(cell["value"]), row.digits) + "†" * row.mixed, cell["low"], cell["high"]
        interval = "" if pd.isna(low) or pd.isna(high) else f" [{number(low, row.digits)}, {number(high, row.digits)}]"
        shown.append(f"\0{value}\0{interval}" if best else f"{value}{'*' * tied}{interval}")
    return " / ".join(shown)


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table; a pair of null characters, which no name keeps, marks bold."""
    shown = [
        [markdown_text(cell.replace("\0", "")) if "\0" not in cell else _bold(cell) for cell in row] for row in rows
    ]
    return [
        f"| {' | '.join(markdown_text(head) for head in heads)} |", f"|{' --- |' * len(heads)}",
        *(f"| {' | '.join(row)} |" for row in shown),
    ]  # fmt: skip


def _bold(cell: str) -> str:
    _, value, rest = cell.split("\0")
    return f"**{markdown_text(value)}**{' ' + markdown_text(rest) if rest else ''}"


def _title(report: Report) -> str:
    titles = [str((s.index.get("config") or {}).get("title") or s.name) for s in report.results.studies]
    return ", ".join(titles)


def _data_name(report: Report, study: str) -> str:
    config = next(s.index.get("config") or {} for s in report.results.studies if s.name == study)
    data = config.get("data") if isinstance(config, dict) else None
    return str(data.get("name") or study) if isinstance(data, dict) else study


def _write(path: Path, text: str) -> Path:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
