"""The seal at the end of a latent file: a checksum of all but the latents, looked at before HDF5 reads anything.

HDF5's library does not check what it reads: a changed bit in a header can give other numbers, or end the process. So
the last line of the file, which lies behind what HDF5 takes for the file, tells where the latents lie and the CRC-32 of
everything else, itself included. The latents have checksums of their own, by shards, in the header.
"""

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from vaebench.core.errors import LatentFileError

_SEAL = re.compile(rb"\nvaebench latents ((?:[0-9a-f]{12}-[0-9a-f]{12} ){2})crc32 ([0-9a-f]{8})\n")
SEAL_BYTES = 85
_READ_BYTES = 2**20
# Of HDF5's superblock, version 0: how it begins, and where the address of the end of the file stands.
_SUPERBLOCK, _END_ADDRESS = b"\x89HDF\r\n\x1a\n\0", slice(40, 48)
AGAIN = "Extract the latents again."

Spans = Sequence[tuple[int, int]]


def seal(path: Path, latents: Spans) -> None:
    """Append the seal to a finished file.

    Args:
        path: the file, closed.
        latents: first byte, and one past the last, of the two data sets that the seal leaves out.
    """
    places = "".join(f"{start:012x}-{stop:012x} " for start, stop in latents)
    text = f"\nvaebench latents {places}crc32 ".encode()
    total = zlib.crc32(text, _crc_without(path, path.stat().st_size, latents))
    with path.open("ab") as handle:
        handle.write(text + f"{total:08x}\n".encode())


def require_sealed(path: Path) -> None:
    """Check the seal. A file that was written before there were seals has none, and passes.

    Raises:
        LatentFileError: the file is not as it was written.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        head = handle.read(_END_ADDRESS.stop)
        handle.seek(max(0, size - SEAL_BYTES))
        found = _SEAL.fullmatch(handle.read())
    if found is None:
        # Without a seal nothing lies behind the end that HDF5 knows. What is no HDF5 file, others will say.
        if head.startswith(_SUPERBLOCK) and size > int.from_bytes(head[_END_ADDRESS], "little"):
            raise LatentFileError(f"'{path}' is damaged: its end is not as it was written.", AGAIN)
        return
    edges = [int(edge, 16) for edge in re.split(rb"[ -]", found[1].strip())]
    spans = [(edges[0], edges[1]), (edges[2], edges[3])]
    without_sum = found[0][: -len(found[2]) - 1]
    whole = edges == sorted(edges) and edges[-1] <= size
    if not whole or zlib.crc32(without_sum, _crc_without(path, size - SEAL_BYTES, spans)) != int(found[2], 16):
        raise LatentFileError(f"'{path}' is damaged: its header is not as it was written.", AGAIN)


def crc_of(path: Path, start: int, stop: int, total: int = 0) -> int:
    """CRC-32 of a stretch of a file. Plain reads, not a map, whose pages would count as this process's memory."""
    size = stop - start
    with path.open("rb", buffering=0) as handle:
        handle.seek(start)
        while size > 0 and (block := handle.read(min(size, _READ_BYTES))):
            total, size = zlib.crc32(block, total), size - len(block)
    return total


def _crc_without(path: Path, size: int, spans: Spans) -> int:
    total, position = 0, 0
    for start, stop in [*spans, (size, size)]:
        total, position = crc_of(path, position, start, total), stop
    return total
