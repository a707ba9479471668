"""A small network for all attributes at once, on top of a linear probe."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench.core.seeds import torch_generator
from vaebench.metrics.readability.vectors import Attributes, Vectors


@dataclass(frozen=True)
class NetworkSettings:
    """Width of the hidden layer, and how it is trained.

    Attributes:
        hidden: ReLU units. learning_rate, weight_decay: of AdamW. batch_size: images a step.
        epochs: at most. patience: epochs without gain on the validation split after which training ends.
    """

    hidden: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    patience: int


@dataclass(frozen=True)
class Network:
    """Log-odds of the best epoch of every attribute, by validation log-loss.

    Attributes:
        validation, test: (n, A) float32. epochs: (A,) chosen; 0 is the linear probe itself.
    """

    validation: np.ndarray
    test: np.ndarray
    epochs: np.ndarray


def fit_network(
    x: Vectors,
    linear: Vectors,
    y: Attributes,
    settings: NetworkSettings,
    seed: int,
    device: str = "cpu",
) -> Network:
    """Train log-odds = linear probe's + W2 relu(W1 x + b1) + b2 by the mean over images of the summed cross-entropies.

    The linear probe's log-odds are fixed and W2, b2 begin at zero, so that training starts from the linear probe and
    has only to find what is not linear. A network without them is the weaker reader where features are far from white,
    and the difference to the linear probe then says more about optimisation than about latents.

    Args:
        x: features of all splits. linear: the log-odds (n, A) of all splits. y: attributes. settings: see there.
        seed: of the weights and the order of images. device: torch device.
    """
    features, base = (
        [
            torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(device)
            for part in (v.train, v.validation, v.test)
        ]
        for v in (x, linear)
    )
    labels = [torch.from_numpy(part.astype(np.float32)).to(device) for part in (y.train, y.validation)]
    generator = torch_generator(seed, "network")
    width, attributes = features[0].shape[1], labels[0].shape[1]
    first = torch.randn(width, settings.hidden, generator=generator) * (2 / width) ** 0.5
    shapes = ((settings.hidden,), (settings.hidden, attributes), (attributes,))
    weights = [first.to(device), *(torch.zeros(shape, device=device) for shape in shapes)]
    for weight in weights:
        weight.requires_grad_()
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def margins(rows: Tensor, offset: Tensor) -> Tensor:
        hidden = torch.addmm(weights[1], rows, weights[0]).relu_()
        return torch.addmm(weights[3], hidden, weights[2]) + offset

    best = F.binary_cross_entropy_with_logits(base[1], labels[1], reduction="none").mean(0)
    chosen = [base[1].clone(), base[2].clone()]
    epochs = torch.zeros(attributes, dtype=torch.int64, device=device)
    gained = 0
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(features[0]), generator=generator).to(device)
        for rows in order.split(settings.batch_size):
            losses = F.binary_cross_entropy_with_logits(
                margins(features[0][rows], base[0][rows]), labels[0][rows], reduction="none"
            )
            optimiser.zero_grad()
            losses.sum(1).mean().backward()
            optimiser.step()
        with torch.no_grad():
            now = [margins(features[k], base[k]) for k in (1, 2)]
            loss = F.binary_cross_entropy_with_logits(now[0], labels[1], reduction="none").mean(0)
        better = loss < best
        gained = epoch if bool((best - loss).clamp(min=0).mean() > 1e-4 * best.mean()) else gained
        best, epochs = torch.where(better, loss, best), torch.where(better, epoch, epochs)
        chosen = [torch.where(better, new, old) for new, old in zip(now, chosen, strict=True)]
        if epoch - gained >= settings.patience:
            break
    validation, test = (part.cpu().numpy() for part in chosen)
    return Network(validation, test, epochs.cpu().numpy())
