"""Scores that hold one factor fixed.

beta-VAE (Higgins et al. 2017): draw a factor, then 64 pairs of images, a value for every pair that both images share;
the mean of |x - x'| over the pairs tells a logistic regression which factor it was; accuracy on fresh draws.

FactorVAE (Kim and Mnih 2018): draw a factor and a value, then 64 images with it; the code with the least variance,
relative to its variance over all images, votes for the factor; accuracy of the majority vote on fresh draws. Codes with
a standard deviation below 0.05 are left out (as in disentanglement_lib's study; its code's default is 0, and the number
of active codes that it reports is the length of a mask). All codes left out score 0.

IRS (Suter et al. 2019): for every factor and value, the 0.99 quantile of |x_j - E[x_j | value]|, averaged over values;
1 minus its least share of the code's largest deviation, averaged over codes by that deviation.

All assume that the other factors are drawn anew from all combinations. Where every combination is among the images,
that is so ("grid"); otherwise images are resampled by the factor's value, which leaves the data's own dependence
between factors in place, and the score has another name: "..._resampled", and for IRS, which draws nothing,
"irs_observed".
"""

from typing import Any

import numpy as np
from pydantic import Field

from vaebench.core.errors import DataError, TooFewSamples
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.disentanglement.codes import Codes, Targets, Vectorisation, require_finite
from vaebench.metrics.disentanglement.information import jackknife_error
from vaebench.metrics.disentanglement.scores import CodesConfig, CodesMetric, Number
from vaebench.metrics.intervals import bootstrap_mean, half_width
from vaebench.metrics.separability.softmax import fit_softmax


class Pool:
    """Images to draw by the value of a factor.

    Args:
        factors: int (n, K). minimum: values with fewer images are not drawn.
    """

    def __init__(self, factors: np.ndarray, minimum: int = 2) -> None:
        self.order = [np.argsort(column, kind="stable") for column in factors.T]
        self.values, self.starts, self.counts = [], [], []
        for column, order in zip(factors.T, self.order, strict=True):
            values, starts, counts = np.unique(column[order], return_index=True, return_counts=True)
            kept = counts >= minimum
            self.values.append(values[kept])
            self.starts.append(starts[kept])
            self.counts.append(counts[kept])
        self.usable = np.array([k for k, values in enumerate(self.values) if len(values) > 1])
        if len(self.usable) < 2:
            raise TooFewSamples("Fewer than two factors have two values with enough images.", "Give more images.")

    def draw(self, points: int, batch: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The factor that each point holds fixed (points,), and rows (points, batch) of images that share its value."""
        chosen = generator.choice(self.usable, points)
        rows = np.empty((points, batch), np.int64)
        for k in self.usable:
            mine = np.flatnonzero(chosen == k)
            value = generator.integers(len(self.values[k]), size=len(mine))
            place = generator.random((len(mine), batch)) * self.counts[k][value][:, None]
            rows[mine] = self.order[k][self.starts[k][value][:, None] + place.astype(np.int64)]
        return chosen, rows

    def pairs(self, points: int, batch: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The factor that each point holds fixed (points,), and rows (points, 2 batch): i and batch + i are two images
        that share its value, which every pair draws anew."""
        chosen = generator.choice(self.usable, points)
        rows = np.empty((points, 2, batch), np.int64)
        for k in self.usable:
            mine = np.flatnonzero(chosen == k)
            value = generator.integers(len(self.values[k]), size=(len(mine), batch))
            count = self.counts[k][value]
            first = (generator.random(value.shape) * count).astype(np.int64)
            second = (generator.random(value.shape) * (count - 1)).astype(np.int64)
            second += second >= first  # another image than the first, each of the others as often
            rows[mine] = self.order[k][self.starts[k][value][:, None] + np.stack([first, second], 1)]
        return chosen, rows.reshape(points, 2 * batch)


def complete_grid(factors: np.ndarray) -> bool:
    """Whether every combination of the factors' values occurs among the rows (n, K)."""
    sizes = [len(np.unique(column)) for column in factors.T]
    return bool(np.prod(np.array(sizes, float)) == len(np.unique(factors, axis=0)))


def factor_vae_votes(codes: np.ndarray, rows: np.ndarray, scale: np.ndarray, at_once: int = 2000) -> np.ndarray:
    """The code (points,) whose variance over a point's rows (points, batch), divided by ``scale`` (D,), is least."""
    votes = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), at_once):
        part = codes[rows[start : start + at_once]]
        votes[start : start + at_once] = (part.var(1, ddof=1) / scale).argmin(1)
    return votes


def pair_differences(codes: np.ndarray, rows: np.ndarray, at_once: int = 1000) -> np.ndarray:
    """Mean |x - x'| (points, D) between the first and the second half of each point's rows (points, 2 pairs)."""
    half = rows.shape[1] // 2
    parts = [
        np.abs(codes[part[:, :half]] - codes[part[:, half:]]).mean(1)
        for part in (rows[start : start + at_once] for start in range(0, len(rows), at_once))
    ]
    return np.concatenate(parts)


def robustness(codes: np.ndarray, factors: np.ndarray, quantile: float = 0.99, minimum: int = 10) -> float:
    """IRS of codes (n, D) for factors (n, K); values with fewer than ``minimum`` images, whose quantile would be too
    small, are left out.

    Raises:
        DataError: constant codes.
    """
    return float(_robustness(codes, factors, np.zeros(len(codes), int), np.ones((1, 1), bool), quantile, minimum)[0])


def robustness_without(
    codes: np.ndarray, factors: np.ndarray, member: np.ndarray, quantile: float = 0.99, minimum: int = 10
) -> tuple[float, np.ndarray]:
    """IRS, and IRS without each of the groups 0 to G - 1 of images that ``member`` (n,) names: (G,).

    All in little more time than the first alone: the largest deviations are among the tails of the groups, which are
    looked for once.
    """
    groups = int(member.max()) + 1
    kept = np.concatenate([np.ones((1, groups), bool), ~np.eye(groups, dtype=bool)])
    values = _robustness(codes, factors, member, kept, quantile, minimum)
    return float(values[0]), values[1:]


def _robustness(
    codes: np.ndarray, factors: np.ndarray, member: np.ndarray, kept: np.ndarray, quantile: float, minimum: int
) -> np.ndarray:
    """IRS (S,) of unions of groups of images: ``kept`` (S, G) says which groups are in which."""
    x, groups = np.ascontiguousarray(codes.T), range(kept.shape[1])
    parts = [x[:, member == group] for group in groups]
    mean = _means(parts, kept)
    deviation = np.stack(
        [
            np.max([np.abs(end(parts[g], 1) - centre) for g in groups if inside[g] for end in (np.min, np.max)], axis=0)
            for inside, centre in zip(kept, mean, strict=True)
        ]
    )
    if not deviation.any(1).all():
        raise DataError("All codes are constant.", "Check the tokenizer.")
    shares = np.full((len(kept), factors.shape[1], len(x)), np.inf)
    for k, column in enumerate(factors.T):
        found: list[list[np.ndarray]] = [[] for _ in kept]
        for value in np.unique(column):
            parts = [x[:, (column == value) & (member == group)] for group in groups]
            counts = np.array([part.shape[1] for part in parts])
            # So many of the largest and of the smallest hold what a quantile of any union needs.
            ends = [_ends(part, int(counts.sum() * (1 - quantile)) + 3) for part in parts]
            large = np.flatnonzero(kept @ counts >= minimum)
            for union, centre in zip(large, _means(parts, kept[large]), strict=True):
                candidates = np.concatenate([ends[group] for group in groups if kept[union, group]], 1)
                found[union].append(
                    _upper_quantile(np.abs(candidates - centre[:, None]), kept[union] @ counts, quantile)
                )
        for i, quantiles in enumerate(found):
            if quantiles:
                spread = deviation[i]
                shares[i, k] = np.divide(np.mean(quantiles, 0), spread, out=np.zeros_like(spread), where=spread > 0)
    if not np.isfinite(shares).any((1, 2)).all():
        raise TooFewSamples(f"No factor has a value with {minimum} images.", "Give more images.")
    return np.average(1 - shares.min(1), axis=1, weights=deviation)


def _means(parts: list[np.ndarray], kept: np.ndarray) -> np.ndarray:
    """Means (S, D) of unions of groups (D, n_g)."""
    sums, counts = np.stack([part.sum(1) for part in parts]), np.array([part.shape[1] for part in parts])
    return np.asarray(kept @ sums / (kept @ counts)[:, None])


def _ends(part: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` smallest and largest values of every row (D, n), in no order; all, where there are no more."""
    size = part.shape[1]
    if size <= 2 * count:
        return part
    ordered = np.partition(part, (count - 1, size - count), axis=1)
    return np.concatenate([ordered[:, :count], ordered[:, -count:]], 1)


def _upper_quantile(largest: np.ndarray, count: int, quantile: float) -> np.ndarray:
    """Quantile of every row of ``count`` values, of which ``largest`` (D, m) holds the largest."""
    below, fraction = divmod((count - 1) * quantile, 1)
    first = largest.shape[1] - count + int(below)
    second = min(first + 1, largest.shape[1] - 1)
    ordered = np.partition(largest, sorted({first, second}), axis=1)
    return np.asarray(ordered[:, first] + fraction * (ordered[:, second] - ordered[:, first]))


class InterventionalConfig(CodesConfig):
    """As `CodesConfig`, and for scores that draw.

    Attributes:
        train_points, test_points: draws to fit and to score on (10,000 and 5,000 as published).
        batch: images, or pairs of images, a draw.
    """

    vectorisations: tuple[Vectorisation, ...] = ("pooled", "pca")
    train_points: int = Field(10_000, ge=10)
    test_points: int = Field(5_000, ge=10)
    batch: int = Field(64, ge=2)


class _Interventional(CodesMetric):
    Config = InterventionalConfig

    def name_of(self, found: Targets) -> tuple[str, dict[str, str]]:
        """Name of the score and protocol, by whether the grid is complete."""
        base = self.name.replace("-", "_")
        if found.kind == "factors" and complete_grid(found.train):
            return base, {"split": "train", "draws": "grid"}
        return f"{base}_resampled", {"split": "train", "draws": "images resampled by the value of the fixed factor"}


class FactorVAEConfig(InterventionalConfig):
    """As `InterventionalConfig`. ``prune``: codes whose standard deviation is below this are left out (0.05 as
    published; codes are of normalised latents here)."""

    prune: float = Field(0.05, ge=0)


class FactorVAE(_Interventional):
    """FactorVAE score."""

    name = "factor-vae"
    version = 2
    summary = "majority vote of the least varying code for the fixed factor (Kim and Mnih 2018)"
    Config = FactorVAEConfig

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        cfg, (metric, protocol) = self.config, self.name_of(found)
        require_finite(codes.train)
        variance = codes.train.var(0, ddof=1)
        active = np.sqrt(variance) >= cfg.prune if cfg.prune > 0 else variance > 0
        active &= variance > 0
        detail: dict[str, Any] = {"active": int(active.sum()), "width": codes.width}
        if not active.any():
            detail["note"] = "no interval: every code lies below the pruning threshold, which scores 0 by definition"
            return [Number(metric, 0.0, len(codes.train), protocol=protocol, detail=detail)]
        pool, generator = Pool(found.train), numpy_generator(seed, self.name)
        table = np.zeros((int(active.sum()), len(found.names)), np.int64)
        x, scale = codes.train[:, active], variance[active]
        chosen, rows = pool.draw(cfg.train_points, cfg.batch, generator)
        np.add.at(table, (factor_vae_votes(x, rows, scale), chosen), 1)
        chosen, rows = pool.draw(cfg.test_points, cfg.batch, generator)
        right = table.argmax(1)[factor_vae_votes(x, rows, scale)] == chosen
        low, high = bootstrap_mean(right, generator)
        detail["baseline"] = 1 / len(pool.usable)
        interval = "95% bootstrap over draws, images held fixed"
        return [
            Number(metric, float(right.mean()), len(codes.train), float(low), float(high), interval, protocol, detail)
        ]


class BetaVAE(_Interventional):
    """beta-VAE score."""

    name = "beta-vae"
    version = 2
    summary = "which factor two images share, from the differences of their codes (Higgins et al. 2017)"

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        cfg, (metric, protocol) = self.config, self.name_of(found)
        require_finite(codes.train)
        pool, generator = Pool(found.train), numpy_generator(seed, self.name)
        parts = []
        for points in (cfg.train_points, cfg.test_points):
            chosen, rows = pool.pairs(points, cfg.batch, generator)
            parts.append((pair_differences(codes.train, rows), np.searchsorted(pool.usable, chosen)))
        (train, fixed), (test, truth) = parts
        # Features are not standardised, as published; C = 1 is scikit-learn's default.
        weights = fit_softmax(train, fixed, len(pool.usable), 1.0)
        right = (test @ weights[:-1] + weights[-1]).argmax(1) == truth
        low, high = bootstrap_mean(right, generator)
        detail = {"width": codes.width, "baseline": 1 / len(pool.usable)}
        interval = "95% bootstrap over draws, images and classifier held fixed"
        return [
            Number(metric, float(right.mean()), len(codes.train), float(low), float(high), interval, protocol, detail)
        ]


class IRSConfig(CodesConfig):
    """As `CodesConfig`. ``quantile``: 0.99 in disentanglement_lib, 1 in the paper. ``minimum``: images a value needs.
    ``groups``: of the jackknife."""

    vectorisations: tuple[Vectorisation, ...] = ("pooled", "pca")
    quantile: float = Field(0.99, gt=0, le=1)
    minimum: int = Field(10, ge=2)
    groups: int = Field(5, ge=2)


class IRS(CodesMetric):
    """Interventional robustness."""

    name = "irs"
    version = 3
    summary = "how little a code moves while its factor is held fixed (Suter et al. 2019)"
    Config = IRSConfig

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        cfg = self.config
        require_finite(codes.train)
        member = numpy_generator(seed, self.name, "groups").permutation(len(codes.train)) % cfg.groups
        value, without = robustness_without(codes.train, found.train, member, cfg.quantile, cfg.minimum)
        half = half_width(jackknife_error(without), cfg.groups)
        interval = "95% by Student's t, jackknife over groups of samples"
        grid = found.kind == "factors" and complete_grid(found.train)
        protocol = {"split": "train", "quantile": cfg.quantile, "minimum": cfg.minimum, "grid": grid}
        return [
            Number(
                "irs" if grid else "irs_observed",
                value,
                len(codes.train),
                value - half,
                value + half,
                interval,
                protocol,
                {"width": codes.width},
            )
        ]
