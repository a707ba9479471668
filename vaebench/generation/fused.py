"""The element-wise parts of a SiT block, written for CPUs: the same formulas with fewer passes over memory.

On a CPU a training step of SiT-S/2 spends a quarter of its time outside matrix products, most of it moving memory,
asking the kernel for it, and computing tanh. What helps: products that autograd would copy are not; gelu(hidden) is
computed a few rows at a time next to its matrix product and recomputed in the backward pass, not stored; and tanh-GELU
as x sigmoid(2u), whose sigmoid is vectorised better than tanh. The parts are few and large, because every operation is
a meeting of threads, which is dear on a busy machine. Other devices and precisions take the plain formulas.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

EPSILON = 1e-6
# gelu(x) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)) = x sigmoid(x (LINEAR + CUBIC x^2))
_LINEAR = 1.5957691216057308
_CUBIC = 0.044715 * _LINEAR
# Elements of a scratch: 8 MiB, which the last level of cache holds.
_IN_CACHE = 2**21


def _fused(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) (1 + scale) + shift of tokens (N, T, D) with per-sample shift and scale (N, 1, D); LN has no parameters."""
    normed, factor = F.layer_norm(x, x.shape[-1:], eps=EPSILON), 1 + scale
    return _ScaledSum.apply(shift, factor, normed) if _fused(x) else normed * factor + shift


def gated_sum(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """x + gate * branch of tokens (N, T, D) with a per-sample gate (N, 1, D)."""
    return _ScaledSum.apply(x, gate, branch) if _fused(x) else x + gate * branch


def gelu_linear(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """gelu(hidden) W^T + b with the tanh form of GELU; hidden (..., K), weight (D, K), bias (D,)."""
    if _fused(hidden):
        return _GeluLinear.apply(hidden, weight, bias)
    return F.linear(F.gelu(hidden, approximate="tanh"), weight, bias)


class _ScaledSum(Function):
    """base + factor * x with x (N, T, D), factor (N, 1, D) and base of either shape.

    As torch.addcmul, whose own backward multiplies each input by its constant 1 into a copy first.
    """

    @staticmethod
    def forward(ctx: Any, base: Tensor, factor: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(factor, x)
        ctx.reduced = base.shape != x.shape
        return torch.addcmul(base, factor, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        factor, x = ctx.saved_tensors
        of_base = gradient.sum(1, keepdim=True) if ctx.reduced else gradient
        return of_base, (gradient * x).sum(1, keepdim=True), gradient * factor


class _GeluLinear(Function):
    """Works on a few rows at a time: gelu(hidden) lives in a scratch that stays in cache, and is never stored."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        flat = hidden.contiguous().view(-1, hidden.shape[-1])
        rows = max(1, _IN_CACHE // flat.shape[1])
        result, scratch = flat.new_empty(len(flat), len(weight)), flat.new_empty(min(rows, len(flat)), flat.shape[1])
        for x, out in zip(flat.split(rows), result.split(rows), strict=True):
            active = torch.mul(x, x, out=scratch[: len(x)]).mul_(_CUBIC).add_(_LINEAR).mul_(x).sigmoid_().mul_(x)
            torch.addmm(bias, active, weight.t(), out=out)
        ctx.save_for_backward(flat, weight)
        ctx.shape, ctx.rows = hidden.shape, rows
        return result.view(*hidden.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat, weight = ctx.saved_tensors
        gradient = gradient.reshape(-1, len(weight))
        of_hidden, of_weight = torch.empty_like(flat), torch.zeros_like(weight)
        scratch = flat.new_empty(2, min(ctx.rows, len(flat)), flat.shape[1])
        parts = (tensor.split(ctx.rows) for tensor in (flat, gradient, of_hidden))
        for x, g, out in zip(*parts, strict=True):
            s, slope = scratch[:, : len(x)].unbind()
            torch.mul(x, x, out=slope)
            torch.mul(slope, _CUBIC, out=s).add_(_LINEAR).mul_(x).sigmoid_()
            # d gelu / dx = s + s (1 - s) u with u = x (LINEAR + 3 CUBIC x^2), that is s (1 + u - s u)
            slope.mul_(3 * _CUBIC).add_(_LINEAR).mul_(x)
            slope.addcmul_(slope, s, value=-1).add_(1).mul_(s)
            of_weight.addmm_(g.t(), s.mul_(x))
            torch.mm(g, weight, out=out).mul_(slope)
        return of_hidden.view(ctx.shape), of_weight, gradient.sum(0)
