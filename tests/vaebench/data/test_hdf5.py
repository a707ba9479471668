"""The prepared data file: reading it from anywhere, and refusing what is not one."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import h5py
import numpy as np
import pytest

import vaebench.data as data
from vaebench.core.errors import DataError, MissingPath, NoSpace, UnknownName
from vaebench.data import source as source_module
from vaebench.data.base import DataInfo, Factor
from vaebench.data.source import named_source


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "data.h5"
    data.prepare("avatars", {"train": 12, "validation": 3, "test": 4, "image_size": 24}, path, workers=1)
    return path


def test_rows_in_the_order_asked_for(path):
    split = data.open_data(path).splits["train"]
    everything = split.in_memory()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(everything, file["train/images"][:])
        np.testing.assert_array_equal(split.ids, file["train/ids"][:])
    rows = np.array([7, 0, 7, 11])
    np.testing.assert_array_equal(split.images(rows), everything[rows])
    np.testing.assert_array_equal(split.images(slice(2, 5)), everything[2:5])
    assert split.images(np.array([], np.int64)).shape == (0, 3, 24, 24)


def test_what_is_read_is_a_copy(path):
    split = data.open_data(path).splits["train"]
    images = split.images(slice(0, 2))
    images[:] = 0
    assert split.images(slice(0, 2)).any()


def test_row_out_of_range(path):
    with pytest.raises(IndexError):
        data.open_data(path).splits["test"].images(np.array([4]))


def test_unknown_split(path):
    with pytest.raises(UnknownName, match="train"):
        data.open_data(path).split("trian")


def test_pickle_drops_the_map(path):
    dataset = data.open_data(path)
    split = dataset.splits["train"]
    expected = split.in_memory()
    size = len(pickle.dumps(split))
    assert size < expected.nbytes
    copy = pickle.loads(pickle.dumps(dataset)).splits["train"]
    assert copy._maps == {}
    np.testing.assert_array_equal(copy.in_memory(), expected)


def test_forked_process_opens_for_itself(path):
    split = data.open_data(path).splits["train"]
    expected = int(split.in_memory().sum(dtype=np.int64))
    before = split._maps["images"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child() -> None:
        total = int(split.in_memory().sum(dtype=np.int64))
        queue.put((total, split._maps["images"] is before))

    process = context.Process(target=child)
    process.start()
    assert queue.get(timeout=60) == (expected, False)
    process.join(60)


def test_spawned_processes_read_the_same(path):
    split = data.open_data(path).splits["train"]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = [future.result(60) for future in [pool.submit(split.in_memory) for _ in range(2)]]
    for images in results:
        np.testing.assert_array_equal(images, split.in_memory())


def test_missing(tmp_path):
    with pytest.raises(MissingPath, match=r"nothing\.h5.*prepare"):
        data.open_data(tmp_path / "nothing.h5")
    with pytest.raises(MissingPath):
        data.open_data(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 1000, 0.5, 0.95])
def test_truncated(path, tmp_path, keep):
    content = path.read_bytes()
    short = tmp_path / "short.h5"
    short.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(DataError, match=r"short\.h5"):
        data.open_data(short)


def test_foreign_files(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("not HDF5 at all" * 100)
    with pytest.raises(DataError, match="no HDF5"):
        data.open_data(text)
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["latents"] = np.zeros(3)
    with pytest.raises(DataError, match="no prepared data file"):
        data.open_data(foreign)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.attrs.__setitem__("complete", False), "not finished"),
        (lambda f: f.attrs.__delitem__("format"), "no prepared data file"),
        (lambda f: f.attrs.__setitem__("schema", 99), "schema 99"),
        (lambda f: f.attrs.__setitem__("info", "{}"), "description"),
        (lambda f: f["train"].__delitem__("ids"), "damaged"),
        (lambda f: f["train"].__delitem__("images"), "damaged"),
        (lambda f: (f["train"].__delitem__("labels"), f["train"].create_dataset("labels", data=[1])), "lengths"),
    ],
)
def test_damaged_files(path, tmp_path, change, said):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        change(file)
    with pytest.raises(DataError, match=said):
        data.open_data(copy)


def test_compressed_pixels_are_refused(path, tmp_path):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        images = file["train/images"][:]
        del file["train/images"]
        file["train"].create_dataset("images", data=images, compression="gzip")
    with pytest.raises(DataError, match="contiguous"):
        data.open_data(copy)


def test_file_gone_after_opening(path, tmp_path):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(path.read_bytes())
    dataset = data.open_data(copy)
    copy.unlink()
    with pytest.raises(DataError, match="gone"):
        dataset.splits["train"].in_memory()


def test_nothing_is_left_behind_when_preparation_fails(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vaebench.data.avatars.draw_avatars", fail)
    with pytest.raises(KeyboardInterrupt):
        data.prepare("avatars", {"train": 2, "validation": 1, "test": 1}, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_no_space(tmp_path):
    with pytest.raises(NoSpace):
        source_module.require_space(tmp_path, 1 << 60)


def test_unknown_data_set(tmp_path):
    with pytest.raises(UnknownName, match="avatars"):
        data.prepare("avatar", {}, tmp_path / "a.h5")


def test_workers_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="positive"):
        data.prepare("avatars", {}, tmp_path / "a.h5", workers=0)


@pytest.mark.parametrize("name", data.DATASETS.names())
def test_every_source_keeps_the_contract(name):
    kind = data.DATASETS.get(name)
    assert issubclass(kind, source_module.ImageSource)
    assert issubclass(kind.Config, source_module.SourceConfig)
    assert kind.summary
    assert next(e.summary for e in data.DATASETS.entries() if e.name == name)


FITTING = {
    "labels": np.zeros(4, np.int64), "attributes": np.zeros((4, 2), np.uint8),
    "factors": np.zeros((4, 1), np.int16), "nuisance": np.zeros((4, 3), np.float32),
}  # fmt: skip


class Planned(source_module.ImageSource):
    """A source of four images with these columns, which are never to be drawn."""

    columns: dict = FITTING

    def plan(self):
        return {"train": source_module.Plan(np.arange(4), **self.columns)}

    def describe(self):
        info = DataInfo("planned", 8, ("a", "b"), ("p", "q"), "image", (Factor("f", ("u", "v")),))
        return replace(info, nuisance=("x", "y", "z"))

    def draw(self, split, start, stop):
        raise AssertionError("drawn")

    def version(self):
        return "1"


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("labels", np.zeros(3, np.int64), r"labels have the shape \(3,\)"),
        ("labels", np.array([0, 1, 2, 0]), "labels run from 0 to 2; there are 2 classes"),
        ("labels", np.array([0, -1, 1, 0]), "labels run from -1 to 1"),
        ("attributes", np.zeros((4, 3), np.uint8), r"shape \(4, 3\); 4 images with 2 value\(s\) each need \(4, 2\)"),
        ("attributes", np.zeros((5, 2), np.uint8), r"attributes have the shape \(5, 2\)"),
        ("factors", np.zeros(4, np.int16), r"factors have the shape \(4,\)"),
        ("nuisance", np.zeros((4, 2), np.float32), r"nuisance have the shape \(4, 2\)"),
        ("labels", np.array([0, 0.5, 1, 0]), r"labels hold fractions; .* Give whole numbers\."),
        ("attributes", np.array([[-1, 1]] * 4), "attributes run from -1 to 1; 1 says that an image has the attribute"),
        ("attributes", np.full((4, 2), 255, np.uint8), "attributes run from 255 to 255"),
        ("attributes", np.full((4, 2), 0.5), "attributes hold fractions"),
        ("attributes", np.full((4, 2), np.nan), "attributes run from nan to nan"),
        ("attributes", np.full((4, 2), "yes"), "attributes are <U3"),
        ("factors", np.full((4, 1), 2), "values of factor 'f' run from 2 to 2; it has 2 of them, which count from 0"),
        ("factors", np.full((4, 1), 70_000), "run from 70000"),
        ("factors", np.full((4, 1), -1), "run from -1"),
    ],
)
def test_plans_that_do_not_fit_are_refused_before_drawing(tmp_path, monkeypatch, column, values, said):
    monkeypatch.setattr(data.DATASETS, "get", lambda name: Planned)
    with pytest.raises(AssertionError, match="drawn"):
        data.prepare("planned", {}, tmp_path / "a.h5")
    monkeypatch.setattr(Planned, "columns", FITTING | {column: values})
    with pytest.raises(DataError, match=f"'planned', train: .*{said}"):
        data.prepare("planned", {}, tmp_path / "a.h5")


class Sketched(Planned):
    """The same, which draws what it is told to."""

    has_masks = True
    drawn: object = None

    def draw(self, split, start, stop):
        return self.drawn


IMAGES, MASKS = np.full((4, 3, 8, 8), 7, np.uint8), np.ones((4, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("drawn", "has_masks", "said"),
    [
        (IMAGES, True, r"a ndarray\. Return Drawn"),
        ((IMAGES / 255, MASKS), True, r"images float64 \(4, 3, 8, 8\); uint8 \(4, 3, 8, 8\) is needed\. .*as bytes"),
        ((np.full((4, 3, 8, 8), 300, np.int16), MASKS), True, "images int16"),
        ((IMAGES[:3], MASKS), True, r"images uint8 \(3, 3, 8, 8\)"),
        ((IMAGES[:, :1], MASKS), True, r"images uint8 \(4, 1, 8, 8\)"),
        ((IMAGES.tolist(), MASKS), True, "images a list"),
        ((IMAGES, None), True, r"masks None; uint8 \(4, 8, 8\) is needed, for has_masks is True"),
        ((IMAGES, MASKS), False, r"masks uint8 \(4, 8, 8\); None is needed, for has_masks is False"),
        ((IMAGES, MASKS[:1]), True, r"masks uint8 \(1, 8, 8\)"),
        ((IMAGES, MASKS > 0), True, "masks bool"),
    ],
)
def test_what_is_drawn_is_refused_rather_than_converted(tmp_path, monkeypatch, drawn, has_masks, said):
    monkeypatch.setattr(data.DATASETS, "get", lambda name: Sketched)
    monkeypatch.setattr(Sketched, "drawn", source_module.Drawn(IMAGES, MASKS))
    data.prepare("sketched", {}, tmp_path / "a.h5")
    assert (data.open_data(tmp_path / "a.h5").split("train").in_memory() == 7).all()
    monkeypatch.setattr(Sketched, "has_masks", has_masks)
    monkeypatch.setattr(Sketched, "drawn", source_module.Drawn(*drawn) if isinstance(drawn, tuple) else drawn)
    with pytest.raises(DataError, match=rf"'sketched': draw\('train', 0, 4\) gave .*{said}"):
        data.prepare("sketched", {}, tmp_path / "b.h5")


def test_as_many_threads_draw_as_there_are_cores_for_this_process(tmp_path, monkeypatch):
    asked, pool = [], source_module.ThreadPoolExecutor
    monkeypatch.setattr(source_module, "ThreadPoolExecutor", lambda n: asked.append(n) or pool(n))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(61)), raising=False)
    data.prepare("avatars", {"train": 1, "validation": 1, "test": 1, "image_size": 8}, tmp_path / "a.h5")
    assert asked == [61]


def test_what_people_mean_by_a_name_or_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "table.csv").write_text("path\n")
    assert named_source("avatars", {"train": 3}) == ("avatars", {"train": 3})
    assert named_source("./images", {"seed": 1}) == ("folder", {"root": str(tmp_path / "images"), "seed": 1})
    assert named_source("table.csv", {}) == ("folder", {"table": str(tmp_path / "table.csv")})
    assert named_source("mine.py:Own", {}) == ("mine.py:Own", {})
    with pytest.raises(UnknownName, match="Did you mean 'avatars'"):
        named_source("avatrs", {})


def test_description_survives_json():
    info = DataInfo("x", 8, ("a", "b"), ("p",), "image", (Factor("f", ("u", "v")),), "abc", "MIT", "here", ("n",))
    assert DataInfo.from_json(info.to_json()) == info


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"factors": 3}', '{"factors": [], "colour": 1}'])
def test_not_a_description(text):
    with pytest.raises(DataError):
        DataInfo.from_json(text)
