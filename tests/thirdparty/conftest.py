"""The example package, installed as a user installs it, and registries that forget it afterwards."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaebench.core import plugins, registry
from vaebench.data import DATASETS
from vaebench.generation import SAMPLERS
from vaebench.metrics import METRICS
from vaebench.tokenizers import TOKENIZERS
from vaebench.vision import NETWORKS

HERE = Path(__file__).parent
REGISTRIES = {
    "tokenizers": TOKENIZERS, "datasets": DATASETS, "metrics": METRICS, "networks": NETWORKS, "samplers": SAMPLERS,
}  # fmt: skip


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
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test brings in from outside is forgotten after it."""
    for kind in REGISTRIES.values():
        kind.names()  # what ships is read before, so that it stays
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))
        monkeypatch.setattr(kind, "_entry_points_read", True)
    monkeypatch.setattr(registry, "_PENDING", {})
    monkeypatch.setattr(plugins, "_FILES", [])
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith(("vaebench_example", "plugin_", "mine_")):
            del sys.modules[name]


@pytest.fixture
def package(installed: Path, forgetful: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package on this process's path, as after an installation."""
    monkeypatch.syspath_prepend(installed)
    for kind in REGISTRIES.values():
        monkeypatch.setattr(kind, "_entry_points_read", False)
    return installed / "vaebench_example"


@pytest.fixture
def plugin(forgetful: None) -> Path:
    """The plug-in file."""
    return HERE / "plugin.py"
