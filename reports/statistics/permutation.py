"""Permutation tests of correlation: every ordering where n allows, drawn orderings otherwise."""

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reports.statistics.checks import Vector, signs, standardised

EXACT_UP_TO = 9  # 9! = 362,880 orderings
RANDOM_PERMUTATIONS = 99_999
RANDOM_FOR_TIES = 9_999  # orderings drawn for Kendall's tau with ties, where every pair of points counts
_TOLERANCE = 1e-9  # orderings that tie in exact arithmetic must tie here
_ROWS = 40_320  # orderings at a time
_PAIRS = 1_500_000  # pairs of points at a time, over orderings


@lru_cache(maxsize=8)
def orders(n: int, seed: int) -> NDArray[np.integer]:
    """Orderings of n places, one a row: all n! of them up to nine, else 99,999 drawn with `seed`."""
    kind = np.min_scalar_type(n)
    if n <= EXACT_UP_TO:
        return np.array(list(itertools.permutations(range(n))), dtype=kind)
    places = np.tile(np.arange(n, dtype=kind), (RANDOM_PERMUTATIONS, 1))
    return np.random.default_rng(seed).permuted(places, axis=1)


def permutation_count(n: int) -> int:
    """How many orderings a test of n points looks at: n! up to nine points, else 99,999."""
    return int(np.prod(np.arange(1, n + 1))) if n <= EXACT_UP_TO else RANDOM_PERMUTATIONS


def linear_p(xs: Vector, y: Vector, seed: int = 0) -> tuple[Vector, Vector]:
    """Two-sided permutation p of Pearson's r of every row of `xs` (k x n) with `y` (n); on ranks that is Spearman's.

    p is the share of orderings of y with |r| at least that observed. Drawn orderings count the observed one among them:
    (1 + hits) / (1 + drawn).

    Returns:
        p (k), and the smallest p that these values could have given (k): the share of orderings that attain the largest
        |r| of all, which the rearrangement inequality gives; 1 / (1 + drawn) where orderings are drawn.
    """
    u, v = standardised(xs), standardised(y)
    ascending = np.sort(u, axis=1)
    largest = np.maximum(np.abs(ascending @ np.sort(v)), np.abs(ascending @ np.sort(v)[::-1]))
    hits, attained = np.zeros(len(u)), np.zeros(len(u))
    table = orders(len(v), seed)
    for start in range(0, len(table), _ROWS):
        strengths = np.abs(v[table[start : start + _ROWS]] @ u.T)
        hits += np.sum(strengths >= np.abs(u @ v) - _TOLERANCE, axis=0)
        attained += np.sum(strengths >= largest - _TOLERANCE, axis=0)
    if len(v) <= EXACT_UP_TO:
        return hits / len(table), attained / len(table)
    return (1 + hits) / (1 + len(table)), np.full(len(u), 1 / (1 + len(table)))


def kendall_p(xs: Vector, y: Vector, seed: int = 0) -> tuple[Vector, NDArray[np.bool_]]:
    """Two-sided permutation p of Kendall's tau-b of every row of `xs` (k x n) with `y` (n), and whether it is exact.

    Exact without ties at any n (SciPy's recursion) and with ties up to nine points; else over 9,999 drawn orderings.
    """
    n = len(y)
    first, second = np.triu_indices(n, 1)
    whole = len(np.unique(y)) == n
    untied = np.array([whole and len(np.unique(x)) == n for x in xs], dtype=bool)
    p = np.empty(len(xs))
    for i in np.flatnonzero(untied):
        from scipy import stats  # slow to import

        p[i] = stats.kendalltau(xs[i], y, method="exact").pvalue
    if untied.all():
        return p, untied
    wanted = np.stack([signs(x)[first, second] for x in xs[~untied]], axis=1).astype(np.float32)
    every, pairs = n <= EXACT_UP_TO, signs(y).astype(np.float32)
    table = orders(n, seed) if every else orders(n, seed)[:RANDOM_FOR_TIES]
    observed = np.abs(np.round(pairs[first, second] @ wanted))  # whole numbers: no tolerance needed
    hits, rows = np.zeros(wanted.shape[1]), max(1, _PAIRS // len(first))
    for start in range(0, len(table), rows):
        part = table[start : start + rows]
        hits += np.sum(np.abs(pairs[part[:, first], part[:, second]] @ wanted) >= observed - 0.5, axis=0)
    p[~untied] = hits / len(table) if every else (1 + hits) / (1 + len(table))
    return p, untied | every
