"""Scores from the mutual information of single codes and factors: MIG, modularity, InfoM, InfoC and InfoE.

m[j, k] is the mutual information of code j and factor k in nats. For MIG and modularity it is counted on codes in equal
bins over their range (20 as in disentanglement_lib, Locatello et al. 2019), all codes and factors as one product of
indicator matrices. Counting overestimates: independent variables have about (bins - 1)(values - 1) / 2n instead of 0.

    MIG        = mean_k (m_(1),k - m_(2),k) / H(f_k)                                         (Chen et al. 2018)
    modularity = mean_j 1 - (sum_k m_jk^2 - max_k m_jk^2) / (max_k m_jk^2 (K - 1))           (Ridgeway and Mozer 2018)

InfoMEC (Hsu et al. 2023) takes the nearest-neighbour estimate instead, on active codes, with NMI_kj = m_jk / H(f_k):

    InfoM = (mean_j max_k NMI / sum_k NMI - 1/K) / (1 - 1/K)
    InfoC = (mean_k max_j NMI / sum_j NMI - 1/L) / (1 - 1/L)
    InfoE = mean_k (l0 - l) / l0,  l the log-loss of a logistic regression on all codes, l0 that of a constant
"""

import warnings
from itertools import pairwise
from threading import local
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.special import digamma
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from vaebench.core.errors import DataError, TooFewSamples
from vaebench.metrics.disentanglement.codes import require_finite
from vaebench.metrics.probing.threads import workers

BINS = 20
CODES_AT_ONCE = 64
# Fewer code values are counted before threads have started.
SMALL = 2**18


def discretise(codes: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Codes (n, D) as bin numbers 0 .. bins - 1, int16: equal bins between the least and the largest value of a code,
    which belongs to the last bin. A constant code is all zeros."""
    require_finite(codes)
    found = np.empty(codes.shape, np.int16)
    for start in range(0, codes.shape[1], CODES_AT_ONCE):
        values = codes[:, start : start + CODES_AT_ONCE].astype(np.float64)
        low, high = values.min(0), values.max(0)
        width = np.where(high > low, high - low, 1)
        found[:, start : start + CODES_AT_ONCE] = np.minimum((values - low) / width * bins, bins - 1)
    return found


class Information(NamedTuple):
    """Mutual information in nats (D, K), entropies of factors (K,), and both without each group: (G, D, K), (G, K)."""

    values: np.ndarray
    entropies: np.ndarray
    without: np.ndarray
    entropies_without: np.ndarray


def counted_information(
    binned: np.ndarray, factors: np.ndarray, groups: np.ndarray | None = None, bins: int = BINS
) -> Information:
    """Mutual information by counting, of all codes with all factors, and of what is left without each group of samples.

    Counts are sums over samples, so those of the groups cost no more than those of the whole, and what is left without
    a group is a difference: the jackknife costs a look-up of n log n for every cell.

    Args:
        binned: int (n, D) in [0, bins). factors: int (n, K) from 0. groups: int (n,) in 0 .. G - 1; none by default.
    """
    n, width = binned.shape
    group = np.zeros(n, np.int64) if groups is None else groups
    number = 0 if groups is None else int(groups.max()) + 1
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(max(number, 1) + 1))
    sizes = factors.max(0) + 1
    starts = np.concatenate([[0], np.cumsum(sizes)])
    # float32 counts are exact up to 2^24 samples, and its product is the fast one.
    values = torch.zeros(n, int(starts[-1]))
    values[torch.arange(n)[:, None], torch.from_numpy((factors + starts[:-1])[order])] = 1
    codes = torch.from_numpy(np.ascontiguousarray(binned[order]))
    logs = np.arange(n + 1, dtype=np.float64)
    logs[1:] *= np.log(logs[1:])

    remaining = n - np.diff(edges) if number else np.empty(0, np.int64)
    totals = np.concatenate([[n], remaining])
    margins = np.stack([values[a:b].sum(0).numpy() for a, b in pairwise(edges)]).astype(np.int64)
    of_values = logs[_whole_and_without(margins, number)]
    entropies = np.stack([np.log(totals) - of_values[:, a:b].sum(1) / totals for a, b in pairwise(starts)], 1)
    found = np.empty((len(totals), width, len(sizes)))
    step = min(width, max(1, 2**22 // (bins * int(starts[-1]) * max(number, 1))), 32)
    rows, own = torch.arange(n)[:, None], local()

    def count(start: int) -> None:
        """Fill in the information of some codes."""
        # One buffer of indicators, cleaned where it was written: filling it anew would cost as much as the product.
        if not hasattr(own, "hot"):
            own.hot = torch.zeros(n, step * bins)
        hot = own.hot
        part = codes[:, start : start + step].long()
        places = part + bins * torch.arange(part.shape[1])
        hot[rows, places] = 1
        used = hot[:, : part.shape[1] * bins]
        tables = torch.stack([used[a:b].T @ values[a:b] for a, b in pairwise(edges)])
        hot[rows, places] = 0
        counts = _whole_and_without(tables.numpy().astype(np.int64), number).reshape(
            len(totals), part.shape[1], bins, -1
        )
        of_bins = logs[counts[..., : sizes[0]].sum(3)].sum(2)
        cells = logs[counts].sum(2)
        for k, (a, b) in enumerate(pairwise(starts)):
            joint = np.log(totals)[:, None] - cells[..., a:b].sum(2) / totals[:, None]
            entropy = np.log(totals)[:, None] - of_bins / totals[:, None]
            found[:, start : start + step, k] = entropy + entropies[:, [k]] - joint

    with workers(n * width > SMALL) as threads:
        all(True for _ in threads.map(count, range(0, width, step)))
    found = np.maximum(found, 0)
    return Information(found[0], entropies[0], found[1:], entropies[1:])


def _whole_and_without(counts: np.ndarray, number: int) -> np.ndarray:
    """Counts per group (G, ...) as those of the whole and, if there are groups, of the whole without each."""
    whole = counts.sum(0, keepdims=True)
    return np.concatenate([whole, whole - counts]) if number else whole


def jackknife_error(without: np.ndarray) -> float:
    """Standard error of a statistic from its values (G,) without each of G groups (Efron and Tibshirani 1993, 11)."""
    groups = len(without)
    return float(np.sqrt((groups - 1) / groups * np.sum((without - without.mean()) ** 2)))


class Gap(NamedTuple):
    """MIG, its value per factor (K,), and the two best codes of every factor (K, 2)."""

    value: float
    per_factor: np.ndarray
    best: np.ndarray


def mig(information: np.ndarray, entropies: np.ndarray) -> Gap:
    """MIG from m (D, K) and entropies (K,).

    Raises:
        DataError: one code only, which has no second best, or a constant factor.
    """
    if len(information) < 2:
        raise DataError("MIG needs at least two codes.", "Use another vectorisation.")
    if not np.all(entropies > 0):
        raise DataError("MIG is undefined for a constant factor.", "Leave it out.")
    best = np.argsort(-information, axis=0, kind="stable")[:2].T
    columns = np.arange(information.shape[1])
    gaps = (information[best[:, 0], columns] - information[best[:, 1], columns]) / entropies
    return Gap(float(gaps.mean()), gaps, best)


def modularity(information: np.ndarray) -> tuple[float, np.ndarray]:
    """Modularity and its value per code (D,); a code that tells nothing scores 0, as published.

    Raises:
        DataError: one factor only.
    """
    factors = information.shape[1]
    if factors < 2:
        raise DataError("Modularity needs at least two factors.")
    squares = information**2
    largest = squares.max(1)
    rest = np.divide(squares.sum(1) - largest, largest * (factors - 1), out=np.ones_like(largest), where=largest > 0)
    per_code = np.where(largest > 0, 1 - rest, 0)
    return float(per_code.mean()), per_code


def bias(bins: int, values: np.ndarray, n: int) -> np.ndarray:
    """What counting adds to the mutual information of independent variables, to first order (Miller 1955)."""
    return np.asarray((bins - 1) * (values - 1) / (2 * n))


def neighbour_information(
    codes: np.ndarray, factor: np.ndarray, generator: np.random.Generator, neighbours: int = 10
) -> np.ndarray:
    """Mutual information in nats of continuous codes (n, D) with a discrete factor (n,), nearest-neighbour estimate.

    psi(n) + <psi(k)> - <psi(n_value)> - <psi(m)>, m the number of samples (of any value) nearer than the k-th neighbour
    of the same value, itself included (Ross 2014); k shrinks for rare values, and values seen once are left out. One
    code is a line, so neighbours are found by sorting. Negative estimates become 0.

    Equal values of a code have no nearest among them. So every code is scaled to a standard deviation of 1 and gets
    normal noise from ``generator``, 1e-10 times its mean size or 1, whichever is more (Kraskov et al. 2004, and
    scikit-learn).

    Raises:
        TooFewSamples: no value occurs twice.
    """
    counts = np.bincount(factor)
    kept = counts[factor] > 1
    if not kept.any():
        raise TooFewSamples("No value of the factor occurs twice.")
    codes, factor = np.asarray(codes[kept], np.float64), factor[kept]
    n, width = codes.shape
    of_value = counts[factor]
    k = np.minimum(neighbours, of_value - 1)
    std = codes.std(0)
    codes = codes / np.where(std > 0, std, 1)
    codes += 1e-10 * np.maximum(1, np.abs(codes).mean(0)) * generator.standard_normal(codes.shape)
    found = np.empty(width)
    for j in range(width):
        code = codes[:, j]
        order = np.sort(code)
        radius = np.empty(n)
        for value in np.unique(factor):
            rows = np.flatnonzero(factor == value)
            radius[rows] = _radius(code[rows], int(k[rows[0]]))
        # Everything strictly nearer than the k-th neighbour of the same value, and oneself. The margin is the rounding
        # of code + radius, which would otherwise take that neighbour in.
        reach = np.maximum(radius - 4 * np.spacing(np.abs(code) + radius), 0)
        m = np.searchsorted(order, code + reach, "right") - np.searchsorted(order, code - reach, "left")
        found[j] = digamma(n) + digamma(k).mean() - digamma(of_value).mean() - digamma(np.maximum(m, 1)).mean()
    return np.maximum(found, 0)


def _radius(code: np.ndarray, k: int) -> np.ndarray:
    """Distance of every value of a line (n,) to its k-th nearest other."""
    order = np.argsort(code, kind="stable")
    line = code[order]
    padded = np.concatenate([np.full(k, -np.inf), line, np.full(k, np.inf)])
    n = len(line)
    # The k nearest others of place i are consecutive: from i - k + s to i + s for some s in 0 .. k.
    widest = np.full(n, np.inf)
    for s in range(k + 1):
        below, above = padded[s : s + n], padded[s + k : s + k + n]
        widest = np.minimum(widest, np.maximum(line - below, above - line))
    found = np.empty(n)
    found[order] = widest
    return found


class InfoMEC(NamedTuple):
    """InfoM and InfoC, their parts per active code and per factor, and which codes are active (D,)."""

    modularity: float
    compactness: float
    per_code: np.ndarray
    per_factor: np.ndarray
    active: np.ndarray


def active_codes(codes: np.ndarray, rule: Literal["range", "iqr"] = "range") -> np.ndarray:
    """Which codes (n, D) are used: range above a twentieth of the largest range (latent_quantization), or
    interquartile range above a tenth of the largest (Tripod)."""
    if rule == "range":
        spread = np.ptp(codes, axis=0)
        return np.asarray(spread > spread.max() / 20)
    low, high = np.quantile(codes, [0.25, 0.75], axis=0)
    return np.asarray(high - low > (high - low).max() / 10)


def infomec(information: np.ndarray, entropies: np.ndarray, active: np.ndarray) -> InfoMEC:
    """InfoM and InfoC from m (D, K), entropies (K,) and the active codes (D,).

    Codes and factors whose row or column is all zero count as spread evenly (1/K or 1/L), so as no structure.

    Raises:
        DataError: fewer than two active codes or two factors: the scores divide by zero.
    """
    shares = (information[active] / entropies).T  # (K, L)
    factors, codes = shares.shape
    if factors < 2 or codes < 2:
        raise DataError(f"InfoM and InfoC need two factors and two active codes, not {factors} and {codes}.")

    def purity(values: np.ndarray, axis: int) -> np.ndarray:
        total = values.sum(axis)
        even = np.full_like(total, 1 / values.shape[axis])
        return np.divide(values.max(axis), total, out=even, where=total > 0)

    of_codes, of_factors = purity(shares, 0), purity(shares, 1)
    return InfoMEC(
        float((of_codes.mean() - 1 / factors) / (1 - 1 / factors)),
        float((of_factors.mean() - 1 / codes) / (1 - 1 / codes)),
        of_codes,
        of_factors,
        active,
    )


def explained(
    train: np.ndarray, train_factor: np.ndarray, test: np.ndarray, test_factor: np.ndarray, c: float
) -> tuple[np.ndarray, float]:
    """Log-losses (n_test,) of a class-balanced logistic regression on standardised codes, and the loss of a constant.

    Losses are weighted to balance the values, and the constant's is log(number of values). ``c`` is the inverse
    strength of an L2 penalty; the published score has none, and no optimum where codes separate the values.

    Returns:
        weighted losses, whose mean is l, and l0. Test rows with values that training never saw are left out.
    """
    mean, std = train.mean(0), train.std(0)
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 0)
    model = LogisticRegression(C=c, class_weight="balanced", solver="newton-cholesky", max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a singular Hessian: it goes on with L-BFGS by itself
        model.fit(((train - mean) * scale).astype(np.float64), train_factor)
    known = np.isin(test_factor, model.classes_)
    test, test_factor = (test[known] - mean) * scale, test_factor[known]
    logs = model.predict_log_proba(test)[np.arange(len(test)), np.searchsorted(model.classes_, test_factor)]
    counts = np.bincount(test_factor, minlength=int(test_factor.max()) + 1)
    weights = len(test) / (len(np.unique(test_factor)) * counts[test_factor])
    return -logs * weights, float(np.log(len(model.classes_)))
