"""Tables for papers: LaTeX with booktabs, a file each, to be \\input where a table environment stands."""

from pathlib import Path

import pandas as pd

from reports.captions import budget_said, comparison_said, seeds_said
from reports.formats import latex_text
from reports.html import Report, Row, table_groups
from reports.names import coefficient, number, p_plain
from vaebench.core.files import atomic_write

PREAMBLE = """\
% Needs \\usepackage{booktabs}. Written by `vaebench report`.
% \\vaebenchcaption is what a reader of the table must know: \\input{...} \\caption{... \\vaebenchcaption}
"""
DIFFERING = "† Protocols differ: these values do not compare."
UNSETTLED = "† The sign of r is not settled, or most of r goes with latent size."


def write_latex(report: Report, folder: Path) -> dict[str, Path]:
    """Write comparison.tex, relations.tex and prediction.tex; a table without rows is left out."""
    tables = {
        "comparison": comparison_table(report),
        "relations": relations_table(report),
        "prediction": prediction_table(report),
    }
    written = {}
    for name, text in tables.items():
        if text:
            path = folder / f"{name}.tex"
            with atomic_write(path) as temporary:
                temporary.write_text(PREAMBLE + text, encoding="utf-8")
            written[name] = path
    return written


def comparison_table(report: Report) -> str:
    """A row per tokenizer and a column per leading score; bold is best beyond noise, underlined within noise of it."""
    rows = [row for _, rows in table_groups(report) for row in rows if row.leading]
    if not rows:
        return ""
    heads = ["Tokenizer", *(f"{row.label} {row.arrow}".strip() for row in rows)]
    lines = [[latex_text(label), *(_value(row, label) for row in rows)] for label in report.look.labels]
    bounds = [["", *(_bounds(row, label) for row in rows)] for label in report.look.labels]
    body = [line for pair in zip(lines, bounds, strict=True) for line in pair if any(line)]
    said = [
        *comparison_said(report, rows, "Below the values"),
        "Bold: best, its interval overlaps no other's, over two training seeds or more.",
        "Underlined: within noise of the best.",
    ]  # fmt: skip
    note = DIFFERING if any(row.mixed for row in rows) else ""
    return _caption(said) + booktabs("l" + "r" * len(rows), [latex_text(head) for head in heads], body, note)


def relations_table(report: Report) -> str:
    """Every score against gFID at the leading budget: n, r with its interval, p (also after Holm), rho."""
    table = report.analysis.relations
    table = table[(table["target"] == "gfid") & (table["budget"] == report.leading.budget) & table["pearson"].notna()]
    if table.empty:
        return ""
    body = [
        [
            latex_text(row["score"]), str(row["n"]),
            latex_text(coefficient(row["pearson"]) + "†" * bool(row["unsettled"])),
            latex_text(f"[{coefficient(row['pearson_low'])}, {coefficient(row['pearson_high'])}]"),
            latex_text(p_plain(row["pearson_p"])), latex_text(p_plain(row["pearson_p_holm"])),
            latex_text(coefficient(row["spearman"])),
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    heads = ["Score", "$n$", "Pearson $r$", r"95\% interval", "$p$", "$p$ (Holm)", r"Spearman $\rho$"]
    said = [
        f"Scores and gFID over n tokenizers. {budget_said(report)}", seeds_said(set(report.comparison["seeds"])),
        "Intervals of r: 95%, Fisher. p: of permutations of r.",
        f"Holm: over {table['family_size'].iloc[0]} scores.",
    ]  # fmt: skip
    return _caption(said) + booktabs("lrrrrrr", heads, body, UNSETTLED if table["unsettled"].any() else "")


def prediction_table(report: Report) -> str:
    """Models judged on gFID of tokenizers that they have not seen."""
    table = report.analysis.prediction
    table = table[(table["target"] == "gfid") & (table["left_out"] == "tokenizer") & table["r2"].notna()]
    if table.empty:
        return ""
    body = [
        [
            latex_text(row["model"]), str(row["n"]), latex_text(_maybe(row["r2"])), latex_text(_maybe(row["kendall"])),
            latex_text(row["picked"] or "\N{EM DASH}"), latex_text(_maybe(row["regret"])),
            latex_text("\N{EM DASH}" if pd.isna(row["scoring_share"]) else f"{row['scoring_share']:.0%}"),
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    heads = ["Model", "$n$", "$R^2$", r"Kendall $\tau$", "Picked", "Regret (gFID)", "Scoring / generating time"]
    said = [
        "Each of n tokenizers predicted by a model fitted to the others; τ and the pick: each two by one fitted to the "
        "rest.", budget_said(report),
        seeds_said(set(report.comparison["seeds"])),
        "Regret: gFID of the tokenizer picked less that of the best.",
    ]  # fmt: skip
    return _caption(said) + booktabs("lrrrlrr", heads, body)


def _caption(sentences: list[str]) -> str:
    return f"\\def\\vaebenchcaption{{{latex_text(' '.join(filter(None, sentences)))}}}\n"


def _value(row: Row, label: str) -> str:
    cells = row.cells.get(label, [])
    if not cells:
        return "---"
    values = (number(float(cell["value"]), row.digits) + "†" * row.mixed for cell in cells)
    text = latex_text(" / ".join(values))
    if row.standing.clear and row.standing.best == label:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if label in row.standing.within_noise else text


def _bounds(row: Row, label: str) -> str:
    bounds = [[_maybe(cell[side], row.digits) for side in ("low", "high")] for cell in row.cells.get(label, [])]
    if all(number(None) in ends for ends in bounds):
        return ""
    return rf"{{\scriptsize {latex_text(' / '.join(f'[{low}, {high}]' for low, high in bounds))}}}"


def _maybe(value: float | None, digits: int = 2) -> str:
    return number(None if value is None or pd.isna(value) else float(value), digits)


def booktabs(columns: str, heads: list[str], body: list[list[str]], note: str = "") -> str:
    """A tabular of cells that are LaTeX already; the note, plain text, is its last row."""
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", " & ".join(heads) + r" \\", "\\midrule"]
    # A bracket first in a row would be taken for the argument of the row before.
    lines += [" & ".join("{}" + cell if cell.startswith("[") else cell for cell in row) + r" \\" for row in body]
    lines.append("\\bottomrule")
    if note:
        lines.append(rf"\multicolumn{{{len(heads)}}}{{l}}{{\scriptsize {latex_text(note)}}} \\")
    return "\n".join([*lines, "\\end{tabular}"]) + "\n"
