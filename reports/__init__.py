"""From the result folders of studies to tables, figures and one HTML report."""

from pathlib import Path


def make_report(study_dirs: list[Path], output_dir: Path, force: bool = False) -> Path:
    """Write tables (CSV, Parquet), figures (SVG) and `report.html` about one or more study folders.

    Args:
        study_dirs: output folders of `vaebench study run`.
        output_dir: where `report.html`, `tables/` and `figures/` go.
        force: draw scores of differing protocols on one axis all the same; the figures then say so.

    Returns:
        Path of `report.html`.

    Raises:
        MissingPath, DataError: a folder that is missing or is no study folder. Incomplete stages, missing scores and
            scores that do not belong on one axis are told in the report instead.
    """
    from reports.build import build_report

    return build_report(study_dirs, output_dir, force)
