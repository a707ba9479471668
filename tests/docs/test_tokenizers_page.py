"""The commands that docs/tokenizers.md shows exist, with the options it shows."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from vaebench.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "tokenizers.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("vaebench ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    context = command.make_context("vaebench", words)  # fails on unknown options and missing arguments
    assert context.params


def test_the_page_shows_all_three() -> None:
    assert {line.split()[2] for line in COMMANDS} == {"check", "convert", "new"}
