"""Limited-memory BFGS for many smooth convex problems at once, each with its own step length and its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

HISTORY = 10
SUFFICIENT = 0.5


class Evaluation(NamedTuple):
    """Per problem: the gradient (p, K) and the value (K,)."""

    gradient: Tensor
    value: Tensor


def minimise(
    evaluate: Callable[[Tensor, Tensor], Evaluation],
    precondition: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    first: Evaluation,
    tolerance: float,
    max_passes: int,
    patience: int,
) -> tuple[Tensor, Tensor, int]:
    """Minimise K problems that share their evaluation.

    All problems that are not yet done are evaluated together, one trial point each ("a pass"). A problem that accepts
    its trial point computes a new direction; one that does not shortens its step; neither waits for the other. Done
    problems leave the matrices. The line search uses slopes alone: on a convex function a step whose end slope is still
    negative, or at most half the start slope in size, has not left the valley.

    Nocedal, Wright: Numerical Optimization, 2006, algorithm 7.4.

    Args:
        evaluate: (points (p, K'), problem indices (K',)) -> evaluation at the points.
        precondition: (vectors (p, K'), problem indices (K',)) -> approximate inverse Hessian times the vectors.
        start: (p, K) starting points.
        first: the evaluation at ``start``.
        tolerance: a problem is done when the decrement g^T B g / 2, B the inverse Hessian of the recursion, which
            estimates the distance of the value from its minimum, is at most this multiple of the value.
        max_passes: upper bound of the number of evaluations.
        patience: passes without a better decrement or value after which a problem has reached the accuracy of the
            arithmetic.

    Returns:
        The final points (p, K), which problems were cut off by ``max_passes`` (K,), and the number of passes.
    """
    result = start.clone()
    columns = torch.arange(start.shape[1], device=start.device)
    point, (gradient, value) = start, first
    moves = point.new_zeros(HISTORY, *point.shape)
    changes = torch.zeros_like(moves)
    inverse_products = point.new_zeros(HISTORY, len(columns))
    direction = -precondition(gradient, columns)
    slope = (direction * gradient).sum(0)
    step = torch.ones_like(slope)
    best, lowest = torch.full_like(slope, torch.inf), value.clone()
    waited = torch.zeros_like(slope)

    passes = 0
    while True:
        decrement = -slope / 2 / value
        waited = torch.where((decrement < 0.9 * best) | (value < 0.999 * lowest), 0, waited + 1)
        best, lowest = torch.minimum(best, decrement), torch.minimum(lowest, value)
        keep = (decrement > tolerance) & (waited < patience)
        if passes == max_passes or not keep.all():
            result[:, columns] = point
        if passes == max_passes or not keep.any():
            unfinished = torch.zeros(start.shape[1], dtype=torch.bool, device=start.device)
            unfinished[columns[keep]] = True
            return result, unfinished, passes
        if not keep.all():
            columns, slope, step, value = columns[keep], slope[keep], step[keep], value[keep]
            best, lowest, waited, inverse_products = best[keep], lowest[keep], waited[keep], inverse_products[:, keep]
            point, gradient, direction = point[:, keep], gradient[:, keep], direction[:, keep]
            moves, changes = moves[:, :, keep], changes[:, :, keep]

        move = step * direction
        trial = evaluate(point + move, columns)
        passes += 1
        new_slope = (trial.gradient * direction).sum(0)
        accepted = new_slope <= SUFFICIENT * slope.abs()

        slot = passes % HISTORY
        moves[slot] = torch.where(accepted, move, 0)
        changes[slot] = torch.where(accepted, trial.gradient - gradient, 0)
        product = (moves[slot] * changes[slot]).sum(0)
        # A rejected trial, or a change lost in rounding, leaves an empty pair, which the recursion passes over.
        inverse_products[slot] = torch.where(product > 0, 1 / product, 0)

        point = torch.where(accepted, point + move, point)
        gradient = torch.where(accepted, trial.gradient, gradient)
        value = torch.where(accepted, trial.value, value)
        shorter = (slope / (slope - new_slope)).nan_to_num(0.1).clamp(0.1, 0.6)
        step = torch.where(accepted, 1, step * shorter)

        newest_first = [(passes - age) % HISTORY for age in range(min(passes, HISTORY))]
        fresh = -_inverse_hessian(gradient, moves, changes, inverse_products, newest_first, columns, precondition)
        direction = torch.where(accepted, fresh, direction)
        slope = (direction * gradient).sum(0)


def _inverse_hessian(
    gradient: Tensor,
    moves: Tensor,
    changes: Tensor,
    inverse_products: Tensor,
    newest_first: list[int],
    columns: Tensor,
    precondition: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    vector = gradient.clone()
    weights = {}
    for i in newest_first:
        weights[i] = inverse_products[i] * (moves[i] * vector).sum(0)
        vector -= weights[i] * changes[i]
    vector = precondition(vector, columns)
    for i in reversed(newest_first):
        back = inverse_products[i] * (changes[i] * vector).sum(0)
        vector += (weights[i] - back) * moves[i]
    return vector
