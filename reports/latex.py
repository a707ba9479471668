"""Tables for papers: LaTeX with booktabs, a file each, to be \\input where a table environment stands."""

from pathlib import Path

import pandas as pd

from reports.formats import latex_text
from reports.html import Report, Row, table_groups
from reports.names import coefficient, number, p_plain
from vaebench.core.files import atomic_write

PREAMBLE = "% Needs \\usepackage{booktabs}. Written by `vaebench report`; intervals are small and below their values.\n"


def write_latex(report: Report, folder: Path) -> dict[str, Path]:
    """Write comparison.tex, relations.tex and prediction.tex; a table without rows is left out."""
    tables = {
        "comparison": comparison_table(report),
        "relations": relations_table(report),
        "prediction": prediction_table(report.analysis.prediction),
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
    lines = [
        [latex_text(label), *(_value(row, label) for row in rows)] for label in report.look.labels
    ]  # fmt: skip
    bounds = [["", *(_bounds(row, label) for row in rows)] for label in report.look.labels]
    body = [line for pair in zip(lines, bounds, strict=True) for line in pair if any(line)]
    return booktabs("l" + "r" * len(rows), [latex_text(head) for head in heads], body)


def relations_table(report: Report) -> str:
    """Every score against gFID at the leading budget: n, r with its interval, p (also after Holm), rho."""
    table = report.analysis.relations
    table = table[(table["target"] == "gfid") & (table["budget"] == report.leading.budget) & table["pearson"].notna()]
    if table.empty:
        return ""
    body = [
        [
            latex_text(row["score"]), str(row["n"]), latex_text(coefficient(row["pearson"])),
            latex_text(f"[{coefficient(row['pearson_low'])}, {coefficient(row['pearson_high'])}]"),
            latex_text(p_plain(row["pearson_p"])), latex_text(p_plain(row["pearson_p_holm"])),
            latex_text(coefficient(row["spearman"])),
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    heads = ["Score", "$n$", "Pearson $r$", r"95\% interval", "$p$", "$p$ (Holm)", r"Spearman $\rho$"]
    return booktabs("lrrrrrr", heads, body)


def prediction_table(predictions: pd.DataFrame) -> str:
    """Models judged on gFID of tokenizers that they have not seen."""
    table = predictions[(predictions["target"] == "gfid") & (predictions["left_out"] == "tokenizer")]
    table = table[table["r2"].notna()]
    if table.empty:
        return ""
    body = [
        [
            latex_text(row["model"]), str(row["n"]), latex_text(_maybe(row["r2"])), latex_text(_maybe(row["spearman"])),
            latex_text(row["picked"] or "\N{EM DASH}"), latex_text(_maybe(row["regret"])),
            latex_text("\N{EM DASH}" if pd.isna(row["saved_share"]) else f"{row['saved_share']:.0%}"),
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    heads = ["Model", "$n$", "$R^2$", r"Spearman $\rho$", "Picked", "Regret (gFID)", "Compute saved"]
    return booktabs("lrrrlrr", heads, body)


def _value(row: Row, label: str) -> str:
    cells = row.cells.get(label, [])
    if not cells:
        return "---"
    text = latex_text(number(float(cells[0]["value"]), row.digits))
    if row.standing.clear and row.standing.best == label:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if label in row.standing.within_noise else text


def _bounds(row: Row, label: str) -> str:
    cells = row.cells.get(label, [])
    if not cells or pd.isna(cells[0]["low"]) or pd.isna(cells[0]["high"]):
        return ""
    low, high = (number(float(cells[0][side]), row.digits) for side in ("low", "high"))
    return rf"{{\scriptsize [{latex_text(low)}, {latex_text(high)}]}}"


def _maybe(value: float | None, digits: int = 2) -> str:
    return number(None if value is None or pd.isna(value) else float(value), digits)


def booktabs(columns: str, heads: list[str], body: list[list[str]]) -> str:
    """A tabular of cells that are LaTeX already."""
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", " & ".join(heads) + r" \\", "\\midrule"]
    # A bracket first in a row would be taken for the argument of the row before.
    lines += [" & ".join("{}" + cell if cell.startswith("[") else cell for cell in row) + r" \\" for row in body]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"
