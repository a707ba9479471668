"""From images and a tokenizer to a latent file: resumable, by one process or many."""

import contextlib
import json
import warnings
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from vaebench.core.errors import ConfigError
from vaebench.core.locks import hold
from vaebench.core.progress import Bar, progress
from vaebench.data.base import DataInfo, ImageSplit
from vaebench.latents.file import LatentFile
from vaebench.latents.schema import DType, Flip, Provenance, Transform
from vaebench.latents.writer import SHARD_ROWS, LatentWriter
from vaebench.tokenizers.base import Tokenizer, TokenizerSpec, check_images
from vaebench.tokenizers.checked import Checked
from vaebench.vision.transforms import to_signed

# A published normalisation should bring latents near variance 1; beyond this factor it is hardly meant for them.
_VARIANCE_FACTOR = 4.0


class Processes(Protocol):
    """What extraction asks of ``accelerate.Accelerator``."""

    @property
    def process_index(self) -> int:
        """Number of this process."""

    @property
    def num_processes(self) -> int:
        """How many there are."""

    def wait_for_everyone(self) -> None:
        """Return when all have called."""


class OneProcess:
    """Extraction on its own."""

    process_index = 0
    num_processes = 1

    def wait_for_everyone(self) -> None:
        """Nobody to wait for."""


def extract_latents(
    tokenizer: Tokenizer,
    split: ImageSplit,
    path: Path | str,
    *,
    data_info: DataInfo,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    flip: Flip = "none",
    dtype: DType = "float32",
    processes: Processes | None = None,
    shard_rows: int = SHARD_ROWS,
    overwrite: bool = False,
    title: str = "Extracting latents",
) -> LatentFile:
    """Encode every image of a split and store the posteriors with their statistics and provenance.

    Killed at any moment and called again, it goes on after the last whole shard, and the file is the same byte for
    byte (same machine, same batch size; another batch size moves values by rounding only). A finished file made from
    the same is returned as it is. While it is written the disk holds the latents twice.

    Args:
        tokenizer: encoder, moved to the device.
        split: images uint8 (n, 3, H, W) with ids and what there is of labels, attributes, factors, nuisance.
        path: the file to be; shards are collected in ``<path>.partial``.
        data_info: the data set that the split belongs to.
        batch_size: images encoded at once.
        device: where to encode, in float32; on GPUs that have TF32 PyTorch takes it for convolutions unless
            ``torch.backends.cudnn.allow_tf32`` is False.
        flip: "both" appends a mirrored copy of every image, with the same id and ``flipped`` = 1.
        dtype: of the stored values. In float16 a value beyond 65504 is an error.
        processes: an ``accelerate.Accelerator`` if several processes share the work; each calls this function with the
            same arguments and its own device, and every path must be visible to all.
        shard_rows: rows per shard, the most that a kill can lose per process.
        overwrite: replace a damaged file, or a file or partial work made with other settings.
        title: of the progress bar.

    Returns:
        The finished file.

    Raises:
        ConfigError: the batch size is not positive.
        DataError: the image size is not divisible by f, the split is empty, or the tokenizer gives no `Posterior`.
        MismatchError: the file or partial work there was made with other settings (both sides are named), or the
            tokenizer's latents do not have the shape that its spec promises.
        LatentFileError: the file there is damaged.
        NumericalError: latents that are not finite, or do not fit the dtype.
        NoSpace: the disk is too small (before the start) or full (what is done is kept).

    Where another process is writing the same file, a single process waits for it, and takes over if it dies.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be positive, got {batch_size}.")
    processes = processes or OneProcess()
    main = processes.process_index == 0
    codec = Checked(tokenizer.to(device))
    spec = codec.spec
    n = len(split)
    height, width = _image_size(split, spec)
    provenance = Provenance(
        tokenizer=spec,
        data=json.loads(data_info.to_json()),
        split=split.name,
        transform=Transform(image_size=(height, width), flip=flip),
        dtype=dtype,
        vaebench=version("vaebench"),
    )
    rows = 2 * n if flip == "both" else n
    writer = LatentWriter(path, provenance, rows, (spec.d, height // spec.f, width // spec.f), shard_rows)
    if writer.is_complete(overwrite):
        if main:
            writer.clean()
        return LatentFile(path)
    # Another writer of this file is waited for by a single process; several that are launched together could not agree.
    alone = processes.num_processes == 1
    with hold(writer.lock, f"'{writer.path}'", wait=alone) if main else contextlib.nullcontext():
        if not (alone and writer.is_complete(overwrite)):
            _encode_and_join(codec, split, writer, batch_size, device, processes, title)
    return LatentFile(path)


def _encode_and_join(
    tokenizer: Checked,
    split: ImageSplit,
    writer: LatentWriter,
    batch_size: int,
    device: str | torch.device,
    processes: Processes,
    title: str,
) -> None:
    main, rows = processes.process_index == 0, writer.rows
    if main:
        writer.prepare()
    processes.wait_for_everyone()
    missing = writer.missing()
    # Nobody writes before everybody has seen the same list.
    processes.wait_for_everyone()
    mine = missing[processes.process_index :: processes.num_processes]
    todo = sum(stop - start for start, stop in map(writer.bounds, mine))
    done = rows - sum(stop - start for start, stop in map(writer.bounds, missing))
    if main:
        with progress(title, done + todo, "images") as bar:
            bar.start_at(done)
            _encode_shards(tokenizer, split, writer, mine, batch_size, device, bar)
    else:
        _encode_shards(tokenizer, split, writer, mine, batch_size, device)
    processes.wait_for_everyone()
    # Joining may take longer than a collective's time limit, so all keep step shard by shard.
    if main:
        writer.merge(_columns(split, rows // len(split)), processes.wait_for_everyone)
        _warn_of_published_normalisation(LatentFile(writer.path))
    else:
        for _ in range(writer.shards):
            processes.wait_for_everyone()
    processes.wait_for_everyone()


def estimated_bytes(
    rows: int, spec: TokenizerSpec, image_size: int, flip: Flip = "none", dtype: DType = "float32"
) -> int:
    """Bytes of the means and standard deviations of that many images; extraction needs twice as much for a while."""
    side = image_size // spec.f
    return rows * (2 if flip == "both" else 1) * 2 * np.dtype(dtype).itemsize * spec.d * side * side


def _image_size(split: ImageSplit, spec: TokenizerSpec) -> tuple[int, int]:
    first = to_signed(split.images(slice(0, 1)))
    check_images(first, spec.f)
    return first.shape[2], first.shape[3]


def _encode_shards(
    tokenizer: Checked,
    split: ImageSplit,
    writer: LatentWriter,
    shards: list[int],
    batch_size: int,
    device: str | torch.device,
    bar: Bar | None = None,
) -> None:
    for shard in shards:
        start, stop = writer.bounds(shard)
        pair = np.empty((2, stop - start, *writer.shape), np.float32)
        for first, last in _batches(start, stop, len(split), batch_size):
            pair[:, first - start : last - start] = _encode(tokenizer, split, first, last, device)
            if bar is not None:
                bar.update(last - first)
        writer.write(shard, *pair)


def _batches(start: int, stop: int, n: int, batch_size: int) -> list[tuple[int, int]]:
    """Cut rows start..stop so that no batch holds both plain (< n) and mirrored (>= n) rows."""
    edges = sorted({start, min(max(n, start), stop), stop})
    return [
        (first, min(first + batch_size, high))
        for low, high in pairwise(edges)
        for first in range(low, high, batch_size)
    ]


@torch.inference_mode()
def _encode(tokenizer: Checked, split: ImageSplit, first: int, last: int, device: str | torch.device) -> np.ndarray:
    """Means and standard deviations of rows first..last, float32 (2, n, d, h, w)."""
    n = len(split)
    flipped = first >= n
    images = torch.as_tensor(split.images(slice(first - n, last - n) if flipped else slice(first, last)))
    signed = to_signed(images.to(device))
    # The writer looks for what is not finite, and names the row.
    posterior = tokenizer.encode(signed.flip(-1) if flipped else signed, finite=False)
    return torch.stack([posterior.mean, posterior.std]).float().cpu().numpy()


def _columns(split: ImageSplit, copies: int) -> dict[str, np.ndarray | None]:
    n = len(split)
    columns = {name: getattr(split, name) for name in ("ids", "labels", "attributes", "factors", "nuisance")}
    repeated = {name: None if values is None else np.concatenate([values] * copies) for name, values in columns.items()}
    return {**repeated, "flipped": np.repeat(np.arange(copies, dtype=np.uint8), n)}


def _warn_of_published_normalisation(latents: LatentFile) -> None:
    published = latents.info.tokenizer.normalisation
    if published is None:
        return
    mean, std = np.array(latents.info.statistics.mean), np.array(latents.info.statistics.std)
    shift, scale = np.array(published.shift), np.array(published.scale)
    square = float(np.mean(((mean - shift) * scale) ** 2 + (std * scale) ** 2))
    if not 1 / _VARIANCE_FACTOR <= square <= _VARIANCE_FACTOR:
        warnings.warn(
            f"The normalisation that '{latents.info.tokenizer.name}' publishes ({published.source}) gives these "
            f"latents a mean square of {square:.3g} instead of about 1. Normalise with the file's own statistics.",
            stacklevel=4,
        )
