"""Means and gathers over all processes that gradients flow through.

The loop averages gradients over the processes, so what is minimised is the mean of the processes' losses. These two
make it the loss of the global batch where a loss needs more than the mean of its rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from vaebench.training.step import mean_over_processes


def mean_with_graph(x: Tensor) -> Tensor:
    """The mean of `x` over the processes, with graph; `x` itself with one process."""
    if not _several():
        return x
    mean: Tensor = _MeanOverProcesses.apply(x)
    return mean


def gather_rows(x: Tensor) -> tuple[Tensor, int]:
    """Rows of all processes, and the number of rows before this process's own.

    Args:
        x: (n, ...), with the same n in all processes.

    Returns:
        (processes * n, ...) in the order of the processes, with graph: the gradient of a row is the sum of those that
        the processes' losses give it. With one process, `x` itself and 0.
    """
    if not _several():
        return x, 0
    rows: Tensor = _GatherRows.apply(x)
    return rows, dist.get_rank() * len(x)


def _several() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


class _MeanOverProcesses(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mean = x.clone()
        mean_over_processes([mean])
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # The loss is the mean of the processes' losses and each of them depends on x here by 1 / processes.
        (gradient,) = gradients
        gradient = gradient.clone()
        mean_over_processes([gradient])
        return gradient


class _GatherRows(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        ctx.rows = len(x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows]
