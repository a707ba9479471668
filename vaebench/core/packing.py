"""Folders as bytes, to be sent to another machine, and back. An archive cannot write outside the folder it is given."""

import io
import tarfile
from pathlib import Path, PurePosixPath

from vaebench.core.errors import DataError


def pack(folder: Path) -> bytes:
    """The files of a folder, or one file, as an uncompressed tar archive; links and empty folders are left out.

    A file that goes away meanwhile is left out too: a folder that is in use is not packed as of one moment.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        base = folder.parent if folder.is_file() else folder
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            entry = tarfile.TarInfo(path.relative_to(base).as_posix())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Write the files of `pack` below a folder.

    Raises:
        DataError: no such archive, or one with links, devices, absolute paths or "..".
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = archive.getmembers()
            for member in members:
                name = PurePosixPath(member.name)
                if not member.isreg() or name.is_absolute() or ".." in name.parts or not name.parts:
                    raise DataError(f"The archive holds '{member.name}', which is no file below its own folder.")
            folder.mkdir(parents=True, exist_ok=True)
            for member in members:
                target = folder / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                target.write_bytes(content.read())
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"These are not the bytes of a packed folder: {error}.") from error
