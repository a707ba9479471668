"""Whether different attributes are read along different directions.

The direction of an attribute is the weight vector of its least-squares linear probe, in the space where the latents x
are white, z = S^(-1/2) (x - mean) with S their covariance. There it is simply

    c_a = Cov(z, y_a),      cos(a, b) = c_a . c_b / (|c_a| |c_b|),

the difference of the class means up to its length (Fisher's discriminant), whatever ridge penalty is put on it, and no
invertible linear map of the latents changes a cosine. (Directions of penalised logistic regressions do depend on
penalty and scale: merely mixing latents that hold independent attributes turns them by tens of degrees.) The cosine is
also the correlation of the two probes' predictions, so attributes that co-occur cannot have orthogonal directions:
predictions that equal the labels correlate as the labels do, by phi, and so do those fitted to noise. Phi is what
co-occurrence alone gives, and

    excess = mean over pairs of |cos(a, b)|  -  mean over pairs of |phi(a, b)|

is what the latents add: 0 for labels held exactly, above 0 where two attributes share more of a direction than of their
images, below 0 where latents tell them better apart than their labels do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field

from vaebench.core.errors import DataError, TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.probing.features import Vectorisation
from vaebench.metrics.readability.vectors import (
    AttributeMetric,
    Attributes,
    Vectors,
    VectorsConfig,
    half_width,
    rounded,
    without_groups,
)

# Directions in which latents vary by less than this share of the largest variance are rounding.
RESOLUTION = 1e-6


@dataclass(frozen=True)
class Moments:
    """Number of rows, their sum (D,) and sum of products (D, D), float64; of columns that are standardised or small."""

    n: int
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Of the rows of (n, D)."""
        wide = values.astype(np.float64)
        return cls(len(wide), wide.sum(0), wide.T @ wide)

    def without(self, other: "Moments") -> "Moments":
        """Of the rows that are not among others."""
        return Moments(self.n - other.n, self.total - other.total, self.products - other.products)

    def covariance(self) -> np.ndarray:
        """Covariance (D, D), divisor n."""
        mean = self.total / self.n
        return np.asarray(self.products / self.n - np.outer(mean, mean))


def cosines(inner: np.ndarray) -> np.ndarray:
    """Inner products (A, A) over the lengths; NaN in rows and columns without a length."""
    squares = np.diag(inner)
    lengths = np.sqrt(np.where(squares > 0, squares, np.nan))
    return np.asarray(np.clip(inner / lengths / lengths[:, None], -1, 1))


def direction_cosines(joint: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of attribute directions in whitened space, and phi, (A, A) each.

    Args:
        joint: covariance (D + A, D + A) of latents and attributes side by side. width: D.
    """
    # By torch, as NumPy's threads and those of the fits would wait for each other.
    values, basis = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(joint[:width, :width].copy())))
    kept = values > RESOLUTION * values[-1]
    directions = (basis[:, kept] / np.sqrt(values[kept])).T @ joint[:width, width:]
    return cosines(directions.T @ directions), cosines(joint[width:, width:])


def mean_overlap(matrix: np.ndarray) -> float:
    """Mean absolute value above the diagonal of (A, A), pairs without a value left out; NaN where none has one."""
    above = np.abs(matrix[np.triu_indices(len(matrix), 1)])
    above = above[~np.isnan(above)]
    return float(above.mean()) if len(above) else float("nan")


class DirectionsConfig(VectorsConfig):
    """As `VectorsConfig`. ``groups``: of training images that the jackknife leaves out, directions fitted anew."""

    vectorisations: tuple[Vectorisation, ...] = ("pca",)
    groups: int = Field(20, ge=2)


class AttributeDirections(AttributeMetric):
    """Mean absolute cosine of the probes' directions, and its excess over the labels' correlation."""

    name = "attribute-directions"
    summary = "cosines of probe directions of different attributes, beside their co-occurrence"
    Config = DirectionsConfig

    def of_vectors(self, x: Vectors, y: Attributes, seed: int, device: str) -> list[Score]:
        n, width = x.train.shape
        if len(y.names) < 2:
            raise DataError(f"Directions are compared in pairs, and only '{y.names[0]}' can be read.")
        if n <= 2 * width:
            raise TooFewSamples(
                f"{n} training images give no directions in {width} dimensions: a fit to noise would do as well.",
                "Use more images than twice the dimensions, or the vectorisation 'pca' with fewer components.",
            )
        both = np.concatenate([x.train, y.train], axis=1)
        everything = Moments.of(both)
        own, phi = direction_cosines(everything.covariance(), width)
        kept = without_groups(n, self.config.groups, numpy_generator(seed, self.name, "groups")).T
        rest = (everything.without(Moments.of(both[group == 0])) for group in kept)
        without = np.array(
            [[mean_overlap(matrix) for matrix in direction_cosines(part.covariance(), width)] for part in rest]
        )
        overlap, chance = mean_overlap(own), mean_overlap(phi)
        numbers: dict[str, tuple[float, np.ndarray, dict[str, Any]]] = {
            "direction_cosine": (
                overlap, without[:, 0], {"baseline": chance, "cosines": rounded(own), "phi": rounded(phi)},
            ),
            "direction_excess": (overlap - chance, without[:, 0] - without[:, 1], {"baseline": 0.0}),
        }  # fmt: skip
        protocol = {
            "probe": "least squares",
            "space": "whitened by the covariance of the training latents",
            "split": "train",
        }
        found = []
        for metric, (value, parts, detail) in numbers.items():
            half = half_width(parts)
            interval = "95% by Student's t, jackknife over groups of training images, directions fitted anew"
            found.append(
                self.of_attributes(
                    metric, value, (value - half, value + half), interval, "lower", n, x, y, seed,
                    protocol=protocol, detail=detail,
                )
            )  # fmt: skip
        return found
