"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


def ema_decay(step: int, decay: float, warmup: bool = True) -> float:
    """Decay to use for the update after ``step`` finished updates (so the first one has ``step`` 0).

    With warm-up it is ``min(decay, (1 + t) / (10 + t))``: early on the average spans about a tenth of the steps so far,
    so that a run much shorter than ``1 / (1 - decay)`` steps still forgets its initial weights.
    """
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


class Ema:
    """The average ``a <- decay * a + (1 - decay) * w`` of a module's parameters and floating-point buffers.

    Buffers are averaged too, as REPA-E does for its batch-norm statistics; integer buffers are copied.

    Attributes:
        averaged: a frozen copy of the module, in evaluation mode, that holds the average.
    """

    def __init__(self, module: nn.Module, decay: float, warmup: bool = True) -> None:
        self.decay = decay
        self.warmup = warmup
        self.averaged = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after the update numbered ``step`` (counted from 0)."""
        weight = 1.0 - ema_decay(step, self.decay, self.warmup)
        new = module.state_dict()
        averages: list[torch.Tensor] = []
        values: list[torch.Tensor] = []
        for name, average in self.averaged.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                values.append(new[name])
            else:
                average.copy_(new[name])
        torch._foreach_lerp_(averages, values, weight)
