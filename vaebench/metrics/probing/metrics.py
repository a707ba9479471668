"""Metrics of multi-label predictions under sample weights, so that one code gives the value and its bootstrap.

``counts`` (n, R) says how often each sample occurs in each of R resamples; a column of ones is the sample itself. Every
function returns (A, R), or (R,) where attributes are ranked together, with NaN where a resample leaves it undefined.
"""

from __future__ import annotations

import numpy as np


def bootstrap_counts(n: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of n samples occurs in each resample of n draws with replacement: float32 (n, resamples)."""
    draws = generator.integers(0, n, (n, resamples))
    flat = np.bincount((draws * resamples + np.arange(resamples)).ravel(), minlength=n * resamples)
    return flat.reshape(n, resamples).astype(np.float32)


def f1(predicted: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """F1 of the positive class, 2 TP / (predicted + actual positives), per attribute.

    Args:
        predicted: (n, A) in {0, 1}.
        y: (n, A) in {0, 1}.
        counts: (n, R).
    """
    hits = _sums(predicted & y, counts)
    return _ratio(2 * hits, _sums(predicted, counts) + _sums(y, counts))


def balanced_accuracy(predicted: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean of sensitivity and specificity, per attribute. Arguments as in :func:`f1`."""
    sensitivity = _ratio(_sums(predicted & y, counts), _sums(y, counts))
    specificity = _ratio(_sums((1 - predicted) & (1 - y), counts), _sums(1 - y, counts))
    return (sensitivity + specificity) / 2


def average_precision(scores: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum over thresholds of precision times the gain in recall, per attribute; tied scores enter together.

    Args:
        scores: (n, A), higher is more positive.
        y: (n, A) in {0, 1}.
        counts: (n, R).
    """
    result = np.full((scores.shape[1], counts.shape[1]), np.nan)
    for a in range(scores.shape[1]):
        order = np.argsort(-scores[:, a], kind="stable")
        ranked, positive = scores[order, a], y[order, a] == 1
        if not positive.any():
            continue
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        # Precision matters only where recall grows, so groups of ties without a positive join the next that has one.
        ends = np.r_[starts[1:], len(ranked)][np.logical_or.reduceat(positive, starts)]
        starts = np.r_[0, ends[:-1]]
        firsts = np.r_[0, np.cumsum(positive)[ends[:-1] - 1]]
        seen = np.cumsum(np.add.reduceat(counts[order[: ends[-1]]], starts), axis=0)
        gained = np.add.reduceat(counts[order[positive]], firsts)
        hits = np.cumsum(gained, axis=0)
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        result[a] = _ratio((precision * gained).sum(0, dtype=np.float64), hits[-1])
    return result


def top_k_recall(scores: np.ndarray, y: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Share of an image's attributes among its k highest-ranked ones, averaged over images that have any: (R,).

    The ranking measure of DeepFashion (Liu et al., CVPR 2016). An image with more than k attributes cannot reach 1.

    Args:
        scores: (n, A), comparable between attributes; or (A,), one ranking for all images.
        y: (n, A) in {0, 1}.
        counts: (n, R).
        k: number of attributes named per image.
    """
    ranking = np.broadcast_to(np.argsort(-scores, axis=-1, kind="stable")[..., :k], (len(y), min(k, y.shape[1])))
    hits = np.take_along_axis(y, ranking, axis=1).sum(1)
    positives = y.sum(1, dtype=np.int64)
    some = positives > 0
    return _ratio((hits[some] / positives[some]) @ counts[some], counts[some].sum(0))


def best_thresholds(scores: np.ndarray, y: np.ndarray, metric: str) -> np.ndarray:
    """The threshold per attribute that maximises ``"f1"`` or ``"balanced_accuracy"``: predict where score > threshold.

    Thresholds lie midway between distinct scores; of equally good ones the highest is taken.
    """
    thresholds = np.empty(scores.shape[1])
    for a in range(scores.shape[1]):
        order = np.argsort(-scores[:, a], kind="stable")
        ranked = scores[order, a].astype(np.float64)
        hits = np.cumsum(y[order, a], dtype=np.float64)
        named, total = np.arange(1, len(ranked) + 1), hits[-1]
        specificity = 1 - (named - hits) / (len(ranked) - total)
        value = 2 * hits / (named + total) if metric == "f1" else hits / total + specificity
        last = np.r_[ranked[1:] != ranked[:-1], True]
        cut = int(np.argmax(np.where(last, value, -np.inf)))
        thresholds[a] = (ranked[cut] + ranked[cut + 1]) / 2 if cut + 1 < len(ranked) else ranked[cut] - 1
    return thresholds


def _sums(flags: np.ndarray, counts: np.ndarray) -> np.ndarray:
    # Counts are whole numbers below 2^24, for which float32 sums are exact.
    return (flags.T.astype(np.float32) @ counts).astype(np.float64)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
