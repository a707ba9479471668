import io
import tarfile

import pytest

from vaebench.core.errors import DataError
from vaebench.core.packing import pack, unpack


def test_files_come_back_and_links_stay_behind(tmp_path):
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    (made / "a.txt").write_text("a")
    (made / "inner" / ".b").write_bytes(b"\x00b")
    (made / "link").symlink_to("/etc/passwd")
    unpack(pack(made), tmp_path / "back")
    found = {
        p.relative_to(tmp_path / "back").as_posix(): p.read_bytes()
        for p in (tmp_path / "back").rglob("*")
        if p.is_file()
    }
    assert found == {"a.txt": b"a", "inner/.b": b"\x00b"}
    unpack(pack(made / "a.txt"), tmp_path / "one")
    assert (tmp_path / "one" / "a.txt").read_text() == "a"
    assert pack(tmp_path / "back") == pack(tmp_path / "back")


def archive(name, **about):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        entry = tarfile.TarInfo(name)
        for key, value in about.items():
            setattr(entry, key, value)
        made.addfile(entry, io.BytesIO(b""))
    return buffer.getvalue()


KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
LINK, HARD_LINK, PIPE = ({"type": kind, "linkname": "/etc"} for kind in KINDS)


@pytest.mark.parametrize(("name", "about"), [
    ("../outside", {}), ("/tmp/outside", {}), ("a/../../outside", {}), ("a", LINK), ("a", HARD_LINK), ("a", PIPE),
])  # fmt: skip
def test_an_archive_cannot_leave_its_folder(tmp_path, name, about):
    with pytest.raises(DataError, match="no file below its own folder"):
        unpack(archive(name, **about), tmp_path / "in" / "here")
    assert not (tmp_path / "in").exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("data", [b"", b"not an archive", b"x" * 2000])
def test_what_is_no_archive_is_refused(tmp_path, data):
    with pytest.raises(DataError, match="not the bytes"):
        unpack(data, tmp_path / "here")
