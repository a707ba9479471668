"""SAP, the separated attribute predictability score (Kumar, Sattigeri and Balakrishnan 2018).

For every code and factor, how well that one code predicts the factor; SAP is the mean over factors of the best code's
score minus the second best's. The score is the test accuracy of a linear support vector machine on the one code
(disentanglement_lib: LinearSVC with C = 0.01 and balanced classes). Balanced classes cap the accuracy, and it is not
corrected for chance.

Of a factor that is continuous, the score is the squared correlation of code and factor, and 0 of a code whose variance
is 1e-12 or less.

The machines are exact and read off sorted codes: on a line, the samples inside a machine's margin are those below or
above a threshold, and the samples that a value wins are those between two crossings of margins.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from vaebench.core.errors import DataError
from vaebench.metrics.disentanglement.codes import require_finite
from vaebench.metrics.intervals import bootstrap_means
from vaebench.metrics.probing.threads import workers

STEPS, TOLERANCE = 60, 1e-9
BLOCK = 16
LEAST_VARIANCE = 1e-12
# Fewer code values are done before threads have started.
SMALL = 2**18


class Predictability(NamedTuple):
    """Scores (D, K), and per test sample whether each factor's best and second best code predict it: (n, K) bools."""

    scores: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def value(self) -> float:
        """SAP."""
        top = np.sort(self.scores, axis=0)[::-1]
        return float(np.mean(top[0] - top[1]))


class Machines:
    """The one-against-rest machines of all factors, whatever the code. Two values share one, that of the second.

    Attributes:
        values: per factor, its values in the training split.
        of_factor: the machines of each factor, as slices of the V machines of all.
        positive, negative: (V,) weights of its value's samples and of the others. As in liblinear, a machine of a
            factor of more than two values balances its own side only.
        rows: samples of each machine's value, one machine after the other, and then all samples.
        start, stop: (V + 1,) where the samples of each machine, and all samples, lie among ``rows``.
    """

    def __init__(self, factors: np.ndarray) -> None:
        n = len(factors)
        self.values = [np.unique(column) for column in factors.T]
        counts = [max(len(values), 2) - (len(values) <= 2) for values in self.values]
        self.of_factor = [slice(a, b) for a, b in pairwise(np.concatenate([[0], np.cumsum(counts)]))]
        rows, positive, negative = [], [], []
        for values, column in zip(self.values, factors.T, strict=True):
            sizes = np.array([np.sum(column == value) for value in values])
            balance = n / (len(values) * sizes)
            for value, weight in zip(values, balance, strict=True):
                if len(values) != 2 or value == values[1]:
                    rows.append(np.flatnonzero(column == value))
                    positive.append(weight)
                    negative.append(balance[0] if len(values) == 2 else 1.0)
        self.positive, self.negative = np.array(positive), np.array(negative)
        sizes = np.array([len(part) for part in rows] + [n])
        self.rows = np.concatenate([*rows, np.arange(n)])
        self.stop = np.cumsum(sizes)
        self.start = self.stop - sizes


class Sums:
    """Sums of 1, x and x^2 over the training samples below any threshold, of some codes (C, n) in float32."""

    def __init__(self, codes: np.ndarray, machines: Machines) -> None:
        self.values = np.take(codes, machines.rows, axis=1)
        for start, stop in zip(machines.start, machines.stop, strict=True):
            self.values[:, start:stop].sort(axis=1)
        # Running sums from 0, by torch, which is four times as fast; code by code, since one stays in the cache.
        self.running = [torch.empty(len(codes), self.values.shape[1] + 1, dtype=torch.float64) for _ in range(2)]
        for code, values in enumerate(torch.from_numpy(self.values)):
            powers = values.double()
            for running in self.running:
                running[code, 0] = 0
                torch.cumsum(powers, 0, out=running[code, 1:])
                powers.square_()
        self.start, self.stop = (
            np.broadcast_to(side, (len(codes), len(side))) for side in (machines.start, machines.stop)
        )
        whole = self._between(self.start, self.stop)
        self.total, self.all = whole[..., :-1], whole[..., -1:]

    def below(self, upper: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums (3, C, V) over the samples of each machine's value below thresholds ``upper`` (C, V), over those below
        ``lower``, and over all samples below ``lower``."""
        count = upper.shape[1]
        own, every = (slice(None), slice(count)), (slice(None), np.full(count, count))
        start = np.concatenate([self.start[own], self.start[own], self.start[every]], 1)
        stop = np.concatenate([self.stop[own], self.stop[own], self.stop[every]], 1)
        found = self._between(start, self._place(start, stop, np.concatenate([upper, lower, lower], 1)))
        return found[..., :count], found[..., count : 2 * count], found[..., 2 * count :]

    def _place(self, start: np.ndarray, stop: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """How far below their thresholds (C, m) the sorted samples from ``start`` to ``stop`` reach: bisection of all
        at once."""
        offset = np.arange(len(start))[:, None] * self.values.shape[1] - 1
        place = start.copy()
        step = 1 << int((stop - start).max()).bit_length()
        while step := step // 2:
            further = place + step
            less = self.values.take(further + offset, mode="clip") < threshold
            less &= further <= stop
            np.copyto(place, further, where=less)
        return place

    def _between(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        row = np.arange(len(start))[:, None] * (self.values.shape[1] + 1)
        first, second = start + row, stop + row
        sums = (running.numpy().take(second) - running.numpy().take(first) for running in self.running)
        return np.stack([stop - start, *sums])


def increasing(codes: np.ndarray) -> np.ndarray:
    """Stable order (C, n) of each row of float32 codes (C, n): sorts 64-bit keys, twice as fast as sorting indices."""
    bits = codes.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(2**31)).astype(np.uint64)
    keys = (ordered << np.uint64(32)) | np.arange(codes.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys & np.uint64(2**32 - 1)).astype(np.intp)


def fit_lines(codes: np.ndarray, machines: Machines, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and intercepts (C, V) of linear support vector machines on single codes, float32 (C, n), for V machines.

    Minimises (w^2 + b^2) / 2 + C sum_i weight_i max(0, 1 - y_i (w x_i + b))^2, as liblinear does (the intercept is
    penalised too), by Newton's method with step halving. On a line the samples that count lie on one side of a
    threshold, so every sum over them is read off running sums of the sorted samples: a step is a binary search.
    """
    samples = Sums(codes, machines)
    total, rest = samples.total, samples.all - samples.total
    w = b = np.zeros(total.shape[1:])

    def sums(w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted sums (3, C, V) of 1, x, x^2 over the positive and the negative samples inside the margin."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            upper, lower = (1 - b) / w, (-1 - b) / w
        positive, of_value, of_all = samples.below(upper, lower)
        negative = of_all - of_value
        rising, flat = w > 0, w == 0
        positive = np.where(rising, positive, total - positive)
        negative = np.where(rising, rest - negative, negative)
        if flat.any():
            positive, negative = np.where(flat, total * (b < 1), positive), np.where(flat, rest * (b > -1), negative)
        return positive * machines.positive, negative * machines.negative

    def loss(w: np.ndarray, b: np.ndarray, inside: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        # slack is 1 - (w x + b) for positive samples and 1 + (w x + b) for negative ones
        value = 0.5 * (w**2 + b**2)
        for (one, first, square), gap, slope in ((inside[0], 1 - b, -w), (inside[1], 1 + b, w)):
            value = value + c * (gap**2 * one + 2 * gap * slope * first + slope**2 * square)
        return value

    inside = total * machines.positive, rest * machines.negative  # of w = b = 0: all samples
    value = loss(w, b, inside)
    for _ in range(STEPS):
        (p0, p1, p2), (n0, n1, n2) = inside
        gradient_w = w + 2 * c * (w * (p2 + n2) + b * (p1 + n1) - p1 + n1)
        gradient_b = b + 2 * c * (w * (p1 + n1) + b * (p0 + n0) - p0 + n0)
        ww, wb, bb = 1 + 2 * c * (p2 + n2), 2 * c * (p1 + n1), 1 + 2 * c * (p0 + n0)
        determinant = ww * bb - wb**2
        step_w, step_b = (
            (bb * gradient_w - wb * gradient_b) / determinant,
            (ww * gradient_b - wb * gradient_w) / determinant,
        )
        if np.all(gradient_w * step_w + gradient_b * step_b < TOLERANCE * (1 + value)):
            break
        size = np.ones_like(w)
        for _ in range(30):
            new_w, new_b = w - size * step_w, b - size * step_b
            inside = sums(new_w, new_b)
            new_value = loss(new_w, new_b, inside)
            worse = new_value > value + 1e-10 * np.abs(value)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        w, b, value = new_w, new_b, new_value
    return w, b


def winners(w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of V lines w x + b (..., V) is highest where: (rank, start), both (..., V).

    Line ``rank[..., i]`` is the highest from ``start[..., i]`` on, up to the next start; a line that is nowhere the
    highest has the same start as its successor, or infinity. Of equal lines the first one counts.
    """
    rank = np.argsort(w, axis=-1, kind="stable")
    slope, height = np.take_along_axis(w, rank, -1), np.take_along_axis(b, rank, -1)
    rise = slope[..., :, None] - slope[..., None, :]  # of line i over line j
    gap = height[..., None, :] - height[..., :, None]
    first = rank[..., :, None] < rank[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = gap / rise
    always = (gap < 0) | ((gap == 0) & first)  # of two parallel lines, i is above j
    from_here = np.where(rise > 0, crossing, np.where((rise < 0) | always, -np.inf, np.inf))
    to_here = np.where(rise < 0, crossing, np.inf)
    itself = np.eye(w.shape[-1], dtype=bool)
    start = np.where(itself, -np.inf, from_here).max(-1)
    stop = np.where(itself, np.inf, to_here).min(-1)
    start = np.where(start < stop, start, np.inf)
    # A line that wins nowhere takes the start of the next that does: read from the right, the least start so far.
    return rank, np.minimum.accumulate(start[..., ::-1], axis=-1)[..., ::-1]


def predictability(
    train: np.ndarray, train_factors: np.ndarray, test: np.ndarray, test_factors: np.ndarray, c: float = 0.01
) -> Predictability:
    """Test accuracy of one-dimensional classifiers for all codes (n, D) and factors (n, K) of integers.

    The value whose machine is surest wins, as in scikit-learn; with two values that is one machine, since the other is
    its mirror image. Codes that are constant predict one value for all. Blocks of codes run on as many threads as torch
    may use.

    Raises:
        DataError: one code only.
    """
    require_finite(train)
    require_finite(test)
    width, factors = train.shape[1], train_factors.shape[1]
    if width < 2:
        raise DataError("SAP needs at least two codes.", "Use another vectorisation.")
    machines = Machines(train_factors)
    # Values by their place among those of training; the largest number is for one that training never saw.
    most = max(map(len, machines.values))
    kind = np.uint8 if most < 255 else np.uint16 if most < 65_535 else np.uint32
    truth = np.full((factors, len(test)), np.iinfo(kind).max, kind)
    for k, values in enumerate(machines.values):
        place = np.minimum(np.searchsorted(values, test_factors[:, k]), len(values) - 1)
        known = values[place] == test_factors[:, k]
        truth[k, known] = place[known]

    def block(start: int) -> tuple[np.ndarray, list[list[np.ndarray]]]:
        """Scores (C, K) of some codes, and the hits of the best two codes per factor, (n,) bools, best first."""
        part = slice(start, start + BLOCK)
        lines = fit_lines(np.ascontiguousarray(train[:, part].T, np.float32), machines, c)
        return _accuracies(np.ascontiguousarray(test[:, part].T, np.float32), truth, *lines, machines)

    with workers(width * len(train) > SMALL) as threads:
        blocks = list(threads.map(block, range(0, width, BLOCK)))
    scores = np.concatenate([found for found, _ in blocks])
    best = []
    for k in range(factors):
        hits = [hit for _, found in blocks for hit in found[k]]
        best.append(sorted(hits, key=lambda hit: -hit.mean())[:2])
    first, second = (np.stack([pair[place] for pair in best], 1) for place in (0, 1))
    return Predictability(scores, first, second)


def _accuracies(
    codes: np.ndarray, truth: np.ndarray, w: np.ndarray, b: np.ndarray, machines: Machines
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    order, (factors, n) = increasing(codes), truth.shape
    sorted_codes = np.take_along_axis(codes, order, 1)
    wins = []
    for part, values in zip(machines.of_factor, machines.values, strict=True):
        lines = (w[:, part], b[:, part])
        # The first of two values wins where the second's machine is negative.
        wins.append(winners(*(np.concatenate([-x, x], 1) if len(values) == 2 else x for x in lines)))
    rank, start = (np.concatenate(parts, 1) for parts in zip(*wins, strict=True))
    rank, last = rank.astype(truth.dtype), np.cumsum([part.shape[1] for part, _ in wins]) - 1
    right = np.empty((len(codes), factors, n), bool)  # in the order of each code
    for j, line in enumerate(sorted_codes):
        edges = np.searchsorted(line, start[j])
        stops = np.append(edges[1:], n)
        stops[last] = n
        guessed = np.repeat(rank[j], stops - edges).reshape(factors, n)
        np.equal(guessed, np.take(truth, order[j], 1), out=right[j])
    scores = np.array([[np.count_nonzero(row) for row in part] for part in right]) / n
    hits: list[list[np.ndarray]] = []
    for k in range(len(truth)):
        found = []
        for j in np.argsort(-scores[:, k], kind="stable")[:2]:
            hit = np.empty(n, bool)
            hit[order[j]] = right[j, k]
            found.append(hit)
        hits.append(found)
    return scores, hits


def correlation_gaps(
    codes: np.ndarray, factors: np.ndarray, generator: np.random.Generator, *, resamples: int = 1000
) -> tuple[np.ndarray, tuple[float, float]]:
    """Gap between the two largest squared correlations of codes (n, D) with each continuous factor (n, K), in float64.

    Returns:
        The gaps (K,), and the 95% bootstrap bounds of their mean, each factor's two codes fixed.

    Raises:
        DataError: one code only.
    """
    require_finite(codes)
    if codes.shape[1] < 2:
        raise DataError("SAP needs at least two codes.", "Use another vectorisation.")
    x, y = codes - codes.mean(0), factors - factors.mean(0)
    squared = _squared_correlation(x.T @ y / len(x), (x**2).mean(0)[:, None], (y**2).mean(0))
    best = np.argsort(-squared, axis=0, kind="stable")[:2]
    gaps = -np.diff(np.take_along_axis(squared, best, 0), axis=0)[0]
    chosen = x[:, best]  # (n, 2, K)
    moments = np.stack(np.broadcast_arrays(chosen, y[:, None], chosen * y[:, None], chosen**2, y[:, None] ** 2), 1)
    first, second, product, square, other = np.moveaxis(bootstrap_means(moments, generator, resamples=resamples), 1, 0)
    drawn = _squared_correlation(product - first * second, square - first**2, other - second**2)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]).mean(1), [0.025, 0.975])
    return gaps, (float(low), float(high))


def _squared_correlation(covariance: np.ndarray, of_code: np.ndarray, of_factor: np.ndarray) -> np.ndarray:
    varies = (of_code > LEAST_VARIANCE) & (of_factor > 0)
    return np.divide(covariance**2, of_code * of_factor, out=np.zeros_like(covariance), where=varies)
