"""Bootstrap intervals of a mean, shared by every metric that is an average over samples."""

import numpy as np

from vaebench.core.errors import TooFewSamples

DRAWS_AT_ONCE = 4_000_000


def resample_counts(n: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of n samples is drawn, in ``resamples`` draws of n with replacement: int64 (resamples, n)."""
    rows = generator.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(rows.ravel(), minlength=resamples * n).reshape(resamples, n)


def bootstrap_means(values: np.ndarray, generator: np.random.Generator, *, resamples: int = 1000) -> np.ndarray:
    """Means of bootstrap resamples.

    Args:
        values: one number per sample (n,), or several (n, m); the same samples are drawn for all m.
        generator: source of the draws.
        resamples: number R of resamples.

    Returns:
        float64 (R,) or (R, m).

    Raises:
        TooFewSamples: no sample.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    if n == 0:
        raise TooFewSamples("A mean over no samples has no interval.")
    at_once = max(1, DRAWS_AT_ONCE // n)
    parts = [
        resample_counts(n, min(at_once, resamples - start), generator) @ values / n
        for start in range(0, resamples, at_once)
    ]
    return np.concatenate(parts)


def bootstrap_mean(
    values: np.ndarray, generator: np.random.Generator, *, resamples: int = 1000, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over samples.

    Args:
        values: (n,) or (n, m), as for :func:`bootstrap_means`.
        generator: source of the draws.
        resamples: number of resamples.
        confidence: coverage aimed at, in (0, 1).

    Returns:
        Lower and upper bounds, arrays of shape () or (m,). With one sample both are that sample.

    Raises:
        TooFewSamples: no sample.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    means = bootstrap_means(values, generator, resamples=resamples)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high
