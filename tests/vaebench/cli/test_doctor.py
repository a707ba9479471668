"""``vaebench doctor``: what is here, what is missing, and what is in the way."""

import collections
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vaebench import diagnosis
from vaebench.cli.app import app
from vaebench.core.errors import MissingWeights


def doctor(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A machine on which nothing has been fetched yet."""
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    return tmp_path


def lines(section):
    return {check.name: check for check in diagnosis.diagnose() if check.section == section}


def test_versions_and_devices():
    import torch

    result = doctor("--section", "versions", "--section", "devices")
    assert result.exit_code == 0
    assert torch.__version__.partition("+")[0] in result.output
    assert "cpu" in result.output
    assert "weights" not in result.output


def test_weights_are_looked_for_where_they_are_used(empty):
    from vaebench.vision.inception import WEIGHTS

    found = lines("weights")
    assert found["efficientnet-lite0"].status == found["mobilenetv2"].status == "ok"
    assert found["dinov2-b"].status == "missing"
    assert found["dinov2-b"].remedy == "hf download timm/vit_base_patch14_dinov2.lvd142m"
    name = "inception (FID, sFID, Inception Score)"
    assert found[name].status == found["LPIPS vgg"].status == "missing"
    place = empty / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    for file in (WEIGHTS, "vgg16-397923af.pth"):
        (place / file).write_bytes(b"")
    found = lines("weights")
    assert found[name].status == found["LPIPS vgg"].status == "ok"
    assert found["LPIPS alex"].status == "missing"


def test_extras_are_those_of_the_package(monkeypatch):
    assert {"ode", "inception", "ray", "hub"} <= set(lines("extras"))
    assert "dev" not in lines("extras")
    monkeypatch.setattr(diagnosis.importlib.util, "find_spec", lambda name: None)
    assert lines("extras")["ode"].remedy == "pip install 'vaebench[ode]'"


def test_caches_are_measured(empty):
    folder = empty / "cache" / "data" / "some"
    folder.mkdir(parents=True)
    (folder / "data.h5").write_bytes(b"\0" * 3 * 2**20)
    (folder / "link").symlink_to(folder / "data.h5")
    assert lines("caches")["vaebench/data"].detail.startswith("3.0 MiB in ")


def test_a_full_disk_and_broken_weights_end_with_2(empty, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 2**30))
    result = doctor("--section", "caches")
    assert result.exit_code == 2
    assert "PROBLEM  disk here" in result.output
    assert "make room" in result.output

    def broken(_):
        raise MissingWeights("the package is broken.", "Reinstall it.")

    monkeypatch.setattr("vaebench.vision.embedded.EmbeddedNetwork.weights_path", classmethod(broken))
    result = doctor("--section", "weights")
    assert result.exit_code == 2
    assert "-> Reinstall it." in result.output


def test_a_plugin_that_cannot_be_imported_is_found(monkeypatch):
    from vaebench.metrics import METRICS

    METRICS.names()
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    METRICS.register("theirs", "no_such_module_anywhere:X", package="their-package")
    check = lines("plug-ins")["metric theirs"]
    assert (check.status, "their-package" in check.detail) == ("problem", True)


def test_unknown_sections_suggest():
    result = doctor("--section", "weight")
    assert result.exit_code == 2
    assert "Did you mean 'weights'" in result.output


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB"), (3 * 2**40, "3.0 TiB")]
)
def test_amounts(size, text):
    assert diagnosis.amount(size) == text
    assert diagnosis.size_of(Path("/nowhere/at/all")) == 0
