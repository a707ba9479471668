"""``vaebench card``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.cli import options as opt


def card(
    tokenizer: opt.Tokenizer,
    data: opt.Data = "avatars",
    among: Annotated[
        list[Path] | None,
        typer.Option("--among", help="Study folder (or another card's) to stand beside. Repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name on the card. Default: the tokenizer's own.")] = None,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    workers: opt.Workers = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Everything about one tokenizer: reconstruction, probes, every latent score, and where it stands among others.

    Leaves card.html and card.md beside its stages. Interrupted and started again, it goes on where it was. Settings
    have sections: -o data.image_size=64, -o score.metrics=[lnc,viv], -o reference.train=2048, -o reconstruct.grid=32.

    Example: vaebench card mine.py:Blur --data avatars --among runs/quickstart --output-dir runs/blur-card
    """
    from vaebench import api

    settings = opt.settings(config, override)
    if dry_run:
        from vaebench.cli.plan import print_plan

        plan = api.card_plan(tokenizer, data, name=name, settings=settings, seed=seed,
                             context=opt.context(device, workers))  # fmt: skip
        print_plan(plan.graph, output_dir or _folder(plan.name), opt.context(device).torch_device())
        return
    page = api.card(
        tokenizer, data, output_dir, among=among or (), name=name, settings=settings, seed=seed,
        context=opt.context(device, workers),
    )  # fmt: skip
    _show(page.parent, among or [])
    print(page)


def _folder(name: str) -> Path:
    return Path("runs") / f"card-{name}"


def _show(folder: Path, among: list[Path]) -> None:
    """The card on the terminal."""
    import sys

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from reports.card import interval, make_card
    from reports.names import number
    from vaebench.core.files import read_json

    card: Any = make_card(folder, read_json(folder / "card.json"), among)
    facts = ", ".join(f"{key} {text}" for key, text in card.facts.items() if text and key in {"shape", "data"})
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"[bold]{escape(card.facts['name'])}[/bold]  {escape(facts)}")
    for group, lines in card.groups():
        table = Table(box=None, pad_edge=False, title=group, title_justify="left")
        for column in ("score", "value", "95% interval", "n", "trivial", *(["standing"] if card.among else [])):
            table.add_column(column, justify="left" if column in {"score", "standing"} else "right", no_wrap=True)
        for line in lines:
            trivial = number(line.baseline, line.digits) if line.baseline is not None else ""
            row = [f"{escape(line.label)} {line.arrow}", number(line.value, line.digits), interval(line), str(line.n)]
            table.add_row(*row, trivial, *([escape(line.standing)] if card.among else []))
        console.print(table)
    for name, why in card.missing.items():
        print(f"{name}: not available: {why}")
