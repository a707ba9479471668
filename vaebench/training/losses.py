"""Losses of tokenizer training, as pure functions of tensors. All compute in float32. (KL: `Posterior.kl`.)

`images` and `reconstruction` are N x 3 x H x W on the [-1, 1] scale.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vaebench.training.step import mean_over_processes

ReconstructionLoss = Literal["l1", "mse"]
Reduction = Literal["mean", "sum"]


def reconstruction_loss(
    reconstruction: Tensor, images: Tensor, kind: ReconstructionLoss = "l1", reduction: Reduction = "mean"
) -> Tensor:
    """Absolute ("l1") or squared ("mse") error, a scalar.

    Reduction "mean" is the mean over all elements, as in REPA-E; "sum" is the sum over an image's elements, averaged
    over the batch, as in VA-VAE and latent diffusion. They differ by 3HW, and with them the relative strength of a KL
    term of the same weight: at 256 x 256 the usual 1e-6 is 196,608 times weaker under "sum".
    """
    difference = reconstruction.float() - images.float()
    errors = difference.abs() if kind == "l1" else difference.square()
    return errors.mean() if reduction == "mean" else errors.flatten(1).sum(1).mean()


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """0.5 * (mean relu(1 - D(real)) + mean relu(1 + D(fake))) of logits."""
    return 0.5 * (functional.relu(1 - real.float()).mean() + functional.relu(1 + fake.float()).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """-mean D(fake) of logits."""
    return -fake.float().mean()


def adaptive_weight(
    reference_loss: Tensor, loss: Tensor, parameter: Tensor, scale: float, maximum: float, epsilon: float = 1e-4
) -> Tensor:
    """Weight that makes a loss pull on a parameter about ``scale`` times as hard as a reference loss does.

    ``scale * clamp(|d reference / d parameter| / (|d loss / d parameter| + epsilon), 0, maximum)``, a float32 scalar
    without gradient. VA-VAE (arXiv 2501.01423) takes the encoder's last convolution, scale 0.1, maximum 1e8 for its
    alignment loss; the GAN loss of VQGAN (arXiv 2012.09841) the decoder's last convolution, maximum 1e4.

    With several processes the gradients are those of the global batch. The graphs of both losses are kept. The
    gradients are of unscaled losses, so the networks must not compute in fp16, where they underflow.
    """
    gradients = [
        torch.autograd.grad(value, parameter, retain_graph=True)[0].detach().float() for value in (reference_loss, loss)
    ]
    mean_over_processes(gradients)
    reference_norm, norm = (torch.linalg.vector_norm(gradient) for gradient in gradients)
    return scale * (reference_norm / (norm + epsilon)).clamp(0, maximum)


def ramp(step: int, start: int, length: int) -> float:
    """0 before ``start``, then rising linearly to 1 over ``length`` steps (at once for 0)."""
    if step < start:
        return 0.0
    return min((step - start + 1) / length, 1.0) if length else 1.0
