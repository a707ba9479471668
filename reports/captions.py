"""What stands below a table of scores, whatever the format: budget, samples, seeds and what intervals cover."""

from reports.html import Report, Row
from reports.names import listed


def comparison_said(report: Report, rows: list[Row], where: str) -> list[str]:
    """Sentences on the comparison of tokenizers; ``where`` says where its intervals stand."""
    cells = [cell for row in rows for some in row.cells.values() for cell in some]
    kinds = sorted({cell["interval"] for cell in cells if cell["interval"]})
    return [
        budget_said(report), counts_said(rows), seeds_said({cell["seeds"] for cell in cells}),
        f"{where}: {listed(kinds)}." if kinds else "",
    ]  # fmt: skip


def budget_said(report: Report) -> str:
    """The budget of generation that tables show; empty where nothing is generated."""
    return f"Generation at {report.leading.budget}." if report.leading.budget else ""


def counts_said(rows: list[Row]) -> str:
    """'Samples of a score: 500.' or 'Samples of a score: 500 (PSNR), 10,000 (gFID to real images).'."""
    scores: dict[str, list[str]] = {}
    for row in rows:
        scores.setdefault(row.n, []).append(row.label)
    if len(scores) == 1:
        return f"Samples of a score: {rows[0].n}."
    return f"Samples of a score: {', '.join(f'{n} ({listed(names)})' for n, names in scores.items())}."


def seeds_said(counts: set[int]) -> str:
    """'Training seeds of a tokenizer: 1 to 3.'"""
    extent = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"Training seeds of a tokenizer: {extent}."
