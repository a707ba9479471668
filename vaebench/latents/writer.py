"""Writing a latent file: shards into a partial folder, then one file that appears whole or not at all.

Shards are private: plain ``.npy`` arrays (2, n, d, h, w) of means and standard deviations with a CRC-32 behind them,
each flushed to the disk and renamed. They cut the global rows at fixed places, so the result depends neither on
interruptions nor on the number of processes. A manifest beside them records what they are made from. Work for other
settings is never mixed in and never thrown away unasked: it is a `MismatchError`, unless ``overwrite`` says to start
again.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vaebench.core.config import content_hash
from vaebench.core.errors import DataError, LatentFileError, MismatchError, NoSpace, NumericalError
from vaebench.core.files import atomic_write, read_json, require_space, write_json
from vaebench.core.locks import hold, living_holder
from vaebench.latents.file import LatentFile
from vaebench.latents.match import differences
from vaebench.latents.schema import (
    COLUMNS,
    FORMAT,
    LATENTS,
    REQUIRED_COLUMNS,
    SCHEMA_VERSION,
    Checksums,
    LatentInfo,
    Provenance,
)
from vaebench.latents.seal import seal
from vaebench.latents.statistics import LatentStatistics

SHARD_ROWS = 2048
# Big data sets start on a page of their own, so that mapping them is aligned.
_PAGE = 4096


class LatentWriter:
    """Collects the rows of one latent file, shard by shard, in any order and from any process.

    Args:
        path: the file to be.
        provenance: where the latents come from.
        rows: number of rows, flipped ones included.
        shape: (d, h, w) of one row.
        shard_rows: rows per shard, what an interruption can lose.
    """

    def __init__(
        self,
        path: Path | str,
        provenance: Provenance,
        rows: int,
        shape: tuple[int, int, int],
        shard_rows: int = SHARD_ROWS,
    ) -> None:
        if rows <= 0:
            raise DataError(f"Split '{provenance.split}' has no images, so there are no latents to write.")
        self.path = Path(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.provenance = provenance
        self.rows = rows
        self.shape = shape
        self.shard_rows = shard_rows
        self.shards = -(-rows // shard_rows)
        self.dtype = np.dtype(provenance.dtype)

    @property
    def lock(self) -> Path:
        """What the one who writes this file holds meanwhile."""
        return self.path.with_name(f".{self.path.name}.lock")

    @property
    def manifest(self) -> dict[str, Any]:
        """What shards must agree on to be joined."""
        extent = {"rows": self.rows, "shape": list(self.shape), "shard_rows": self.shard_rows}
        return {**self.provenance.identity(), **extent}

    def is_complete(self, overwrite: bool = False) -> bool:
        """Whether the file is already there, made from the same; writes nothing, so every process may ask.

        Args:
            overwrite: replace a file or partial work that is damaged or made with other settings.

        Raises:
            MismatchError: the file, or the partial work beside it, was made with other settings.
            LatentFileError: the file is there but damaged.
        """
        try:
            if self.path.exists():
                info = LatentFile(self.path).info
                extent = {"rows": info.rows, "shape": list(info.shape), "shard_rows": self.shard_rows}
                self._require_same(self.path, {**info.identity(), **extent})
                return True
            if (self.partial / "manifest.json").exists() and not overwrite:
                self._require_same(self.partial, read_json(self.partial / "manifest.json"))
        except (MismatchError, LatentFileError):
            if not overwrite:
                raise
        return False

    def _require_same(self, where: Path, found: dict[str, Any]) -> None:
        different = differences(found, self.manifest)
        if different:
            raise MismatchError(
                f"'{where}' was made with other settings (there and here): {'; '.join(different)}.",
                "Choose another path, remove it, or pass overwrite=True.",
            )

    def prepare(self) -> None:
        """Make the partial folder, or take up one that was left; partial work of other settings is removed.

        Call after `is_complete`, in one process.

        Raises:
            NoSpace: the disk cannot hold the missing shards and the file itself.
        """
        manifest = self.partial / "manifest.json"
        if self.partial.exists() and (not manifest.exists() or read_json(manifest) != self.manifest):
            shutil.rmtree(self.partial)
        # What a kill or a full disk left half-written would be counted as space that is taken.
        for leftover in (self._merged, *self.partial.glob(".*.tmp")):
            leftover.unlink(missing_ok=True)
        missing = sum(stop - start for start, stop in map(self.bounds, self.missing()))
        row_bytes = 2 * self.dtype.itemsize * int(np.prod(self.shape))
        require_space(self.path, (missing + self.rows) * row_bytes)
        self.partial.mkdir(parents=True, exist_ok=True)
        write_json(manifest, self.manifest)

    def bounds(self, shard: int) -> tuple[int, int]:
        """First and one past the last row of a shard."""
        return shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows)

    def missing(self) -> list[int]:
        """Shards not written yet."""
        return [shard for shard in range(self.shards) if not self._shard_path(shard).exists()]

    def _shard_path(self, shard: int) -> Path:
        return self.partial / f"shard-{shard:06}.npy"

    @property
    def _merged(self) -> Path:
        return self.partial / "merged.h5"

    def write(self, shard: int, mean: np.ndarray, std: np.ndarray) -> None:
        """Write one shard: means and standard deviations (n, d, h, w) of the rows ``bounds(shard)``, any float type.

        Raises:
            NumericalError: a value is not finite, a standard deviation is negative, or float16 cannot hold it.
            NoSpace: the disk is full; the shards written before stay and are used by the next run.
        """
        start, stop = self.bounds(shard)
        for name, values in (("mean", mean), ("std", std)):
            if values.shape != (stop - start, *self.shape):
                wanted = (stop - start, *self.shape)
                raise DataError(f"{name} of rows {start}..{stop - 1} must be {wanted}, not {values.shape}.")
            require_storable(values, self.dtype, name, start)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (2, *mean.shape)}
        target = self._shard_path(shard)
        with no_space_said(self.partial), atomic_write(target) as temporary, temporary.open("wb") as handle:
            np.lib.format.write_array_header_1_0(handle, header)
            total = 0
            for values in (mean, std):
                # Not numpy's own tofile, whose error does not say that the disk is full.
                view = np.ascontiguousarray(values, self.dtype).data.cast("B")
                total = zlib.crc32(view, total)
                handle.write(view)
            handle.write(_trailer(total))

    def merge(self, columns: Mapping[str, np.ndarray | None], after_shard: Callable[[], None] = lambda: None) -> None:
        """Join all shards into the file and remove the partial folder.

        Args:
            columns: ids and flipped, and what there is of labels, attributes, factors and nuisance; N rows each.
            after_shard: called after each shard, so that other processes can keep step.

        Raises:
            LatentFileError: a shard is missing or damaged (a damaged one is removed, to be written again).
            NoSpace: the disk is full; the shards stay.
        """
        given = self._checked(columns)
        merged = self._merged
        with no_space_said(self.partial):
            # The writer's lock keeps others out, so HDF5 need not: on network disks its own lock is often refused.
            options = {"locking": "best-effort", "alignment_threshold": _PAGE, "alignment_interval": _PAGE}
            with h5py.File(merged, "w", **options) as file:
                file.attrs["format"] = FORMAT
                file.attrs["schema_version"] = SCHEMA_VERSION
                file.attrs["complete"] = False
                digests = {name: hashlib.sha256() for name in LATENTS}
                sums = {name: ShardSums(self.shape, self.dtype) for name in LATENTS}
                statistics = LatentStatistics(self.shape[0])
                targets = [file.create_dataset(name, (self.rows, *self.shape), self.dtype) for name in LATENTS]
                for shard in range(self.shards):
                    start, stop = self.bounds(shard)
                    pair = self._read(shard)
                    for name, target, values in zip(LATENTS, targets, pair, strict=True):
                        target[start:stop] = values
                        digests[name].update(np.ascontiguousarray(values).data)
                        sums[name].update(values)
                    statistics.update(*pair)
                    after_shard()
                for name, values in given.items():
                    file.create_dataset(name, data=values)
                    digests[name] = hashlib.sha256(values.data)
                info = LatentInfo(
                    **dict(self.provenance),
                    rows=self.rows,
                    shape=self.shape,
                    statistics=statistics.result(),
                    id=content_id(self.provenance, {name: digest.hexdigest() for name, digest in digests.items()}),
                    checksums=Checksums(rows=SHARD_ROWS, **{name: found.result() for name, found in sums.items()}),
                )
                for key, value in info.model_dump(mode="json").items():
                    file.attrs[key] = json.dumps(value)
                file.attrs["complete"] = True
                starts = [target.id.get_offset() for target in targets]
                spans = [(start, start + target.nbytes) for start, target in zip(starts, targets, strict=True)]
            seal(merged, spans)
            with merged.open("rb+") as handle:
                os.fsync(handle.fileno())
        merged.replace(self.path)
        self.clean()

    def clean(self) -> None:
        """Remove the partial folder if it is of this work, and a dead writer's lock."""
        manifest = self.partial / "manifest.json"
        if manifest.exists() and read_json(manifest) == self.manifest:
            shutil.rmtree(self.partial)
        if self.lock.exists() and living_holder(self.lock) is None:
            self.lock.unlink()

    def _checked(self, columns: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
        unknown = set(columns) - set(COLUMNS)
        absent = [name for name in REQUIRED_COLUMNS if columns.get(name) is None]
        if unknown or absent:
            raise DataError(f"Columns of a latent file: {sorted(unknown)} are unknown, {absent} are missing.")
        kept = {name: values for name in COLUMNS if (values := columns.get(name)) is not None and values.size}
        given = {name: np.ascontiguousarray(values, COLUMNS[name]) for name, values in kept.items()}
        wrong = {name: len(values) for name, values in given.items() if len(values) != self.rows}
        if wrong:
            raise DataError(f"Columns must have {self.rows} rows, as the latents have: {wrong}.")
        return given

    def _read(self, shard: int) -> np.ndarray:
        path = self._shard_path(shard)
        start, stop = self.bounds(shard)
        try:
            pair: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise LatentFileError(f"Shard '{path}' is missing.", "Run the same command again.") from error
        except (ValueError, EOFError):
            pair = np.empty(0)
        whole = pair.shape == (2, stop - start, *self.shape) and pair.dtype == self.dtype
        if not whole or _end_of(path) != _trailer(zlib.crc32(pair.data)):
            path.unlink()
            raise LatentFileError(f"Shard '{path}' was damaged, and is removed.", "Run the same command again.")
        return pair


def _trailer(total: int) -> bytes:
    return f"{total:08x}".encode()


def _end_of(path: Path) -> bytes:
    with path.open("rb") as handle:
        handle.seek(-len(_trailer(0)), os.SEEK_END)
        return handle.read()


class ShardSums:
    """CRC-32 of every `SHARD_ROWS` rows of a data set that comes in pieces, wherever those are cut."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._shard_bytes = SHARD_ROWS * int(np.prod(shape)) * dtype.itemsize
        self._sums: list[int] = []
        self._left = 0

    def update(self, values: np.ndarray) -> None:
        """Add the next rows."""
        view = np.ascontiguousarray(values).data.cast("B")
        while len(view):
            if not self._left:
                self._sums.append(0)
                self._left = self._shard_bytes
            here = view[: self._left]
            self._sums[-1] = zlib.crc32(here, self._sums[-1])
            self._left -= len(here)
            view = view[len(here) :]

    def result(self) -> tuple[str, ...]:
        """The checksums so far."""
        return tuple(f"{value:08x}" for value in self._sums)


def content_id(provenance: Provenance, digests: Mapping[str, str]) -> str:
    """The id of a latent file: hash of its identity and of the SHA-256 of each data set's bytes."""
    return content_hash({"identity": provenance.identity(), "data": dict(sorted(digests.items()))}, length=32)


def require_storable(values: np.ndarray, dtype: np.dtype[Any], name: str, first_row: int) -> None:
    """Refuse what a latent file must not hold: NaN, infinity, negative std, and what overflows the dtype.

    Raises:
        NumericalError: names the first row and its value.
    """
    limit = float(np.finfo(dtype).max)
    lowest = 0.0 if name == "std" else -limit
    # NaN compares as false, so it counts as outside.
    outside = ~((values >= lowest) & (values <= limit))
    if not outside.any():
        return
    rows = np.flatnonzero(outside.reshape(len(values), -1).any(1))
    worst = values[rows[0]][outside[rows[0]]][0]
    overflow = limit < abs(worst) < np.inf
    raise NumericalError(
        f"Posterior {name} of {len(rows)} rows cannot be stored as {dtype}; the first is row {first_row + rows[0]} "
        f"with the value {worst:g}.",
        "Use dtype float32." if overflow else "The tokenizer has diverged on these images.",
    )


@contextlib.contextmanager
def no_space_said(path: Path) -> Iterator[None]:
    """Turn the operating system's "disk full" and "quota exceeded" into `NoSpace`."""
    try:
        yield
    except OSError as error:
        # HDF5 reports the errno in its text only.
        codes = (errno.ENOSPC, errno.EDQUOT)
        if error.errno in codes or any(f"errno = {code}," in str(error) for code in codes):
            raise NoSpace(
                f"The disk that holds '{path}' is full.",
                "Free some space and run the same command again: what was done so far is kept.",
            ) from error
        raise


def write_latents(
    path: Path | str,
    mean: np.ndarray,
    std: np.ndarray,
    provenance: Provenance,
    ids: np.ndarray,
    *,
    flipped: np.ndarray | None = None,
    overwrite: bool = False,
    **columns: np.ndarray | None,
) -> LatentFile:
    """Write latents that are already in memory, with the same checks and statistics as extraction.

    Args:
        path: the file to be.
        mean, std: posterior of the raw latents, (N, d, h, w).
        provenance: where they come from.
        ids: global sample ids, (N,).
        flipped: 1 where the image was mirrored; none by default.
        overwrite: replace a file made with other settings.
        columns: labels, attributes, factors, nuisance.

    Raises:
        DataError, MismatchError, NumericalError, NoSpace: as `LatentWriter`.
    """
    writer = LatentWriter(path, provenance, len(mean), mean.shape[1:], shard_rows=max(1, len(mean)))
    with hold(writer.lock, f"'{writer.path}'", wait=True):
        writer.is_complete(overwrite)
        writer.clean()
        writer.prepare()
        writer.write(0, mean, std)
        writer.merge({"ids": ids, "flipped": np.zeros(len(mean), np.uint8) if flipped is None else flipped, **columns})
    return LatentFile(path)
