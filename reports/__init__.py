"""From the result folders of studies to tables, figures and one HTML report."""

from collections.abc import Sequence
from pathlib import Path


def make_report(
    study_dirs: list[Path],
    output_dir: Path,
    force: bool = False,
    formats: Sequence[str] = ("html", "md", "latex", "csv", "figures"),
    without: Sequence[str] = (),
    with_controls: bool = False,
) -> Path:
    """Write a report about one or more study folders.

    Args:
        study_dirs: output folders of `vaebench study run`.
        output_dir: where everything goes.
        force: draw scores of differing protocols on one axis all the same; the figures then say so.
        formats: `html` (`report.html`, which needs nothing else), `md` (`report.md`, and `cards/` with a model card for
            every tokenizer), `latex` (`latex/`, tables with booktabs), `csv` (`tables/`, also as Parquet), `figures`
            (`figures/`, PNG and SVG).
        without: labels of tokenizers to leave out.
        with_controls: let controls (principal components, random projections, pixels), which nobody trained, count in
            correlations, predictions and who is best. One far from all others alone would settle every correlation, so
            by default they only stand in tables and plots.

    Returns:
        Path of `report.html`, or `output_dir` where that is not among the formats.

    Raises:
        MissingPath, DataError: a folder that is missing or is no study folder. Incomplete stages, missing scores and
            scores that do not belong on one axis are told in the report instead.
        ConfigError: an unknown format.
        UnknownName: a tokenizer to leave out that is not there.
    """
    from reports.build import build_report

    return build_report(study_dirs, output_dir, force, formats, without, with_controls)
