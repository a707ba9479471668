"""How far a Fréchet distance would move with other samples.

The spread comes from the bootstrap, in its first-order form by default: the distance is linearised in the weights of
the samples, which costs one eigendecomposition for any number of resamples. Both forms are centred on the estimate.

What no resampling can tell is the *bias*: with n samples in d dimensions FID is too large by an amount of order d / n,
and a resample, which repeats samples, is biased once more. Compare only at equal n; the interval covers the draw of the
samples, not the bias, and neither training nor sampling seeds.
"""

from typing import Literal

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from vaebench.metrics.fidelity.frechet import frechet_distance, frechet_from_samples
from vaebench.metrics.fidelity.statistics import CHUNK, Statistics, statistics
from vaebench.metrics.intervals import bootstrap_means

RIDGE = 1e-6
"""Added to both covariances as a share of their mean variance before they are inverted, so that dead features do no
harm. It enters the interval only, never the distance."""


def frechet_interval(
    generated: np.ndarray,
    reference: np.ndarray | Statistics,
    value: float,
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 1000,
    resample_reference: bool = True,
    paired: bool = False,
    method: Literal["linear", "full"] = "linear",
) -> tuple[float, float]:
    """Bootstrap interval of a Fréchet distance over samples, centred on its value.

    Args:
        generated: features (n, d).
        reference: features (m, d), or moments as a published reference comes, which are taken as given.
        value: their Fréchet distance.
        generator: source of the draws.
        confidence: coverage aimed at.
        resamples: number of resamples ("full" takes a covariance and an eigendecomposition for each).
        resample_reference: whether the reference counts as a sample too, or as given (as a published reference is).
        paired: whether row i of both sides belongs to one image, as a reconstruction and its original do; a resample
            then draws images, with both of their rows. Taken for independent, good reconstructions give an interval
            that is far too wide, since what an image does to one side it does to the other.
        method: "linear" averages the influence of each sample over resamples; "full" computes the distance of each
            resample and subtracts their mean, which removes the bias that resampling adds.

    Returns:
        Lower bound (at least 0) and upper bound.

    Raises:
        ValueError: paired sides of different lengths, or moments as one of them.

    Sources: Hampel et al., Robust Statistics (1986), chapter 2 (influence functions); Efron and Tibshirani, An
    Introduction to the Bootstrap (1993), chapters 10 and 22.
    """
    if paired and (isinstance(reference, Statistics) or len(reference) != len(generated)):
        raise ValueError("Paired sides have as many rows each, and moments have none.")
    if method == "linear":
        own = statistics(generated)
        if isinstance(reference, Statistics):
            shifts = bootstrap_means(influence_given(generated, own, reference), generator, resamples=resamples)
        else:
            of_generated, of_reference = influence(generated, reference, own, statistics(reference))
            if paired:
                of_generated, resample_reference = of_generated + of_reference, False
            shifts = bootstrap_means(of_generated, generator, resamples=resamples)
            if resample_reference:
                shifts = shifts + bootstrap_means(of_reference, generator, resamples=resamples)
    else:
        replicates = np.empty(resamples)
        for index in range(resamples):
            drawn = generator.integers(0, len(generated), len(generated))
            first = generated[drawn]
            if isinstance(reference, Statistics):
                replicates[index] = frechet_distance(statistics(first), reference)
                continue
            second = reference[drawn] if paired else reference
            if resample_reference and not paired:
                second = reference[generator.integers(0, len(reference), len(reference))]
            replicates[index] = frechet_from_samples(first, second)
        shifts = replicates - replicates.mean()
    low, high = np.quantile(shifts, [(1 - confidence) / 2, (1 + confidence) / 2])
    return max(value + float(low), 0.0), value + float(high)


def influence(
    first_features: np.ndarray, second_features: np.ndarray, first: Statistics, second: Statistics
) -> tuple[np.ndarray, np.ndarray]:
    """Influence of each sample on the Fréchet distance: its change per unit of weight moved onto that sample.

    For a sample x of the first set, with u = x - m₁ and T₁ the optimal map of the first Gaussian onto the second,

        2 u·(m₁ - m₂) + |u|² - uᵀ T₁ u,        T₁ = L⁻ᵀ (Lᵀ S₂ L)^½ L⁻¹,   S₁ = L Lᵀ

    less its mean; for the second set with the roles exchanged and T₂ = T₁⁻¹.

    Args:
        first_features, second_features: (n, d) and (m, d).
        first, second: their statistics.

    Returns:
        float64 (n,) and (m,), each of mean zero.
    """
    to_second, to_first = _half_maps(first, second)
    difference = first.mean - second.mean
    return (
        _influence_of(first_features, first, to_second, difference),
        _influence_of(second_features, second, to_first, -difference),
    )


def influence_given(features: np.ndarray, own: Statistics, reference: Statistics) -> np.ndarray:
    """Influence of each sample on the Fréchet distance to moments that are taken as given; see :func:`influence`."""
    to_reference, _ = _half_maps(own, reference)
    return _influence_of(features, own, to_reference, own.mean - reference.mean)


def _half_maps(first: Statistics, second: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """A with A Aᵀ = T₁ and B with B Bᵀ = T₂, the optimal maps of the Gaussians onto each other."""
    covariances = []
    for side in (first, second):
        ridge = RIDGE * np.trace(side.covariance) / side.dimension + np.finfo(np.float64).tiny
        covariances.append(side.covariance + ridge * np.eye(side.dimension))
    factor = cholesky(covariances[0], lower=True)
    squares, vectors = eigh(factor.T @ covariances[1] @ factor)
    roots = np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))
    return solve_triangular(factor, vectors, lower=True, trans="T") * np.sqrt(roots), factor @ vectors / np.sqrt(roots)


def _influence_of(features: np.ndarray, side: Statistics, half_map: np.ndarray, towards: np.ndarray) -> np.ndarray:
    influences = np.empty(len(features))
    for start in range(0, len(features), CHUNK):
        rows = slice(start, start + CHUNK)
        centred = features[rows].astype(np.float64) - side.mean
        mapped = centred @ half_map
        influences[rows] = 2.0 * (centred @ towards) + (centred**2).sum(1) - (mapped**2).sum(1)
    return influences - influences.mean()
