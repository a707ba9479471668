"""Fashion-MNIST from tiny IDX files that the test writes, in every layout; and from the real ones where installed."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

import vaebench.data as data
from vaebench.core.errors import ConfigError, DataError, MissingPath
from vaebench.data import fashion_mnist
from vaebench.data.fashion_mnist import (
    CLASS_ATTRIBUTES,
    CLASSES,
    DEBIAN_FOLDER,
    FashionMNIST,
    FashionMNISTConfig,
    class_attributes,
)
from vaebench.vision.transforms import centre_crop_resize

SIZES = {"train": 12, "validation": 4, "test": 6}


def write_idx(path, array, packed):
    header = struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape)
    content = header + array.tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_set(folder, packed=False, train=20, test=8):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    made = {}
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images, packed)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels, packed)
        made[prefix] = images, labels
    return made


def prepare(tmp_path, **values):
    path = tmp_path / "prepared" / "data.h5"
    info = data.prepare("fashion-mnist", {**SIZES, **values}, path)
    return info, data.open_data(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["", "FashionMNIST/raw", "raw"])
def test_both_layouts(tmp_path, layout, packed):
    made = write_set(tmp_path / "root" / layout, packed)
    info, dataset = prepare(tmp_path, root=tmp_path / "root")
    assert info.classes == CLASSES
    assert info.image_size == 64
    for name, split in dataset.splits.items():
        assert len(split) == SIZES[name]
        images, labels = made["t10k" if name == "test" else "train"]
        origin = split.ids - (60_000 if name == "test" else 0)
        np.testing.assert_array_equal(split.labels, labels[origin])
        np.testing.assert_array_equal(split.attributes, class_attributes()[labels[origin]])
        expected = centre_crop_resize(np.repeat(images[origin[0]][..., None], 3, axis=2), 64)
        np.testing.assert_array_equal(split.images(slice(0, 1))[0], expected)
    ids = np.concatenate([split.ids for split in dataset.splits.values()])
    assert len(np.unique(ids)) == len(ids)


def test_layouts_give_the_same_data(tmp_path):
    write_set(tmp_path / "a")
    write_set(tmp_path / "b" / "FashionMNIST" / "raw", packed=True)
    first, _ = prepare(tmp_path, root=tmp_path / "a")
    second, _ = prepare(tmp_path, root=tmp_path / "b")
    assert first == second


def test_seed_chooses_the_images(tmp_path):
    write_set(tmp_path)
    _, first = prepare(tmp_path, root=tmp_path)
    ids = first.splits["train"].ids.copy()
    _, other = prepare(tmp_path, root=tmp_path, seed=1)
    assert not np.array_equal(ids, other.splits["train"].ids)


def test_grey_on_three_channels(tmp_path):
    write_set(tmp_path)
    _, dataset = prepare(tmp_path, root=tmp_path, image_size=28)
    images = dataset.splits["train"].in_memory()
    np.testing.assert_array_equal(images[:, 0], images[:, 1])
    np.testing.assert_array_equal(images[:, 0], images[:, 2])


def test_class_attribute_table():
    table = class_attributes()
    assert table.shape == (len(CLASSES), len(CLASS_ATTRIBUTES))
    assert len(CLASS_ATTRIBUTES) >= 12
    assert table.sum(axis=0).min() > 0
    assert table.sum(axis=0).max() < len(CLASSES)
    assert len(np.unique(table.T, axis=0)) == len(CLASS_ATTRIBUTES), "two attributes have the same classes"
    assert len(np.unique(table, axis=0)) == len(CLASSES), "two classes have the same attributes"


def test_attributes_are_of_classes(tmp_path):
    write_set(tmp_path)
    assert prepare(tmp_path, root=tmp_path)[0].attribute_level == "class"


def test_missing(tmp_path, monkeypatch):
    with pytest.raises(MissingPath, match="dataset-fashion-mnist"):
        prepare(tmp_path, root=tmp_path)
    monkeypatch.setattr(fashion_mnist, "DEFAULT_FOLDERS", (tmp_path,))
    with pytest.raises(MissingPath, match="'root'"):
        prepare(tmp_path)


def test_one_file_missing(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(MissingPath, match="t10k-labels"):
        prepare(tmp_path, root=tmp_path)


def test_the_files_found_without_a_root_are_watched_but_debians(tmp_path, monkeypatch):
    def watched(**values):
        return FashionMNIST(FashionMNISTConfig(**values)).watched()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fashion_mnist, "DEFAULT_FOLDERS", (tmp_path / "debian", Path("data")))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    assert watched() == {}
    write_set(Path("data/FashionMNIST/raw"))
    assert set(watched()) == {
        "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
    }  # fmt: skip
    assert all(path.is_file() for path in watched().values())
    assert watched(root="data") == {}  # which is watched itself
    write_set(tmp_path / "debian")
    assert watched() == {}


@pytest.mark.parametrize("packed", [False, True])
def test_truncated(tmp_path, packed):
    write_set(tmp_path, packed)
    file = next(tmp_path.glob("train-images*"))
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"train-images.*truncated"):
        prepare(tmp_path, root=tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x01" + b"\x00" * 12, b"<html>not found</html>"])
def test_no_idx_file(tmp_path, content):
    write_set(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="no IDX file"):
        prepare(tmp_path, root=tmp_path)


def test_labels_that_do_not_fit(tmp_path):
    write_set(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(19, np.uint8), packed=False)
    with pytest.raises(DataError, match="20 train images but 19 labels"):
        prepare(tmp_path, root=tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(20, 10, np.uint8), packed=False)
    with pytest.raises(DataError, match="10 classes"):
        prepare(tmp_path, root=tmp_path)


def test_more_images_than_there_are(tmp_path):
    write_set(tmp_path)
    with pytest.raises(ConfigError, match=r"18 \+ 4 images are asked for.*has 20"):
        prepare(tmp_path, root=tmp_path, train=18)


@pytest.mark.parametrize("values", [{"image_size": 0}, {"train": 0}, {"tests": 3}])
def test_bad_configuration(tmp_path, values):
    with pytest.raises(ConfigError):
        prepare(tmp_path, root=tmp_path, **values)


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_files(tmp_path):
    info, dataset = prepare(tmp_path, train=400, validation=20, test=100)
    assert info.licence == "MIT"
    train = dataset.splits["train"]
    assert set(train.labels) == set(range(10))
    # A nearest-mean classifier is right on about two thirds of the real images: pixels and labels belong together.
    features = train.in_memory()[:, 0].reshape(400, -1).astype(np.float32)
    means = np.stack([features[train.labels == c].mean(axis=0) for c in range(10)])
    test = dataset.splits["test"]
    pixels = test.in_memory()[:, 0].reshape(100, -1).astype(np.float32)
    guess = ((pixels[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (guess == test.labels).mean() > 0.5
