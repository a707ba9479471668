"""Options that every command takes, and what they share."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.core.errors import VaebenchError


def data_names(incomplete: str) -> list[str]:
    """Registered data sets that begin so, for completion in a shell; where there is none, it offers files."""
    from vaebench.data import DATASETS

    return [name for name in DATASETS.names() if name.startswith(incomplete)]


def tokenizer_names(incomplete: str) -> list[str]:
    """Registered tokenizers and methods that begin so, for completion in a shell."""
    from vaebench.tokenizers import TOKENIZERS

    return [name for name in TOKENIZERS.names() if name.startswith(incomplete)]


Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all that this command draws; data have their own.")]
OutputDir = Annotated[Path | None, typer.Option("--output-dir", help="Folder of the result.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")]
Overrides = Annotated[list[str] | None, typer.Option("-o", help="Override a setting: -o a.b=c. Repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done and its cost, and stop.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Data set: a name (vaebench data list), a prepared folder, images, a table, or file.py:Class.",
        autocompletion=data_names,
    ),
]
Tokenizer = Annotated[
    str,
    typer.Argument(
        help="Folder, checkpoint, registered name, hub id@revision, module:Class or file.py:Class.",
        autocompletion=tokenizer_names,
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes for drawing and reading. Default: one a core.")
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
    from vaebench.core.config import read_yaml, with_overrides

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


def folder_name(reference: str | Path) -> str:
    """A name for a result's folder from what a tokenizer, method, data set or folder is called: one part of a path.

    Of code ("lib/mine.py:Blur", "module:Blur") the attribute; of what lies on the disk its name, of a file without the
    suffix; of a hub's id ("owner/vae@rev") what comes after the owner. Options ("dct?f=8&d=16") belong to it.
    """
    from vaebench.core.plugins import is_reference

    name, _, options = str(reference).partition("?")
    path = Path(name).expanduser()
    if path.exists():
        tag = path.stem if path.is_file() else Path(os.path.abspath(path)).name
    else:
        tag = name.rpartition(":" if is_reference(name) else "/")[2]
    return re.sub(r"[^\w.@=-]+", "-", f"{tag}-{options}" if options else tag).strip("-.") or "unnamed"


def show_scores(scores: list[Any], details: bool = False, beside: dict[str, list[Any]] | None = None) -> None:
    """Print scores as a table; scores of single attributes and factors only when asked for.

    ``beside`` are the same scores of other latents, by name, which become columns.
    """
    from rich.console import Console
    from rich.table import Table

    from vaebench.core.scores import left_out

    table = Table(box=None, pad_edge=False)
    others = {name: {_name(score): score for score in part} for name, part in (beside or {}).items()}
    for column in ("score", "value", "interval", "n", "baseline", *others):
        table.add_column(column, justify="left" if column == "score" else "right", no_wrap=True)
    for score in scores:
        part = score.detail.get("attribute") or score.detail.get("factor")
        if part is not None and not details:
            continue
        name = _name(score)
        bounds = f"{score.low:.4g} .. {score.high:.4g}" if score.low is not None and score.high is not None else ""
        baseline = score.detail.get("baseline")
        table.add_row(
            name,
            f"{score.value:.4g}",
            bounds,
            str(score.n),
            f"{baseline:.4g}" if baseline is not None else "",
            *(f"{part[name].value:.4g}" if name in part else "" for part in others.values()),
        )
    # Beyond a terminal nothing may be cut off.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for name, why in left_out(scores).items():
        say(f"Attribute '{name}' is left out of the means of probes: it {why}.")


def _name(score: Any) -> str:
    """Metric and what tells this score of it from others: vectorisation, variant, attribute or factor."""
    notes = (score.detail.get(key) for key in ("vectorisation", "variant", "attribute", "factor"))
    return " ".join([score.metric, *(str(note) for note in notes if note)])


def say(text: str) -> None:
    """A line for the user, apart from results on standard output."""
    print(text, file=sys.stderr)
