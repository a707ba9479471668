import pytest

from vaebench.core.errors import DataError, MissingPath, NoSpace
from vaebench.core.files import (
    atomic_write,
    file_states,
    package_file,
    read_json,
    require_space,
    sha256_file,
    sha256_once,
    write_json,
)
from vaebench.core.scores import Score, read_scores, write_scores


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_errors_are_named(tmp_path):
    with pytest.raises(MissingPath):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "nan.json", {"a": float("nan")})
    assert not (tmp_path / "nan.json").exists()


def test_space_is_checked_before_the_folder_exists(tmp_path):
    require_space(tmp_path / "not" / "there", 1)
    with pytest.raises(NoSpace, match="MiB free"):
        require_space(tmp_path / "not" / "there", 2**62)


def test_states_of_files_follow_links_but_no_circles(tmp_path):
    inner = tmp_path / "real" / "inner"
    inner.mkdir(parents=True)
    (inner / "a").write_text("12345")
    (tmp_path / "b").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (inner / "up").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    found = [(name, size) for name, size, _ in file_states(tmp_path)]
    assert found == [("b", 1), ("link/inner/a", 5), ("real/inner/a", 5)]
    assert file_states(tmp_path / "b") == [("", 1, (tmp_path / "b").stat().st_mtime_ns)]
    assert file_states(tmp_path / "nowhere") == []


def test_a_file_is_hashed_again_when_it_has_changed(tmp_path, monkeypatch):
    from vaebench.core import files

    path, read = tmp_path / "w", []
    monkeypatch.setattr(files, "sha256_file", lambda path: (read.append(path), sha256_file(path))[1])
    path.write_text("first")
    assert sha256_once(path) == sha256_once(path) == sha256_file(path)
    assert len(read) == 1
    path.write_text("the second")
    assert sha256_once(path) == sha256_file(path)
    assert len(read) == 2


def test_package_file_finds_without_importing():
    assert package_file("numpy", "numpy/__init__.py").is_file()
    assert package_file("numpy", "no/such/file") is None
    assert package_file("no-such-distribution", "x") is None


def test_scores_survive_the_round_trip(tmp_path):
    score = Score(metric="gfid", value=3.5, n=10, seed=0, direction="lower", protocol={"nfe": 25})
    write_scores(tmp_path / "scores.json", [score])
    assert read_scores(tmp_path / "scores.json") == [score]


def test_protocol_hash_moves_with_every_setting():
    def make(**protocol):
        return Score(metric="gfid", value=1.0, n=1, direction="lower", protocol=protocol).protocol_hash

    assert make(nfe=25) != make(nfe=50)
    assert make(nfe=25, cfg=1.0) == make(cfg=1.0, nfe=25)
