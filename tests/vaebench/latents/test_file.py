"""The reader: round trip, bad files, memory, processes."""

import json
import multiprocessing
import pickle
import zlib

import h5py
import numpy as np
import pytest
import torch

from vaebench.core.errors import DataError, LatentFileError, MismatchError, MissingPath, NumericalError
from vaebench.latents import LatentFile, verify, write_latents
from vaebench.latents.memory import available_memory
from vaebench.latents.seal import SEAL_BYTES


def test_round_trip(kit, path):
    generator = np.random.default_rng(0)
    mean = generator.normal(size=(30, 4, 3, 2)).astype(np.float32)
    std = generator.uniform(0, 1, size=(30, 4, 3, 2)).astype(np.float32)
    columns = {
        "labels": generator.integers(0, 3, 30),
        "attributes": generator.integers(0, 2, (30, 4)),
        "factors": generator.integers(0, 9, (30, 2)),
        "nuisance": generator.normal(size=(30, 3)).astype(np.float32),
    }
    latents = write_latents(path, mean, std, kit.provenance(d=4), np.arange(30) * 7, **columns)
    assert np.array_equal(latents.mean(), mean)
    assert np.array_equal(latents.std(), std)
    for rows in (np.array([5, 0, 29, 5]), slice(3, 9), slice(None, None, -4), np.array([], np.int64)):
        assert np.array_equal(latents.mean(rows), mean[rows])
        assert np.array_equal(latents.std(rows), std[rows])
    for name, values in columns.items():
        assert np.array_equal(getattr(latents, name), values), name
    assert np.array_equal(latents.ids, np.arange(30) * 7)
    assert str(path) in repr(latents)


def test_layout_is_contiguous_and_attributes_are_json(random_file):
    latents = random_file()
    with h5py.File(latents.path) as file:
        assert file["mean"].chunks is None
        assert file["mean"].compression is None
        assert file["mean"].id.get_offset() % 8 == 0
        assert file.attrs["schema_version"] == 1
        assert file.attrs["complete"]
        assert json.loads(file.attrs["tokenizer"])["checkpoint_hash"] == "abc"
        assert json.loads(file.attrs["data"])["fingerprint"] == "f00d"
        assert json.loads(file.attrs["statistics"])["std"] == list(latents.info.statistics.std)


def test_description_longer_than_an_hdf5_attribute_header(kit, path):
    provenance = kit.provenance()
    long = provenance.model_copy(
        update={"data": {**provenance.data, "classes": [f"class {i:060}" for i in range(3000)]}}
    )
    ones = np.ones((2, 5, 2, 2))
    assert len(write_latents(path, ones, ones, long, np.arange(2)).data.classes) == 3000


def test_what_is_read_is_a_copy(random_file):
    latents = random_file()
    for loaded in (False, True):
        if loaded:
            latents.load()
        latents.mean(slice(0, 5))[:] = 0
        latents.mean(np.arange(5))[:] = 0
        assert latents.mean(slice(0, 5)).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("loaded", [False, True])
def test_a_mask_chooses_the_rows_where_it_is_true(random_file, loaded):
    latents = random_file()
    if loaded:
        latents.load()
    mask = np.arange(len(latents)) % 3 == 1
    np.testing.assert_array_equal(latents.mean(mask), latents.mean()[mask])
    np.testing.assert_array_equal(latents.std(mask), latents.std()[mask])
    assert latents.mean(np.zeros_like(mask)).shape == (0, *latents.shape)
    for wrong in (mask[:-1], np.append(mask, True), mask[:, None]):
        with pytest.raises(IndexError, match=f"does not fit {len(latents)} rows"):
            latents.mean(wrong)


def test_load_keeps_to_its_budget(random_file):
    latents = random_file()
    before = latents.mean()
    assert not latents.load(latents.nbytes - 1).in_memory
    assert latents.load(latents.nbytes).in_memory
    assert np.array_equal(latents.mean(), before)
    assert 0 < available_memory() < 2**50


def test_processes_of_a_machine_share_its_memory(random_file, monkeypatch):
    latents = random_file()
    monkeypatch.setattr("vaebench.latents.file.available_memory", lambda: 4 * latents.nbytes)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert not latents.load().in_memory
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert latents.load().in_memory


def test_pickle_sends_the_path_only(random_file):
    latents = random_file(n=2000).load()
    latents.mean(slice(0, 1))
    text = pickle.dumps(latents)
    assert len(text) < 1000
    copy = pickle.loads(text)
    assert not copy.in_memory
    assert np.array_equal(copy.mean(), latents.mean())
    random_file(n=2001, name="other.h5").path.replace(latents.path)
    with pytest.raises(MismatchError, match=latents.id):
        pickle.loads(text)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_processes_read_right_numbers(random_file, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    latents = random_file()
    groups = np.random.default_rng(1).integers(0, 300, (12, 50))
    with multiprocessing.get_context(method).Pool(1 if method == "spawn" else 2) as pool:
        for rows, found in zip(groups, pool.map_async(latents.mean, groups).get(timeout=60), strict=True):
            assert np.array_equal(found, latents.mean(rows))


def _sums(latents, groups, queue):
    queue.put([float(latents.mean(rows).sum()) for rows in groups])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_open_file_survives_fork(random_file):
    latents = random_file(n=3000)
    groups = np.random.default_rng(1).integers(0, 3000, (40, 200))
    expected = [float(latents.mean(rows).sum()) for rows in groups]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_sums, args=(latents, groups, queue)) for _ in range(3)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [expected] * 3
    for child in children:
        child.join(60)


def test_normalisation_by_the_file(random_file):
    latents = random_file(n=4000)
    normalisation = latents.normalisation("file")
    noise = torch.randn(latents.mean().shape, generator=torch.Generator().manual_seed(0))
    z = normalisation.normalise(torch.from_numpy(latents.mean()) + torch.from_numpy(latents.std()) * noise)
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(5), atol=0.05)
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(5), atol=0.03)
    assert latents.id in normalisation.source
    with pytest.raises(MismatchError, match="'made' publishes no"):
        latents.normalisation("tokenizer")


def test_constant_channel(kit, path):
    mean = np.random.default_rng(0).normal(size=(20, 5, 2, 2))
    std = np.ones_like(mean)
    mean[:, 3] = 0.5
    noisy = write_latents(path, mean, std, kit.provenance(), np.arange(20))
    assert verify(path) == ["channels [3] are constant: their posterior mean never changes"]
    noisy.normalisation("file")
    std[:, 3] = 0
    dead = write_latents(path.with_name("dead.h5"), mean, std, kit.provenance(), np.arange(20))
    with pytest.raises(DataError, match=r"\[3\]"):
        dead.normalisation("file")


def test_writing_refuses_unusable_numbers(kit, path):
    good = np.ones((4, 5, 2, 2), np.float32)
    for name, bad in (("mean", np.nan), ("mean", np.inf), ("std", -1.0), ("std", np.nan)):
        values = {"mean": good.copy(), "std": good.copy()}
        values[name][2, 1] = bad
        with pytest.raises(NumericalError, match=f"Posterior {name}.*row 2"):
            write_latents(path, **values, provenance=kit.provenance(), ids=np.arange(4))
    with pytest.raises(DataError, match="4 rows"):
        write_latents(path, good, good, kit.provenance(), np.arange(5))
    with pytest.raises(DataError, match="colour"):
        write_latents(path, good, good, kit.provenance(), np.arange(4), colour=np.arange(4))
    with pytest.raises(DataError, match="std of rows"):
        write_latents(path, good, good[:, :2], kit.provenance(), np.arange(4))
    assert not path.exists()


def test_missing_file(tmp_path):
    with pytest.raises(MissingPath, match=r"none\.h5"):
        LatentFile(tmp_path / "none.h5")
    with pytest.raises(MissingPath):
        LatentFile(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.3, 0.9, 0.999])
def test_truncated_file(random_file, kept):
    latents = random_file(n=2000)
    raw = latents.path.read_bytes()
    latents.path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(LatentFileError, match=r"truncated or damaged|not an HDF5 file"):
        LatentFile(latents.path)


def test_foreign_files(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("these are not latents\n" * 100)
    with pytest.raises(LatentFileError, match="not an HDF5 file"):
        LatentFile(text)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["latents"] = np.zeros((3, 64, 4, 4))
    with pytest.raises(LatentFileError, match="not a latent file of vaebench"):
        LatentFile(other)


def _replace(file: h5py.File, name: str, values: np.ndarray, **options: object) -> None:
    del file[name]
    file.create_dataset(name, data=values, **options)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: f.attrs.modify("complete", False), "incomplete"),
        (lambda f: f.attrs.modify("schema_version", 99), "schema 99.*reads schema 1"),
        (lambda f: f.attrs.__delitem__("statistics"), "damaged.*statistics"),
        (lambda f: f.attrs.modify("tokenizer", "{"), "damaged"),
        (lambda f: f.attrs.modify("tokenizer", "{}"), "damaged"),
        (lambda f: f.__delitem__("std"), "std is missing"),
        (lambda f: f.__delitem__("ids"), "ids is missing"),
        (lambda f: _replace(f, "mean", np.zeros((299, 5, 2, 2), np.float32)), r"mean is float32 \(299"),
        (lambda f: _replace(f, "ids", np.arange(300, dtype=np.int32)), "ids is int32"),
        (lambda f: _replace(f, "mean", np.zeros((300, 5, 2, 2), np.float32), chunks=(1, 5, 2, 2)), "not contiguous"),
    ],
)
def test_damaged_file(random_file, damage, said):
    path = random_file().path
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(LatentFileError, match=said):
        LatentFile(path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("mean", np.nan, r"channels \[2\] hold NaN"),
        ("mean", np.inf, r"channels \[2\] hold NaN"),
        ("std", -1.0, r"channels \[2\] hold NaN"),
        ("mean", 100.0, "statistics"),
    ],
)
def test_verify_sees_changed_values(random_file, name, value, said):
    path = random_file().path
    with h5py.File(path, "r+") as file:
        file[name][5, 2, 0, 0] = value
    problems = verify(path)
    assert any("do not belong to the file's id" in problem for problem in problems)
    assert any(np.char.find(problem, said.replace("\\", "")) >= 0 for problem in problems)


def test_verify_sees_wrong_columns(kit, path):
    ones = np.random.default_rng(0).uniform(1, 2, (4, 5, 2, 2))
    write_latents(path, ones, ones, kit.provenance(), np.array([1, 2, 2, 3]), labels=np.array([0, 1, 2, 3]))
    assert verify(path) == ["sample ids repeat", "labels lie outside the 3 classes of the data"]
    other = path.with_name("flips.h5")
    write_latents(
        other, ones, ones, kit.provenance(flip="both"), np.array([1, 2, 1, 3]), flipped=np.array([0, 0, 1, 1])
    )
    assert verify(other) == ["flipped rows do not pair with the rows as they are"]


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_changed_byte_is_noticed_when_its_shard_is_read_and_not_before(random_file, name):
    path = random_file(n=5000).path
    extent = LatentFile(path).extents[name]
    row_bytes = int(np.prod(extent.shape[1:])) * extent.dtype.itemsize
    with path.open("r+b") as handle:
        handle.seek(extent.offset + 3000 * row_bytes)
        handle.write(b"\x01")
    latents = LatentFile(path)
    read = getattr(latents, name)
    assert len(read(slice(0, 2048))) == 2048
    assert len(read(np.array([4999, 5]))) == 2
    with pytest.raises(LatentFileError, match=rf"{name} of rows 2048\.\.4095 is not as it was written.*Extract the"):
        read(np.array([3]) + 2900)
    with pytest.raises(LatentFileError, match="not as it was written"):
        latents.stored(name)
    with pytest.raises(LatentFileError, match="not as it was written"):
        LatentFile(path).load()
    assert any("do not belong to the file's id" in problem for problem in verify(path))


def test_shards_of_checksums_do_not_depend_on_how_the_file_was_written(random_file):
    from vaebench.latents.writer import ShardSums

    latents = random_file(n=5000)
    values = latents.mean()
    sums = ShardSums(latents.shape, values.dtype)
    for start in range(0, 5000, 700):
        sums.update(values[start : start + 700])
    assert sums.result() == latents.info.checksums.mean
    expected = [f"{zlib.crc32(values[start : start + 2048].tobytes()):08x}" for start in (0, 2048, 4096)]
    assert list(sums.result()) == expected


def test_files_from_before_there_were_checksums_are_read(random_file):
    path = random_file().path
    values = LatentFile(path).mean()
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - SEAL_BYTES)
    with h5py.File(path, "r+") as file:
        del file.attrs["checksums"]
    assert LatentFile(path).info.checksums is None
    assert np.array_equal(LatentFile(path).mean(), values)
    assert verify(path) == []


@pytest.mark.parametrize("where", [9, 300, -1, -20, -60])
def test_a_changed_header_is_noticed_before_hdf5_reads_it(random_file, where):
    path = random_file().path
    content = bytearray(path.read_bytes())
    content[where] ^= 4
    path.write_bytes(content)
    with pytest.raises(LatentFileError, match=r"is damaged.*Extract the latents again"):
        LatentFile(path)
