"""The tables as files: CSV for people, Parquet for programs, and the protocol behind every hash."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from reports.collect import Results
from reports.comparison import wide
from reports.formats import csv_text
from vaebench.core.files import atomic_write, write_json


def write_tables(
    results: Results, comparison: pd.DataFrame, folder: Path | str, further: Mapping[str, pd.DataFrame] | None = None
) -> dict[str, Path]:
    """Write scores (long), comparison (one row per tokenizer and score), wide, further tables, and protocols.json.

    Every table is written as .csv and .parquet. Returns the paths by name, such as 'scores.csv'.
    """
    folder = Path(folder)
    written = {}
    tables = {"scores": results.scores, "comparison": comparison, "wide": wide(comparison), **(further or {})}
    for name, table in tables.items():
        for suffix in ("csv", "parquet"):
            path = folder / f"{name}.{suffix}"
            with atomic_write(path) as temporary:
                _write(table, temporary, suffix)
            written[path.name] = path
    written["protocols.json"] = folder / "protocols.json"
    write_json(written["protocols.json"], results.protocols)
    return written


def _write(table: pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == "csv":
        # A spreadsheet runs what it takes for a formula, and names come from wherever tokenizers do.
        texts = {name: [csv_text(v) if isinstance(v, str) else v for v in table[name]] for name in _texts(table)}
        table.assign(**texts).rename(columns=csv_text).to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)


def _texts(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
