"""Bootstrap intervals of a mean, shared by every metric that is an average over samples."""

import numpy as np
from scipy.stats import t as student

from vaebench.core.errors import TooFewSamples

# So many draws stay in a processor's cache. Of many columns, counts of more draws are multiplied with all at once.
DRAWS_AT_ONCE, MANY_DRAWS = 250_000, 4_000_000
FEW_COLUMNS = 8
# Of so few distinct values (accuracies, shares of neighbours) it is enough to draw how often each occurs.
FEW_VALUES = 256


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
    if values.ndim == 1:
        distinct, counts = np.unique(values, return_counts=True)
        if len(distinct) <= FEW_VALUES and 4 * len(distinct) <= n:
            return np.asarray(generator.multinomial(n, counts / n, resamples) @ distinct / n)
    columns = values.reshape(n, -1).T
    at_once = max(1, (DRAWS_AT_ONCE if len(columns) <= FEW_COLUMNS else MANY_DRAWS) // n)
    parts = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        if len(columns) <= FEW_COLUMNS:
            drawn = generator.integers(0, n, (rows, n))
            parts.append(np.stack([column.take(drawn).sum(1) for column in columns], 1) / n)
        else:
            parts.append(resample_counts(n, rows, generator).astype(np.float64) @ columns.T / n)
    return np.concatenate(parts).reshape(resamples, *values.shape[1:])


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


def centred(value: float, draws: np.ndarray) -> tuple[float, float]:
    """95% quantiles of bootstrap draws less the bootstrap's bias (their mean minus the value); NaN ones are dropped.

    The bounds of draws that are few distinct numbers, mostly one, may still miss the value: they are then moved to it.
    """
    low, high = np.nanquantile(draws, [0.025, 0.975]) + value - np.nanmean(draws)
    return min(float(low), value), max(float(high), value)


def half_width(error: float, groups: int, confidence: float = 0.95) -> float:
    """Half of an interval from a standard error that the spread over so many groups gave: Student's t of groups - 1
    degrees of freedom."""
    return float(student.ppf((1 + confidence) / 2, groups - 1) * error)
