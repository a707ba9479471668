import zlib

import pytest

from vaebench.core import checksums
from vaebench.core.checksums import changed_files, piece_sums, require_unchanged, write_sums
from vaebench.core.errors import DataError


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    (made / "a.bin").write_bytes(bytes(range(256)) * 10)
    (made / "inner" / "b.bin").write_bytes(b"b")
    (made / "empty").write_bytes(b"")
    write_sums(made, [path for path in made.rglob("*") if path.is_file()])
    return made


def test_sums_are_those_of_zlib_piece_by_piece(tmp_path):
    data = bytes(range(256)) * 10
    (tmp_path / "a").write_bytes(data)
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    assert piece_sums(tmp_path / "a", 1000) == [f"{zlib.crc32(piece):08x}" for piece in pieces]
    assert piece_sums(tmp_path / "a") == [f"{zlib.crc32(data):08x}"]


def test_what_is_as_it_was_passes_and_so_does_a_folder_without_sums(folder, tmp_path):
    assert changed_files(folder) == []
    require_unchanged(folder)
    require_unchanged(tmp_path)


def test_a_change_is_named_with_its_place_and_the_way_out(folder, monkeypatch):
    monkeypatch.setattr(checksums, "PIECE_BYTES", 1000)
    write_sums(folder, [folder / "a.bin", folder / "inner" / "b.bin"])
    data = bytearray((folder / "a.bin").read_bytes())
    data[1500] ^= 1
    (folder / "a.bin").write_bytes(data)
    assert changed_files(folder) == ["a.bin differs between bytes 1000 and 2000"]
    (folder / "inner" / "b.bin").unlink()
    with pytest.raises(DataError, match=r"inner/b\.bin is missing.*Remove that folder and run again"):
        require_unchanged(folder)
    (folder / "a.bin").write_bytes(data[:-600])
    assert "a.bin has 1960 bytes, another length than was written" in changed_files(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"piece_bytes": 0, "files": {}}', '{"piece_bytes": 1, "files": [1]}']
)
def test_sums_that_are_none_are_said(folder, text):
    (folder / "checksums.json").write_text(text)
    with pytest.raises(DataError, match=r"holds no checksums.*run again"):
        require_unchanged(folder)
