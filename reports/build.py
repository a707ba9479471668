"""The report from end to end: read, compare, relate, draw, write."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.analysis import analyse
from reports.answer import answer
from reports.collect import collect
from reports.comparison import compare
from reports.explorer import Explorer, heat
from reports.figures import Look
from reports.findings import findings
from reports.formats import FORMATS, checked_formats
from reports.html import Report, write_html
from reports.latex import write_latex
from reports.markdown import write_markdown
from reports.pictures import (
    Leading,
    all_relations,
    answer_figure,
    attribute_chart,
    attributes,
    budget_charts,
    headline_relations,
    map_figures,
    profile_cards,
    scatters,
    training_curves,
)
from reports.relations import Relation
from reports.tables import write_tables


def build_report(
    study_dirs: Sequence[Path | str],
    output_dir: Path | str,
    force: bool = False,
    formats: Sequence[str] = FORMATS,
    without: Sequence[str] = (),
    with_controls: bool = False,
) -> Path:
    """See `reports.make_report`."""
    output_dir, wanted = Path(output_dir), checked_formats(formats)
    results = collect(study_dirs).without(without)
    if with_controls:
        results = replace(results, controls=())
    comparison = compare(results.scores)
    counted = results.counted(comparison)
    leading = Leading.of(comparison)
    analysis = analyse(results, comparison, force=force)
    families = {str(label): str(family) for label, family in analysis.tokenizers.set_index("label")["family"].items()}
    look = Look(tuple(results.labels.values()), families)
    headline = headline_relations(results, comparison, leading, force)
    drawn = scatters(headline, look)
    explorer = Explorer.of(comparison, analysis.relations, leading.budget)
    report = Report(
        answer=answer(counted, leading.budget, headline, analysis.prediction),
        answer_figure=answer_figure(comparison, leading, drawn, look),
        answer_n=len(probe.points) if isinstance(probe := headline.get("probe"), Relation) else 0,
        results=results,
        comparison=comparison,
        leading=leading,
        look=look,
        findings=findings(results, counted, leading.probe, leading.budget, headline),
        scatters=drawn,
        relations=all_relations(results, counted, leading, force),
        attribute_chart=attribute_chart(comparison, leading, look),
        attribute_rows=attributes(comparison, leading),
        curves=training_curves(results, look),
        budgets=budget_charts(results, comparison, leading, look, force),
        analysis=analysis,
        explorer=explorer,
        heat=heat(explorer),
        cards=profile_cards(counted, leading, look),
    )
    if "csv" in wanted:
        write_tables(results, comparison, output_dir / "tables", analysis.tables())
    if "figures" in wanted:
        write_figures(report, output_dir / "figures")
    if "latex" in wanted:
        write_latex(report, output_dir / "latex")
    if "md" in wanted:
        write_markdown(report, output_dir)
    return write_html(report, output_dir / "report.html") if "html" in wanted else output_dir


def write_figures(report: Report, folder: Path) -> None:
    """Every figure as .svg and .png, and the map of latents, which the page draws itself."""
    shown = [*report.scatters, *report.curves, *report.budgets, report.attribute_chart, report.cards]
    pictures = [one.picture for one in [*shown, report.answer_figure] if one and one.picture]
    if report.heat is not None:
        pictures.append(report.heat.picture)
    pictures += map_figures(report.results)
    for picture in {picture.name: picture for picture in pictures}.values():
        picture.write(folder)
