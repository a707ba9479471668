"""Checksums of a folder's files, piece by piece: what a disk or a copy changed is noticed before it is used.

CRC-32 of every 64 MiB, in ``checksums.json``. It is against accidents, not against malice: a piece that changed at
random passes with a probability of 2^-32, and every change of up to 32 bits in a row is found.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path

from vaebench.core.errors import DataError
from vaebench.core.files import read_json, write_json

NAME = "checksums.json"
PIECE_BYTES = 2**26
_READ_BYTES = 2**20
_REMEDY = "The disk, a copy or an editor changed it. Remove that folder and run again: it alone is made anew."


def piece_sums(path: Path, piece_bytes: int = PIECE_BYTES) -> list[str]:
    """CRC-32 of each piece of a file, as hexadecimal text; an empty file has none."""
    sums: list[str] = []
    with path.open("rb", buffering=0) as handle:
        while True:
            total, left = 0, piece_bytes
            while left and (block := handle.read(min(left, _READ_BYTES))):
                total, left = zlib.crc32(block, total), left - len(block)
            if left == piece_bytes:
                return sums
            sums.append(f"{total:08x}")


def write_sums(folder: Path, files: Iterable[Path]) -> None:
    """Write the checksums of these files of a folder into it."""
    sums = {path.relative_to(folder).as_posix(): piece_sums(path, PIECE_BYTES) for path in sorted(files)}
    write_json(folder / NAME, {"piece_bytes": PIECE_BYTES, "files": sums})


def changed_files(folder: Path) -> list[str]:
    """What of a folder is not as it was written, in words; empty where all is, or where no checksums were written.

    Raises:
        DataError: the checksums themselves cannot be read.
    """
    if not (folder / NAME).is_file():
        return []
    try:
        told = read_json(folder / NAME)
        piece_bytes, expected = (
            int(told["piece_bytes"]),
            {str(name): list(sums) for name, sums in told["files"].items()},
        )
        if piece_bytes <= 0:
            raise ValueError(f"pieces of {piece_bytes} bytes")
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder / NAME} holds no checksums: {error}.", _REMEDY) from error
    found = []
    for name, sums in expected.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
            continue
        here = piece_sums(path, piece_bytes)
        if len(here) != len(sums):
            found.append(f"{name} has {path.stat().st_size} bytes, another length than was written")
        elif wrong := [number for number, pair in enumerate(zip(here, sums, strict=True)) if pair[0] != pair[1]]:
            first = wrong[0] * piece_bytes
            found.append(f"{name} differs between bytes {first} and {first + piece_bytes}")
    return found


def require_unchanged(folder: Path) -> None:
    """Check every file of a folder that has checksums.

    Raises:
        DataError: something changed; the message says what, and how to make it anew.
    """
    changed = changed_files(folder)
    if changed:
        raise DataError(
            f"'{folder}' is not as it was written: {'; '.join(changed)}.",
            _REMEDY,
        )
