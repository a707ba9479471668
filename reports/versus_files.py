"""The comparison of two tokenizers as text and as files."""

from pathlib import Path

import pandas as pd

from reports.formats import csv_text, latex_text, markdown_text
from reports.latex import PREAMBLE, booktabs
from reports.names import number
from reports.versus import Versus
from vaebench.core.files import atomic_write


def lines(found: Versus) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row of text per score: score, both values, difference, interval, better, how or why not."""
    rows = []
    for row in found.table.to_dict("records"):
        digits = int(row["digits"])
        bounded = not (pd.isna(row["low"]) or pd.isna(row["high"]))
        interval = f"{number(float(row['low']), digits)} to {number(float(row['high']), digits)}" if bounded else ""
        name = row["score"] + (f" at {row['budget']}" if row["budget"] else "")
        difference = number(None if pd.isna(row["difference"]) else float(row["difference"]), digits)
        values = [number(float(row[side]), digits) for side in ("a", "b")]
        rows.append([name, *values, difference, interval, row["better"], row["note"] or row["how"]])
    return ["Score", found.a, found.b, "Difference", "95% interval", "Better", "Interval over"], rows


def write_versus(found: Versus, folder: Path) -> list[Path]:
    """Write compare.csv, compare.md and compare.tex."""
    heads, rows = lines(found)
    table = found.table.drop(columns="digits").rename(columns={"a": found.a, "b": found.b})
    for name in ("score", "budget", "better", "how", "note"):
        table[name] = table[name].map(csv_text)
    markdown = [
        f"# {markdown_text(found.a)} and {markdown_text(found.b)}", "", markdown_text(found.sentence), "",
        f"| {' | '.join(map(markdown_text, heads))} |", f"|{' --- |' * len(heads)}",
        *(f"| {' | '.join(map(markdown_text, row))} |" for row in rows), "",
    ]  # fmt: skip
    short = [[latex_text(cell) for cell in row[:6]] for row in rows]
    texts = {
        "compare.csv": table.rename(columns=csv_text).to_csv(index=False),
        "compare.md": "\n".join(markdown),
        "compare.tex": PREAMBLE + booktabs("lrrrrl", [latex_text(head) for head in heads[:6]], short),
    }
    written = []
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written
