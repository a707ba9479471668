"""The ``vaebench`` command: its subcommands, and how errors reach the user."""

import contextlib
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaebench.cli import (
    card,
    compare,
    data,
    doctor,
    extract,
    generate,
    npz,
    probe,
    quickstart,
    reconstruct,
    report,
    score,
    study,
    tokenizers,
    train,
)
from vaebench.cli.plugins import take_plugins
from vaebench.core.errors import VaebenchError
from vaebench.core.memory import keep_freed_memory
from vaebench.core.offline import go_offline
from vaebench.core.processes import leave_group, process_index


class _Group(TyperGroup):
    """Turns errors that a user can act on into one message and exit code 2, and an interruption into exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        from vaebench.core.files import disk_errors_said

        try:
            with disk_errors_said(Path()):
                return super().invoke(ctx)
        except VaebenchError as error:
            print(f"Error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except (Exception, KeyboardInterrupt) as error:
            if not _interrupted(error):
                raise
            print("Interrupted. The same command goes on where it was.", file=sys.stderr)
            raise typer.Exit(130) from error


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: an interrupted import or class body may raise one of its own from it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Will diffusion like this latent space, and why? Trains image tokenizers, scores their latents, trains SiT on "
    "them and reports how well each score predicts generation.\n\nStart here: vaebench quickstart",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"vaebench {version('vaebench')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Download nothing, as with HF_HUB_OFFLINE=1: weights must be here already."),
    ] = False,
) -> None:
    if offline:
        go_offline()


app.add_typer(data.app, name="data")
app.add_typer(tokenizers.app, name="tokenizers")
app.command()(train.train)
app.command()(extract.extract)
app.command()(reconstruct.reconstruct)
app.command()(probe.probe)
app.command()(score.score)
app.command()(generate.generate)
app.command()(npz.npz)
app.add_typer(study.app, name="study")
app.command()(card.card)
app.command()(report.report)
app.command()(compare.compare)
app.command()(quickstart.quickstart)
app.command()(doctor.doctor)
take_plugins(app)


def _plain_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"Warning: {message}\n"


def main() -> None:
    """Entry point of the ``vaebench`` command."""
    # Threads that spin while they wait for each other make a busy machine thirty times slower. Asleep they cost next to
    # nothing. OpenMP reads this when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    warnings.formatwarning = _plain_warning  # a user wants the message, not the line of our code
    try:
        if process_index() == 0:
            app()
        else:  # the first of several launched processes speaks for all; errors are heard from each
            warnings.simplefilter("ignore")
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
                app()
    except SystemExit as end:
        if not end.code:  # others may wait for one that failed, and it must not wait for them
            leave_group()
        raise
