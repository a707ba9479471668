"""Rows with pictures: local Parquet files, and data sets as the library `datasets` loads them."""

import io

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

import vaebench.data as data
from vaebench.core.errors import ConfigError, DataError, MissingPath, UnknownName


def picture(colour: int) -> Image.Image:
    return Image.fromarray(np.full((4, 4, 3), colour, np.uint8))


def png(colour: int) -> bytes:
    buffer = io.BytesIO()
    picture(colour).save(buffer, format="PNG")
    return buffer.getvalue()


def rows(count: int) -> dict[str, list]:
    return {
        "image": [{"bytes": png(i), "path": None} for i in range(count)],
        "label": [i % 3 for i in range(count)],
        "dark": [int(i < 10) for i in range(count)],
    }


def test_parquet_files_as_the_hub_lays_them_out(tmp_path):
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for split, count in (("train", 20), ("test", 4)):
        pd.DataFrame(rows(count)).to_parquet(folder / f"{split}-00000-of-00001.parquet", row_group_size=3)
    options = {"root": str(tmp_path / "set"), "image_size": 8, "attributes": ["dark"], "validation_fraction": 0.3}
    info = data.prepare("hub", options, tmp_path / "a.h5")
    dataset = data.open_data(tmp_path / "a.h5")
    assert info.classes == ("0", "1", "2")
    assert info.attribute_level == "image"
    assert len(dataset.split("test")) == 4
    assert len(dataset.split("train")) + len(dataset.split("validation")) == 20
    for split in dataset.splits.values():
        colours = split.images(slice(None))[:, 0, 0, 0]
        assert (split.attributes[:, 0] == (colours < 10)).all()
        assert (split.labels == colours % 3).all()


def test_rows_of_several_files_and_groups_keep_their_order_and_are_read_group_by_group(tmp_path, monkeypatch):
    table = pd.DataFrame(rows(23))
    for number, part in enumerate((table[:9], table[9:])):
        part.to_parquet(tmp_path / f"train-{number:05}-of-00002.parquet", row_group_size=4)
    read = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, i, **k: read.append(i) or whole(self, i, **k))
    options = {"root": str(tmp_path), "image_size": 8, "validation_fraction": 0, "test_fraction": 0}
    data.prepare("hub", options, tmp_path / "a.h5", workers=1)
    split = data.open_data(tmp_path / "a.h5").split("train")
    assert split.images(slice(None))[:, 0, 0, 0].tolist() == list(range(23))
    assert read == [0, 1, 2, 0, 1, 2, 3]


def test_attributes_that_never_differ_within_a_class_are_class_level(tmp_path):
    table = rows(12) | {"striped": [int(i % 3 == 1) for i in range(12)]}
    pd.DataFrame(table).to_parquet(tmp_path / "x.parquet")
    options = {"root": str(tmp_path / "x.parquet"), "image_size": 8, "attributes": ["striped"]}
    with pytest.warns(UserWarning, match="taken as class-level"):
        assert data.prepare("hub", options, tmp_path / "a.h5").attribute_level == "class"


def test_a_hub_that_cannot_be_reached_and_columns_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"'root' is not given.*hf download --repo-type dataset"):
        data.prepare("hub", {}, tmp_path / "a.h5")
    with pytest.raises(MissingPath, match="Give a Parquet file"):
        data.prepare("hub", {"root": "/no/such/place"}, tmp_path / "a.h5")
    pd.DataFrame({"picture": [png(1)]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UnknownName, match="no column 'image'"):
        data.prepare("hub", {"root": str(tmp_path / "x.parquet")}, tmp_path / "a.h5")
    whole = {"validation_fraction": 0, "test_fraction": 0}
    pd.DataFrame({"image": [b"broken"]}).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(DataError, match="row 0"):
        data.prepare("hub", {"root": str(tmp_path / "y.parquet"), **whole}, tmp_path / "a.h5")
    pd.DataFrame(rows(3) | {"dark": [0, 1, 2]}).to_parquet(tmp_path / "z.parquet")
    with pytest.raises(DataError, match="other than 0 and 1"):
        data.prepare("hub", {"root": str(tmp_path / "z.parquet"), "attributes": ["dark"], **whole}, tmp_path / "a.h5")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read"):
        data.prepare("hub", {"root": str(tmp_path / "t.parquet")}, tmp_path / "a.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no Parquet files"):
        data.prepare("hub", {"root": str(tmp_path / "empty")}, tmp_path / "a.h5")


def test_files_of_other_columns_are_no_one_data_set(tmp_path):
    pd.DataFrame(rows(3)).to_parquet(tmp_path / "train-0.parquet")
    pd.DataFrame({"image": [png(1)]}).to_parquet(tmp_path / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1\.parquet' has other columns"):
        data.prepare("hub", {"root": str(tmp_path)}, tmp_path / "a.h5")


@pytest.fixture
def loaded():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["wren", "crow"]),
            "dark": datasets.Value("int8"),
        }
    )
    table = {"image": [picture(i) for i in range(20)], "label": [i % 2 for i in range(20)]}
    return datasets.Dataset.from_dict(table | {"dark": [int(i < 10) for i in range(20)]}, features=features)


def check_classes_by_name(file):
    dataset = data.open_data(file)
    assert dataset.info.classes == ("crow", "wren")
    for split in dataset.splits.values():
        colours = split.images(slice(None))[:, 0, 0, 0]
        assert (split.labels == 1 - colours % 2).all()
        assert (split.attributes[:, 0] == (colours < 10)).all()


def test_a_data_set_of_the_hub(loaded, tmp_path, monkeypatch):
    import datasets

    asked = []

    def load(name, revision):
        asked.append((name, revision))
        return datasets.DatasetDict({"train": loaded, "unsupervised": loaded})

    monkeypatch.setattr(datasets, "load_dataset", load)
    options = {"image_size": 8, "attributes": ["dark"]}
    with pytest.warns(UserWarning, match=r"'owner/birds' has splits .* are left out: unsupervised \(20 rows\)\."):
        data.prepare("hub", {"root": "owner/birds@0123abc", **options}, tmp_path / "a.h5")
    assert asked == [("owner/birds", "0123abc")]
    check_classes_by_name(tmp_path / "a.h5")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: {"unsupervised": loaded})
    with pytest.raises(DataError, match="has the splits unsupervised"):
        data.prepare("hub", {"root": "owner/birds"}, tmp_path / "b.h5")
    both = {"train": loaded, "val": loaded, "Validation": loaded}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: both)
    with pytest.raises(DataError, match=r"would be the validation split: Validation, val\. Give a folder"):
        data.prepare("hub", {"root": "owner/birds"}, tmp_path / "b.h5")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: {"train": loaded})
    with pytest.raises(UnknownName, match="no column 'picture'"):
        data.prepare("hub", {"root": "owner/birds", "image_column": "picture"}, tmp_path / "b.h5")


def test_names_of_classes_survive_in_parquet_files(loaded, tmp_path):
    loaded.to_parquet(tmp_path / "train.parquet")
    data.prepare("hub", {"root": str(tmp_path), "image_size": 8, "attributes": ["dark"]}, tmp_path / "a.h5")
    check_classes_by_name(tmp_path / "a.h5")


def test_offline_is_strict_also_after_the_library_was_imported(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingPath, match=r"could not be had from the hub.*--repo-type dataset"):
        data.prepare("hub", {"root": "owner/birds"}, tmp_path / "a.h5")
    assert datasets.config.HF_HUB_OFFLINE


WHOLE = {"image_size": 8, "validation_fraction": 0, "test_fraction": 0}


def colours(split):
    return split.images(slice(None))[:, 0, 0, 0].tolist()


def parquet(path, first, count=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"image": [png(first + i) for i in range(count)]}).to_parquet(path)


@pytest.mark.parametrize(
    "names",
    [
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
        ("train/a/0.parquet", "train/b/0.parquet", "test/0.parquet"),
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
        ("train/train_0.parquet", "train/train_1.parquet", "test/test_0.parquet"),
        ("train-00000-a09b74b3ef9c3b56.parquet", "train-00001-b7cafe12deadd33d.parquet", "test.parquet"),
        ("birds-train-part-0.parquet", "birds-train-part-1.parquet", "birds-test.parquet"),
        ("train/train_a.parquet", "train/train_b.parquet", "test/0.parquet"),
    ],
)
def test_splits_are_named_by_files_or_by_folders_above_them(tmp_path, names):
    for number, name in enumerate(names):
        parquet(tmp_path / "set" / name, 10 * number)
    data.prepare("hub", {"root": str(tmp_path / "set"), **WHOLE}, tmp_path / "a.h5")
    dataset = data.open_data(tmp_path / "a.h5")
    assert {name: colours(split) for name, split in dataset.splits.items()} == {
        "train": [0, 1, 2, 10, 11, 12], "test": [20, 21, 22],
    }  # fmt: skip


def test_files_of_a_linked_folder_are_read(tmp_path):
    parquet(tmp_path / "elsewhere" / "0000.parquet", 0)
    parquet(tmp_path / "set" / "test" / "0000.parquet", 10)
    (tmp_path / "set" / "train").symlink_to(tmp_path / "elsewhere")
    data.prepare("hub", {"root": str(tmp_path / "set"), **WHOLE}, tmp_path / "a.h5")
    assert colours(data.open_data(tmp_path / "a.h5").split("train")) == [0, 1, 2]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("0000.parquet", "0001.parquet"), r"no split is named by 0000\.parquet, 0001\.parquet\. Call them train-"),
        (("train-0.parquet", "latest-0.parquet"), r"no split is named by latest-0\.parquet\."),
        (
            ("train-0.parquet", "train_extra-0.parquet"),
            r"no split is named by train_extra-0\.parquet\. .*no other word",
        ),
        (("test-0.parquet", "train_dev.parquet"), r"no split is named by train_dev\.parquet\."),
        (
            ("train-0.parquet", "val-0.parquet", "dev-0.parquet"),
            "several splits that would be the validation split: dev, val",
        ),
        (("train/0.parquet", "train_extra/0.parquet"), "would be the train split: train, train_extra"),
        (("cats-train.parquet", "dogs-train.parquet"), "would be the train split: cats_train, dogs_train"),
        (("cats/train/0.parquet", "dogs/train/0.parquet"), r"several configurations of a data set: cats, dogs\."),
        (("train-0.parquet", "extra/train-0.parquet"), r"several configurations of a data set: \., extra\."),
    ],
)
def test_files_of_no_split_or_of_several_data_sets_are_refused(tmp_path, names, said):
    for name in names:
        parquet(tmp_path / "set" / name, 0)
    with pytest.raises(DataError, match=said):
        data.prepare("hub", {"root": str(tmp_path / "set")}, tmp_path / "a.h5")


def test_one_file_alone_needs_no_name(tmp_path):
    parquet(tmp_path / "set" / "pictures.parquet", 0)
    data.prepare("hub", {"root": str(tmp_path / "set"), **WHOLE}, tmp_path / "a.h5")
    assert colours(data.open_data(tmp_path / "a.h5").split("train")) == [0, 1, 2]


def labelled(path, labels, names=None):
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=names) if names else datasets.Value("string")
    table = {"image": [picture(i) for i in range(len(labels))], "label": labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": label})
    datasets.Dataset.from_dict(table, features=features).to_parquet(path)


@pytest.mark.parametrize("missing", [-1, None])
def test_a_split_without_labels_has_none(tmp_path, missing):
    labelled(tmp_path / "set" / "train.parquet", [0, 1, 1], ["wren", "crow"])
    labelled(tmp_path / "set" / "test.parquet", [missing] * 3, ["wren", "crow"])
    info = data.prepare("hub", {"root": str(tmp_path / "set"), **WHOLE}, tmp_path / "a.h5")
    dataset = data.open_data(tmp_path / "a.h5")
    assert info.classes == ("crow", "wren")
    assert dataset.split("train").labels.tolist() == [1, 0, 0]
    assert dataset.split("test").labels is None


def test_a_split_that_lacks_the_column_takes_no_labels_from_the_others(tmp_path):
    labelled(tmp_path / "set" / "train.parquet", [0, 1, 1], ["wren", "crow"])
    parquet(tmp_path / "set" / "test.parquet", 10)
    info = data.prepare("hub", {"root": str(tmp_path / "set"), **WHOLE}, tmp_path / "a.h5")
    dataset = data.open_data(tmp_path / "a.h5")
    assert info.classes == ("crow", "wren")
    assert dataset.split("train").labels.tolist() == [1, 0, 0]
    assert dataset.split("test").labels is None


def test_a_column_for_labels_must_exist_in_some_split_where_it_is_named(tmp_path):
    for name, first in (("train", 0), ("test", 10)):
        parquet(tmp_path / "set" / f"{name}.parquet", first)
    labelled(tmp_path / "set" / "validation.parquet", [0, 1, 1], ["wren", "crow"])
    for given, classes in (("label", 2), (None, 0)):
        options = {"root": str(tmp_path / "set"), "label_column": given, **WHOLE}
        assert len(data.prepare("hub", options, tmp_path / "a.h5").classes) == classes
    with pytest.raises(UnknownName, match=r"no column 'labels' \(label_column\)\. Did you mean 'label'"):
        data.prepare("hub", options | {"label_column": "labels"}, tmp_path / "a.h5")


def test_images_without_any_label(tmp_path):
    labelled(tmp_path / "set" / "train.parquet", [None] * 3)
    info = data.prepare("hub", {"root": str(tmp_path / "set"), **WHOLE}, tmp_path / "a.h5")
    assert info.classes == ()
    assert data.open_data(tmp_path / "a.h5").split("train").labels is None


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        ([0, -1, 1, -1], ["wren", "crow"], r"train: 'label' names no class in row 1, 3 \(such as -1\)"),
        ([0, None, 1, 1], ["wren", "crow"], r"in row 1 \(such as None\)"),
        (["wren", None, "crow", "crow"], None, r"in row 1 \(such as None\)"),
    ],
)
def test_rows_without_a_label_among_others_are_named(tmp_path, labels, names, said):
    labelled(tmp_path / "set" / "train.parquet", labels, names)
    options = {"root": str(tmp_path / "set"), **WHOLE}
    with pytest.raises(DataError, match=f"{said}.*label_column: null"):
        data.prepare("hub", options, tmp_path / "a.h5")
    assert data.prepare("hub", options | {"label_column": None}, tmp_path / "a.h5").classes == ()


def test_labels_beyond_the_names_and_numbers_that_lack_are_named(tmp_path, loaded):
    loaded.to_parquet(tmp_path / "train.parquet")
    table = pq.read_table(tmp_path / "train.parquet")
    place = table.schema.get_field_index("label")
    changed = table.column("label").to_pylist()
    changed[7] = 2
    changed = table.set_column(place, table.schema.field("label"), [changed])
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"in row 7 \(such as 2\)"):
        data.prepare("hub", {"root": str(tmp_path)}, tmp_path / "a.h5")
    pd.DataFrame(rows(4) | {"label": [0.0, 1.0, np.nan, 1.0]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="in row 2"):
        data.prepare("hub", {"root": str(tmp_path)}, tmp_path / "a.h5")


def test_pictures_of_16_and_32_bits(tmp_path):
    def bytes_of(image, kind):
        buffer = io.BytesIO()
        image.save(buffer, format=kind)
        return buffer.getvalue()

    grey = bytes_of(Image.fromarray(np.full((8, 8), 25700, np.uint16)), "PNG")
    pd.DataFrame({"image": [grey]}).to_parquet(tmp_path / "x.parquet")
    data.prepare("hub", {"root": str(tmp_path / "x.parquet"), **WHOLE}, tmp_path / "a.h5")
    assert colours(data.open_data(tmp_path / "a.h5").split("train")) == [100]
    pd.DataFrame({"image": [bytes_of(Image.new("F", (8, 8)), "TIFF")]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"row 0: 32-bit grey.*Repair or replace them\.$"):
        data.prepare("hub", {"root": str(tmp_path / "x.parquet"), **WHOLE}, tmp_path / "b.h5")
