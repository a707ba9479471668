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
_ROWS = 40_320  # orderings at a time: at most 40,320 x 36 pairs of float32 for Kendall


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


def kendall_p(x: Vector, y: Vector, seed: int = 0) -> tuple[float, bool]:
    """Two-sided permutation p of Kendall's tau-b, and whether it is exact.

    Exact without ties at any n (SciPy's recursion) and with ties up to nine points; else over 9,999 drawn orderings.
    """
    n = len(x)
    if len(np.unique(x)) == n and len(np.unique(y)) == n:
        from scipy import stats  # slow to import

        return float(stats.kendalltau(x, y, method="exact").pvalue), True
    first, second = np.triu_indices(n, 1)
    wanted = signs(x)[first, second].astype(np.float32)
    exact, pairs = n <= EXACT_UP_TO, signs(y).astype(np.float32)
    table = orders(n, seed) if exact else orders(n, seed)[:RANDOM_FOR_TIES]
    observed = abs(round(float(wanted @ pairs[first, second])))  # whole numbers: no tolerance needed
    hits = 0
    for start in range(0, len(table), _ROWS):
        part = table[start : start + _ROWS]
        hits += int(np.sum(np.abs(pairs[part[:, first], part[:, second]] @ wanted) >= observed - 0.5))
    return (hits / len(table) if exact else (1 + hits) / (1 + len(table))), exact
