"""The ``vaebench`` command: its subcommands, and how errors reach the user."""

import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from vaebench.cli import data, extract, generate, probe, quickstart, reconstruct, report, study, tokenizers, train
from vaebench.core.errors import VaebenchError


class _Group(TyperGroup):
    """Turns errors that a user can act on into one message and exit code 2, and an interruption into exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VaebenchError as error:
            print(f"Error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            print("Interrupted. The same command goes on where it was.", file=sys.stderr)
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Will diffusion like this latent space, and why? Trains image tokenizers, scores their latents, trains SiT on "
    "them and reports how well each score predicts generation.\n\nStart here: vaebench quickstart",
)
app.add_typer(data.app, name="data")
app.command()(tokenizers.tokenizers)
app.command()(train.train)
app.command()(extract.extract)
app.command()(reconstruct.reconstruct)
app.command()(probe.probe)
app.command()(generate.generate)
app.add_typer(study.app, name="study")
app.command()(report.report)
app.command()(quickstart.quickstart)


def _plain_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"Warning: {message}\n"


def main() -> None:
    """Entry point of the ``vaebench`` command."""
    # Threads that spin while they wait for each other make a busy machine thirty times slower. Asleep they cost next to
    # nothing. OpenMP reads this when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.formatwarning = _plain_warning  # a user wants the message, not the line of our code
    app()
