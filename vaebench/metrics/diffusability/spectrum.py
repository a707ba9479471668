"""The spectrum of latents: how much energy lies in high spatial frequencies, and how that compares with the image.

With the orthonormal two-dimensional DCT-II z^ of every channel and E_uv = mean over images and channels of z^_uv^2,

    SEC_rho = sum of E_uv over u + v > rho (h + w - 2)  /  sum of all E_uv

("spectral energy concentration", arXiv 2606.03578): high means much energy at high frequencies, which diffusion learns
last and worst. The DC term stands in the denominator, so an offset of a channel hides everything else: latents are
normalised per channel by training statistics, and a variant leaves the DC term out altogether.
"""

import numpy as np
from pydantic import Field
from scipy import fft

from vaebench.core.config import Config
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.base import Metric, MetricInputs, Rows
from vaebench.metrics.diffusability.spatial import area_means
from vaebench.metrics.intervals import bootstrap_means

# Less than this share of the energy is rounding, that of float32 being about 1e-15.
ROUNDING = 1e-12


def energies(planes: np.ndarray) -> np.ndarray:
    """Energy of planes (n, d, h, w) per image and frequency, (n, h, w): squared orthonormal DCT-II, averaged over d."""
    return np.asarray(np.mean(fft.dctn(planes.astype(np.float64), axes=(2, 3), norm="ortho") ** 2, axis=1))


def high_frequencies(height: int, width: int, rho: float) -> np.ndarray:
    """Which frequencies (h, w) satisfy u + v > rho (h + w - 2)."""
    u, v = np.ogrid[:height, :width]
    return np.asarray(u + v > rho * (height + width - 2))


def share(high: np.ndarray, total: np.ndarray) -> float:
    """sum(high) / sum(total) over images."""
    return float(high.sum() / total.sum())


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, generator: np.random.Generator, resamples: int = 1000
) -> tuple[float, float]:
    """95% bootstrap interval over images of sum(numerator) / sum(denominator)."""
    means = bootstrap_means(np.stack([numerator, denominator], 1), generator, resamples=resamples)
    low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
    return float(low), float(high)


def radial_means(energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean radii (b,) and mean energies (..., b) of frequencies in bins of radius, of energies (..., h, w).

    The radius of a frequency is sqrt((u / h)^2 + (v / w)^2). There are as many equal bins as the longer side has
    frequencies; those without one are left out, and DC is in none.
    """
    height, width = energy.shape[-2:]
    u, v = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
    radius = np.hypot(u, v).ravel()[1:]
    bins = np.minimum((radius / radius.max() * max(height, width)).astype(int), max(height, width) - 1)
    used = np.unique(bins)
    member = (bins[:, None] == used).astype(np.float64)
    member /= member.sum(0)
    return radius @ member, energy.reshape(*energy.shape[:-2], -1)[..., 1:] @ member


def radial_slope(energy: np.ndarray) -> np.ndarray:
    """Slope of log energy against log radius, for energies (..., h, w): least squares over the bins of `radial_means`.

    White noise has 0, natural images about -2.
    """
    radii, means = radial_means(energy)
    x = np.log(radii)
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    return np.asarray(np.log(np.maximum(means, np.finfo(float).tiny)) @ weights)


def has_slope(energy: np.ndarray) -> bool:
    """Whether energies (h, w) have a slope: more radii than one, and none of them holds rounding alone, as all of one
    direction do of planes that vary along the other only."""
    radii, means = radial_means(energy)
    return len(radii) > 1 and bool(means.min() > ROUNDING * energy.mean())


class SpectrumConfig(Config):
    """Settings of the spectral scores.

    Attributes:
        rhos: shares of the largest frequency beyond which frequencies are high (not stated in the paper).
        samples: test images at most.
        resamples: of the bootstrap.
    """

    rhos: tuple[float, ...] = (0.25, 0.5)
    samples: int = Field(10_000, ge=2)
    resamples: int = Field(1000, ge=20)


class Spectrum(Metric):
    """SEC at every rho, with and without DC, and the slope of the radial spectrum against the image's own."""

    name = "spectrum"
    version = 3
    summary = "share of energy at high frequencies (SEC), and the spectrum's slope against the image's own"
    needs = frozenset({"positions"})
    Config = SpectrumConfig
    choices = frozenset({"rhos"})

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        rows = inputs.rows("test", self.config.samples)
        energy = np.concatenate([energies(block) for block in inputs.blocks(inputs.test, rows)])
        height, width = energy.shape[1:]
        protocol = {
            "latents": "posterior mean, normalised by training statistics",
            "split": "test",
            **inputs.drawn(self.config.samples, "test"),
        }
        interval = "95% bootstrap over images"
        scores = []
        flat = energy.reshape(len(energy), -1)
        columns = [flat]
        if inputs.test.images is not None:
            columns.append(self._image_energies(inputs.test.images, rows, height, width).reshape(flat.shape))
        # The same resamples for everything: all that follows is made of the mean energies.
        generator = numpy_generator(seed, self.name, "bootstrap")
        drawn = bootstrap_means(np.concatenate(columns, 1), generator, resamples=self.config.resamples)
        mean, size = flat.mean(0), flat.shape[1]
        for rho in self.config.rhos:
            high = high_frequencies(height, width, rho).ravel()
            for suffix, first in (("", 0), (" without DC", 1)):
                if not mean[first:].sum() > ROUNDING * mean.sum():
                    continue  # constant latents have no energy to share
                variant = f"rho={rho:g}{suffix}"
                shares = drawn[:, :size][:, high].sum(1) / drawn[:, first:size].sum(1)
                low, upper = np.quantile(shares, [0.025, 0.975])
                scores.append(
                    self.score(
                        "sec", share(mean[high], mean[first:]), "lower", len(rows), seed=seed, low=low, high=upper,
                        interval=interval, protocol={**protocol, "rho": rho, "variant": variant},
                        detail={"variant": variant},
                    )
                )  # fmt: skip
        if min(height, width) > 1 and has_slope(mean.reshape(height, width)):
            own = columns[1].mean(0) if len(columns) == 2 else None
            scores += self._slopes(mean, own, drawn, (height, width), len(rows), seed, protocol)
        return scores

    def _image_energies(self, images: Rows, rows: np.ndarray, height: int, width: int) -> np.ndarray:
        """Of RGB images averaged over the cells of the latent grid."""
        parts = np.array_split(rows, len(rows) // 512 + 1)
        return np.concatenate([energies(area_means(images(part).astype(np.float32), height, width)) for part in parts])

    def _slopes(
        self, mean: np.ndarray, own: np.ndarray | None, drawn: np.ndarray, grid: tuple[int, int], n: int, seed: int,
        protocol: dict[str, str],
    ) -> list[Score]:  # fmt: skip
        """From mean energies of latents and of their images, flat, and resampled means of both side by side."""
        slopes = radial_slope(drawn[:, : len(mean)].reshape(-1, *grid))
        value = float(radial_slope(mean.reshape(grid)))
        low, high = np.quantile(slopes, [0.025, 0.975])
        interval = "95% bootstrap over images"
        scores = [
            self.score(
                "spectral_slope", value, "none", n, seed=seed, low=low, high=high, interval=interval,
                protocol=protocol, detail={"energy": np.round(mean.reshape(grid), 8).tolist()},
            )
        ]  # fmt: skip
        if own is not None and has_slope(own.reshape(grid)):
            gaps = slopes - radial_slope(drawn[:, len(mean) :].reshape(-1, *grid))
            low, high = np.quantile(gaps, [0.025, 0.975])
            scores.append(
                self.score(
                    "spectral_slope_gap", value - float(radial_slope(own.reshape(grid))), "none", n, seed=seed, low=low,
                    high=high, interval=interval, detail={"image_energy": np.round(own.reshape(grid), 4).tolist()},
                    protocol={**protocol, "image": "RGB, averaged over the cells of the latent grid"},
                )
            )  # fmt: skip
        return scores
