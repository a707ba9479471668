"""Files that appear whole or not at all, hashes, free space, and files of installed packages."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from vaebench.core.errors import DataError, MismatchError, MissingPath, NoSpace


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to the disk and rename it, on failure remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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


@contextlib.contextmanager
def only_process(lock: Path, work: str) -> Iterator[None]:
    """Hold a lock file that names this process; a lock left by a dead process is taken over.

    The process is known by its number and its start time, because numbers come round again, in containers at once.

    Raises:
        MismatchError: a living process holds the lock; the message says at what it works.
    """
    import psutil

    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        number, started = lock.read_text().split()
        holder = psutil.Process(int(number))
        if holder.pid != os.getpid() and abs(holder.create_time() - float(started)) < 1:
            raise MismatchError(f"Process {number} is working on {work}.", "Wait for it, or stop it first.")
    lock.write_text(f"{os.getpid()} {psutil.Process().create_time()}")
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
