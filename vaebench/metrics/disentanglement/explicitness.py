"""Explicitness (Ridgeway and Mozer 2018): how well a linear classifier tells the values of a factor, by ROC-AUC.

Codes are standardised by the training split; one multinomial logistic regression (L2, C = 1) per factor; the macro mean
over values of the one-against-rest area under the ROC curve of the predicted probabilities on the test split; then the
mean over factors. Values that either split lacks, and factors of one value in the test split, are left out and counted.
"""

import numpy as np
from pydantic import Field
from scipy.special import log_softmax
from scipy.stats import rankdata

from vaebench.core.errors import DataError
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.disentanglement.codes import Codes, Targets, Vectorisation
from vaebench.metrics.disentanglement.scores import CodesConfig, CodesMetric, Number
from vaebench.metrics.intervals import centred, resample_counts
from vaebench.metrics.separability.softmax import fit_softmax


def areas(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One-against-rest ROC-AUC of scores (n, V) for labels (n,) in 0 .. V - 1; NaN for a value that is not there."""
    ranks = rankdata(scores, axis=0)
    positive = labels[:, None] == np.arange(scores.shape[1])
    p = positive.sum(0)
    q = len(labels) - p
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(((ranks * positive).sum(0) - p * (p + 1) / 2) / (p * q))


def weighted_areas(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`areas` of resamples: weights (R, n) say how often each sample was drawn; (R, V). Ties are broken by order."""
    found = np.empty((len(weights), scores.shape[1]))
    for value in range(scores.shape[1]):
        order = np.argsort(scores[:, value], kind="stable")
        positive = weights[:, order] * (labels[order] == value)
        negative = weights[:, order] - positive
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, value] = (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))
    return found


def _known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is not NaN; NaN where nothing is."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis) / np.sum(~np.isnan(values), axis))


class ExplicitnessConfig(CodesConfig):
    """As `CodesConfig`. ``c``: inverse penalty, 1 as published. ``resamples``: of the bootstrap."""

    vectorisations: tuple[Vectorisation, ...] = ("pooled", "pca")
    c: float = Field(1.0, gt=0)
    resamples: int = Field(100, ge=20)


class Explicitness(CodesMetric):
    """Explicitness."""

    name = "explicitness"
    version = 3
    summary = "area under ROC of linear classifiers for the values of factors (Ridgeway and Mozer 2018)"
    Config = ExplicitnessConfig

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        mean, std = codes.train.mean(0), codes.train.std(0)
        scale = np.divide(1, std, out=np.zeros_like(std), where=std > 0)
        train, test = (codes.train - mean) * scale, (codes.test - mean) * scale
        weights = resample_counts(len(test), self.config.resamples, numpy_generator(seed, self.name, "bootstrap"))
        per_factor: dict[str, float] = {}
        drawn, dropped = [], 0
        for k, name in enumerate(found.names):
            values, labels = np.unique(found.train[:, k], return_inverse=True)
            # Of two values scikit-learn, whose C the published one is, fits one vector: half of ours, see fit_softmax.
            fitted = fit_softmax(train, labels, len(values), self.config.c / (2 if len(values) == 2 else 1))
            # The logarithm ranks as the probability does, and does not saturate.
            scores = log_softmax(test @ fitted[:-1] + fitted[-1], axis=1)
            truth = np.searchsorted(values, found.test[:, k])
            truth = np.where(np.isin(found.test[:, k], values), truth, -1)
            own = areas(scores, truth)
            if np.isnan(own).all():
                continue
            dropped += int(np.isnan(own).sum())
            per_factor[name] = float(np.nanmean(own))
            drawn.append(_known_mean(weighted_areas(scores, truth, weights), 1))
        if not per_factor:
            raise DataError("No factor has two values that training knows in the test split.", "Give more images.")
        value = float(np.mean(list(per_factor.values())))
        low, high = centred(value, _known_mean(np.array(drawn), 0))
        detail = {
            "per_factor": per_factor,
            "values_without_test_images": dropped,
            "factors_of_one_test_value": len(found.names) - len(per_factor),
            "baseline": 0.5,
        }
        interval = "95% bootstrap over test images, classifiers fixed, centred"
        return [Number("explicitness", value, len(test), low, high, interval, {"split": "test"}, detail)]
