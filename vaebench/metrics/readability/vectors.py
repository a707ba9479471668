"""What the scores of this room share: vectors of latents, the attributes that can be read, and a linear probe of them.

Vectors are those of `vaebench.metrics.probing.features`, standardised on the training split:

    flattened  every latent value, d h w of them
    pooled     mean over positions, d of them
    pca        leading principal components of the flattened latents, each standardised: whitened, and equally many for
               every tokenizer
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from scipy.stats import t as student

from vaebench.core.config import Config
from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.core.scores import Score
from vaebench.data.base import SPLITS, SplitName
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.disentanglement.information import jackknife_error
from vaebench.metrics.probing.features import Vectorisation, fit_features
from vaebench.metrics.probing.logistic import fit_logistic

LATENTS = "posterior mean, standardised per feature on the training split"
CLASS_LEVEL = (
    "Attributes are given per class: on splits that share classes this measures class recognition, and images of a "
    "class are not independent, so that the intervals are too narrow."
)


class VectorsConfig(Config):
    """What all scores of this room take.

    Attributes:
        vectorisations: see the module.
        components: of ``pca``.
        samples: images of each split at most.
    """

    vectorisations: tuple[Vectorisation, ...] = ("flattened",)
    components: int = Field(64, ge=1)
    samples: int = Field(20_000, ge=2)


class ReadabilityConfig(VectorsConfig):
    """As `VectorsConfig`, and for scores of linear probes.

    Attributes:
        cs: inverse penalties to choose from.
        tolerance: certified relative gap of each fit to its optimum.
    """

    cs: tuple[float, ...] = (1e-3, 3e-2, 1.0, 30.0)
    tolerance: float = Field(5e-4, gt=0)

    @field_validator("cs")
    @classmethod
    def _positive(cls, cs: tuple[float, ...]) -> tuple[float, ...]:
        if not cs or min(cs) <= 0:
            raise ValueError("C must be one or more positive numbers")
        return tuple(sorted(set(cs)))


@dataclass(frozen=True)
class Attributes:
    """Attributes with both values in every split.

    Attributes:
        names: of the A columns. train, validation, test: uint8 (n, A).
        excluded: name -> why it was left out. level: "image", or "class" where all images of a class share theirs.
        drawn: what the protocol says of the rows, see `MetricInputs.drawn`.
    """

    names: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    excluded: dict[str, str]
    level: str
    drawn: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Vectors:
    """Standardised vectors of the three splits, float32 (n, D), and by which vectorisation."""

    how: Vectorisation
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Linear:
    """The linear probe of every attribute: logistic regression, C chosen by log-loss on the validation split.

    Attributes:
        coefficients: (A, D). intercepts: (A,). c: (A,) chosen. gap: largest certified relative gap to an optimum.
    """

    coefficients: np.ndarray
    intercepts: np.ndarray
    c: np.ndarray
    gap: float

    def margins(self, x: np.ndarray) -> np.ndarray:
        """Log-odds (n, A), float32."""
        return margins(x, self.coefficients, self.intercepts)


def usable(inputs: MetricInputs, samples: int) -> Attributes:
    """The attributes that can be read, of at most ``samples`` rows of each split.

    Raises:
        DataError: a split without attributes, values other than 0 and 1, or no attribute with both values in each.
        TooFewSamples: an empty split.
    """
    columns = {name: _columns(inputs, name, samples) for name in SPLITS}
    names = inputs.info.attributes
    for split, y in columns.items():
        if y.shape[1] != len(names):
            raise DataError(f"The {split} split has {y.shape[1]} attributes and {len(names)} names of them.")
    excluded: dict[str, str] = {}
    for split, y in columns.items():
        for attribute in np.flatnonzero(y.min(0) == y.max(0)):
            excluded.setdefault(names[attribute], f"has one class only in the {split} split")
    kept = [a for a, name in enumerate(names) if name not in excluded]
    if not kept:
        reasons = "; ".join(f"'{name}' {reason}" for name, reason in list(excluded.items())[:5])
        raise DataError(f"No attribute can be read: {reasons}.", "Use larger splits or other attributes.")
    train, validation, test = (y[:, kept] for y in columns.values())
    level = inputs.info.attribute_level or "image"
    drawn = inputs.drawn(samples, *SPLITS)
    return Attributes(tuple(names[a] for a in kept), train, validation, test, excluded, level, drawn)


def _columns(inputs: MetricInputs, name: SplitName, samples: int) -> np.ndarray:
    attributes = getattr(inputs, name).attributes
    if attributes is None:
        raise DataError(f"The {name} split has no attributes.")
    y = np.asarray(attributes[inputs.rows(name, samples)])
    if not len(y):
        raise TooFewSamples(f"The {name} split is empty.")
    if not np.isin(y, (0, 1)).all():
        raise DataError(f"Attributes of the {name} split must be 0 or 1.")
    return y.astype(np.uint8)


def vectors(inputs: MetricInputs, how: Vectorisation, components: int, samples: int) -> Vectors:
    """Vectors of at most ``samples`` rows of each split, by a map fitted on those of the training split.

    Raises:
        NumericalError: NaN, infinity, or no variation at all in the latents.
        TooFewSamples: fewer than two training rows, or not more than components.
    """
    means = [inputs.means(split, samples) for split in SPLITS]
    device = device_of(inputs)
    features = fit_features(means[0], how, components, device)
    parts = [features.rows(mean, device).to_tensor(torch.float32).cpu().numpy() for mean in means]
    if not all(np.isfinite(part).all() for part in parts):
        raise NumericalError("The latents hold NaN or infinity.", "Check the tokenizer, or extract them again.")
    return Vectors(how, *parts)


def device_of(inputs: MetricInputs) -> str:
    """The device of fits, which need float64: "mps" stands for "cpu"."""
    return "cpu" if inputs.device == "mps" else inputs.device


def margins(x: np.ndarray, coefficients: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Log-odds x w + b, float32: (n, A) of coefficients (A, D) and intercepts (A,); (C, n, A) of (C, A, D), (C, A)."""
    products = x @ np.swapaxes(coefficients, -1, -2).astype(np.float32)
    return np.asarray(products + np.expand_dims(intercepts, -2).astype(np.float32))


def log_loss(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of y (n, A) in nats, per element, of logits (..., n, A): float64."""
    wide = logits.astype(np.float64)
    return np.asarray(np.logaddexp(0, wide) - y * wide)


def linear_probe(x: Vectors, y: Attributes, config: ReadabilityConfig, device: str) -> Linear:
    """Fit every attribute and C on the training split, and choose C for each on the validation split."""
    fit = fit_logistic(x.train, y.train, config.cs, tolerance=config.tolerance, device=device)
    losses = log_loss(margins(x.validation, fit.coefficients, fit.intercepts), y.validation).mean(1)
    chosen, each = losses.argmin(0), np.arange(len(y.names))
    gap = float(fit.gaps[chosen, each].max())
    return Linear(fit.coefficients[chosen, each], fit.intercepts[chosen, each], fit.cs[chosen], gap)


class AttributeMetric(Metric):
    """A metric of vectors and attributes. Subclasses write ``of_vectors``: the scores of one vectorisation."""

    version = 2
    needs = frozenset({"attributes"})
    Config = VectorsConfig
    choices = frozenset({"vectorisations", "components"})

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg = self.config
        y = usable(inputs, cfg.samples)
        found: list[Score] = []
        for how in cfg.vectorisations:
            found += self.of_vectors(vectors(inputs, how, cfg.components, cfg.samples), y, seed, device_of(inputs))
        return found

    def of_vectors(self, x: Vectors, y: Attributes, seed: int, device: str) -> list[Score]:
        """The scores of one vectorisation."""
        raise NotImplementedError

    def of_attributes(
        self,
        metric: str,
        value: float,
        bounds: tuple[float, float],
        interval: str,
        direction: Literal["higher", "lower", "none"],
        n: int,
        x: Vectors,
        y: Attributes,
        seed: int,
        *,
        protocol: Mapping[str, Any] | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Score:
        """A score with what every score of this room says of vectors and attributes."""
        settings = {
            "latents": LATENTS,
            "vectorisation": x.how,
            **({"components": self.config.components} if x.how == "pca" else {}),
            "attributes": list(y.names),
            "attribute_level": y.level,
            "train_samples": len(y.train),
            "validation_samples": len(y.validation),
            "test_samples": len(y.test),
            **y.drawn,
        }
        notes = {"notes": [CLASS_LEVEL]} if y.level == "class" else {}
        companions = {
            "vectorisation": x.how,
            "width": x.train.shape[1],
            "excluded": y.excluded,
            "excluded_count": len(y.excluded),
        }
        return self.score(
            metric, value, direction, n, seed=seed, low=bounds[0], high=bounds[1], interval=interval,
            protocol={**settings, **(protocol or {})}, detail={**companions, **notes, **(detail or {})},
        )  # fmt: skip


def rounded(matrix: np.ndarray, digits: int = 3) -> list[list[float | None]]:
    """A matrix as lists for JSON: rounded, None for NaN."""
    return [[None if np.isnan(v) else round(float(v), digits) for v in row] for row in matrix]


def half_width(without: np.ndarray, other_error: float = 0.0) -> float:
    """Half of a 95% interval from a statistic's values (G,) without each group, by Student's t of G - 1 degrees.

    ``other_error`` is a standard error from another source, added to that of the jackknife in squares.
    """
    error = np.hypot(jackknife_error(without), other_error)
    return float(student.ppf(0.975, len(without) - 1) * error)


def without_groups(n: int, groups: int, generator: np.random.Generator) -> np.ndarray:
    """Weights float32 (n, groups): column g is 0 on the g-th of ``groups`` random groups of samples and 1 elsewhere.

    Raises:
        TooFewSamples: fewer samples than groups.
    """
    if n < groups:
        raise TooFewSamples(f"A jackknife of {groups} groups needs more than {n} images.", "Ask for fewer groups.")
    member = generator.permutation(n) % groups
    return (member[:, None] != np.arange(groups)).astype(np.float32)
