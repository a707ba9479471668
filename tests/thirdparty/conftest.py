"""The example package, installed as a user installs it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the package into, without a network."""
    root = tmp_path_factory.mktemp("thirdparty")
    source, target = root / "source", root / "site"
    shutil.copytree(HERE / "vaebench-example", source)  # building writes beside the sources
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
               "--disable-pip-version-check", "--target", str(target), str(source)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


@pytest.fixture
def package(installed: Path, forgetful: list[Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package on this process's path, as after an installation."""
    monkeypatch.syspath_prepend(installed)
    for kind in forgetful:
        monkeypatch.setattr(kind, "_entry_points_read", False)
    return installed / "vaebench_example"


@pytest.fixture
def plugin(forgetful: list[Any]) -> Path:
    """The plug-in file."""
    return HERE / "plugin.py"
