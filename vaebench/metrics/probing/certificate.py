"""How far a penalised logistic fit can be from its optimum at most: a duality gap."""

from __future__ import annotations

import torch
from torch import Tensor

from vaebench.metrics.probing.lbfgs import Evaluation
from vaebench.metrics.probing.objective import Objective
from vaebench.metrics.probing.preconditioner import Preconditioner


def gap_bound(
    objective: Objective,
    precondition: Preconditioner,
    points: Tensor,
    columns: Tensor,
    evaluation: Evaluation,
    tolerance: float,
    max_products: int,
) -> Tensor:
    """Upper bounds of (F - F*) / F.

    Any probabilities q in (0, 1) with sum_i (q_i - y_i) = 0 give the lower bound F - F* <= |w + C X^T (q - y)|^2 / 2 +
    C sum_i KL(q_i || p_i). With q_i = p_i - p_i (1 - p_i) (x_i s + t), where (s, t) solves the Newton system up to a
    residual r (r_0 in the intercept), and KL <= chi^2,

        F - F* <= (|s + r| + |r_0| sqrt(C L / 4h))^2 / 2 + (sqrt((s, t)^T H (s, t) - |s|^2) + |r_0| / sqrt(h))^2,

    H the Hessian, h its entry of the intercept and L the largest eigenvalue of X^T X, as long as no margin changes by
    more than 1. Conjugate gradients improve (s, t) until the bound is within the tolerance.

    Args:
        objective: gives the Hessian products (in float32, as any s gives a valid bound).
        precondition: approximate inverse Hessians.
        points: (width + 1, K').
        columns: (K',) problem indices.
        evaluation: float64 gradient and value at the points.
        tolerance: bound at which a problem needs no further product.
        max_products: Hessian products after which the bound stays as it is.

    Returns:
        (K',) bounds, infinite where there is none.
    """
    gradient, value = evaluation
    c, h = objective.c[columns], objective.curvature[columns]
    coupling = (c * objective.spectrum.largest / (4 * h)).sqrt()
    active = torch.arange(len(columns), device=points.device)
    bound = torch.full_like(value, torch.inf)
    residual, solution, change = gradient.clone(), torch.zeros_like(gradient), torch.zeros_like(value)
    direction, energy = torch.zeros_like(gradient), torch.ones_like(value)
    product = None
    for products in range(max_products + 1):
        weights, part, tail = solution[:-1, active], residual[:-1, active], residual[-1, active].abs()
        quadratic = (solution * (gradient - residual))[:, active].sum(0) - weights.square().sum(0)
        first = ((weights + part).square().sum(0).sqrt() + tail * coupling[active]).square() / 2
        second = (quadratic.clamp(min=0).sqrt() + tail / h[active].sqrt()).square()
        valid = change[active] + tail / h[active] <= 1
        latest = torch.where(valid, (first + second) / value[active], torch.inf)
        bound[active] = torch.minimum(bound[active], latest)
        active = active[bound[active] > tolerance]
        if not len(active) or products == max_products:
            break
        product = product or objective.hessian(points, columns)
        preconditioned = precondition(residual[:, active], columns[active])
        new_energy = (residual[:, active] * preconditioned).sum(0)
        direction[:, active] = preconditioned + new_energy / energy[active] * direction[:, active]
        energy[active] = new_energy
        image, largest = product(direction[:, active], active)
        step = new_energy / (direction[:, active] * image).sum(0)
        solution[:, active] += step * direction[:, active]
        residual[:, active] -= step * image
        change[active] += step * largest
    return bound
