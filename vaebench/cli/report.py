"""``vaebench report``."""

from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt


def report(
    studies: Annotated[list[Path], typer.Argument(help="Study folders.")],
    output_dir: opt.OutputDir = None,
    force: Annotated[bool, typer.Option(help="Draw scores of different protocols on one axis.")] = False,
) -> None:
    """Write tables (CSV and Parquet), figures and one self-contained report.html.

    Example: vaebench report runs/quickstart --output-dir runs/quickstart/report
    """
    from vaebench.api import make_report

    print(make_report(studies, output_dir or studies[0] / "report", force))
