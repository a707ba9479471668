"""What a user is told who asks for a data set that is read from files, without saying where they are."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import vaebench.data as data
from vaebench.cli.app import app
from vaebench.core.errors import ConfigError
from vaebench.data.source import ImageSource

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
READ = [name for name in data.DATASETS.names() if data.DATASETS.get(name).files]
PUBLISHED = [name for name in READ if name not in ("hub", "folder")]


def test_every_data_set_is_on_the_page():
    assert all(f"`{name}`" in PAGE for name in data.DATASETS.names())
    assert set(PUBLISHED) == {
        "imagenet", "celeba", "deepfashion", "awa2", "cub", "dsprites", "3dshapes", "mpi3d", "cars3d", "smallnorb",
    }  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_show_tells_layout_source_and_settings(name):
    kind: type[ImageSource] = data.DATASETS.get(name)
    shown = CliRunner().invoke(app, ["data", "show", name])
    assert shown.exit_code == 0
    assert kind.remedy in shown.output
    assert f"vaebench data prepare {name} -o root=PATH" in shown.output
    assert all(setting in shown.output for setting in kind.Config.model_fields)
    for entry in getattr(kind, "layout", ()):
        assert Path(entry).name in shown.output, f"{entry} is not in the module's layout"
    if name in PUBLISHED:
        assert "http" in kind.remedy
        assert "'root'" in kind.remedy


@pytest.mark.parametrize("name", READ)
def test_preparing_without_files_says_what_to_get(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = data.DATASETS.get(name)
    with pytest.raises(ConfigError, match=f"vaebench data show {name}"):
        data.prepare(name, {}, tmp_path / "a.h5")
    done = CliRunner().invoke(app, ["data", "prepare", name])
    assert done.exit_code == 2
    assert kind.remedy in done.output
    assert "-o root=PATH" in done.output


def test_other_faults_of_the_settings_are_named_as_before(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'image_size'"):
        data.prepare("celeba", {"root": str(tmp_path), "image_sise": 8}, tmp_path / "a.h5")
