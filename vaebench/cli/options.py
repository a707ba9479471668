"""Options that every command takes, and what they share."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.core.config import read_yaml, with_overrides
from vaebench.core.errors import VaebenchError

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")]
OutputDir = Annotated[Path | None, typer.Option("--output-dir", help="Folder of the result.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")]
Overrides = Annotated[list[str] | None, typer.Option("-o", help="Override a setting: -o a.b=c. Repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done and its cost, and stop.")]
Data = Annotated[
    str, typer.Option("--data", help="Data set: a name (vaebench data list), a prepared folder, images, or a table.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes for drawing and reading. Default: one a core.")
]


def context(device: str, workers: int | None = None) -> Any:
    """The context of a command.

    Raises:
        VaebenchError: no such device.
    """
    from vaebench.stages.base import Context

    if device not in {"auto", "cpu", "cuda", "mps"}:
        raise VaebenchError(f"Unknown device '{device}'.", "Use auto, cpu, cuda or mps.")
    made = Context(device=device, workers=workers)
    made.torch_device()
    return made


def settings(config: Path | None, overrides: list[str] | None) -> dict[str, Any]:
    """The settings of a command: the YAML file, then the overrides."""
    return with_overrides(read_yaml(config) if config is not None else {}, overrides or [])


def sections(values: dict[str, Any], *names: str) -> tuple[dict[str, Any], ...]:
    """Split settings into named sections (``data.image_size`` is in section ``data``) and, last, what is left.

    Raises:
        VaebenchError: a section that is no mapping.
    """
    parts = []
    for name in names:
        part = values.get(name) or {}
        if not isinstance(part, dict):
            raise VaebenchError(f"'{name}' must be a group of settings, not {part!r}.", f"Write -o {name}.key=value.")
        parts.append(part)
    return (*parts, {key: value for key, value in values.items() if key not in names})


def show_scores(scores: list[Any], attributes: bool = False) -> None:
    """Print scores as a table; scores of single attributes only when asked for."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("score", "value", "interval", "n", "baseline"):
        table.add_column(column, justify="left" if column == "score" else "right", no_wrap=True)
    for score in scores:
        attribute = score.detail.get("attribute")
        if attribute is not None and not attributes:
            continue
        name = " ".join(str(part) for part in (score.metric, score.detail.get("vectorisation"), attribute) if part)
        bounds = f"{score.low:.4g} .. {score.high:.4g}" if score.low is not None and score.high is not None else ""
        baseline = score.detail.get("baseline")
        table.add_row(
            name, f"{score.value:.4g}", bounds, str(score.n), f"{baseline:.4g}" if baseline is not None else ""
        )
    Console().print(table)


def say(text: str) -> None:
    """A line for the user, apart from results on standard output."""
    print(text, file=sys.stderr)
