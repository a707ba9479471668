"""How much of the attributes is in latents but not linearly: nonlinear readers against the linear probe, same vectors.

    knn      share of an image's k nearest training images that have the attribute (Euclidean, exact), k chosen
    network  one hidden layer for all attributes, on top of the linear probe (`vaebench.metrics.readability.mlp`)

The linear probe's C, k and the network's epochs are chosen for every attribute by log-loss on the validation split, and
so are the thresholds of balanced accuracy. The gap is the mean over attributes of nonlinear minus linear on the test
split, with a bootstrap interval of paired differences: readers are fixed and all share the resampled images.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator, seed_of
from vaebench.metrics.intervals import centred
from vaebench.metrics.probing.metrics import (
    average_precision,
    balanced_accuracy,
    best_thresholds,
    bootstrap_counts,
)
from vaebench.metrics.readability.mlp import NetworkSettings, fit_network
from vaebench.metrics.readability.vectors import (
    AttributeMetric,
    Attributes,
    ReadabilityConfig,
    Vectors,
    linear_probe,
    log_loss,
)
from vaebench.metrics.separability.neighbours import nearest_neighbours

Reader = Literal["knn", "network"]
METRICS = ("average_precision", "balanced_accuracy")


def neighbour_log_odds(queries: np.ndarray, bank: np.ndarray, y: np.ndarray, ks: list[int], device: str) -> np.ndarray:
    """Log-odds of (positive neighbours + prevalence) / (k + 1): the prevalence counts as one more neighbour.

    Args:
        queries: (m, D). bank: (n, D). y: attributes of the bank (n, A), each with both values. ks: ascending.

    Returns:
        float32 (|ks|, m, A).
    """
    found = nearest_neighbours(queries, bank, k=ks[-1], device=device)
    prevalence = y.mean(0)
    total, result, seen = np.zeros((len(queries), y.shape[1])), [], 0
    for k in ks:
        for column in found[:, seen:k].T:
            total += y[column]
        share = (total + prevalence) / (k + 1)
        result.append(np.log(share / (1 - share)).astype(np.float32))
        seen = k
    return np.stack(result)


def chosen_neighbours(
    x: Vectors, y: Attributes, ks: tuple[int, ...], device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds on the validation and the test split, (n, A) each, with the k (A,) of least validation log-loss."""
    sizes = sorted({min(k, len(x.train)) for k in ks})
    validation, test = (neighbour_log_odds(part, x.train, y.train, sizes, device) for part in (x.validation, x.test))
    best, each = log_loss(validation, y.validation).mean(1).argmin(0), np.arange(len(y.names))
    return validation[best, :, each].T, test[best, :, each].T, np.array(sizes)[best]


class GapConfig(ReadabilityConfig):
    """As `ReadabilityConfig`, and for the nonlinear readers.

    Attributes:
        readers: see the module.
        ks: numbers of neighbours to choose from.
        hidden, learning_rate, weight_decay, batch_size, epochs, patience: of the network, see `NetworkSettings`.
        resamples: of the bootstrap.
    """

    readers: tuple[Reader, ...] = ("knn", "network")
    ks: tuple[int, ...] = (5, 10, 20, 50)
    hidden: int = Field(256, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    batch_size: int = Field(512, ge=1)
    epochs: int = Field(40, ge=1)
    patience: int = Field(5, ge=1)
    resamples: int = Field(200, ge=20)


class NonlinearGap(AttributeMetric):
    """Average precision and balanced accuracy of nonlinear readers less those of the linear probe."""

    name = "nonlinear-gap"
    summary = "nearest neighbours and a small network against the linear probe: what is there but not linear"
    Config = GapConfig
    choices = AttributeMetric.choices | {"readers"}

    def of_vectors(self, x: Vectors, y: Attributes, seed: int, device: str) -> list[Score]:
        cfg = self.config
        probes = linear_probe(x, y, cfg, device)
        linear = Vectors(x.how, *(probes.margins(part) for part in (x.train, x.validation, x.test)))
        readers = {"linear": (linear.validation, linear.test)}
        chosen: dict[str, dict[str, Any]] = {}
        if "knn" in cfg.readers:
            validation, test, ks = chosen_neighbours(x, y, cfg.ks, device)
            readers["knn"], chosen["knn"] = (validation, test), {"k": ks.tolist()}
        if "network" in cfg.readers:
            settings = NetworkSettings(**{key: getattr(cfg, key) for key in NetworkSettings.__dataclass_fields__})
            key = seed_of(seed, self.name, x.how)
            network = fit_network(x, linear, y, settings, key, device)
            readers["network"] = network.validation, network.test
            chosen["network"] = {"epochs": network.epochs.tolist()}

        ones = np.ones((len(y.test), 1), np.float32)
        drawn = bootstrap_counts(len(y.test), cfg.resamples, numpy_generator(seed, self.name, x.how, "bootstrap"))
        counts = np.concatenate([ones, drawn], axis=1)
        values = {name: _measured(*margins, y, counts) for name, margins in readers.items()}
        found = []
        for reader in (name for name in values if name != "linear"):
            for m, metric in enumerate(METRICS):
                difference = values[reader][m] - values["linear"][m]
                per_resample = np.nanmean(difference, axis=0)
                detail = {
                    "variant": reader, "linear": float(values["linear"][m][:, 0].mean()),
                    "nonlinear": float(values[reader][m][:, 0].mean()), "gap": probes.gap, **chosen[reader],
                    "per_attribute": dict(zip(y.names, np.round(difference[:, 0], 6).tolist(), strict=True)),
                }  # fmt: skip
                found.append(
                    self.of_attributes(
                        f"nonlinear_gap_{metric}", per_resample[0],
                        centred(float(per_resample[0]), per_resample[1:]),
                        "95% bias-centred bootstrap of paired differences over test images, readers fixed", "none",
                        len(y.test), x, y, seed, protocol={"split": "test", "reader": reader}, detail=detail,
                    )
                )  # fmt: skip
        return found


def _measured(validation: np.ndarray, test: np.ndarray, y: Attributes, counts: np.ndarray) -> list[np.ndarray]:
    """Average precision and balanced accuracy per attribute and resample, (A, R) each."""
    cuts = best_thresholds(validation, y.validation, "balanced_accuracy")
    predicted = (test > cuts).astype(np.uint8)
    return [average_precision(test, y.test, counts), balanced_accuracy(predicted, y.test, counts)]
