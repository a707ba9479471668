"""What beta-VAE, beta-TCVAE and FactorVAE share: how nats weigh against reconstruction, and what a code is.

**Weights.** Their objectives are nats per image: KL is summed over all d h w latent values. Written for a likelihood
that is summed over an image's elements too, they are added as they are under training's `reduction: sum`, and divided
by the 3 H W elements of an image under `reduction: mean`; `reduction` here must be that of training. So beta, gamma and
the rest mean the same under both. With `reconstruction: l1` and no perceptual loss the likelihood is a Laplace
distribution of scale 1 in each element on the [-1, 1] scale, with `mse` a Gaussian of variance 1/2.

Training adds its own `kl_weight` (1e-6 by default) to the KL of these objectives: negligible, and 0 turns it off.

**Codes.** The papers' latents are vectors z of an image; ours are d x h x w. Where total correlation is concerned,

    pooled      z_c = sum over positions of the latents / sqrt(h w), one code of d values an image. It is what our
                disentanglement scores read (up to scale), and the papers' own case of one vector an image. Its
                posterior is Gaussian, and a latent prior N(0, I) gives it the prior N(0, I).
    positions   the d channels at one position, several positions an image: channels are to be independent wherever one
                looks. Its KL, times h w, is all of the latents' KL.

That all d h w values be independent is never asked for: neighbouring positions of an image never are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from vaebench.core.errors import ConfigError
from vaebench.tokenizers.base import Posterior
from vaebench.tokenizers.method import StepInputs
from vaebench.training.losses import Reduction
from vaebench.training.step import to_device

CodeKind = Literal["pooled", "positions"]


@dataclass(frozen=True)
class Codes:
    """Codes of a batch: a sample, and mean and standard deviation of its Gaussian posterior, each M x d, with graph.

    `per_image`: how many such codes make up an image's latents; nats per code times it are nats per image.
    """

    sample: Tensor
    mean: Tensor
    std: Tensor
    per_image: int = 1


def codes_of(
    kind: CodeKind, latents: Tensor, posterior: Posterior, positions: int, generator: np.random.Generator
) -> Codes:
    """Codes of sampled latents N x d x h x w: N "pooled" ones, or at most `positions` of every image, drawn anew.

    The same positions are taken from every image, and codes of an image follow each other.
    """
    cells = latents.shape[2] * latents.shape[3]
    if kind == "pooled":
        sample, mean = (x.sum((2, 3)) / math.sqrt(cells) for x in (latents, posterior.mean))
        return Codes(sample, mean, posterior.std.square().mean((2, 3)).sqrt())
    chosen = to_device(np.sort(generator.permutation(cells)[:positions]), latents.device)
    sample, mean, std = (
        x.flatten(2)[:, :, chosen].transpose(1, 2).flatten(0, 1) for x in (latents, posterior.mean, posterior.std)
    )
    return Codes(sample, mean, std, cells)


def weight_of_nats(reduction: Reduction, images: Tensor) -> float:
    """What nats per image N x 3 x H x W weigh against a reconstruction loss of this reduction."""
    return 1.0 if reduction == "sum" else 1 / images[0].numel()


def check_posterior(inputs: StepInputs) -> None:
    """Raise ConfigError at the first step of a tokenizer without a posterior, whose KL is infinite."""
    if inputs.step == 0 and not bool((inputs.posterior.std > 0).all()):
        raise ConfigError("This method weighs a KL divergence, and the tokenizer is deterministic.")
