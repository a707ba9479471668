"""From spatial latents to codes, and from a data set to the factors that codes are compared with.

Disentanglement scores want one vector of codes an image. What a code is decides the score, so it is named with it:

    pooled     mean over positions: d codes, one per channel
    flattened  every latent value: d h w codes
    pca        leading principal components of the flattened latents; a rotation, so axis-aligned scores of it are not
               those of the latents' own axes
    position   the d channels at one position; a score is taken at every position and averaged
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse.linalg import eigsh

from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.data.base import SPLITS, SplitName
from vaebench.metrics.base import MetricInputs
from vaebench.metrics.fidelity.statistics import RunningStatistics

Vectorisation = Literal["pooled", "flattened", "pca", "position"]
# A factor with more distinct values than this share of the samples is a continuous quantity, not a factor.
CONTINUOUS_SHARE = 0.05
MANY_DIMENSIONS = 1024


@dataclass(frozen=True)
class Codes:
    """Codes of the training, validation and test rows, (n, D) float32 each."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def width(self) -> int:
        """Number of codes D."""
        return int(self.train.shape[1])


def vectorise(inputs: MetricInputs, how: Vectorisation, samples: int, components: int = 16) -> Iterator[Codes]:
    """Codes of normalised latents by a vectorisation fitted on the training split; one item, or one per position.

    Args:
        inputs: the latents.
        how: see the module.
        samples: rows of each split at most, see `MetricInputs.rows`.
        components: of ``pca``.

    Raises:
        TooFewSamples: not more training samples than components.
        NumericalError: latents that are not finite, or without any variation.
    """
    if how == "position":
        flat = [_map(inputs, split, samples, lambda block: block.reshape(*block.shape[:2], -1)) for split in SPLITS]
        for position in range(flat[0].shape[2]):
            yield Codes(*(part[:, :, position] for part in flat))
        return
    transform: Callable[[np.ndarray], np.ndarray] = lambda block: block.reshape(len(block), -1)  # noqa: E731
    if how == "pooled":
        transform = lambda block: block.mean((2, 3))  # noqa: E731
    elif how == "pca":
        mean, directions, _ = principal_directions(inputs, samples, components)
        transform = lambda block: (block.reshape(len(block), -1) - mean) @ directions  # noqa: E731
    codes = Codes(*(_map(inputs, split, samples, transform) for split in SPLITS))
    if not np.any(codes.train.std(0) > 0):
        raise NumericalError("The latents are constant: no code tells anything.", "Check the tokenizer.")
    yield codes


def _map(
    inputs: MetricInputs, split: SplitName, samples: int, transform: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    blocks = inputs.blocks(getattr(inputs, split), inputs.rows(split, samples))
    return np.concatenate([transform(block) for block in blocks]).astype(np.float32)


class Principal(NamedTuple):
    """Mean (D,), leading principal directions (D, components), and the share of all variance that lies along them."""

    mean: np.ndarray
    directions: np.ndarray
    explained: float


def principal_directions(inputs: MetricInputs, samples: int, components: int) -> Principal:
    """Principal directions of flattened normalised training latents.

    The sign of a direction is fixed by its largest entry, so that a code does not flip between machines. Several
    metrics ask for the same ones, which are computed once.
    """
    rows = inputs.rows("train", samples)
    dimension = int(np.prod(inputs.train.shape))
    components = min(components, dimension)
    if len(rows) <= components:
        raise TooFewSamples(f"{components} principal components need more than {len(rows)} training samples.")
    key = ("principal directions", len(rows), components)
    if key in inputs.kept:
        kept: Principal = inputs.kept[key]
        return kept
    running = RunningStatistics(dimension)
    for block in inputs.blocks(inputs.train, rows):
        running.update(block.reshape(len(block), -1))
    moments = running.result()
    leading = leading_vectors(moments.covariance, components)
    signs = np.sign(leading[np.abs(leading).argmax(0), np.arange(components)])
    total = np.trace(moments.covariance)
    along = np.sum(leading * (moments.covariance @ leading))
    found = Principal(moments.mean, leading * signs, float(along / total) if total > 0 else 0.0)
    inputs.kept[key] = found
    return found


def leading_vectors(symmetric: np.ndarray, count: int) -> np.ndarray:
    """Eigenvectors (D, count) of the largest eigenvalues of a symmetric matrix, largest first.

    Of a few of many dimensions by Lanczos, to rounding: all of 8,192 would take minutes and 2 GiB more.
    """
    if len(symmetric) <= MANY_DIMENSIONS or 8 * count > len(symmetric):
        return np.asarray(np.linalg.eigh(symmetric)[1][:, ::-1][:, :count])
    start = np.random.default_rng(0).standard_normal(len(symmetric))  # the same ones every time
    values, vectors = eigsh(symmetric, count, which="LA", v0=start)
    return np.asarray(vectors[:, np.argsort(-values)])


@dataclass(frozen=True)
class Targets:
    """What codes are compared with.

    Attributes:
        kind: "factors" of the data set, or its binary "attributes" where it has none.
        names: of the columns. values: int64 (n, K) per split, values 0 .. of each column.
        excluded: name -> why a column is left out.
        continuous: name -> values (n,) in the test split, of those left out because they are continuous.
        drawn: what the protocol says of the rows, see `MetricInputs.drawn`.
    """

    kind: str
    names: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    excluded: dict[str, str]
    continuous: Mapping[str, np.ndarray] = field(default_factory=dict)
    drawn: Mapping[str, str] = field(default_factory=dict)

    def sizes(self) -> np.ndarray:
        """Number of values of each column."""
        return np.asarray(self.train.max(0) + 1)


def targets(inputs: MetricInputs, samples: int) -> Targets:
    """The data set's factors, or its attributes as factors of two values; constant and continuous ones left out.

    Raises:
        DataError: the data set has neither, or none that varies.
    """
    kind = "factors" if "factors" in inputs.available else "attributes"
    columns = {split: getattr(getattr(inputs, split), kind) for split in SPLITS}
    if any(column is None for column in columns.values()):
        raise DataError("These data have neither factors nor attributes.", "Leave disentanglement scores out.")
    names = [f.name for f in inputs.info.factors] if kind == "factors" else list(inputs.info.attributes)
    parts = [np.asarray(column[inputs.rows(split, samples)], np.int64) for split, column in columns.items()]
    excluded = exclusions(parts[0], names)
    kept = [k for k, name in enumerate(names) if name not in excluded]
    if not kept:
        raise DataError(
            f"None of the {len(names)} {kind} can be used: {'; '.join(f'{k} {v}' for k, v in excluded.items())}."
        )
    train, validation, test = (part[:, kept] for part in parts)
    continuous = {
        name: parts[2][:, k] for k, name in enumerate(names) if name in excluded and np.ptp(parts[0][:, k]) > 0
    }
    drawn = inputs.drawn(samples, *SPLITS)
    return Targets(kind, tuple(names[k] for k in kept), train, validation, test, excluded, continuous, drawn)


def exclusions(values: np.ndarray, names: list[str]) -> dict[str, str]:
    """Name -> reason of columns of (n, K) that no score can be computed on: constant ones and continuous ones."""
    found = {}
    for name, column in zip(names, values.T, strict=True):
        count = len(np.unique(column))
        if count < 2:
            found[name] = "is constant"
        elif count > max(32, CONTINUOUS_SHARE * len(column)):
            found[name] = f"has {count} values in {len(column)} samples: continuous, not a factor"
    return found


def require_finite(codes: np.ndarray) -> None:
    """Raise NumericalError for NaN or infinity among codes."""
    if not np.isfinite(codes).all():
        raise NumericalError("The codes hold NaN or infinity.", "Check the tokenizer, or extract the latents again.")
