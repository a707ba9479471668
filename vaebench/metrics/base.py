"""The contract of latent scores: what a metric may look at, what it needs, and how it reports.

The formulas are pure functions on arrays in the rooms of this floor. A `Metric` is the thin adapter around them: it
says what it needs, takes its settings and a seed, and returns scores with interval, n, direction and protocol.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from vaebench.core.config import Config as BaseConfig
from vaebench.core.config import build as validated
from vaebench.core.errors import NumericalError
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import DataInfo, SplitName
from vaebench.metrics.intervals import bootstrap_mean

BLOCK_BYTES = 64 * 2**20
Rows = Callable[[np.ndarray], np.ndarray]

# What a metric may need -> how a reader is told that it is missing.
NEEDS = {
    "labels": "class labels of two classes or more",
    "attributes": "attributes",
    "factors": "generative factors",
    "masks": "masks",
    "images": "the images",
    "std": "posterior standard deviations (a stochastic encoder)",
    "positions": "more than one latent position",
    "tokenizer": "the tokenizer",
    "fid features": "a feature network for FID",
}


class ArrayLike(Protocol):
    """Latents as a metric sees them: NumPy arrays, memory maps and HDF5 data sets fit."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Selected:
    """Some rows of an array, read where they are asked for: together they may be larger than memory."""

    source: ArrayLike
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the selected rows."""
        return len(self.rows), *self.source.shape[1:]

    def __getitem__(self, index: Any, /) -> np.ndarray:
        return self.source[self.rows[index]]


@dataclass(frozen=True)
class LatentSplit:
    """One split. Row i of everything belongs to one image.

    Attributes:
        mean: posterior means of the RAW latents, (N, d, h, w), float16 or float32, perhaps larger than memory.
        std: posterior standard deviations like ``mean``.
        labels: int64 (N,). attributes: uint8 (N, A). factors: int (N, K). nuisance: float32 (N, M). Or None.
        images: rows -> uint8 (n, 3, H, W), or None.
        masks: rows -> uint8 (n, H, W), 1 on the foreground, or None.
    """

    mean: ArrayLike
    std: ArrayLike | None = None
    labels: np.ndarray | None = None
    attributes: np.ndarray | None = None
    factors: np.ndarray | None = None
    nuisance: np.ndarray | None = None
    images: Rows | None = None
    masks: Rows | None = None

    def __len__(self) -> int:
        return int(self.mean.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(d, h, w) of one row."""
        d, h, w = self.mean.shape[1:]
        return int(d), int(h), int(w)


@dataclass(frozen=True)
class MetricInputs:
    """Everything a metric may look at.

    Attributes:
        train, validation, test: what is fitted is fitted on ``train``, chosen on ``validation``, scored on ``test``.
        info: names of classes, attributes and factors; whether attributes are per image or per class.
        shift, scale: per-channel normalisation z' = (z - shift) * scale, float (d,), from the training latents.
        encode: uint8 images (n, 3, H, W) -> raw posterior means (n, d, h, w), or None.
        decode: raw latents (n, d, h, w) -> images (n, 3, H, W) as floats on the [-1, 1] scale, or None.
        fid_features: uint8 images -> float32 features (n, P) of the network that FID is measured with, or None.
        f: downsampling factor.
        device: torch device for heavy products.
    """

    train: LatentSplit
    validation: LatentSplit
    test: LatentSplit
    info: DataInfo
    shift: np.ndarray
    scale: np.ndarray
    encode: Rows | None = None
    decode: Rows | None = None
    fid_features: Rows | None = None
    f: int | None = None
    device: str = "cpu"

    @cached_property
    def kept(self) -> dict[Hashable, Any]:
        """What one metric has computed and another will ask for, by whatever tells it apart."""
        return {}

    @cached_property
    def available(self) -> frozenset[str]:
        """Which of `NEEDS` can be met."""
        test = self.test
        found = {
            "labels": test.labels is not None and len(self.info.classes) > 1,
            "attributes": test.attributes is not None and test.attributes.shape[1] > 0,
            "factors": test.factors is not None and test.factors.shape[1] > 0,
            "masks": test.masks is not None,
            "images": test.images is not None,
            "std": test.std is not None and bool(np.any(test.std[:64] > 0)),
            "positions": test.shape[1] * test.shape[2] > 1,
            "tokenizer": self.encode is not None and self.decode is not None,
            "fid features": self.fid_features is not None,
        }
        return frozenset(name for name, there in found.items() if there)

    def rows(self, split: SplitName, count: int) -> np.ndarray:
        """Which rows of a split to look at, int64, ascending: all, or ``count`` drawn at random where there are more.

        Data are often stored by class or factor, so the first rows would show few of them. The draw depends on the
        split's name and length alone: every metric sees the same images, and fewer are among more.
        """
        n = len(getattr(self, split))
        return np.arange(n) if count >= n else np.sort(numpy_generator("rows", split, n).permutation(n)[:count])

    def drawn(self, count: int, *splits: SplitName) -> dict[str, str]:
        """What a protocol says of `rows`: how they were chosen, where one of these splits has more than ``count``."""
        return {"rows": "drawn at random"} if any(count < len(getattr(self, split)) for split in splits) else {}

    def means(self, split: SplitName, count: int) -> ArrayLike:
        """Raw posterior means of the `rows` of a split, not yet read."""
        rows, mean = self.rows(split, count), getattr(self, split).mean
        return mean if len(rows) == mean.shape[0] else Selected(mean, rows)

    def normalised(self, split: LatentSplit, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Normalised means of these rows, float32 (n, d, h, w).

        Raises:
            NumericalError: NaN or infinity among them.
        """
        latents = np.asarray(split.mean[rows], np.float32)
        if not np.isfinite(latents).all():
            raise NumericalError("The latents hold NaN or infinity.", "Check the tokenizer, or extract them again.")
        return (latents - self.shift[:, None, None].astype(np.float32)) * self.scale[:, None, None].astype(np.float32)

    def blocks(self, split: LatentSplit, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Normalised means of a split (or of some of its rows) in blocks of bounded memory, in order."""
        rows_at_once = max(1, BLOCK_BYTES // (4 * int(np.prod(split.shape))))
        for start in range(0, len(split) if rows is None else len(rows), rows_at_once):
            part = slice(start, min(start + rows_at_once, len(split))) if rows is None else rows[start:][:rows_at_once]
            yield self.normalised(split, part)


class Metric(ABC):
    """One latent score, or a few that come from one computation.

    Class attributes:
        name: registered name. summary: one line, with the paper. needs: which of `NEEDS` it cannot do without.
        needs_one_of: and of which others one is enough, best first.
        Config: settings that move the number; they become the protocol. version: raised when the numbers change.
        choices: settings that only say which variants are computed, or that move some of them only. They stay out of
            the protocol, in which each score says its own: one variant more must not part the others from theirs of
            before.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    needs_one_of: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[BaseConfig]] = BaseConfig
    version: ClassVar[int] = 1
    choices: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BaseConfig | Mapping[str, Any] | None = None) -> None:
        if not isinstance(config, self.Config):
            config = validated(self.Config, dict(config or {}), where=f"metric '{self.name}'")
        self.config: Any = config

    @classmethod
    def lacking(cls, available: frozenset[str] = frozenset()) -> list[str]:
        """What it needs and these do not have, in words; by default all that it needs beside latents."""
        found = [NEEDS.get(need, need) for need in sorted(cls.needs - available)]
        if cls.needs_one_of and available.isdisjoint(cls.needs_one_of):
            found.append(" or ".join(NEEDS.get(need, need) for need in cls.needs_one_of))
        return found

    def missing(self, inputs: MetricInputs) -> str | None:
        """Why the score is not available for these inputs, such as "needs masks", or None."""
        lacking = self.lacking(inputs.available)
        return f"needs {' and '.join(lacking)}" if lacking else None

    @abstractmethod
    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        """The scores. Every draw comes from generators keyed by ``seed`` and the metric's name."""

    def score(
        self,
        metric: str,
        value: float,
        direction: Literal["higher", "lower", "none"],
        n: int,
        *,
        seed: int,
        low: float | None = None,
        high: float | None = None,
        interval: str | None = None,
        protocol: Mapping[str, Any] | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Score:
        """A score whose protocol is the metric's name, version, settings but for `choices`, and ``protocol`` on top."""
        settings = self.config.model_dump(mode="json", exclude=set(self.choices))
        return Score(
            metric=metric,
            value=float(value),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
            interval=interval,
            n=n,
            seed=seed,
            direction=direction,
            protocol={"metric": self.name, "version": self.version, **settings, **(protocol or {})},
            detail=dict(detail or {}),
        )

    def mean_score(
        self,
        metric: str,
        per_image: np.ndarray,
        direction: Literal["higher", "lower", "none"],
        *,
        seed: int,
        protocol: Mapping[str, Any] | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Score:
        """Score of a mean over images (NaN dropped and counted) with its bootstrap interval.

        Raises:
            NumericalError: no image has a value.
        """
        values = np.asarray(per_image, np.float64)
        kept = values[~np.isnan(values)]
        if not len(kept):
            raise NumericalError(f"{metric}: no image has a defined value.")
        low, high = bootstrap_mean(kept, numpy_generator(seed, self.name, metric, "bootstrap"))
        dropped = {"undefined": int(len(values) - len(kept))} if len(kept) < len(values) else {}
        return self.score(
            metric,
            float(kept.mean()),
            direction,
            len(kept),
            seed=seed,
            low=float(low),
            high=float(high),
            interval="95% bootstrap over images",
            protocol=protocol,
            detail={**dropped, **(detail or {})},
        )
