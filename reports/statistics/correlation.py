"""Correlation between two scores over a handful of tokenizers, with all the uncertainty that so few points carry.

Six tokenizers are many in this field and three are usual, so nothing here leans on asymptotics where an exact answer
exists: permutation p values enumerate every ordering up to n = 9, and the smallest p that n points could ever give is
reported beside the p that they gave.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reports.names import MINUS
from reports.statistics.checks import Vector, checked, kendall, normal_quantile, pearson, ranks, standardised
from reports.statistics.permutation import EXACT_UP_TO, kendall_p, linear_p, permutation_count
from reports.statistics.resampling import Interval, bootstrap


@dataclass(frozen=True)
class Coefficient:
    """One coefficient of association.

    Attributes:
        value: the coefficient.
        low, high: analytic interval on Fisher's scale; (-1, 1) where n is too small for one.
        bootstrap_low, bootstrap_high: percentile bootstrap over points; None below five points.
        p: two-sided permutation p of its absolute value.
        exact: whether p enumerates every ordering (or, for Kendall, uses the exact distribution).
    """

    value: float
    low: float
    high: float
    bootstrap_low: float | None
    bootstrap_high: float | None
    p: float
    exact: bool


@dataclass(frozen=True)
class Correlation:
    """Association of x and y over n points.

    Attributes:
        n: number of points (tokenizers).
        pearson: Pearson's r.
        low, high: Fisher interval of r at `level`; (-1, 1) at n = 3, where Fisher's standard error is infinite.
        bootstrap_low, bootstrap_high: percentile bootstrap over points; None below five points.
        pearson_p: two-sided permutation p of |r|.
        spearman: Spearman's rho (average ranks for ties).
        spearman_p: two-sided permutation p of |rho|.
        smallest_p: the smallest `spearman_p` that these ranks could have given (2 / n! without ties).
        exact: whether the permutations of Pearson and Spearman were enumerated (True) or drawn.
        permutations: how many orderings were enumerated or drawn.
        leave_one_out: smallest and largest r when one point is left out; None below four points.
        coefficients: 'pearson', 'spearman' and 'kendall' (tau-b), each with intervals and p.
        level: confidence level of the intervals.
    """

    n: int
    pearson: float
    low: float
    high: float
    bootstrap_low: float | None
    bootstrap_high: float | None
    pearson_p: float
    spearman: float
    spearman_p: float
    smallest_p: float
    exact: bool
    permutations: int
    leave_one_out: tuple[float, float] | None
    coefficients: dict[str, Coefficient]
    level: float = 0.95

    @property
    def excludes_zero(self) -> bool:
        """Whether the Fisher interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0

    @property
    def unsettled(self) -> str:
        """Why the sign of r is not settled, in words that follow 'but'; empty where it is.

        Fisher's interval takes the points for normal, and one point far from the rest makes it as narrow as one likes:
        so the permutation test, the bootstrap and the ranks must agree, and no single point may carry the sign.
        """
        if not self.excludes_zero:
            return "the interval includes zero"
        if self.leave_one_out is not None and min(self.leave_one_out) <= 0 <= max(self.leave_one_out):
            low, high = (f"{r:.2f}".replace("-", MINUS) for r in self.leave_one_out)
            return f"one tokenizer carries it: leaving one out, r runs from {low} to {high}"
        if self.bootstrap_low is not None and self.bootstrap_high is not None:
            low, high = (f"{r:.2f}".replace("-", MINUS) for r in (self.bootstrap_low, self.bootstrap_high))
            if self.bootstrap_low <= 0 <= self.bootstrap_high:
                return f"a few tokenizers carry it: the bootstrap over tokenizers runs from {low} to {high}"
        if self.pearson_p >= 1 - self.level - 1e-9:
            return f"a permutation test gives p = {self.pearson_p:.2f}"
        ranked = self.coefficients["spearman"]
        if ranked.low <= 0 <= ranked.high or ranked.value * self.pearson < 0:
            rho = f"{ranked.value:.2f}".replace("-", MINUS)
            return f"the rank correlation does not agree (\N{GREEK SMALL LETTER RHO} = {rho}, p = {ranked.p:.2g})"
        return ""


def correlate(x: ArrayLike, y: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Correlation:
    """Pearson, Spearman and Kendall of paired values `x`, `y` (each of shape (n,)), with all that n allows.

    `seed` drives the bootstrap and, above nine points, the drawn permutations.

    Raises:
        TooFewSamples: fewer than three pairs; two points always correlate at +1 or -1.
        NumericalError: a value that is not finite, or an axis on which all values are equal.
    """
    first, second = checked(x, y)
    return correlate_many([first], second, level=level, seed=seed)[0]


def correlate_many(xs: Sequence[Vector], y: Vector, *, level: float = 0.95, seed: int = 0) -> list[Correlation]:
    """`correlate` of several x with one y over the same points, which share the work of the permutations.

    Raises:
        TooFewSamples, NumericalError: as `correlate`, for any of the pairs.
    """
    if not xs:
        return []
    pairs = [checked(x, y) for x in xs]
    second = pairs[0][1]
    firsts = np.stack([first for first, _ in pairs])
    ranked, ranked_y = np.stack([ranks(first) for first in firsts]), ranks(second)
    pearson_p, _ = linear_p(firsts, second, seed)
    spearman_p, smallest = linear_p(ranked, ranked_y, seed)
    tau_p, tau_exact = kendall_p(firsts, second, seed)
    enumerated = len(second) <= EXACT_UP_TO
    found = []
    for i, first in enumerate(firsts):
        tests = {
            "pearson": (float(pearson_p[i]), enumerated),
            "spearman": (float(spearman_p[i]), enumerated),
            "kendall": (float(tau_p[i]), bool(tau_exact[i])),
        }
        found.append(_correlation(first, second, tests, float(smallest[i]), level, seed))
    return found


def fisher_interval(r: float, n: int, level: float = 0.95, kind: str = "pearson") -> Interval:
    """tanh(atanh(r) -+ z s): Fisher's interval of a correlation; (-1, 1) where n is too small for it.

    s^2 is 1 / (n - 3) for Pearson, (1 + r^2 / 2) / (n - 3) for Spearman and 0.437 / (n - 4) for Kendall (Bonett and
    Wright 2000, Psychometrika 65; the latter two are good below |rho| = 0.95 and |tau| = 0.8).
    """
    if n <= (4 if kind == "kendall" else 3):
        return -1.0, 1.0
    if abs(r) >= 1:
        return r, r
    variance = {"pearson": 1.0, "spearman": 1 + r * r / 2, "kendall": 0.437}[kind] / (n - 4 + (kind != "kendall"))
    half = normal_quantile(level) * math.sqrt(variance)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def leave_one_out(x: ArrayLike, y: ArrayLike) -> tuple[float, float] | None:
    """Smallest and largest Pearson r when each point is left out in turn; None below four points.

    Subsets in which one axis becomes constant have no r and are passed over.
    """
    first, second = checked(x, y)
    if len(first) < 4:
        return None
    n = len(first)
    kept = np.tile(np.arange(n), (n, 1))[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    xs, ys = first[kept], second[kept]
    varied = (np.ptp(xs, axis=1) > 0) & (np.ptp(ys, axis=1) > 0)
    values = np.clip(np.sum(standardised(xs[varied]) * standardised(ys[varied]), axis=1), -1, 1)
    return (float(values.min()), float(values.max())) if len(values) else None


def caution(n: int, smallest_p: float | None = None) -> str:
    """One honest sentence on what n points can carry."""
    if n < 3:
        return f"n={n} carries nothing: the correlation of two points is +1 or -1 whatever they are."
    floor = 2 / math.factorial(n) if smallest_p is None else smallest_p
    if n == 3:
        return (
            "n=3 carries almost nothing: the 95% interval of a correlation of three points is the whole range from "
            f"{MINUS}1 to 1, and even a perfect ranking comes up by chance with p = {floor:.2f}."
        )
    if n < 10:
        weight = "very little" if n < 6 else "little"
        return f"n={n} carries {weight}: the smallest p value that a rank test of {n} points can give is {floor:.2g}."
    return f"n={n}: the points are tokenizers, which are not an independent sample of all tokenizers."


def _correlation(
    x: Vector, y: Vector, tests: Mapping[str, tuple[float, bool]], smallest_p: float, level: float, seed: int
) -> Correlation:
    n = len(x)
    values = {"pearson": pearson(x, y), "spearman": pearson(ranks(x), ranks(y)), "kendall": kendall(x, y)}
    resampled = bootstrap(x, y, level, seed) or {}
    coefficients = {}
    for name, value in values.items():
        (low, high), (p, exact) = fisher_interval(value, n, level, name), tests[name]
        drawn_low, drawn_high = resampled.get(name, (None, None))
        coefficients[name] = Coefficient(value, low, high, drawn_low, drawn_high, p, exact)
    r = coefficients["pearson"]
    return Correlation(
        n=n, pearson=r.value, low=r.low, high=r.high, bootstrap_low=r.bootstrap_low, bootstrap_high=r.bootstrap_high,
        pearson_p=r.p, spearman=values["spearman"], spearman_p=coefficients["spearman"].p, smallest_p=smallest_p,
        exact=n <= EXACT_UP_TO, permutations=permutation_count(n), leave_one_out=leave_one_out(x, y),
        coefficients=coefficients, level=level,
    )  # fmt: skip
