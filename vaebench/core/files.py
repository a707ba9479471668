"""Files that appear whole or not at all, hashes, free space, and files of installed packages."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from vaebench.core.errors import DataError, MissingPath, NoSpace, NotWritable, VaebenchError


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to the disk and rename it, on failure remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process number alone: on a shared disk two machines may have the same one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, with sorted keys left as given and a final newline."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        MissingPath: the file is not there.
        DataError: the file is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise MissingPath(f"{path} does not exist.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_once(path: Path | str) -> str:
    """`sha256_file`, for which this process reads a file again only when its size or time has changed."""
    found = Path(path).stat()
    return _sha256(str(Path(path).absolute()), found.st_size, found.st_mtime_ns)


@functools.cache
def _sha256(path: str, size: int, time: int) -> str:
    return sha256_file(path)


def file_states(path: Path | str) -> list[tuple[str, int, int]]:
    """Name, bytes and time (ns) of a file, whose name is then "", or of every file below a folder, sorted by name.

    Links to folders are followed, but for those that lead back to a folder they are in.
    """
    path = Path(path)
    if path.is_file():
        return [("", path.stat().st_size, path.stat().st_mtime_ns)]
    return sorted(_states_below(path, "", frozenset())) if path.is_dir() else []


def _states_below(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, int, int]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _states_below(Path(entry.path), f"{prefix}{entry.name}/", above | {real})
            elif entry.is_file():
                yield f"{prefix}{entry.name}", entry.stat().st_size, entry.stat().st_mtime_ns


def require_path(path: Path | str, what: str, remedy: str = "") -> Path:
    """The path, if it exists.

    Raises:
        MissingPath: it does not; the message says what it should have been.
    """
    path = Path(path)
    if not path.exists():
        raise MissingPath(f"{what} '{path}' does not exist.", remedy)
    return path


def require_space(path: Path | str, bytes_needed: int) -> None:
    """Check the free space of the disk that holds ``path`` (which need not exist yet).

    Raises:
        NoSpace: fewer bytes are free than needed.
    """
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < bytes_needed:
        raise NoSpace(
            f"{folder} has {free / 2**20:,.0f} MiB free, and this needs {bytes_needed / 2**20:,.0f} MiB.",
            "Free some space or choose another --output-dir.",
        )


def package_file(distribution: str, name: str) -> Path | None:
    """A file of an installed distribution whose path ends with ``name``, found without importing its code."""
    try:
        candidates = files(distribution) or []
    except PackageNotFoundError:
        return None
    for candidate in candidates:
        if str(candidate).endswith(name):
            found = Path(str(candidate.locate()))
            return found if found.is_file() else None
    return None


def temporaries(folder: Path) -> list[Path]:
    """Files and folders below ``folder`` that a killed process left half-written, by their names ``.*.tmp``."""
    return sorted(folder.rglob(".*.tmp"))


def remove_temporaries(folder: Path) -> None:
    """Remove `temporaries`. Only for who holds the lock of that folder: those of a living process look the same."""
    for path in temporaries(folder):
        if path.exists():  # not gone with the folder it was in
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder at once: it first gets a name that says it is being removed."""
    if path.is_dir() and not path.is_symlink():
        doomed = path if path.suffix == ".tmp" else path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
UNFIT = frozenset({errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG})


@contextlib.contextmanager
def disk_errors_said(folder: Path) -> Iterator[None]:
    """Turn what the system says of a full or forbidden disk, or of an unfit path, into an error with a remedy.

    Raises:
        NoSpace: disk, quota or largest file size are exhausted.
        NotWritable: no permission, a disk that is mounted read-only, a file where a folder should be, or too long a
            name.
    """
    try:
        yield
    except VaebenchError:
        raise
    except Exception as error:
        code = _errno(error)
        if code in FULL:
            free = shutil.disk_usage(folder).free if folder.exists() else 0
            limit = "the largest file size allowed" if code == errno.EFBIG else f"{free / 2**20:,.0f} MiB free"
            raise NoSpace(
                f"The disk that holds '{folder}' is full ({limit}).",
                "Free some space and start again: finished work is kept.",
            ) from error
        if code in FORBIDDEN:
            raise NotWritable(
                f"The system refuses access to '{getattr(error, 'filename', None) or folder}' ({os.strerror(code)}).",
                "Change the permissions, or choose another --output-dir.",
            ) from error
        if code in UNFIT:
            raise NotWritable(
                f"The path '{getattr(error, 'filename', None) or folder}' cannot be used ({os.strerror(code)}).",
                "Choose another --output-dir.",
            ) from error
        raise


def _errno(error: Exception) -> int | None:
    """The system's error number; libraries that write for us (HDF5, safetensors, torch) tell it in their text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    told = re.search(r"(?:errno = |code: |Errno |os error )(\d+)", str(error))
    if told is None and "PytorchStreamWriter failed writing" in str(error):  # which names no number
        return errno.ENOSPC
    return int(told[1]) if told else None
