"""How many images it takes to read attributes off latents: learning curves, and description length.

Nested training sets n_1 < ... < n_S (prefixes of one random order, each twice the one before, the last all N images);
one linear probe for each. Two things are read off them:

    area     the mean height of the curve of test score against log n: trapezoids over log n, divided by log(n_S / n_1)
    length   the prequential (online) code of the training labels given the latents,

             L = L_1(y_1 .. y_n1) + sum_k -log2 p_k(labels of images n_k + 1 .. n_k+1 | latents),

p_k the probe of the first n_k images (Blier and Ollivier 2018; Voita and Titov, Information-Theoretic Probing with
Minimum Description Length, EMNLP 2020, section 2.2.2). Few bits mean that attributes are both readable and quick to
learn. The first block is coded by the attribute's frequency alone, learned as it goes (Krichevsky and Trofimov), or
uniformly, at one bit a label, as published; at the small n of attribute data the latter drowns rare attributes. C is
chosen on the validation split for every n, and C = 0, the constant predictor, is among the choices: a size at which an
attribute has one value only has nothing else. Compression is N H(y) / L, H the entropy of the attribute's frequency:
1 where latents tell nothing, more where they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy.integrate import trapezoid
from scipy.special import betaln, entr

from vaebench.core.errors import TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.probing.features import Vectorisation
from vaebench.metrics.probing.logistic import fit_logistic
from vaebench.metrics.probing.metrics import average_precision, balanced_accuracy, best_thresholds
from vaebench.metrics.readability.vectors import (
    AttributeMetric,
    Attributes,
    ReadabilityConfig,
    Vectors,
    half_width,
    log_loss,
    margins,
    without_groups,
)

Direction = Literal["higher", "lower"]
FirstBlock = Literal["frequency", "uniform"]
METRICS = ("average_precision", "balanced_accuracy")


def subset_sizes(n: int, smallest: int) -> list[int]:
    """Sizes n, n / 2, n / 4 ... (rounded up) of at least ``smallest``, ascending.

    Raises:
        TooFewSamples: fewer than two of them.
    """
    sizes = [n]
    while -(-sizes[0] // 2) >= smallest and sizes[0] > 1:
        sizes.insert(0, -(-sizes[0] // 2))
    if len(sizes) < 2:
        raise TooFewSamples(
            f"A learning curve from {smallest} training images needs {2 * smallest - 1} of them, not {n}.",
            "Use more, or a smaller 'smallest'.",
        )
    return sizes


def area_over_log(sizes: Sequence[int], heights: np.ndarray) -> np.ndarray:
    """Mean height over log n of a curve given at sizes (S,), by trapezoids: heights (S, ...) -> (...)."""
    where = np.log(np.asarray(sizes, np.float64))
    return np.asarray(trapezoid(heights, where, axis=0) / (where[-1] - where[0]))


def frequency_code(positives: np.ndarray, n: int) -> np.ndarray:
    """Bits of n labels with so many ones under the Krichevsky-Trofimov estimator (their order does not matter)."""
    ones = np.asarray(positives, np.float64)
    return np.asarray((betaln(0.5, 0.5) - betaln(ones + 0.5, n - ones + 0.5)) / np.log(2))


def entropy_bits(frequency: np.ndarray) -> np.ndarray:
    """Entropy of a binary variable in bits."""
    return np.asarray((entr(frequency) + entr(1 - frequency)) / np.log(2))


@dataclass(frozen=True)
class Fitted:
    """The probe of some training images: its log-odds on validation and test images, and those of other images.

    Attributes:
        validation, test: (n, A). coefficients: (A, D). intercepts: (A,).
    """

    validation: np.ndarray
    test: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray


def fit_some(x: Vectors, y: Attributes, rows: np.ndarray, config: ReadabilityConfig, device: str) -> Fitted:
    """Fit the probes on these training rows, C (or the constant) chosen by validation log-loss for every attribute."""
    labels = y.train[rows]
    positives = labels.sum(0, dtype=np.float64)
    # The constant predictor; half an image of either value keeps its log-odds finite.
    intercepts = np.log((positives + 0.5) / (len(rows) - positives + 0.5))
    coefficients = np.zeros((labels.shape[1], x.train.shape[1]))
    both = np.flatnonzero((positives > 0) & (positives < len(rows)))
    if len(both):
        fit = fit_logistic(x.train[rows], labels[:, both], config.cs, tolerance=config.tolerance, device=device)
        constant = log_loss(intercepts[both], y.validation[:, both]).mean(0)
        fitted = log_loss(margins(x.validation, fit.coefficients, fit.intercepts), y.validation[:, both]).mean(1)
        better = fitted.min(0) < constant
        chosen, kept = fitted.argmin(0)[better], np.flatnonzero(better)
        coefficients[both[kept]] = fit.coefficients[chosen, kept]
        intercepts[both[kept]] = fit.intercepts[chosen, kept]
    validation, test = (margins(part, coefficients, intercepts) for part in (x.validation, x.test))
    return Fitted(validation, test, coefficients, intercepts)


def heights(fitted: Fitted, y: Attributes, counts: np.ndarray) -> np.ndarray:
    """Average precision and balanced accuracy (thresholds of the validation split) on the test split, (2, A, R)."""
    cuts = best_thresholds(fitted.validation, y.validation, "balanced_accuracy")
    predicted = (fitted.test > cuts).astype(np.uint8)
    return np.stack([average_precision(fitted.test, y.test, counts), balanced_accuracy(predicted, y.test, counts)])


def online_code(
    x: Vectors, y: Attributes, order: np.ndarray, sizes: list[int], fits: list[Fitted], first: FirstBlock
) -> np.ndarray:
    """Bits (N, A) of every training image's labels; the first block's are shared equally among its images."""
    bits = np.empty(y.train.shape)
    block = order[: sizes[0]]
    bits[block] = 1.0
    if first == "frequency":
        bits[block] = frequency_code(y.train[block].sum(0), len(block)) / len(block)
    for size, following, fit in zip(sizes[:-1], sizes[1:], fits[:-1], strict=True):
        block = order[size:following]
        logits = margins(x.train[block], fit.coefficients, fit.intercepts)
        bits[block] = log_loss(logits, y.train[block]) / np.log(2)
    return bits


class EfficiencyConfig(ReadabilityConfig):
    """As `ReadabilityConfig`, and for sample efficiency.

    Attributes:
        vectorisations: ``pca``, since the number of features moves the curve: as many for every tokenizer.
        smallest: fewest training images.
        orders: of the training images; results are means over them.
        first_block: how the first block is coded: by "frequency", or "uniform" as published.
        groups: of images that the jackknife leaves out.
    """

    vectorisations: tuple[Vectorisation, ...] = ("pca",)
    smallest: int = Field(64, ge=2)
    orders: int = Field(3, ge=2)
    first_block: FirstBlock = "frequency"
    groups: int = Field(20, ge=2)


class SampleEfficiency(AttributeMetric):
    """Areas under the curves of average precision and balanced accuracy; bits, and compression."""

    name = "sample-efficiency"
    summary = "probe score against the number of training images, and online description length (Voita and Titov 2020)"
    Config = EfficiencyConfig

    def of_vectors(self, x: Vectors, y: Attributes, seed: int, device: str) -> list[Score]:
        cfg = self.config
        n, generator = len(y.train), numpy_generator(seed, self.name, "groups")
        sizes = subset_sizes(n, cfg.smallest)
        kept = without_groups(len(y.test), cfg.groups, generator)
        counts = np.concatenate([np.ones((len(kept), 1), np.float32), kept], axis=1)
        whole = fit_some(x, y, np.arange(n), cfg, device)
        last = heights(whole, y, counts)
        curves, bits = [], np.empty((cfg.orders, n, len(y.names)))
        for turn in range(cfg.orders):
            order = numpy_generator(seed, self.name, "order", turn).permutation(n)
            fits = [fit_some(x, y, order[:size], cfg, device) for size in sizes[:-1]] + [whole]
            curves.append(np.stack([*(heights(fit, y, counts) for fit in fits[:-1]), last]))
            bits[turn] = online_code(x, y, order, sizes, fits, cfg.first_block)
        protocol = {"sizes": sizes, "select": "validation log-loss, per attribute and size"}
        areas = self._areas(np.array(curves), sizes, x, y, seed, protocol)
        held = without_groups(n, cfg.groups, generator)
        return areas + self._lengths(bits, held, x, y, seed, protocol)

    def _areas(
        self, curves: np.ndarray, sizes: list[int], x: Vectors, y: Attributes, seed: int, protocol: dict[str, Any]
    ) -> list[Score]:
        """From curves (orders, sizes, 2, attributes, 1 + groups)."""
        found = []
        chance = {"average_precision": float(y.test.mean(0).mean()), "balanced_accuracy": 0.5}
        for m, metric in enumerate(METRICS):
            per_order = np.nanmean(curves[:, :, m], axis=2)  # over attributes that a resample has
            areas = area_over_log(sizes, per_order.swapaxes(0, 1))
            value = float(areas[:, 0].mean())
            own = area_over_log(sizes, curves[:, :, m, :, 0].mean(0))
            detail = {
                "baseline": chance[metric],
                "curve": dict(zip(map(str, sizes), np.round(per_order[:, :, 0].mean(0), 6).tolist(), strict=True)),
                "per_attribute": dict(zip(y.names, np.round(own, 6).tolist(), strict=True)),
            }
            half = half_width(areas.mean(0)[1:], _order_error(areas[:, 0]))
            found.append(
                self.of_attributes(
                    f"sample_efficiency_{metric}", value, (value - half, value + half),
                    "95% by Student's t: jackknife over groups of test images, and the spread over training orders",
                    "higher",
                    len(y.test), x, y, seed, protocol={**protocol, "split": "test"}, detail=detail,
                )
            )  # fmt: skip
        return found

    def _lengths(
        self, bits: np.ndarray, kept: np.ndarray, x: Vectors, y: Attributes, seed: int, protocol: dict[str, Any]
    ) -> list[Score]:
        """From bits (orders, images, attributes) and the jackknife's weights (images, groups)."""
        mean = bits.mean(0)
        share = kept / kept.sum(0)
        entropy = entropy_bits(y.train.mean(0))
        lengths, entropies = share.T @ mean, entropy_bits(share.T @ y.train)
        per_order = bits.mean((1, 2))
        own = entropy / mean.mean(0)
        numbers: dict[str, tuple[float, np.ndarray, np.ndarray, Direction, dict[str, float], np.ndarray]] = {
            "mdl_bits": (
                float(mean.mean()), lengths.mean(1), per_order, "lower", {"baseline": float(entropy.mean())},
                mean.mean(0),
            ),
            "mdl_compression": (
                float(entropy.mean() / mean.mean()), entropies.mean(1) / lengths.mean(1), entropy.mean() / per_order,
                "higher", {"baseline": 1.0}, own,
            ),
        }  # fmt: skip
        found = []
        for metric, (value, without, orders, direction, baseline, values) in numbers.items():
            half = half_width(without, _order_error(orders))
            detail = {**baseline, "per_attribute": dict(zip(y.names, np.round(values, 6).tolist(), strict=True))}
            found.append(
                self.of_attributes(
                    metric, value, (value - half, value + half),
                    "95% by Student's t: jackknife over groups of training images, and the spread over training orders",
                    direction, len(y.train), x, y, seed, protocol={**protocol, "split": "train"}, detail=detail,
                )
            )  # fmt: skip
        return found


def _order_error(values: np.ndarray) -> float:
    """Standard error of a mean over training orders."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
