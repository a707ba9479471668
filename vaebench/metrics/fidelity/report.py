"""All fidelity metrics of one set of features against another."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vaebench.core.errors import TooFewSamples, UnknownName, suggest
from vaebench.metrics.fidelity.frechet import frechet_distance, frechet_from_samples
from vaebench.metrics.fidelity.inception_score import SPLIT_SIZE, inception_score, inception_score_interval
from vaebench.metrics.fidelity.kernel import kernel_distance
from vaebench.metrics.fidelity.manifold import manifold_scores
from vaebench.metrics.fidelity.statistics import Statistics, statistics
from vaebench.metrics.fidelity.uncertainty import frechet_interval
from vaebench.metrics.intervals import bootstrap_mean

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959963984540054


class SmallSampleWarning(UserWarning):
    """A number that is computed as asked, from too few samples to be taken at face value."""


@dataclass(frozen=True)
class Result:
    """One metric.

    Attributes:
        name: "fid", "kid", "precision", "recall", "density", "coverage" or "inception_score".
        value: the number.
        direction: which way is better.
        low, high: bounds of the interval.
        interval: what the interval covers.
        n, n_reference: samples of either side; None where there is no reference, or it does not say.
        settings: everything that moves the number, apart from the features themselves.
        notes: cautions that belong beside the number.
    """

    name: str
    value: float
    direction: Literal["higher", "lower"]
    low: float | None
    high: float | None
    interval: str | None
    n: int
    n_reference: int | None
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fid(
    generated: np.ndarray,
    reference: np.ndarray | Statistics,
    *,
    generator: np.random.Generator,
    resamples: int = 1000,
    paired: bool = False,
) -> list[Result]:
    """Fréchet distance with a first-order bootstrap interval over the samples of both sides.

    Where both sides are ``paired``, as reconstructions and their originals are, it is over pairs. A reference may come
    as moments alone, as published ones do; the interval is then over the generated samples. Of pooled Inception
    features this is FID, of its spatial ones sFID, of another network's that network's distance.

    Warns with :class:`SmallSampleWarning`, and notes in the result, when a side has no more samples than features: its
    covariance is then singular and the distance mostly bias.
    """
    dimension = generated.shape[1]
    if isinstance(reference, Statistics):
        value, n_reference = frechet_distance(statistics(generated), reference), reference.n
        over = "generated samples, the reference as given"
    else:
        value, n_reference = frechet_from_samples(generated, reference), len(reference)
        over = "pairs of an image on either side" if paired else "samples of both sides"
    low, high = frechet_interval(
        generated, reference, value, generator=generator, confidence=CONFIDENCE, resamples=resamples, paired=paired
    )
    notes = small_sample_notes(len(generated), n_reference, dimension)
    for note in notes:
        warnings.warn(note, SmallSampleWarning, stacklevel=3)
    interval = f"95% bootstrap over {over} (first order; not the bias of finite n)"
    settings = {"dimension": dimension}
    return [Result("fid", value, "lower", low, high, interval, len(generated), n_reference, settings, notes)]


def small_sample_notes(n: int, n_reference: int | None, dimension: int) -> tuple[str, ...]:
    """The caution that belongs to a Fréchet distance from n <= d samples; empty when there are enough."""
    sides = {"generated": n, "reference": n_reference}
    few = [f"{count:,} {side} samples" for side, count in sides.items() if count is not None and count <= dimension]
    if not few:
        return ()
    return (
        f"FID from {' and '.join(few)} for {dimension:,} features: the covariance is singular and the value is biased "
        "upwards. Compare only at equal numbers, and look at KID, which has no such bias.",
    )


def inception(
    logits: np.ndarray, *, generator: np.random.Generator, resamples: int = 1000, split_size: int = SPLIT_SIZE
) -> Result:
    """Inception Score of logits (n, classes) with a first-order bootstrap interval over samples."""
    found = inception_score(logits, split_size=split_size)
    low, high = inception_score_interval(found, generator=generator, confidence=CONFIDENCE, resamples=resamples)
    interval = "95% bootstrap over samples (first order; not the bias of finite splits)"
    settings = {"split_size": split_size, "splits": len(found.per_split), "classes": logits.shape[1]}
    return Result("inception_score", found.value, "higher", low, high, interval, len(logits), None, settings)


def kid(
    generated: np.ndarray, reference: np.ndarray, *, generator: np.random.Generator, resamples: int = 1000
) -> list[Result]:
    """Kernel distance with a normal interval from the spread of subsets. ``resamples`` does not enter."""
    found = kernel_distance(generated, reference, generator=generator)
    low = high = None
    if np.isfinite(found.standard_error):
        half = NORMAL_QUANTILE * found.standard_error
        low, high = found.value - half, found.value + half
    interval = "95% normal over samples, from subsets of one share of either side" if low is not None else None
    settings = {"kernel": "(x.y/d + 1)^3", "subsets": len(found.subset_values), "subset_size": found.subset_size}
    return [Result("kid", found.value, "lower", low, high, interval, found.n, found.n_reference, settings)]


def manifold(
    generated: np.ndarray, reference: np.ndarray, *, generator: np.random.Generator, resamples: int = 1000
) -> list[Result]:
    """Precision, recall, density and coverage with bootstrap intervals over the samples that each one averages."""
    found = manifold_scores(generated, reference)
    results = []
    for name, k, over in (
        ("precision", 3, "generated"),
        ("recall", 3, "reference"),
        ("density", 5, "generated"),
        ("coverage", 5, "reference"),
    ):
        values = getattr(found, name).astype(np.float64)
        low, high = bootstrap_mean(values, generator, resamples=resamples, confidence=CONFIDENCE)
        interval = f"95% bootstrap over {over} samples, neighbourhoods held fixed"
        sizes = (len(generated), len(reference))
        results.append(
            Result(name, float(values.mean()), "higher", float(low), float(high), interval, *sizes, {"k": k})
        )
    return results


METRICS: dict[str, Callable[..., list[Result]]] = {"fid": fid, "kid": kid, "manifold": manifold}


def fidelity(
    generated: np.ndarray,
    reference: np.ndarray | Statistics,
    *,
    generator: np.random.Generator,
    metrics: tuple[str, ...] = ("fid", "kid", "manifold"),
    resamples: int = 1000,
    paired: bool = False,
) -> list[Result]:
    """Fidelity of generated (or reconstructed) images to a reference, from features of one frozen network.

    Args:
        generated: features (n, d).
        reference: features (m, d); for "fid" also moments alone.
        generator: draws subsets and resamples.
        metrics: of "fid", "kid" and "manifold" (precision, recall, density, coverage).
        resamples: bootstrap resamples behind the intervals.
        paired: whether row i of both sides belongs to one image, which the interval of "fid" then knows.

    Returns:
        One result per number.

    Raises:
        UnknownName: no such metric.
        TooFewSamples: fewer than 2 samples on a side, or no k-th neighbour.
        ValueError: features of different networks, or moments where samples are needed.
        NumericalError: features that are not finite.
    """
    moments = isinstance(reference, Statistics)
    shape = reference.mean.shape if isinstance(reference, Statistics) else reference.shape
    if generated.ndim != 2 or len(shape) != (1 if moments else 2) or generated.shape[1] != shape[-1]:
        raise ValueError(f"Features {generated.shape} cannot be compared with {shape}.")
    if len(generated) < 2 or (not moments and shape[0] < 2):
        raise TooFewSamples(
            f"Fidelity needs at least 2 samples a side, got {len(generated)} and {shape[0]}.", "Generate more samples."
        )
    results: list[Result] = []
    for name in metrics:
        if name not in METRICS:
            raise UnknownName(f"Unknown fidelity metric '{name}'.", suggest(name, METRICS))
        if moments and name != "fid":
            raise ValueError(f"Metric '{name}' needs the samples of the reference, and these are moments alone.")
        pairs = {"paired": True} if paired and name == "fid" else {}
        results += METRICS[name](generated, reference, generator=generator, resamples=resamples, **pairs)
    return results
