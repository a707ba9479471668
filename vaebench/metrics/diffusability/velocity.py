"""VIV: how ambiguous the velocity is that a flow model has to learn (arXiv 2606.03578).

On the linear path x_t = t x_1 + (1 - t) x_0 with x_0 ~ N(0, I), no network can do better than the conditional mean of
x_1 - x_0 given x_t. What is left is its conditional variance. For a class with Gaussian latents whose covariance Sigma
has eigenvalues lambda_i, i = 1 .. d,

    I(t) = sum_i lambda_i / ((1 - t)^2 + t^2 lambda_i),   I = integral of I(t) over [0, 1] = (pi/2) sum_i sqrt(lambda_i)

and VIV is the mean of I over classes; per dimension ("mean", the size of published values) or summed ("sum"). Compact
classes and uneven spectra are good. It grows with the scale of latents, so they enter as the diffusion model sees them.

There are far more dimensions than samples, so Sigma is fitted as a Kronecker product, Sigma_s (positions) x Sigma_c
(channels), by maximum likelihood (flip-flop: Dutilleul 1999). Its eigenvalues are all products, hence
sum sqrt(lambda) = (sum sqrt(lambda_c)) (sum sqrt(lambda_s)), and no d x d matrix is ever built. Of latents that are not
of this form the most likely fit has another total variance than they have, so it is scaled to theirs, and VIV stays
below (pi/2) sqrt(total variance / d), its value at equal eigenvalues.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.stats import t as student

from vaebench.core.config import Config
from vaebench.core.errors import NumericalError, TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.base import Metric, MetricInputs

ITERATIONS, TOLERANCE = 200, 1e-7
NORMAL_QUANTILE = 1.959963984540054


@dataclass(frozen=True)
class Kronecker:
    """A Gaussian on (C, T) with covariance positions (T, T) x channels (C, C); the positions' mean variance is 1."""

    mean: np.ndarray
    channels: np.ndarray
    positions: np.ndarray

    def roots(self) -> tuple[np.ndarray, np.ndarray]:
        """Square roots of the eigenvalues of channels (C,) and positions (T,)."""
        both = (np.sqrt(np.maximum(np.linalg.eigvalsh(m), 0)) for m in (self.channels, self.positions))
        channels, positions = both
        return channels, positions

    def ambiguity(self, per_dimension: bool = True) -> float:
        """(pi / 2) sum_i sqrt(lambda_i), or its mean over dimensions."""
        channels, positions = self.roots()
        if per_dimension:
            return float(np.pi / 2 * channels.mean() * positions.mean())
        return float(np.pi / 2 * channels.sum() * positions.sum())


def ambiguity_at(eigenvalues: np.ndarray, t: float) -> float:
    """I(t), summed over dimensions, from the eigenvalues (d,) of a covariance."""
    return float(np.sum(eigenvalues / ((1 - t) ** 2 + t**2 * eigenvalues)))


def least_samples(channels: int, positions: int) -> int:
    """So many samples make both factors positive definite, (M - 1) T >= C and (M - 1) C >= T: centring costs one."""
    return 1 + max(-(-channels // positions), -(-positions // channels))


def fit_kronecker(latents: np.ndarray, shrinkage: float = 0.0, iterations: int = ITERATIONS) -> Kronecker:
    """Maximum-likelihood Kronecker covariance of latents (M, C, T), centred on their mean, scaled to their variance.

    tr(channels) tr(positions) = (1 / M) sum_m |Z_m - mean|^2.

    Args:
        latents: samples of one class.
        shrinkage: weight a of the identity in (1 - a) Sigma + a tr(Sigma) / size, applied to both factors in every
            step; needed where there are too few samples.
        iterations: flip-flops at most; they end when both factors move by less than 1e-7 of their size.

    Raises:
        TooFewSamples: (M - 1) T < C or (M - 1) C < T without shrinkage, or fewer than 2 samples.
        NumericalError: latents without variation.
    """
    count, channels, positions = latents.shape
    if count < 2 or (shrinkage == 0 and count < least_samples(channels, positions)):
        raise TooFewSamples(
            f"{count} samples of {channels} channels x {positions} positions do not determine a Kronecker covariance.",
            "Give more samples for each class, or set shrinkage (0.1, say).",
        )
    values = latents.astype(np.float64)
    mean = values.mean(0)
    values -= mean
    if not np.any(values):
        raise NumericalError("The latents of a class are all the same: their velocity has no ambiguity to measure.")
    spatial, channel = np.eye(positions), np.eye(channels)
    for _ in range(iterations):
        before = channel, spatial
        channel = _shrunk(_channel_factor(values, spatial), shrinkage)
        spatial = _shrunk(_channel_factor(values.transpose(0, 2, 1), channel), shrinkage)
        size = np.trace(spatial) / positions
        spatial, channel = spatial / size, channel * size
        moved = max(
            np.abs(new - old).max() / np.abs(new).max() for new, old in zip((channel, spatial), before, strict=True)
        )
        if moved < TOLERANCE:
            break
    return _scaled(mean, channel, spatial, values)


def _scaled(mean: np.ndarray, channel: np.ndarray, spatial: np.ndarray, values: np.ndarray) -> Kronecker:
    """The fit with the channel factor scaled so that its variance is the total one of centred values (M, C, T)."""
    total = np.sum(values**2) / len(values)
    return Kronecker(mean, channel * (total / (np.trace(channel) * np.trace(spatial))), spatial)


def _channel_factor(values: np.ndarray, spatial: np.ndarray) -> np.ndarray:
    """(1 / (M T)) sum_m Z_m Sigma_s^-1 Z_m^T of values (M, C, T)."""
    count, channels, positions = values.shape
    try:
        whitened = np.linalg.solve(spatial, values.reshape(-1, positions).T).T.reshape(values.shape)
    except np.linalg.LinAlgError as error:
        raise NumericalError(
            "A Kronecker factor is singular: some latent channels or positions never vary.", "Set shrinkage (0.1, say)."
        ) from error
    rows = values.transpose(1, 0, 2).reshape(channels, -1)
    return np.asarray(rows @ whitened.transpose(1, 0, 2).reshape(channels, -1).T) / (count * positions)


def _shrunk(matrix: np.ndarray, shrinkage: float) -> np.ndarray:
    matrix = (matrix + matrix.T) / 2
    if not shrinkage:
        return matrix
    size = len(matrix)
    return (1 - shrinkage) * matrix + shrinkage * np.trace(matrix) / size * np.eye(size)


def jackknife_variance(
    latents: np.ndarray, fitted: Kronecker, groups: int, generator: np.random.Generator, shrinkage: float = 0.0
) -> float:
    """Variance of a class's mean ambiguity, from leaving out one of several random groups of samples at a time.

    Each refit takes one flip-flop from the fit of all samples, which is what moving few of them changes to first order.
    """
    groups = min(groups, len(latents))
    member = generator.permutation(len(latents)) % groups
    values = []
    for group in range(groups):
        kept = latents[member != group].astype(np.float64)
        kept -= kept.mean(0)
        channel = _shrunk(_channel_factor(kept, fitted.positions), shrinkage)
        spatial = _shrunk(_channel_factor(kept.transpose(0, 2, 1), channel), shrinkage)
        values.append(_scaled(fitted.mean, channel, spatial, kept).ambiguity())
    return float((groups - 1) / groups * np.sum((np.array(values) - np.mean(values)) ** 2))


def degrees_of_freedom(variances: np.ndarray, degrees: np.ndarray) -> float:
    """Those of a sum of independent estimates of variance (K,) with so many each (K,): (sum v)^2 / sum (v^2 / f).

    Source: Satterthwaite (1946), Welch (1947).
    """
    return float(np.sum(variances) ** 2 / np.sum(variances**2 / degrees))


def mixture_ambiguity(
    classes: list[Kronecker], weights: np.ndarray, draws: int, generator: np.random.Generator
) -> tuple[float, float]:
    """VIV of a mixture of Gaussians per dimension, for generation without labels, by Monte Carlo over (x_1, x_0, t).

    Given x_t, class k has responsibility r_k, and its velocity mean m_k and variance V_k(t) = I_k(t); the variance is
    sum_k r_k (I_k(t) + |m_k|^2) - |sum_k r_k m_k|^2, all in the eigenbases of the classes. Times are stratified.

    Returns:
        Value and Monte Carlo standard error.
    """
    channels, positions = classes[0].mean.shape
    bases = []
    for fit in classes:
        values_c, basis_c = np.linalg.eigh(fit.channels)
        values_s, basis_s = np.linalg.eigh(fit.positions)
        bases.append((basis_c, basis_s, np.maximum(np.outer(values_c, values_s), 0)))
    labels = generator.choice(len(classes), draws, p=weights / weights.sum())
    times = (np.arange(draws) + generator.random(draws)) / draws
    found = np.empty(draws)
    for i, (label, t) in enumerate(zip(labels, times, strict=True)):
        basis_c, basis_s, eigenvalues = bases[label]
        data = (
            classes[label].mean
            + basis_c @ (np.sqrt(eigenvalues) * generator.standard_normal((channels, positions))) @ basis_s.T
        )
        x = t * data + (1 - t) * generator.standard_normal((channels, positions))
        logs, means, variances = [], [], []
        for fit, (basis_c, basis_s, eigenvalues) in zip(classes, bases, strict=True):
            spread = t**2 * eigenvalues + (1 - t) ** 2
            rest = basis_c.T @ (x - t * fit.mean) @ basis_s
            logs.append(-0.5 * np.sum(rest**2 / spread + np.log(spread)))
            means.append(fit.mean + basis_c @ ((t * eigenvalues - (1 - t)) / spread * rest) @ basis_s.T)
            variances.append(np.sum(eigenvalues / spread))
        share = np.exp(np.array(logs) - np.max(logs))
        share /= share.sum()
        together = np.tensordot(share, np.array(means), 1)
        squares = np.sum(np.array(means) ** 2, (1, 2))
        found[i] = share @ (np.array(variances) + squares) - np.sum(together**2)
    found /= channels * positions
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(draws))


class VelocityConfig(Config):
    """Settings of VIV.

    Attributes:
        per_class: training samples of a class at most; few samples bias it downwards, so hold it fixed in comparisons.
        minimum: classes with fewer samples, or too few for the fit (`least_samples`), are left out and counted.
        shrinkage: of both covariance factors towards the identity.
        groups: of the jackknife.
        draws: of the Monte Carlo for the mixture.
    """

    per_class: int = Field(500, ge=2)
    minimum: int = Field(20, ge=2)
    shrinkage: float = Field(0.0, ge=0, lt=1)
    groups: int = Field(8, ge=2)
    draws: int = Field(400, ge=2)


class VIV(Metric):
    """VIV given the class, and without labels; of the whole set as one Gaussian where there are no labels."""

    name = "viv"
    version = 2
    summary = "velocity irreducible variance of a Kronecker-Gaussian fit per class (Diffusing in the Right Space)"
    Config = VelocityConfig

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg = self.config
        labels = inputs.train.labels if "labels" in inputs.available else None
        groups = np.zeros(len(inputs.train), np.int64) if labels is None else labels
        generator = numpy_generator(seed, self.name)
        channels, positions = inputs.train.shape[0], int(np.prod(inputs.train.shape[1:]))
        least = 2 if cfg.shrinkage else least_samples(channels, positions)
        fits, variances, degrees, sizes, skipped = [], [], [], [], 0
        for label in np.unique(groups):
            rows = np.flatnonzero(groups == label)
            if len(rows) < cfg.minimum or min(len(rows), cfg.per_class) < least:
                skipped += 1
                continue
            rows = np.sort(generator.permutation(rows)[: cfg.per_class])
            latents = inputs.normalised(inputs.train, rows)
            latents = latents.reshape(*latents.shape[:2], -1)
            fits.append(fit_kronecker(latents, cfg.shrinkage))
            degrees.append(min(cfg.groups, len(rows)) - 1)
            variances.append(jackknife_variance(latents, fits[-1], cfg.groups, generator, cfg.shrinkage))
            sizes.append(int(np.sum(groups == label)))
        if not fits:
            raise TooFewSamples(
                f"No class has {max(cfg.minimum, least)} training samples.",
                "Give more latents, or set viv's minimum lower or shrinkage (0.1, say).",
            )
        error = np.sqrt(np.sum(variances)) / len(fits)
        half = student.ppf(0.975, degrees_of_freedom(np.array(variances), np.array(degrees))) * error
        given = labels is not None
        n = sum(min(size, cfg.per_class) for size in sizes)
        protocol = {
            "latents": "posterior mean, normalised by training statistics", "split": "train",
            "condition": "class" if given else "none",
            "covariance": "Kronecker, maximum likelihood, scaled to the total variance",
        }  # fmt: skip
        detail = {"classes": len(fits), "skipped_classes": skipped}
        name = "viv" if given else "viv_unconditional"
        per_dimension = [fit.ambiguity() for fit in fits]
        value = float(np.mean(per_dimension))
        dimension = int(np.prod(inputs.train.shape))
        scores = [
            self.score(
                name, value * factor, "lower", n, seed=seed, low=(value - half) * factor, high=(value + half) * factor,
                interval="95% by Student's t, jackknife over groups of samples",
                protocol={**protocol, "over dimensions": kind},
                detail={**detail, **({} if kind == "mean" else {"variant": kind})},
            )
            for kind, factor in (("mean", 1.0), ("sum", float(dimension)))
        ]  # fmt: skip
        if given and len(fits) > 1:
            value, error = mixture_ambiguity(fits, np.array(sizes, float), cfg.draws, generator)
            scores.append(
                self.score(
                    "viv_marginal", value, "lower", n, seed=seed, low=value - NORMAL_QUANTILE * error,
                    high=value + NORMAL_QUANTILE * error, interval="95% normal over Monte Carlo draws, fits held fixed",
                    protocol={**protocol, "condition": "none: mixture of the classes"}, detail=detail,
                )
            )  # fmt: skip
        return scores
