"""Uniformity: how evenly latents are spread (VA-VAE, arXiv 2501.01423, and its evaluation script).

One random position of each latent gives a point of d values, standardised per channel; t-SNE maps the points to the
plane; a Gaussian kernel density (Scott's bandwidth, full covariance) is taken at the points themselves. With rho these
densities,

    density CV           std(rho) / mean(rho)                                lower is more even
    Gini                 sum_i (2i - n - 1) rho_(i) / (n sum rho), sorted    lower
    normalised entropy   -sum q log q / log n,  q = rho / sum rho            higher

t-SNE evens densities out by design, and its spread from seed to seed is of the size of the differences between
tokenizers; so it is repeated and the interval is over repeats. "pca" maps by the two leading principal components
instead: not the published score, but without t-SNE's chance.
"""

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field
from scipy.stats import gaussian_kde, t
from sklearn.manifold import TSNE

from vaebench.core.config import Config
from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator, seed_of
from vaebench.metrics.base import LatentSplit, Metric, MetricInputs


class Evenness(NamedTuple):
    """The three numbers of one set of points."""

    density_cv: float
    density_gini: float
    density_entropy: float


def evenness(points: np.ndarray) -> Evenness:
    """Evenness of points (n, 2).

    Raises:
        NumericalError: the points lie on a line or in one place.
    """
    try:
        density = gaussian_kde(points.T)(points.T)
    except np.linalg.LinAlgError as error:
        raise NumericalError("The points lie on a line: they have no density in the plane.") from error
    n, total = len(density), density.sum()
    share = density / total
    ranks = 2 * np.arange(1, n + 1) - n - 1
    return Evenness(
        float(density.std() / density.mean()),
        float((ranks * np.sort(density)).sum() / (n * total)),
        float(-(share * np.log(share)).sum() / np.log(n)),
    )


class UniformityConfig(Config):
    """Settings. The published protocol is points=10000, repeats=10, flip=true.

    Attributes:
        points: latents, one random position each.
        flip: half of them are of mirrored images, which takes the images and the tokenizer.
        maps: tsne, pca.
        repeats: of t-SNE, with other positions each time.
        perplexity, iterations: of t-SNE, as published.
    """

    points: int = Field(800, ge=100)
    flip: bool = False
    maps: tuple[Literal["tsne", "pca"], ...] = ("tsne", "pca")
    repeats: int = Field(5, ge=2)
    perplexity: float = Field(30.0, gt=0)
    iterations: int = Field(1000, ge=250)


class Uniformity(Metric):
    """Density CV, Gini and normalised entropy."""

    name = "uniformity"
    summary = "how evenly latents are spread: density CV, Gini, normalised entropy (VA-VAE)"
    Config = UniformityConfig
    choices = frozenset({"maps"})

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg = self.config
        n = min(len(inputs.train), cfg.points)
        if n < 100 or inputs.train.shape[0] < 2:
            raise TooFewSamples(f"Uniformity needs 100 latents of two channels, not {n} of {inputs.train.shape[0]}.")
        if cfg.flip and not {"tokenizer", "images"} <= inputs.available:
            raise DataError("Mirrored images are encoded by the tokenizer.", "Give data and tokenizer, or flip=false.")
        scores = []
        for kind in cfg.maps:
            found = np.array([evenness(self._points(inputs, n, kind, seed, repeat)) for repeat in range(cfg.repeats)])
            half = t.ppf(0.975, cfg.repeats - 1) * found.std(0, ddof=1) / np.sqrt(cfg.repeats)
            protocol = {"latents": "posterior mean, normalised by training statistics", "split": "train", "map": kind}
            for i, name in enumerate(Evenness._fields):
                value = float(found[:, i].mean())
                direction: Literal["higher", "lower"] = "higher" if name == "density_entropy" else "lower"
                scores.append(
                    self.score(
                        name, value, direction, n, seed=seed, low=value - half[i], high=value + half[i],
                        interval="95% Student over repeats: rows, positions and t-SNE",
                        protocol=protocol, detail={"variant": kind},
                    )
                )  # fmt: skip
        return scores

    def _points(self, inputs: MetricInputs, n: int, kind: str, seed: int, repeat: int) -> np.ndarray:
        generator = numpy_generator(seed, self.name, kind, repeat)
        rows = np.sort(generator.permutation(len(inputs.train))[:n])
        latents = inputs.normalised(inputs.train, rows)
        if self.config.flip:
            assert inputs.train.images is not None
            assert inputs.encode is not None
            mirrored = np.ascontiguousarray(inputs.train.images(rows[1::2])[..., ::-1])
            again = LatentSplit(inputs.encode(mirrored))
            latents[1::2] = inputs.normalised(again)
        latents = latents.reshape(*latents.shape[:2], -1)
        points = latents[np.arange(n), :, generator.integers(latents.shape[2], size=n)].astype(np.float64)
        std = points.std(0)
        if not np.any(std > 0):
            raise NumericalError("The latents are constant: there is nothing to spread.", "Check the tokenizer.")
        points = (points - points.mean(0)) * np.divide(1, std, out=np.zeros_like(std), where=std > 0)
        if kind == "pca":
            _, _, directions = np.linalg.svd(points, full_matrices=False)
            return np.asarray(points @ directions[:2].T)
        cfg = self.config
        mapped = TSNE(
            perplexity=min(cfg.perplexity, (n - 1) / 3), max_iter=cfg.iterations, init="pca",
            random_state=seed_of(seed, self.name, repeat) % 2**31,
        ).fit_transform(points)  # fmt: skip
        return np.asarray(mapped, np.float64)
