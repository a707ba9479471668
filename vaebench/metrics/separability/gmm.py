"""GMM discrimination (MAETok, arXiv 2502.03444): how well Gaussian mixtures of growing size describe the latents.

Flattened latents -> principal components, the same number for every tokenizer -> each standardised -> mixtures of 50,
100, 200 Gaussians -> mean negative log-likelihood of held-out latents, in nats. A simpler latent space reaches the same
with fewer components. Standardised components are white, so the number says how far from one Gaussian the latents are,
not how spread they are. Covariances are diagonal with a ridge; the source states neither. On the training latents the
number only falls with more components, by overfitting; it is kept as a detail.
"""

import warnings
from typing import Any

import numpy as np
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from vaebench.core.config import Config
from vaebench.core.errors import TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import seed_of
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.disentanglement.codes import principal_directions, vectorise

# Components that vary by less than this share of the first are rounding: latents with dead channels have such.
RESOLUTION = 1e-6
# What the source asks the components to explain.
EXPLAINED = 0.9


class GMMConfig(Config):
    """Settings.

    Attributes:
        dimension: principal components kept, fewer where fewer vary; compare tokenizers at equal dimension only.
        components: sizes of the mixtures; one with fewer than ``per_component`` training samples each is left out.
        per_component: see above.
        ridge: added to the variances of components (of standardised data).
        samples: of each split at most.
    """

    dimension: int = Field(16, ge=1)
    components: tuple[int, ...] = (50, 100, 200)
    per_component: int = Field(20, ge=1)
    ridge: float = Field(1e-3, gt=0)
    samples: int = Field(20_000, ge=20)


class GMM(Metric):
    """Held-out negative log-likelihood of mixtures."""

    name = "gmm"
    version = 2
    summary = "held-out likelihood of Gaussian mixtures of growing size (MAETok)"
    Config = GMMConfig
    choices = frozenset({"components", "per_component"})

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg = self.config
        (codes,) = vectorise(inputs, "pca", cfg.samples, cfg.dimension)
        explained = principal_directions(inputs, cfg.samples, cfg.dimension).explained
        mean, std = codes.train.mean(0), codes.train.std(0)
        varies = std > RESOLUTION * std.max()
        train, test = (((part - mean) / np.where(varies, std, 1))[:, varies] for part in (codes.train, codes.test))
        sizes = [size for size in cfg.components if len(train) >= size * cfg.per_component]
        if not sizes:
            raise TooFewSamples(
                f"{len(train)} training latents are fewer than {cfg.per_component} for each of {min(cfg.components)} "
                "Gaussians."
            )
        scores = []
        for size in sizes:
            mixture = GaussianMixture(
                size, covariance_type="diag", reg_covar=cfg.ridge, max_iter=50, init_params="k-means++",
                random_state=seed_of(seed, self.name, size) % 2**31,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # fifty rounds are the protocol
                mixture.fit(train)
            detail: dict[str, Any] = {
                "variant": f"{size} components",
                "explained_variance": explained,
                "train": -float(mixture.score(train)),
            }
            if explained < EXPLAINED:
                detail["note"] = (
                    f"{train.shape[1]} components explain {explained:.0%} of the variance, not the {EXPLAINED:.0%} of "
                    "the source: raise the dimension"
                )
            protocol = {
                "latents": "posterior mean, normalised by training statistics",
                "split": "test",
                "components": size,
                "dimension": train.shape[1],
                **inputs.drawn(cfg.samples, "train", "test"),
            }
            scores.append(
                self.mean_score(
                    "gmm_nll", -mixture.score_samples(test), "lower", seed=seed, protocol=protocol, detail=detail
                )
            )
        return scores
