"""Leakage: what the score of attribute i's probe tells about attribute j beyond what their co-occurrence explains.

Scores of i's probe differ between images with and without j already because i and j co-occur. So images are compared
only among those that agree in the TRUE value of i. With s_i the probe's score, in the stratum y_i = v,

    D_ij|v = P(s_i(p) > s_i(q)) - P(s_i(p) < s_i(q)),   p with y_j = 1 and q with y_j = 0, both with y_i = v,

which is 2 AUC - 1 of s_i for j (Somers' D). A probe that looks at nothing but i gives 0 in each stratum, whatever the
co-occurrence. Absolute values of estimates would be above 0 by chance alone; the square has an unbiased estimate from
pairs of comparisons that share no image,

    E_v = (sum over p != p', q != q' of sign(s_p - s_q) sign(s_p' - s_q')) / (m1 (m1 - 1) m0 (m0 - 1)),

m1 images with and m0 without j in the stratum (Hoeffding's U-statistic of D²). The pair's leakage is the mean of E_v
over strata, weighted by their comparisons m1 m0, and the score the mean over ordered pairs (i, j). Its expectation is
exactly 0 where s_i and y_j are independent given y_i, so that it can fall below 0 by chance; 1 is complete leakage.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from vaebench.core.errors import DataError, TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.readability.vectors import (
    AttributeMetric,
    Attributes,
    ReadabilityConfig,
    Vectors,
    half_width,
    linear_probe,
    rounded,
    without_groups,
)


@dataclass(frozen=True)
class Dominance:
    """Somers' D of one score for each of A attributes.

    Attributes:
        signed: (A,) D. squared: (A,) unbiased estimates of D². pairs: (A,) comparisons m1 m0.
        smaller: (A,) min(m1, m0).
        D is NaN without a comparison, its square where m1 or m0 is below 2.
    """

    signed: np.ndarray
    squared: np.ndarray
    pairs: np.ndarray
    smaller: np.ndarray


def dominance(scores: np.ndarray, y: np.ndarray) -> Dominance:
    """D and its unbiased square of scores (m,) for attributes y (m, A) in {0, 1}; ties count as neither."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    first = np.searchsorted(ranked, ranked, side="left")
    end = np.searchsorted(ranked, ranked, side="right")
    labels = y[order].astype(np.float64)
    m1 = labels.sum(0)
    m0 = len(labels) - m1
    positives = np.concatenate([np.zeros((1, y.shape[1])), np.cumsum(labels, axis=0)])
    below1, above1 = positives[first], m1 - positives[end]
    below0, above0 = first[:, None] - below1, (len(labels) - end)[:, None] - above1
    # Of an image with j: comparisons won minus lost against those without; of one without: against those with.
    won = np.where(labels == 1, below0 - above0, above1 - below1)
    total = (won * labels).sum(0)
    decided = ((below0 + above0) * labels).sum(0)
    pairs = m1 * m0
    with np.errstate(invalid="ignore", divide="ignore"):
        signed = total / pairs
        squared = (total**2 - (won**2).sum(0) + decided) / (pairs * (m1 - 1) * (m0 - 1))
    squared = np.where(np.minimum(m1, m0) >= 2, squared, np.nan)
    return Dominance(np.where(pairs > 0, signed, np.nan), squared, pairs, np.minimum(m1, m0))


@dataclass(frozen=True)
class Leakage:
    """Matrices (A, A): row i is i's probe, column j the attribute that it may tell about; NaN where nothing is known.

    Attributes:
        squared: unbiased estimates of the mean over strata of D². signed: mean over strata of D.
        weights: (V, A, A), of every stratum in these means.
    """

    squared: np.ndarray
    signed: np.ndarray
    weights: np.ndarray

    @property
    def value(self) -> float:
        """Mean of squared over the pairs that have it; NaN where none has."""
        known = self.squared[~np.isnan(self.squared)]
        return float(known.mean()) if len(known) else float("nan")


def leakage(
    scores: np.ndarray, y: np.ndarray, strata: np.ndarray, minimum: int = 2, weights: np.ndarray | None = None
) -> Leakage:
    """Leakage of scores within strata.

    Args:
        scores: (n, A), column i of attribute i's probe. y: binary attributes (n, A).
        strata: (n, A), integers from 0: column i says which images are compared under i's probe. It is y itself, or
            zeros to correct for nothing.
        minimum: a stratum counts for j with as many images of either value of j; at least 2.
        weights: of the strata, (V, A, A), in place of the numbers of comparisons in those with the minimum.
    """
    count = int(strata.max()) + 1 if weights is None else len(weights)
    parts = [
        [dominance(scores[rows, i], y[rows]) for i, rows in enumerate((strata == stratum).T)]
        for stratum in range(count)
    ]
    squared, signed, pairs, smaller = (
        np.array([[getattr(part, key) for part in row] for row in parts])
        for key in ("squared", "signed", "pairs", "smaller")
    )
    if weights is None:
        weights = np.where(smaller >= max(minimum, 2), pairs, 0) * ~np.eye(y.shape[1], dtype=bool)
    own = np.where(np.isnan(squared), 0, weights)
    total = own.sum(0)
    squares, signs = (
        np.divide(np.nansum(own * values, axis=0), total, out=np.full(total.shape, np.nan), where=total > 0)
        for values in (squared, signed)
    )
    return Leakage(squares, signs, weights)


class LeakageConfig(ReadabilityConfig):
    """As `ReadabilityConfig`, and for leakage.

    Attributes:
        minimum: images of either value of j that a stratum needs.
        groups: of test images that the jackknife leaves out.
    """

    minimum: int = Field(10, ge=3)
    groups: int = Field(10, ge=2)


class AttributeLeakage(AttributeMetric):
    """Mean leakage over ordered pairs of attributes."""

    name = "leakage"
    summary = "what one attribute's probe tells about another, beyond their co-occurrence"
    Config = LeakageConfig

    def of_vectors(self, x: Vectors, y: Attributes, seed: int, device: str) -> list[Score]:
        cfg = self.config
        if len(y.names) < 2:
            raise DataError(f"Leakage is between two attributes, and only '{y.names[0]}' can be read.")
        probes = linear_probe(x, y, cfg, device)
        scores, labels = probes.margins(x.test), y.test
        found = leakage(scores, labels, labels, cfg.minimum)
        if not np.isfinite(found.value):
            raise TooFewSamples(
                f"No pair of attributes has {cfg.minimum} test images of either value where the other is fixed.",
                "Use more test images, or a smaller minimum.",
            )
        kept = without_groups(len(labels), cfg.groups, numpy_generator(seed, self.name, "groups")).T == 1
        # Which pairs and strata count, and how much, is held: a group's absence changes only what is found in them.
        without = [leakage(scores[rows], labels[rows], labels[rows], weights=found.weights).value for rows in kept]
        half = half_width(np.array(without))
        known = int((~np.isnan(found.squared)).sum())
        uncorrected = leakage(scores, labels, np.zeros_like(labels), cfg.minimum)
        detail = {
            "baseline": 0.0,
            "root": float(np.sqrt(max(found.value, 0))),
            "uncorrected": uncorrected.value,
            "pairs": known,
            "pairs_left_out": len(y.names) * (len(y.names) - 1) - known,
            "matrix": rounded(found.signed),
            "gap": probes.gap,
        }
        protocol = {"statistic": "unbiased squared Somers' D within strata of the true label", "split": "test"}
        interval = "95% by Student's t, jackknife over groups of test images, classifiers fixed"
        bounds = (found.value - half, found.value + half)
        return [
            self.of_attributes(
                "attribute_leakage", found.value, bounds, interval, "lower", len(labels), x, y, seed,
                protocol=protocol, detail=detail,
            )
        ]  # fmt: skip
