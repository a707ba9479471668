"""``vaebench report``."""

from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt
from vaebench.core.errors import MismatchError

EVERY = "html,md,latex,csv,figures"


def report(
    studies: Annotated[list[Path], typer.Argument(help="Study folders.")],
    output_dir: opt.OutputDir = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="What to write, parted by commas: html (the page), md (a summary, and a model card for every "
            "tokenizer), latex (tables with booktabs), csv (tables, also as Parquet), figures (PNG and SVG).",
        ),
    ] = EVERY,
    without: Annotated[
        str,
        typer.Option(help="Tokenizers to leave out, parted by commas."),
    ] = "",
    with_controls: Annotated[
        bool,
        typer.Option(
            "--with-controls",
            help="Let controls, which nobody trained, count in correlations, predictions and who is best: one far from "
            "all others alone settles correlations.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option(help="Draw scores of different protocols on one axis.")] = False,
) -> None:
    """Write a report: one self-contained report.html, tables, figures, LaTeX and Markdown.

    Example: vaebench report runs/quickstart --output-dir runs/quickstart/report
    """
    import reports

    names = [name.strip() for name in without.split(",") if name.strip()]
    folder = output_dir or studies[0] / "report"
    _require_own(folder)
    print(reports.make_report(studies, folder, force, formats.split(","), names, with_controls))


def _require_own(folder: Path) -> None:
    """Refuse a folder with something else in it: half of it would then be a report's, under names that anyone uses.

    Raises:
        MismatchError: it holds files, and none that a report has at its top.
    """
    held = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if held and held.isdisjoint({"report.html", "report.md", "latex", "tables", "figures"}):
        raise MismatchError(
            f"'{folder}' is not empty and holds no report.", "Choose another --output-dir, or an empty folder."
        )
