"""Completion in a real bash: the script that ``--show-completion`` prints, and what Tab then offers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent


# Each line of the input is what stands on the command line when Tab is pressed.
PROGRAM = """
eval "$(vaebench --show-completion bash)"
while read -r line; do
    COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    for function in $(compgen -A function _vaebench); do "$function" vaebench; done
    echo "${COMPREPLY[@]}"
done
"""


@pytest.mark.skipif(shutil.which("bash") is None or not (SCRIPTS / "vaebench").exists(), reason="no bash or no command")
def test_tab_completes_commands_and_names():
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    lines = "vaebench tok\nvaebench train send\nvaebench card dct --data shapes\n"
    command = ["bash", "-c", PROGRAM]
    run = subprocess.run(command, input=lines, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["tokenizers", "send-vae", "shapes3d"]
