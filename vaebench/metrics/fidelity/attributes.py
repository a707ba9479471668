"""Whether generated images show attributes as often as real ones do, and in the same combinations.

A linear reader is trained on the features of real images, and reads real images that it has not seen and generated
ones alike, so that its own errors fall on both sides. It reads what its features show: attributes that it cannot tell
on real images are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaebench.core.errors import TooFewSamples
from vaebench.metrics.intervals import resample_counts
from vaebench.metrics.probing.logistic import fit_logistic

CS = (1e-4, 1e-3, 1e-2, 1e-1)
READABLE = 0.75


@dataclass(frozen=True)
class AttributeReader:
    """Linear classifiers of attributes on features.

    Attributes:
        names: of the A attributes.
        coefficients: (P, A). intercepts: (A,). An attribute is there where x w + b > 0.
        balanced_accuracy: (A,) on images that neither training nor the choice of C saw.
    """

    names: tuple[str, ...]
    coefficients: np.ndarray
    intercepts: np.ndarray
    balanced_accuracy: np.ndarray

    def read(self, features: np.ndarray) -> np.ndarray:
        """Which attributes images with these features (n, P) show, bool (n, A)."""
        return np.asarray(features @ self.coefficients + self.intercepts > 0)

    def readable(self, least: float = READABLE) -> "AttributeReader":
        """Of the attributes whose balanced accuracy is at least this."""
        kept = np.flatnonzero(self.balanced_accuracy >= least)
        return AttributeReader(
            tuple(self.names[a] for a in kept),
            self.coefficients[:, kept],
            self.intercepts[kept],
            self.balanced_accuracy[kept],
        )


def fit_reader(
    features: np.ndarray,
    attributes: np.ndarray,
    held_out: np.ndarray,
    held_out_attributes: np.ndarray,
    names: tuple[str, ...],
    device: str = "cpu",
) -> AttributeReader:
    """Logistic regressions on standardised features (n, P) for attributes (n, A) of 0 and 1.

    Each attribute's C is chosen by balanced accuracy on the even rows of the held-out images, which is stated on the
    odd ones. Attributes with one value only, in either set or half, are left out.
    """
    halves = [held_out_attributes[start::2] for start in (0, 1)]
    varied = [(part.min(0) < part.max(0)) for part in (attributes, *halves)]
    kept = np.flatnonzero(np.all(varied, axis=0))
    width = features.shape[1]
    if not len(kept):
        return AttributeReader((), np.zeros((width, 0)), np.zeros(0), np.zeros(0))
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 1e-6 * np.abs(mean))
    fit = fit_logistic(((features - mean) * scale).astype(np.float32), attributes[:, kept], CS, device=device)
    standardised = (held_out - mean) * scale
    accuracies = []
    for start in (0, 1):
        margins = standardised[start::2] @ np.swapaxes(fit.coefficients, 1, 2) + fit.intercepts[:, None]
        truth = held_out_attributes[start::2, kept].astype(bool)
        hits, rejections = ((margins > 0) & truth).sum(1), ((margins <= 0) & ~truth).sum(1)
        accuracies.append((hits / truth.sum(0) + rejections / (~truth).sum(0)) / 2)
    chosen, each = accuracies[0].argmax(0), np.arange(len(kept))
    weights = fit.coefficients[chosen, each].T * scale[:, None]
    return AttributeReader(
        tuple(names[a] for a in kept),
        weights.astype(np.float32),
        (fit.intercepts[chosen, each] - mean @ weights).astype(np.float32),
        accuracies[1][chosen, each],
    )


@dataclass(frozen=True)
class Shift:
    """A mean absolute difference between two sets of images.

    Attributes:
        value: the mean over attributes, or over pairs of them.
        low, high: 95% bias-centred bootstrap over both sets, of the value that sets of these sizes have on average.
        floor: what the value would be on average if both sets had one law: its mean over random splits of both.
        per_item: signed differences (A,), or (A, A) for pairs.
    """

    value: float
    low: float
    high: float
    floor: float
    per_item: np.ndarray


def attribute_shifts(
    generated: np.ndarray, real: np.ndarray, generator: np.random.Generator, resamples: int = 200
) -> tuple[Shift, Shift]:
    """How attributes (n, A) and (m, A), bools, differ in frequency and in combination.

    The first is mean_a |p_a - q_a| of the shares of images that show an attribute; the second the mean of |phi - phi'|
    over pairs, with phi the correlation of two attributes (0 where one of them never or always shows).

    An absolute difference of samples is larger on average than that of the laws, and does not vanish where the laws are
    equal. The interval, quantiles of bootstrap draws less their mean plus the value, is about the average at these
    sizes, not about the laws; the floor shows what of it is chance: both sets pooled and split again at random, with
    the same sizes.

    Args:
        generated, real: what the images show.
        generator: source of the draws.
        resamples: bootstrap draws behind the intervals, and as many splits behind the floors.

    Raises:
        TooFewSamples: fewer than two images on a side, or fewer than two attributes.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 10 (bias) and 15 (permutations).
    """
    if min(len(generated), len(real)) < 2 or generated.shape[1] < 2:
        raise TooFewSamples("Shifts of attributes need two images on either side and two attributes.")
    sides = [side.astype(np.float32) for side in (generated, real)]
    sizes = (len(generated), len(real))
    differences = _differences([side.T @ side for side in sides], sizes)
    draws, splits = np.empty((resamples, 2)), np.empty((resamples, 2))
    counts = [resample_counts(size, resamples, generator).astype(np.float32) for size in sizes]
    for i in range(resamples):
        resampled = [side.T @ (side * count[i, :, None]) for side, count in zip(sides, counts, strict=True)]
        draws[i] = _means(_differences(resampled, sizes))
    pooled = np.concatenate(sides)
    total = pooled.T @ pooled
    for i in range(resamples):
        part = pooled[generator.choice(len(pooled), sizes[0], replace=False, shuffle=False)]
        first = part.T @ part
        splits[i] = _means(_differences([first, total - first], sizes))
    found = []
    for difference, value, drawn, split in zip(differences, _means(differences), draws.T, splits.T, strict=True):
        low, high = np.quantile(drawn, [0.025, 0.975]) + value - drawn.mean()
        found.append(Shift(value, max(float(low), 0.0), float(high), float(split.mean()), difference))
    return found[0], found[1]


def _differences(shown: Sequence[np.ndarray], sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Differences of shares (A,) and of correlations (A, A) from how many images of a side show two attributes (A, A).

    Such counts are exact in float32 up to 2^24.
    """
    (p, f), (q, g) = (_moments(both.astype(np.float64) / n) for both, n in zip(shown, sizes, strict=True))
    return p - q, f - g


def _moments(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares (A,) and correlations (A, A) of attributes from the shares of images that show both of two (A, A)."""
    share = np.diag(both)
    std = np.sqrt(share * (1 - share))
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 0)
    return share, (both - np.outer(share, share)) * np.outer(scale, scale)


def _means(differences: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Mean absolute difference over attributes, and over pairs of them."""
    shares, correlations = differences
    return float(np.abs(shares).mean()), float(np.abs(correlations[np.triu_indices(len(shares), 1)]).mean())
