"""``--plugin``, which every command takes."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="Python file that registers tokenizers, data sets, metrics ... of yours. Repeatable."
    ),
]


def take_plugins(app: typer.Typer) -> None:
    """Give every command of ``app``, and of the groups in it, the option ``--plugin``."""
    for command in app.registered_commands:
        command.callback = _with_plugins(command.callback)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        take_plugins(group.typer_instance)
        if group.typer_instance.registered_callback is not None:
            own = group.typer_instance.registered_callback
            own.callback = _with_plugins(own.callback)


def _with_plugins(command: Callable[..., Any] | None) -> Callable[..., Any]:
    """The command with one parameter more, whose files are run before it."""
    assert command is not None

    @functools.wraps(command)
    def run(*arguments: Any, plugin: Plugin = None, **options: Any) -> Any:
        if plugin:
            from vaebench.core.plugins import load_plugins

            load_plugins(plugin)
        return command(*arguments, **options)

    # Typer reads a command's options off its signature.
    signature = inspect.signature(command)
    more = inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Plugin)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), more])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "plugin": Plugin}
    return run
