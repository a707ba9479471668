"""Equivariance: does transforming the image do what transforming its latents does?

    error = sum |E(tau x) - tau E(x)|^2  /  sum |tau E(x) - mean|^2

over images, with the mean per channel; 0 is equivariant, and about 2 means unrelated. tau halves the size (bilinear
with antialiasing, on images and latents alike) or turns by 90, 180 and 270 degrees (exact). After decoding, D(tau E(x))
is compared with tau D(E(x)). Norm and scales are not stated in the source (arXiv 2606.03578); EQ-VAE (arXiv 2502.09509)
trains for it.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.errors import DataError
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.diffusability.spectrum import ratio_interval

Transform = Callable[[np.ndarray], np.ndarray]


def halved(planes: np.ndarray) -> np.ndarray:
    """Planes (n, c, H, W) at half the size, bilinear with antialiasing; 8-bit images stay so, rounded."""
    values = torch.from_numpy(np.ascontiguousarray(planes)).float()
    size = (planes.shape[2] // 2, planes.shape[3] // 2)
    found: Tensor = F.interpolate(values, size, mode="bilinear", antialias=True)
    if planes.dtype == np.uint8:
        return found.round().clamp(0, 255).to(torch.uint8).numpy()
    return found.numpy()


def turned(quarters: int) -> Transform:
    """Rotation by so many quarters of a full turn, from rows towards columns, of images and latents alike."""
    return lambda planes: np.ascontiguousarray(np.rot90(planes, quarters, axes=(-2, -1)))


def errors(found: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared error and squared deviation from the channel means, per image, (n,) each.

    Raises:
        DataError: other shapes, as when a tokenizer rounds sizes.
    """
    if found.shape != expected.shape:
        raise DataError(
            f"Transformed latents are {found.shape[1:]}, latents of transformed images {expected.shape[1:]}."
        )
    wanted = expected.astype(np.float64)
    centre = wanted.mean((0, 2, 3), keepdims=True)
    return ((found - wanted) ** 2).sum((1, 2, 3)), ((wanted - centre) ** 2).sum((1, 2, 3))


class EquivarianceConfig(Config):
    """Settings: ``images`` of the test split at most, and ``resamples`` of the bootstrap."""

    images: int = Field(256, ge=2)
    resamples: int = Field(1000, ge=20)


class Equivariance(Metric):
    """Errors of scale and rotation, in latents and after decoding."""

    name = "equivariance"
    version = 2
    summary = "error of scale and rotation equivariance, in latents and after decoding"
    needs = frozenset({"tokenizer", "images"})
    Config = EquivarianceConfig

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        split = inputs.test
        rows = inputs.rows("test", self.config.images)
        assert split.images is not None
        assert inputs.encode is not None
        assert inputs.decode is not None
        images = split.images(rows)
        latents = inputs.encode(images)
        decoded = inputs.decode(latents)
        families: dict[str, list[Transform]] = {"rotation": [turned(quarters) for quarters in (1, 2, 3)]}
        if inputs.f is not None and all(side % (2 * inputs.f) == 0 for side in images.shape[2:]):
            families["scale"] = [halved]
        if images.shape[2] != images.shape[3]:
            families["rotation"] = [turned(2)]
        scores = []
        for family, transforms in families.items():
            in_latents = [errors(inputs.encode(tau(images)), tau(latents)) for tau in transforms]
            after = [errors(inputs.decode(tau(latents)), tau(decoded)) for tau in transforms]
            for variant, pairs in (("latents", in_latents), ("decoded", after)):
                wrong, scale = (np.sum(side, axis=0) for side in zip(*pairs, strict=True))
                generator = numpy_generator(seed, self.name, family, variant)
                low, high = ratio_interval(wrong, scale, generator, self.config.resamples)
                scores.append(
                    self.score(
                        f"{family}_equivariance_error", wrong.sum() / scale.sum(), "lower", len(rows), seed=seed,
                        low=low, high=high, interval="95% bootstrap over images", detail={"variant": variant},
                        protocol={
                            "latents": "posterior mean, raw", "split": "test", "compared": variant,
                            **inputs.drawn(self.config.images, "test"),
                        },
                    )
                )  # fmt: skip
        return scores
