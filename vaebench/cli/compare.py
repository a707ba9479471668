"""``vaebench compare``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.cli import options as opt


def compare(
    a: Annotated[str, typer.Argument(help="Name of a tokenizer, as reports show it.")],
    b: Annotated[str, typer.Argument(help="Name of the other.")],
    studies: Annotated[list[Path], typer.Argument(help="Study folders that have both.")],
    output_dir: opt.OutputDir = None,
) -> None:
    """Two tokenizers head to head: differences of all scores with intervals, paired where the data allow it.

    With --output-dir also as compare.csv, compare.md and compare.tex.

    Example: vaebench compare send-vae kl-vae runs/quickstart
    """
    from reports.versus import versus
    from reports.versus_files import write_versus

    found = versus(studies, a, b)
    _show(found)
    if output_dir is not None:
        for path in write_versus(found, output_dir):
            print(path)


def _show(found: Any) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reports.versus_files import lines

    table = Table(box=None, pad_edge=False)
    heads, rows = lines(found)
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i == 0 or i > 4 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(Text(found.sentence))
