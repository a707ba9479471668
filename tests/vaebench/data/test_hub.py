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
    data.prepare("hub", {"root": "owner/birds@0123abc", **options}, tmp_path / "a.h5")
    assert asked == [("owner/birds", "0123abc")]
    check_classes_by_name(tmp_path / "a.h5")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: {"unsupervised": loaded})
    with pytest.raises(DataError, match="has the splits unsupervised"):
        data.prepare("hub", {"root": "owner/birds"}, tmp_path / "b.h5")
    monkeypatch.setattr(datasets, "load_dataset", load)
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
