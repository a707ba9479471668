"""Sources of images, and the preparation of any of them into one HDF5 file."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from vaebench.core.config import Config, build, content_hash
from vaebench.core.errors import DataError
from vaebench.core.files import atomic_write, require_space
from vaebench.core.progress import progress
from vaebench.data.base import SPLITS, DataInfo
from vaebench.data.hdf5 import DataWriter

CHUNK = 64  # images per task: small enough for an even progress bar, large enough to outweigh the hand-over


class SourceConfig(Config):
    """What every source has: the size of its images, in pixels."""

    image_size: PositiveInt = 64


@dataclass(frozen=True)
class Plan:
    """One split before its images are drawn; arrays as in ``ImageSplit``, one row per image."""

    ids: np.ndarray
    labels: np.ndarray | None = None
    attributes: np.ndarray | None = None
    factors: np.ndarray | None = None
    nuisance: np.ndarray | None = None


@dataclass(frozen=True)
class Drawn:
    """Images uint8 (n, 3, H, W), masks uint8 (n, H, W) or None, and what could not be read, "path: reason"."""

    images: np.ndarray
    masks: np.ndarray | None = None
    unreadable: list[str] = field(default_factory=list)


class ImageSource(ABC):
    """A registered source. Built with its configuration; everything it does follows from that and the files it names.

    Class attributes:
        Config: its configuration, a ``SourceConfig``.
        summary: one line for ``vaebench data list``.
    """

    Config: ClassVar[type[SourceConfig]] = SourceConfig
    summary: ClassVar[str] = ""
    has_masks: bool = False

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def describe(self) -> DataInfo:
        """The data set's description; the fingerprint is filled in when the images are drawn. Call ``plan`` first."""

    @abstractmethod
    def plan(self) -> dict[str, Plan]:
        """The splits, without pixels: "train", "validation", "test", or those of them that exist."""

    @abstractmethod
    def draw(self, split: str, start: int, stop: int) -> Drawn:
        """Images of the rows [start, stop) of a split. Called from several threads at once, after ``plan``."""

    @abstractmethod
    def version(self) -> str:
        """Versions of whatever, besides the configuration, determines the pixels."""

    def identity(self) -> dict[str, Any]:
        """The part of the configuration that defines the content, for the fingerprint."""
        return dict(self.config.model_dump(mode="json"))


def prepare(name: str, values: Mapping[str, Any], path: Path | str, workers: int | None = None) -> DataInfo:
    """Draw or read a data set into one HDF5 file, which appears when it is complete.

    Args:
        name: a registered source, such as "avatars".
        values: its configuration as plain values.
        path: the file to write; replaced if it exists.
        workers: threads that draw; the number of cores when None. The result does not depend on it.

    Returns:
        the description, with its fingerprint.

    Raises:
        UnknownName: no such source.
        ConfigError: an unknown key or a value out of range.
        MissingPath: the source's files are not there.
        DataError: images that cannot be read (named and counted), or labels and attributes that make no sense.
        NoSpace: the disk is too full.
    """
    from vaebench.data import DATASETS

    if workers is not None and workers <= 0:
        raise ValueError(f"workers must be positive, got {workers}.")
    kind = DATASETS.get(name)
    source: ImageSource = kind(build(kind.Config, values, f"data set '{name}'"))
    plans = source.plan()
    _check_plans(name, plans)
    info = source.describe()
    total = sum(len(plan.ids) for plan in plans.values())
    pixels = info.image_size**2
    require_space(path, total * pixels * (4 if source.has_masks else 3) + (1 << 20))
    digest = hashlib.sha256()
    unreadable: list[str] = []
    with (
        atomic_write(path) as temporary,
        DataWriter(temporary, info.image_size) as writer,
        progress(f"prepare {name}", total, "images") as bar,
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
    ):
        for split, plan in plans.items():
            writer.add_split(split, plan, masks=source.has_masks)
            _digest_plan(digest, split, plan)
            for start, drawn in _in_order(pool, source, split, len(plan.ids), 3 * (workers or os.cpu_count() or 1)):
                unreadable.extend(drawn.unreadable)
                writer.write(split, start, drawn.images, drawn.masks)
                digest.update(drawn.images.tobytes())
                bar.update(len(drawn.images))
        if unreadable:
            raise DataError(unreadable_message(unreadable), "Repair or remove them, or set skip_unreadable: true.")
        fingerprint = content_hash([name, source.identity(), source.version(), digest.hexdigest()], 32)
        info = replace(info, fingerprint=fingerprint)
        writer.finish(info)
    return info


def unreadable_message(unreadable: list[str], shown: int = 5) -> str:
    """How many images cannot be read, and which, with the first few reasons."""
    more = f" and {len(unreadable) - shown} more" if len(unreadable) > shown else ""
    return f"{len(unreadable)} image(s) cannot be read: {'; '.join(unreadable[:shown])}{more}."


def _check_plans(name: str, plans: Mapping[str, Plan]) -> None:
    if not any(len(plan.ids) for plan in plans.values()):
        raise DataError(f"Data set '{name}' holds no images.")
    unknown = set(plans) - set(SPLITS)
    if unknown:
        raise DataError(f"Data set '{name}' has splits {sorted(unknown)}; only {', '.join(SPLITS)} are known.")
    ids = np.concatenate([plan.ids for plan in plans.values()])
    if len(np.unique(ids)) != len(ids):
        raise DataError(f"Data set '{name}' gives the same sample id twice; splits must not share samples.")


def _digest_plan(digest: Any, split: str, plan: Plan) -> None:
    digest.update(split.encode())
    for array in (plan.ids, plan.labels, plan.attributes, plan.factors, plan.nuisance):
        digest.update(b"-" if array is None else array.tobytes())


def _in_order(
    pool: ThreadPoolExecutor, source: ImageSource, split: str, n: int, ahead: int
) -> Iterator[tuple[int, Drawn]]:
    """Draw chunks in parallel and hand them over in order, never more than ``ahead`` of them in memory."""
    starts = iter(range(0, n, CHUNK))
    pending: list[tuple[int, Future[Drawn]]] = []
    for start in starts:
        pending.append((start, pool.submit(source.draw, split, start, min(start + CHUNK, n))))
        if len(pending) >= ahead:
            first, future = pending.pop(0)
            yield first, future.result()
    for first, future in pending:
        yield first, future.result()
