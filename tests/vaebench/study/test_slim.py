"""A study without its large files: it is still one, and goes on."""

import json
import shutil

import h5py
import numpy as np
import pytest

from vaebench.core.errors import MismatchError, MissingPath
from vaebench.stages.base import Context
from vaebench.study.engine import run
from vaebench.study.index import read_index
from vaebench.study.single import run_only
from vaebench.study.slim import HEADERS, LEFT_OUT, slim, wanting

NODES = {"data": {}, "a": {"needs": ["data"]}, "b": {"needs": ["data"]}, "c": {"needs": ["a", "b"]}}


@pytest.fixture
def root(stub_graph, stub_spec, tmp_path):
    run(stub_spec, stub_graph(**NODES), tmp_path / "run", Context(device="cpu"))
    for folder in (tmp_path / "run" / "stages").glob("*-*"):
        (folder / "weights").write_bytes(b"0" * 10_000)
    return tmp_path / "run"


def test_small_files_stay_and_large_ones_are_named(root, tmp_path):
    copied, size = slim(root, read_index(root), tmp_path / "slim", 5000)
    assert copied == 4
    assert size < 40_000
    for folder in (tmp_path / "slim" / "stages").iterdir():
        assert json.loads((folder / LEFT_OUT).read_text()) == {"weights": 10_000}
        whole = root / "stages" / folder.name
        kept = {path.name for path in whole.iterdir() if path.name != "weights"}
        assert {path.name for path in folder.iterdir()} == kept | {LEFT_OUT}
        assert all((folder / name).read_bytes() == (whole / name).read_bytes() for name in kept)
    assert slim(root, read_index(root), tmp_path / "slim", 5000) == (0, size)


def test_a_study_of_which_nothing_is_complete_can_be_slimmed(root, tmp_path):
    shutil.rmtree(root / "stages")
    copied, _ = slim(root, read_index(root), tmp_path / "new" / "slim", 5000)
    assert copied == 0
    assert (tmp_path / "new" / "slim" / "index.json").is_file()


def test_scores_stay_and_headers_of_latents(root, tmp_path):
    folder = next((root / "stages").glob("a-*"))
    (folder / "scores.json").write_text(json.dumps(["long"] * 2000))
    with h5py.File(folder / "train.h5", "w") as file:
        file["mean"] = np.zeros(2000)
        file.attrs["shape"], file.attrs["rows"] = "[8, 2, 2]", 2000
    slim(root, read_index(root), tmp_path / "slim", 5000)
    copy = tmp_path / "slim" / "stages" / folder.name
    assert (copy / "scores.json").read_bytes() == (folder / "scores.json").read_bytes()
    assert not (copy / "train.h5").exists()
    assert json.loads((copy / HEADERS).read_text()) == {"train.h5": {"shape": "[8, 2, 2]"}}
    slim(tmp_path / "slim", read_index(tmp_path / "slim"), tmp_path / "again", 10)
    assert (tmp_path / "again" / "stages" / folder.name / HEADERS).read_bytes() == (copy / HEADERS).read_bytes()


def test_only_what_an_incomplete_stage_needs_is_made_anew(root, stub_graph, stub_spec, tmp_path):
    there, graph = tmp_path / "slim", stub_graph(**NODES, d={"needs": ["b"]})
    slim(root, read_index(root), there, 5000)
    assert sorted(wanting(graph, graph.folders(there))) == ["b", "data"]
    run(stub_spec, graph, there, Context(device="cpu"))
    left = {name for name, folder in graph.folders(there).items() if (folder / LEFT_OUT).is_file()}
    assert left == {"a", "c"}
    fresh = stub_graph(**NODES, d={"needs": ["b"]})
    run(stub_spec, fresh, tmp_path / "fresh", Context(device="cpu"))
    values = {name: made["value"] for name, made in graph.made(there).items()}
    assert values == {name: made["value"] for name, made in fresh.made(tmp_path / "fresh").items()}
    assert not wanting(graph, graph.folders(there))


def test_launched_processes_make_anew_what_is_needed(root, stub_graph, stub_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("vaebench.study.engine.process_count", lambda: 2)
    there, graph = tmp_path / "slim", stub_graph(**NODES, d={"needs": ["b"]})
    slim(root, read_index(root), there, 5000)
    run(stub_spec, graph, there, Context(device="cpu"))
    assert graph.made(there).keys() == {"data", "a", "b", "c", "d"}
    left = {name for name, folder in graph.folders(there).items() if (folder / LEFT_OUT).is_file()}
    assert left == {"a", "c"}


def test_single_stages_refuse_a_slim_input(root, stub_graph, tmp_path):
    there, graph = tmp_path / "slim", stub_graph(**NODES, d={"needs": ["b"]})
    slim(root, read_index(root), there, 5000)
    with pytest.raises(MissingPath, match="'d' needs b, of which this slim copy has not all files"):
        run_only(graph, there, Context(device="cpu"), ["d"])
    assert run_only(graph, there, Context(device="cpu"), ["c"]) == []  # complete: nothing is read


def test_a_complete_slim_study_makes_nothing_anew(root, stub_graph, stub_spec, tmp_path):
    there, graph = tmp_path / "slim", stub_graph(**NODES)
    slim(root, read_index(root), there, 5000)
    run(stub_spec, graph, there, Context(device="cpu"))
    assert all((folder / LEFT_OUT).is_file() for folder in graph.folders(there).values())


def test_slimming_a_slim_study_keeps_the_names_of_what_it_lacks(root, tmp_path):
    slim(root, read_index(root), tmp_path / "slim", 5000)
    slim(tmp_path / "slim", read_index(tmp_path / "slim"), tmp_path / "again", 5000)
    assert all((folder / LEFT_OUT).is_file() for folder in (tmp_path / "again" / "stages").iterdir())


def test_a_folder_of_something_else_is_refused(root, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(MismatchError, match="holds no copy of this study"):
        slim(root, read_index(root), tmp_path / "other", 5000)
    shutil.copytree(root, tmp_path / "third")
    with pytest.raises(MismatchError):
        slim(root, {**read_index(root), "study": "another"}, tmp_path / "third", 5000)
