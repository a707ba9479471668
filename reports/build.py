"""The report from end to end: read, compare, relate, draw, write."""

from collections.abc import Sequence
from pathlib import Path

from reports.collect import collect
from reports.comparison import compare
from reports.figures import Look
from reports.findings import findings
from reports.html import Report, write_html
from reports.pictures import (
    Leading,
    all_relations,
    attribute_chart,
    attributes,
    budget_charts,
    headline_relations,
    scatters,
    training_curves,
)
from reports.tables import write_tables


def build_report(study_dirs: Sequence[Path | str], output_dir: Path | str, force: bool = False) -> Path:
    """See `reports.make_report`."""
    output_dir = Path(output_dir)
    results = collect(study_dirs)
    comparison = compare(results.scores)
    leading = Leading.of(comparison)
    look = Look(tuple(results.labels.values()))
    headline = headline_relations(results, comparison, leading, force)
    report = Report(
        results=results,
        comparison=comparison,
        leading=leading,
        look=look,
        findings=findings(results, comparison, leading.probe, leading.budget, headline),
        scatters=scatters(headline, look),
        relations=all_relations(results, comparison, leading, force),
        attribute_chart=attribute_chart(comparison, leading, look),
        attribute_rows=attributes(comparison, leading),
        curves=training_curves(results, look),
        budgets=budget_charts(comparison, leading, look),
    )
    write_tables(results, comparison, output_dir / "tables")
    for shown in (*report.scatters, *report.curves, *report.budgets, report.attribute_chart):
        if shown and shown.picture:
            shown.picture.write(output_dir / "figures")
    return write_html(report, output_dir / "report.html")
