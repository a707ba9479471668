"""The tables as files: CSV for people, Parquet for programs, and the protocol behind every hash."""

from pathlib import Path

import pandas as pd

from reports.collect import Results
from reports.comparison import wide
from vaebench.core.files import atomic_write, write_json


def write_tables(results: Results, comparison: pd.DataFrame, folder: Path | str) -> dict[str, Path]:
    """Write scores (long), comparison (one row per tokenizer and score) and wide as .csv and .parquet, protocols.json.

    Returns the paths by name, such as 'scores.csv'.
    """
    folder = Path(folder)
    written = {}
    for name, table in {"scores": results.scores, "comparison": comparison, "wide": wide(comparison)}.items():
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
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
