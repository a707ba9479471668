"""Inception Score: are single samples recognisable, and all of them together varied?"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from vaebench.core.errors import NumericalError, TooFewSamples
from vaebench.metrics.intervals import bootstrap_means

SPLIT_SIZE = 5000
"""Samples of a split in ADM's evaluation suite: ten splits of 50,000 samples."""


@dataclass(frozen=True)
class InceptionScore:
    """An Inception Score.

    Attributes:
        value: mean over the splits.
        per_split: the score of each split, (splits,).
        influence: change of ``value`` per unit of weight moved onto a sample, (n,), of mean zero.
    """

    value: float
    per_split: np.ndarray
    influence: np.ndarray


def inception_score(logits: np.ndarray, *, split_size: int = SPLIT_SIZE) -> InceptionScore:
    """IS = mean over splits of exp(mean over a split's samples x of KL(p(y|x) | p(y))), p(y) the split's mean.

    Splits are consecutive samples, as in ADM's suite; the last one may be smaller. A split smaller than others is
    biased downwards more, so compare only at equal numbers. At least 1, at most the number of classes.

    Args:
        logits: (n, classes). Logarithms of probabilities are logits too. ADM and torch-fidelity leave the bias of the
            classifier out ("logits_unbiased").
        split_size: samples of a split.

    Raises:
        ValueError: not two dimensions, or a split of no sample.
        TooFewSamples: no sample.
        NumericalError: NaN or infinity.

    Sources: Salimans et al., Improved Techniques for Training GANs (2016); Dhariwal and Nichol, Diffusion Models Beat
    GANs on Image Synthesis (2021), evaluation suite.
    """
    if logits.ndim != 2 or split_size < 1:
        raise ValueError(f"Expected logits (n, classes) and a split of 1 or more, got {logits.shape}, {split_size}.")
    n = len(logits)
    if n == 0:
        raise TooFewSamples("The Inception Score needs samples.", "Generate some.")
    starts = range(0, n, split_size)
    scores, influence = np.empty(len(starts)), np.empty(n)
    for index, start in enumerate(starts):
        rows = slice(start, min(start + split_size, n))
        divergences = _divergences(np.asarray(logits[rows], np.float64))
        scores[index] = np.exp(divergences.mean())
        # The split's p(y) moves too, but the mean divergence is at a minimum in it: no change of first order.
        share = n / (len(starts) * len(divergences))
        influence[rows] = share * scores[index] * (divergences - divergences.mean())
    return InceptionScore(float(scores.mean()), scores, influence)


def _divergences(logits: np.ndarray) -> np.ndarray:
    """KL(p(y|x) | p(y)) of each sample of a split."""
    if not np.isfinite(logits).all():
        raise NumericalError("Logits hold NaN or infinity.")
    logarithms = log_softmax(logits, axis=1)
    probabilities = np.exp(logarithms)
    mean = np.maximum(probabilities.mean(0), np.finfo(np.float64).tiny)
    found: np.ndarray = (probabilities * (logarithms - np.log(mean))).sum(1)
    return found


def inception_score_interval(
    score: InceptionScore, *, generator: np.random.Generator, confidence: float = 0.95, resamples: int = 1000
) -> tuple[float, float]:
    """Bootstrap interval over samples of a score, to first order and centred on it; the lower bound is at least 1.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 22.
    """
    shifts = bootstrap_means(score.influence, generator, resamples=resamples)
    low, high = np.quantile(shifts, [(1 - confidence) / 2, (1 + confidence) / 2])
    return max(score.value + float(low), 1.0), score.value + float(high)
