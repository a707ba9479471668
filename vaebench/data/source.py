"""Sources of images, and the preparation of any of them into one HDF5 file."""

import hashlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt

from vaebench.core.config import Config, build, content_hash
from vaebench.core.errors import ConfigError, DataError, UnknownName, some, suggest
from vaebench.core.files import atomic_write, file_states, require_space
from vaebench.core.plugins import is_reference
from vaebench.core.processes import core_count
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
        files: settings that say where the images are, one of which must be given; none where they need no place.
        remedy: what to download from where, and where to put it.
    """

    Config: ClassVar[type[SourceConfig]] = SourceConfig
    summary: ClassVar[str] = ""
    files: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = ""
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

    def contents(self, setting: str, place: Path) -> list[tuple[str, int, int]]:
        """Name, bytes and time (ns) of the files at a setting that names a path: when one changes, the data set is
        another. Called before ``plan``."""
        return file_states(place)

    def watched(self) -> dict[str, Path]:
        """Files that are read besides those at or below the settings that name paths: when one changes, the data set is
        another. By a name each that stays when all are moved. Called before ``plan``, also where files lack."""
        return {}

    @classmethod
    def guide(cls, name: str) -> str:
        """What the data set ``name`` is, how its files lie, where they come from and which settings there are, for
        people: the module's text, the remedy, and the settings with their defaults."""
        fields = cls.Config.model_fields.items()
        settings = [key if field.is_required() else f"{key}={field.default!r}" for key, field in fields]
        given = f" -o {cls.files[0]}=PATH" if cls.files else ""
        about = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "").replace("``", "'").replace("::\n", ":\n")
        parts = [f"{name}: {cls.summary}", about, cls.remedy]
        parts += [f"Settings: {', '.join(settings)}", f"Then: vaebench data prepare {name}{given}"]
        return "\n\n".join(part for part in parts if part)


def lacks_files(kind: type[ImageSource], values: Mapping[str, Any]) -> bool:
    """Whether a source reads files, and these settings do not say where they are."""
    return bool(kind.files) and all(values.get(key) is None for key in kind.files)


def configure(name: str, kind: type[ImageSource], values: Mapping[str, Any]) -> SourceConfig:
    """The configuration of a source from plain values.

    Raises:
        ConfigError: as ``build``; and where files are needed and not given, with what to get from where.
    """
    if lacks_files(kind, values):
        needed = " or ".join(f"'{key}'" for key in kind.files)
        raise ConfigError(
            f"Data set '{name}' is read from files, and {needed} is not given.",
            f"{kind.remedy} On the command line: -o {kind.files[0]}=PATH. `vaebench data show {name}` tells more.",
        )
    return build(kind.Config, values, f"data set '{name}'")


def named_source(data: str | Path, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The source that people mean by a name, a reference to code, a tree of images or a table, and its settings.

    Raises:
        UnknownName: neither a name nor a path; the remedy is the nearest name.
    """
    from vaebench.data import DATASETS

    path = Path(data)
    if str(data) in DATASETS or (is_reference(str(data)) and not path.exists()):
        return str(data), dict(options)
    if path.exists():
        return "folder", {"root" if path.is_dir() else "table": str(path.absolute()), **options}
    raise UnknownName(
        f"Data '{data}' is neither a registered data set nor a path.", suggest(str(data), DATASETS.names())
    )


def prepare(name: str, values: Mapping[str, Any], path: Path | str, workers: int | None = None) -> DataInfo:
    """Draw or read a data set into one HDF5 file, which appears when it is complete.

    Args:
        name: a registered source, such as "avatars".
        values: its configuration as plain values.
        path: the file to write; replaced if it exists.
        workers: threads that draw; one per core that may be used when None. The result does not depend on it.

    Returns:
        the description, with its fingerprint.

    Raises:
        UnknownName: no such source.
        ConfigError: an unknown key, a value out of range, or files that are needed and not named.
        MissingPath: the source's files are not there.
        DataError: images that cannot be read (named and counted), labels, attributes or factors that make no sense, or
            drawn images and masks of another type, shape or number than asked for.
        NoSpace: the disk is too full.
    """
    from vaebench.data import DATASETS

    if workers is not None and workers <= 0:
        raise ValueError(f"workers must be positive, got {workers}.")
    workers = workers or core_count()
    kind = DATASETS.get(name)
    source: ImageSource = kind(configure(name, kind, values))
    plans = source.plan()
    info = source.describe()
    _check_plans(name, plans, info)
    total = sum(len(plan.ids) for plan in plans.values())
    pixels = info.image_size**2
    require_space(path, total * pixels * (4 if source.has_masks else 3) + (1 << 20))
    digest = hashlib.sha256()
    unreadable: list[str] = []
    with (
        atomic_write(path) as temporary,
        DataWriter(temporary, info.image_size) as writer,
        progress(f"prepare {name}", total, "images") as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        for split, plan in plans.items():
            writer.add_split(split, plan, masks=source.has_masks)
            _digest_plan(digest, split, plan)
            for start, drawn in _in_order(pool, source, split, len(plan.ids), 3 * workers):
                _check_drawn(name, split, start, min(start + CHUNK, len(plan.ids)), drawn, info.image_size, source)
                unreadable.extend(drawn.unreadable)
                writer.write(split, start, drawn.images, drawn.masks)
                digest.update(drawn.images.tobytes())
                bar.update(len(drawn.images))
        if unreadable:
            skips = "skip_unreadable" in kind.Config.model_fields
            remedy = "Repair or remove them, or set skip_unreadable: true." if skips else "Repair or replace them."
            raise DataError(unreadable_message(unreadable), remedy)
        fingerprint = content_hash([name, source.identity(), source.version(), digest.hexdigest()], 32)
        info = replace(info, fingerprint=fingerprint)
        writer.finish(info)
    return info


def unreadable_message(unreadable: list[str]) -> str:
    """How many images cannot be read, and which, with the first few reasons."""
    return f"{len(unreadable)} image(s) cannot be read: {some(unreadable, '; ')}."


def _check_plans(name: str, plans: Mapping[str, Plan], info: DataInfo) -> None:
    if not any(len(plan.ids) for plan in plans.values()):
        raise DataError(f"Data set '{name}' holds no images.")
    unknown = set(plans) - set(SPLITS)
    if unknown:
        raise DataError(f"Data set '{name}' has splits {sorted(unknown)}; only {', '.join(SPLITS)} are known.")
    ids = np.concatenate([plan.ids for plan in plans.values()])
    if len(np.unique(ids)) != len(ids):
        raise DataError(f"Data set '{name}' gives the same sample id twice; splits must not share samples.")
    for split, plan in plans.items():
        for column, names in (
            ("labels", None), ("attributes", info.attributes), ("factors", info.factors), ("nuisance", info.nuisance),
        ):  # fmt: skip
            values = getattr(plan, column)
            if values is None:
                continue
            expected = (len(plan.ids),) if names is None else (len(plan.ids), len(names))
            if np.shape(values) != expected:
                raise DataError(
                    f"Data set '{name}', {split}: {column} have the shape {np.shape(values)}; {len(plan.ids)} images "
                    f"with {1 if names is None else len(names)} value(s) each need {expected}."
                )
        classes = len(info.classes)
        checks = [
            ("labels", plan.labels, classes, f"there are {classes} classes, which count from 0."),
            ("attributes", plan.attributes, 2, "1 says that an image has the attribute, and 0 that it has not."),
        ]
        if plan.factors is not None:
            for factor, values in zip(info.factors, plan.factors.T, strict=True):
                count = len(factor.values)
                rule = f"it has {count} of them, which count from 0."
                checks.append((f"values of factor '{factor.name}'", values, count, rule))
        for what, values, stop, rule in checks:
            _check_range(f"Data set '{name}', {split}: {what}", values, stop, rule)


def _check_range(what: str, values: np.ndarray | None, stop: int, rule: str) -> None:
    """Refuse what is no whole number in [0, stop): the file's integers would hold something else."""
    if values is None or not values.size:
        return
    if values.dtype.kind not in "buif":
        raise DataError(f"{what} are {values.dtype}; {rule}", "Give whole numbers.")
    low, high = values.min(), values.max()
    if not (low >= 0 and high < stop):
        raise DataError(f"{what} run from {low} to {high}; {rule}")
    if values.dtype.kind == "f" and (values % 1).any():
        raise DataError(f"{what} hold fractions; {rule}", "Give whole numbers.")


def _check_drawn(name: str, split: str, start: int, stop: int, drawn: Any, size: int, source: ImageSource) -> None:
    call = f"Data set '{name}': draw('{split}', {start}, {stop}) gave"
    if not isinstance(drawn, Drawn):
        raise DataError(f"{call} a {type(drawn).__name__}.", "Return Drawn(images).")
    n = stop - start
    expected = f"uint8 {(n, 3, size, size)}"
    if (found := _type_and_shape(drawn.images)) != expected:
        raise DataError(
            f"{call} images {found}; {expected} is needed.",
            "Give one image for each row, as bytes: (255 * images).round().astype(np.uint8) where they are in [0, 1].",
        )
    expected = f"uint8 {(n, size, size)}" if source.has_masks else "None"
    if (found := _type_and_shape(drawn.masks)) != expected:
        raise DataError(
            f"{call} masks {found}; {expected} is needed, for has_masks is {source.has_masks}.",
            "Set has_masks to whether there are masks, and give them as uint8, 1 on the foreground.",
        )


def _type_and_shape(array: Any) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype} {array.shape}"
    return "None" if array is None else f"a {type(array).__name__}"


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
