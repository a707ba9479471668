"""How many dimensions latents use: effective rank, participation ratio, active units, posterior collapse.

With lambda the eigenvalues of the covariance of flattened latents and p = lambda / sum lambda,

    effective rank      exp(-sum p log p)                   (Roy and Vetterli 2007)
    participation ratio (sum lambda)^2 / sum lambda^2

and with q(z|x) = N(mu(x), sigma(x)^2) per unit: a unit is active where Var_x[mu(x)] > 0.01 (Burda, Grosse and
Salakhutdinov 2016), and collapsed where its mean KL to N(0, 1) is below a threshold.
"""

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import NumericalError, TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.intervals import centred, resample_counts

NORMAL_QUANTILE = 1.959963984540054


def effective_rank(eigenvalues: np.ndarray) -> float:
    """exp of the entropy of eigenvalues (d,) as shares of their sum."""
    shares = _shares(eigenvalues)
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def participation_ratio(eigenvalues: np.ndarray) -> float:
    """(sum lambda)^2 / sum lambda^2."""
    return float(1 / np.sum(_shares(eigenvalues) ** 2))


def _shares(eigenvalues: np.ndarray) -> np.ndarray:
    values = np.maximum(eigenvalues, 0)
    if not values.sum() > 0:
        raise NumericalError("The latents are constant: they have no rank.", "Check the tokenizer.")
    return np.asarray(values / values.sum())


def sensitivity(eigenvalues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of effective rank and participation ratio by each eigenvalue, (d,) each."""
    shares, total = _shares(eigenvalues), np.maximum(eigenvalues, 0).sum()
    logs = np.log(np.maximum(shares, np.finfo(float).tiny))
    entropy = -np.sum(shares * logs)
    rank = np.exp(entropy) * np.where(shares > 0, -(logs + entropy), 0) / total
    ratio = participation_ratio(eigenvalues)
    return rank, 2 * ratio / total * (1 - ratio * shares)


def spectrum_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the covariance of x (n, D), and squared projections (n, r) of the samples on its eigenvectors.

    From the smaller of the covariance and the Gram matrix, so the cost is that of min(n, D); r is that number.
    """
    n, dimension = x.shape
    x = x - x.mean(0)
    if dimension <= n:
        eigenvalues, vectors = np.linalg.eigh((x.T @ x).astype(np.float64) / (n - 1))
        return eigenvalues, np.asarray((x @ vectors.astype(np.float32)) ** 2, np.float64)
    eigenvalues, vectors = np.linalg.eigh((x @ x.T).astype(np.float64) / (n - 1))
    return eigenvalues, vectors**2 * np.maximum(eigenvalues, 0) * (n - 1)


class RankConfig(Config):
    """Settings: ``samples`` training images at most, which also bounds the rank that can be seen."""

    samples: int = Field(4_000, ge=3)


class EffectiveRank(Metric):
    """Effective rank and participation ratio of the flattened latents, and as shares of their dimension."""

    name = "effective-rank"
    version = 2
    summary = "how many dimensions the latents fill: entropy of their covariance spectrum"
    Config = RankConfig

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        rows, dimension = inputs.rows("train", self.config.samples), int(np.prod(inputs.train.shape))
        n = len(rows)
        if n < 3:
            raise TooFewSamples(f"A covariance spectrum needs at least 3 samples, got {n}.")
        x = np.concatenate([block.reshape(len(block), -1) for block in inputs.blocks(inputs.train, rows)])
        eigenvalues, squares = spectrum_of(x)
        # Moving weight towards a sample x changes eigenvalue i by (u_i . x)^2 - lambda_i.
        influence = squares @ np.stack(sensitivity(eigenvalues), 1)
        errors = influence.std(0, ddof=1) / np.sqrt(n)
        protocol = {
            "latents": "posterior mean, normalised by training statistics, flattened",
            "split": "train",
            **inputs.drawn(self.config.samples, "train"),
        }
        detail = {"dimension": dimension}
        if n <= dimension:
            detail["note"] = f"{n} samples span at most {n - 1} of {dimension} dimensions: biased downwards"  # type: ignore[assignment]
        scores = []
        values = {
            "effective_rank": effective_rank(eigenvalues),
            "participation_ratio": participation_ratio(eigenvalues),
        }
        for (name, value), error in zip(values.items(), errors, strict=True):
            for variant, size in (("", 1), ("share of dimension", dimension)):
                half, own = NORMAL_QUANTILE * error / size, {"variant": variant} if variant else {}
                scores.append(
                    self.score(
                        name, value / size, "none", n, seed=seed, low=value / size - half, high=value / size + half,
                        interval="95% normal over samples, from their influence", protocol={**protocol, **own},
                        detail={**detail, **own},
                    )
                )  # fmt: skip
        return scores


class ActiveUnitsConfig(Config):
    """Settings of active units and collapse.

    Attributes:
        variance: a unit is active where the variance of its mean over images exceeds this.
        kl: a unit is collapsed where its mean KL is below this many nats.
        samples: test images at most. resamples: of the bootstrap.
    """

    variance: float = Field(0.01, gt=0)
    kl: float = Field(0.01, gt=0)
    samples: int = Field(5_000, ge=2)
    resamples: int = Field(200, ge=20)


class ActiveUnits(Metric):
    """Share of active units, share of collapsed units, and KL per unit, on raw latents."""

    name = "active-units"
    version = 2
    summary = "share of active and of collapsed latent units, and KL per unit (Burda et al.)"
    needs = frozenset({"std"})
    Config = ActiveUnitsConfig

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg, split = self.config, inputs.test
        rows = inputs.rows("test", cfg.samples)
        n = len(rows)
        assert split.std is not None
        mean = np.asarray(split.mean[rows], np.float64).reshape(n, -1)
        std = np.asarray(split.std[rows], np.float64).reshape(n, -1)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise NumericalError("The latents hold NaN or infinity.", "Check the tokenizer, or extract them again.")
        if np.any(std <= 0):
            raise NumericalError(
                "Some posterior standard deviations are 0: their KL is infinite.", "Leave active-units out."
            )
        kl = 0.5 * (mean**2 + std**2 - 1) - np.log(std)
        generator = numpy_generator(seed, self.name)
        weights = np.concatenate([np.ones((1, n)), resample_counts(n, cfg.resamples, generator)]) / n
        centre = mean.mean(0)  # keeps the digits of the variances
        variance = weights @ (mean - centre) ** 2 - (weights @ (mean - centre)) ** 2
        nats = weights @ kl
        drawn = {
            "active_units": ("higher", (variance * n / max(n - 1, 1) > cfg.variance).mean(1)),
            "collapsed_units": ("lower", (nats < cfg.kl).mean(1)),
            "kl_per_unit": ("none", nats.mean(1)),
        }
        protocol = {"latents": "posterior, raw", "split": "test", **inputs.drawn(cfg.samples, "test")}
        scores = []
        for name, (direction, values) in drawn.items():
            low, high = centred(float(values[0]), values[1:])
            if name != "kl_per_unit":
                low, high = max(low, 0.0), min(high, 1.0)
            scores.append(
                self.score(
                    name, values[0], direction, n, seed=seed, low=low, high=high,  # type: ignore[arg-type]
                    interval="95% bias-centred bootstrap over images", protocol=protocol,
                    detail={"units": mean.shape[1]},
                )
            )  # fmt: skip
        return scores
