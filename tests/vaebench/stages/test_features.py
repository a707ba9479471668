from pathlib import Path

import h5py
import numpy as np
import pytest

import vaebench
from vaebench.core.config import build
from vaebench.core.errors import DataError, MissingPath
from vaebench.stages import STAGES
from vaebench.stages.arrays import create_dataset, map_dataset
from vaebench.stages.base import Context, execute
from vaebench.stages.features import FeaturesConfig, load_patches
from vaebench.vision import extract, load_network

CPU = Context(device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"image_size": 16, "train": 10, "validation": 4, "test": 4}
    return vaebench.prepare_data("avatars", tmp_path_factory.mktemp("data") / "data", options, CPU)


@pytest.fixture(scope="module")
def features(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"network": {"name": "efficientnet-lite0", "options": {"input_size": 64}}, "batch_size": 4}
    return execute(STAGES.get("features")(), config, {"data": data}, tmp_path_factory.mktemp("f") / "f", CPU).folder


def test_every_image_in_its_row_of_an_hdf5_file(data: Path, features: Path) -> None:
    network = load_network("efficientnet-lite0", input_size=64)
    images = vaebench.open_data(data / "data.h5").splits["train"].images(slice(0, 10))
    expected = extract(network, images.__getitem__, 10, want=("patches",))["patches"]
    found = load_patches(features)
    assert found.dtype == np.float16
    np.testing.assert_allclose(np.asarray(found, np.float32), expected.astype(np.float32), atol=2e-3)
    with h5py.File(features / "features.h5") as file:  # as any reader of HDF5 sees it
        np.testing.assert_array_equal(file["patches"][:], found)
        about = dict(file["patches"].attrs)
    assert about["weights_hash"] == network.weights_hash
    assert about["split"] == "train"
    assert about["data"] == vaebench.open_data(data / "data.h5").info.fingerprint


def test_features_of_older_folders_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "patches.npy", np.ones((2, 3, 1, 1), np.float16))
    assert load_patches(tmp_path).shape == (2, 3, 1, 1)


def test_files_that_are_not_whole(features: Path, tmp_path: Path) -> None:
    whole = (features / "features.h5").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"text")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "features.h5").write_bytes(content)
        with pytest.raises(DataError, match="truncated"):
            load_patches(tmp_path / name)
    with pytest.raises(MissingPath):
        load_patches(tmp_path)
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file.create_dataset("patches", data=np.zeros((4, 1)), chunks=(1, 1))
    with pytest.raises(DataError, match="one piece"):
        load_patches(tmp_path)


def test_rows_are_written_by_several_maps_at_once(tmp_path: Path) -> None:
    create_dataset(tmp_path / "a.h5", "x", (6, 2), np.dtype(np.float32), {"note": "n"})
    first, second = (map_dataset(tmp_path / "a.h5", "x", "r+") for _ in range(2))
    first[::2], second[1::2] = 1.0, 2.0
    del first, second
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x"][:, 0].tolist() == [1, 2, 1, 2, 1, 2]
        assert file["x"].attrs["note"] == "n"


def test_a_network_by_its_name_alone() -> None:
    config = build(FeaturesConfig, {"network": "dinov2-b"})
    options = STAGES.get("features")().resolve(config).network.options
    assert (options["model"], options["input_size"]) == ("vit_base_patch14_dinov2.lvd142m", 224)
