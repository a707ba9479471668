"""``vaebench data show`` among the user's own images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vaebench.cli.app import app


def show(*words: str):
    return CliRunner().invoke(app, ["data", "show", *words, "-o", "image_size=16"])


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A working directory of 8 images without class folders."""
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path / "images")
    for number in range(8):
        Image.fromarray(np.full((20, 20, 3), 20 * number, np.uint8)).save(f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("classes", [(), ("cat",), ("cat", "dog")])
def test_the_sheet_does_not_become_part_of_the_images(images, classes):
    for number, name in enumerate(classes):
        Path(name).mkdir()
        for file in list(images.glob("*.png"))[: 4 if number + 1 < len(classes) else 8]:
            shutil.move(file, name)
    first, second = show("."), show(".")
    assert first.exit_code == 0, first.output
    assert second.stdout == first.stdout
    named = ("0 classes", "1 class: cat", "2 classes: cat, dog")[len(classes)]
    assert f"\n{named}\n0 attributes, 0 factors\n" in first.stdout
    assert list(images.glob("runs/data/folder-*.png"))
    assert show(".", "--output-dir", "look").exit_code == 0  # a new folder
    assert show(".", "--output-dir", "look").stdout.splitlines()[:3] == first.stdout.splitlines()[:3]


def test_a_sheet_of_other_data_does_not_either(images):
    alone = show(".").stdout
    shown = show("avatars", "--output-dir", "avatars", "-o", "train=2", "-o", "validation=0", "-o", "test=0")
    assert shown.exit_code == 0, shown.output
    assert show(".").stdout == alone


@pytest.mark.parametrize("place", [".", "faces"])
def test_a_sheet_among_images_is_refused(images, place):
    Path("faces").mkdir()
    shutil.copy("0.png", "faces")
    refused = show(".", "--output-dir", place)
    assert refused.exit_code == 2
    assert f"'{place}' lies among the images" in refused.output
    assert "--output-dir" in refused.output
    assert not list(images.rglob("folder-*.png"))


def test_attributes_have_a_level_and_one_is_no_several(images):
    Path("table.csv").write_text("path,hat\n" + "".join(f"{number}.png,{number % 2}\n" for number in range(8)))
    assert "\n0 classes\n1 attribute per image, 0 factors\n" in show("table.csv").output
