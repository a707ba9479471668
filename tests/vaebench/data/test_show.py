"""Contact sheet and prevalence table."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import vaebench.data as data
from vaebench.core.errors import UnknownName
from vaebench.data.show import contact_sheet, prevalence


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("show") / "data.h5"
    data.prepare("avatars", {"train": 30, "validation": 5, "test": 0, "image_size": 32}, path)
    return data.open_data(path)


def test_prevalence_is_the_mean(dataset):
    table = prevalence(dataset)
    assert list(table.index) == list(dataset.info.attributes)
    assert list(table.columns) == ["train", "validation"]
    np.testing.assert_allclose(table["train"], dataset.splits["train"].attributes.sum(axis=0) / 30)


def test_sheet_shows_images_and_text(dataset, tmp_path):
    path = contact_sheet(dataset, tmp_path / "sheet.png", n=5, columns=3)
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[1] == 3 * 200 + 8
    row = pixels.shape[0] // 2
    picture, text = pixels[8:200, 8:200], pixels[200:row, 8:200]
    assert (picture < 250).any(axis=2).mean() > 0.9
    assert 0.01 < (text.min(axis=2) < 128).mean() < 0.5, "dark letters on white"


def test_sheet_is_deterministic_and_follows_the_seed(dataset, tmp_path):
    first, again, other = (
        contact_sheet(dataset, tmp_path / f"{i}.png", n=4, seed=seed).read_bytes() for i, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


def test_more_than_there_are(dataset, tmp_path):
    assert contact_sheet(dataset, tmp_path / "a.png", split="validation", n=100).is_file()


def test_empty_split_and_unknown_split(dataset, tmp_path):
    assert contact_sheet(dataset, tmp_path / "a.png", split="test").is_file()
    with pytest.raises(UnknownName, match="validation"):
        contact_sheet(dataset, tmp_path / "b.png", split="val")


@pytest.mark.parametrize("size", [8, 250])
def test_small_and_large_images_without_labels(tmp_path, size):
    (tmp_path / "images").mkdir()
    for i in range(12):
        Image.new("RGB", (size, size), (20 * i, 0, 0)).save(tmp_path / "images" / f"{i}.png")
    data.prepare("folder", {"root": tmp_path / "images", "image_size": size}, tmp_path / "data.h5")
    dataset = data.open_data(tmp_path / "data.h5")
    assert contact_sheet(dataset, tmp_path / "sheet.png").is_file()
    assert prevalence(dataset).empty


def test_naming_the_data_sets_imports_nothing_heavy():
    code = (
        "import sys, vaebench.data as d; d.DATASETS.entries(); "
        "print([m for m in ('torch', 'h5py', 'numpy', 'pandas', 'resvg_py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
