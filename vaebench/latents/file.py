"""Reading a latent file.

The header is read through HDF5 and the file closed again; rows are reached through read-only memory maps of the
contiguous data sets. So no HDF5 handle lives on: nothing is shared after a fork, nothing is locked, and pickling sends
the path alone (the copy opens the file for itself, and refuses one that has been replaced meanwhile).

Every shard is checked against its checksum when rows of it are first read, so no changed byte is ever used in silence.
"""

import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import h5py
import numpy as np

from vaebench.core.errors import LatentFileError, MismatchError, MissingPath
from vaebench.core.processes import local_process_count
from vaebench.data.base import DataInfo
from vaebench.latents.memory import available_memory
from vaebench.latents.schema import COLUMNS, FORMAT, LATENTS, REQUIRED_COLUMNS, SCHEMA_VERSION, LatentInfo
from vaebench.latents.seal import AGAIN, crc_of, require_sealed
from vaebench.tokenizers.base import LatentNormalisation

Indices = np.ndarray | slice
# Whose inverse is still a number.
_SMALLEST_STD = 1e-300
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Extent:
    """Where a contiguous data set lies in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


class LatentFile:
    """Latents of one split, read-only.

    Args:
        path: a file written by `LatentWriter`.

    Attributes:
        path: of the file.
        info: everything that the file says about itself.

    Raises:
        MissingPath: there is no such file.
        LatentFileError: it is truncated, foreign, incomplete, or of another schema version. Reading rows raises it too,
            where they are not as they were written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.info, self.extents = read_header(self.path)
        self._ram: dict[str, np.ndarray] = {}
        self._unchecked = {name: set(range(len(self._sums(name)))) for name in self.extents}

    def __len__(self) -> int:
        return self.info.rows

    def __repr__(self) -> str:
        info = self.info
        return f"LatentFile('{self.path}', {info.rows} x {info.shape} {info.dtype} of {info.tokenizer.name})"

    @property
    def id(self) -> str:
        """Hash of the latents' identity and of every stored byte."""
        return self.info.id

    @property
    def shape(self) -> tuple[int, int, int]:
        """(d, h, w) of one row."""
        return self.info.shape

    @property
    def data(self) -> DataInfo:
        """The data set that the images came from."""
        return DataInfo.from_json(json.dumps(self.info.data))

    def mean(self, indices: Indices = slice(None)) -> np.ndarray:
        """Posterior means of these rows (a slice, numbers, or a mask of all rows), float32 (n, d, h, w), a copy."""
        return self._rows("mean", indices)

    def std(self, indices: Indices = slice(None)) -> np.ndarray:
        """Posterior standard deviations of these rows, float32 (n, d, h, w), a copy."""
        return self._rows("std", indices)

    def _rows(self, name: str, indices: Indices) -> np.ndarray:
        values = self.as_stored(name)
        if not isinstance(indices, slice) and np.asarray(indices).dtype == bool:
            if np.shape(indices) != (len(self),):
                raise IndexError(f"A mask of shape {np.shape(indices)} does not fit {len(self)} rows.")
            indices = np.flatnonzero(indices)
        self._require_sound(name, indices)
        if isinstance(indices, slice):
            return np.array(values[indices], np.float32)
        return np.take(values, indices, axis=0).astype(np.float32, copy=False)

    @cached_property
    def ids(self) -> np.ndarray:
        """Global sample ids, int64 (N,); a flipped row has the id of its source."""
        return np.array(self.stored("ids"))

    @cached_property
    def flipped(self) -> np.ndarray:
        """True where the image was mirrored, bool (N,)."""
        return np.array(self.stored("flipped"), bool)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """Class labels, int64 (N,), or None."""
        return self._column("labels")

    @cached_property
    def attributes(self) -> np.ndarray | None:
        """Binary attributes, uint8 (N, A), or None."""
        return self._column("attributes")

    @cached_property
    def factors(self) -> np.ndarray | None:
        """Ground-truth factors, int16 (N, K), or None."""
        return self._column("factors")

    @cached_property
    def nuisance(self) -> np.ndarray | None:
        """Continuous nuisance variables, float32 (N, M), or None."""
        return self._column("nuisance")

    def _column(self, name: str) -> np.ndarray | None:
        return np.array(self.stored(name)) if name in self.extents else None

    def stored(self, name: str) -> np.ndarray:
        """A data set as it is stored, checked whole: in memory if loaded, else a read-only map of the file."""
        self.require_sound(name)
        return self.as_stored(name)

    def as_stored(self, name: str) -> np.ndarray:
        """A data set as it is stored, unchecked."""
        return self._ram[name] if name in self._ram else self._maps[name]

    def require_sound(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Check the shards that hold these rows, those that were not checked before.

        Raises:
            LatentFileError: a shard is not as it was written; the message says which, and what to do.
        """
        left = self._unchecked[name]
        if not left:
            return
        rows = self._shard_rows
        last = self.info.rows if stop is None else stop
        for shard in sorted(left & set(range(start // rows, -(-last // rows)))):
            self._check(name, shard)
            left.discard(shard)

    def _require_sound(self, name: str, indices: Indices) -> None:
        if not self._unchecked[name]:
            return
        wanted = np.arange(len(self))[indices]
        for shard in np.unique(wanted // self._shard_rows):
            self.require_sound(name, int(shard) * self._shard_rows, (int(shard) + 1) * self._shard_rows)

    def _sums(self, name: str) -> tuple[str, ...]:
        found = self.info.checksums
        return getattr(found, name) if found is not None and name in LATENTS else ()

    @property
    def _shard_rows(self) -> int:
        assert self.info.checksums is not None
        return self.info.checksums.rows

    def _check(self, name: str, shard: int) -> None:
        extent, rows = self.extents[name], self._shard_rows
        first, last = shard * rows, min((shard + 1) * rows, self.info.rows)
        row_bytes = int(np.prod(extent.shape[1:])) * extent.dtype.itemsize
        if name in self._ram:
            total = zlib.crc32(self._ram[name][first:last].data.cast("B"))
        else:
            total = crc_of(self.path, extent.offset + first * row_bytes, extent.offset + last * row_bytes)
        if f"{total:08x}" != self._sums(name)[shard]:
            raise LatentFileError(
                f"'{self.path}' is damaged: {name} of rows {first}..{last - 1} is not as it was written.",
                f"The disk or a copy changed it. Remove the file (a study's: its whole folder). {AGAIN}",
            )

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        # A view as plain ndarray: numpy's memmap subclass slows down indexing.
        return {
            name: np.memmap(self.path, e.dtype, "r", e.offset, e.shape).view(np.ndarray)
            for name, e in self.extents.items()
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all means and standard deviations as stored."""
        return sum(int(np.prod(self.extents[name].shape)) * self.extents[name].dtype.itemsize for name in LATENTS)

    @property
    def in_memory(self) -> bool:
        """Whether `load` has brought the latents into memory."""
        return len(self._ram) == len(LATENTS)

    def load(self, ram_budget: int | None = None) -> Self:
        """Read the latents into memory if they fit, else leave them on the disk (see `in_memory`).

        Args:
            ram_budget: bytes that they may take; if None, half of the memory available now, shared evenly by the
                processes that were launched on this machine, each of which loads them for itself.
        """
        budget = available_memory() // (2 * local_process_count()) if ram_budget is None else ram_budget
        if not self.in_memory and self.nbytes <= budget:
            self._ram = {name: self._read_whole(self.extents[name]) for name in LATENTS}
            for name in LATENTS:
                self.require_sound(name)
        return self

    def _read_whole(self, extent: Extent) -> np.ndarray:
        # One plain read is several times faster than touching a map page by page.
        count = int(np.prod(extent.shape))
        values: np.ndarray = np.fromfile(self.path, extent.dtype, count, offset=extent.offset)
        return values.reshape(extent.shape)

    def normalisation(self, which: Literal["file", "tokenizer"]) -> LatentNormalisation:
        """The affine map to normalise these latents with.

        Args:
            which: "file" for this file's own statistics, "tokenizer" for what the tokenizer's authors published.

        Raises:
            DataError: "file", but a channel is constant.
            MismatchError: "tokenizer", but this one publishes none.
        """
        info = self.info
        if which == "file":
            source = f"statistics of latents {info.id} ({info.tokenizer.name}, {info.split})"
            return LatentNormalisation.from_statistics(info.statistics.mean, info.statistics.std, source)
        if info.tokenizer.normalisation is None:
            raise MismatchError(
                f"Tokenizer '{info.tokenizer.name}' publishes no latent normalisation.", 'Use normalisation "file".'
            )
        return info.tokenizer.normalisation

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "id": self.id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        LatentFile.__init__(self, state["path"])
        if self.id != state["id"]:
            raise MismatchError(f"'{self.path}' held latents {state['id']} when it was sent here, and {self.id} now.")


def read_header(path: Path) -> tuple[LatentInfo, dict[str, Extent]]:
    """What a latent file says about itself, and where its data sets lie.

    Raises:
        MissingPath, LatentFileError: as `LatentFile`.
    """
    if path.is_dir():
        there = ", ".join(sorted(file.name for file in path.glob("*.h5"))) or "no latent file"
        raise MissingPath(f"'{path}' is a folder, which holds {there}.", "Give one of these files.")
    if not path.is_file():
        raise MissingPath(
            f"Latent file '{path}' does not exist.", "Make it with: vaebench extract TOKENIZER --data ..."
        )
    require_sealed(path)
    try:
        # Finished files never change, so no lock is needed; network disks often refuse them.
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("format") != FORMAT:
                raise LatentFileError(f"'{path}' is an HDF5 file, but not a latent file of vaebench.", AGAIN)
            if (version := int(file.attrs["schema_version"])) != SCHEMA_VERSION:
                raise LatentFileError(
                    f"'{path}' has latent schema {version}; this vaebench reads schema {SCHEMA_VERSION}.", AGAIN
                )
            if not file.attrs["complete"]:
                raise LatentFileError(f"'{path}' is incomplete: its writing was interrupted.", AGAIN)
            fields = LatentInfo.model_fields.items()
            # Files written before there were checksums have none.
            texts = {key: file.attrs[key] for key, field in fields if field.is_required() or key in file.attrs}
            info = LatentInfo(**{key: json.loads(text) for key, text in texts.items()})
            extents = {name: _extent(file[name]) for name in (*LATENTS, *COLUMNS) if name in file}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        with path.open("rb") as handle:
            foreign = handle.read(len(_HDF5_SIGNATURE)) != _HDF5_SIGNATURE
        fault = "is not an HDF5 file" if foreign else "is truncated or damaged"
        raise LatentFileError(f"'{path}' {fault} ({error}).", AGAIN) from error
    faults = _faults(info, extents, path.stat().st_size)
    if faults:
        raise LatentFileError(f"'{path}' is truncated or damaged: {'; '.join(faults)}.", AGAIN)
    return info, extents


def _extent(dataset: h5py.Dataset) -> Extent:
    offset = dataset.id.get_offset()
    if offset is None:
        raise ValueError(f"data set {dataset.name} is not contiguous")
    return Extent(dataset.dtype, dataset.shape, offset)


def _faults(info: LatentInfo, extents: dict[str, Extent], size: int) -> list[str]:
    expected = dict.fromkeys(LATENTS, info.dtype) | COLUMNS
    faults = [f"{name} is missing" for name in (*LATENTS, *REQUIRED_COLUMNS) if name not in extents]
    for name, extent in extents.items():
        # Touching a map beyond the end of its file kills the process, so the end is checked here.
        if extent.offset + int(np.prod(extent.shape)) * extent.dtype.itemsize > size:
            faults.append(f"{name} ends beyond the file")
        shape = (info.rows, *info.shape) if name in LATENTS else (info.rows, *extent.shape[1:])
        if extent.dtype != np.dtype(expected[name]) or extent.shape != shape:
            faults.append(f"{name} is {extent.dtype} {extent.shape}, not {expected[name]} {shape}")
    found = info.statistics
    moments = np.array([*found.mean, *found.std, *found.std_of_means])
    if not len(found.mean) == len(found.std) == len(found.std_of_means) == info.shape[0]:
        faults.append("statistics are not of every channel")
    elif not np.isfinite(moments).all() or not all(std == 0 or std > _SMALLEST_STD for std in found.std):
        faults.append("statistics are not finite, or a standard deviation is none")
    sums = info.checksums
    if sums is not None and not (
        0 < sums.rows < 2**62 and len(sums.mean) == len(sums.std) == -(-info.rows // sums.rows)
    ):
        faults.append("checksums are missing")
    return faults
