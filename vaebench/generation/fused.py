"""The element-wise parts of a SiT block, written for CPUs: the same formulas with fewer passes over memory.

On a CPU a training step of SiT-S/2 spends a quarter of its time outside matrix products, most of it moving memory,
asking the kernel for it, and computing tanh. What helps: products that autograd would copy are not; the hidden layer of
an MLP is worked on a few rows at a time, between its matrix products, and never stored; and tanh-GELU is x sigmoid(2u),
whose sigmoid is vectorised better than tanh and gives the slope too. The parts are few and large, because every
operation is a meeting of threads, which is dear on a busy machine. Other devices and precisions take plain formulas.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vaebench.core.products import matmul, plain_float32

EPSILON = 1e-6
# gelu(x) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)) = x sigmoid(x (LINEAR + CUBIC x^2))
_LINEAR = 1.5957691216057308
_CUBIC = 0.044715 * _LINEAR
# Elements of a scratch: 8 MiB, which the last level of cache holds.
_IN_CACHE = 2**21


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) (1 + scale) + shift of tokens (N, T, D) with per-sample shift and scale (N, 1, D); LN has no parameters."""
    normed, factor = F.layer_norm(x, x.shape[-1:], eps=EPSILON), 1 + scale
    return _ScaledSum.apply(shift, factor, normed) if plain_float32(x) else normed * factor + shift


def gated_sum(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """x + gate * branch of tokens (N, T, D) with a per-sample gate (N, 1, D)."""
    return _ScaledSum.apply(x, gate, branch) if plain_float32(x) else x + gate * branch


def gelu_mlp(x: Tensor, expand: nn.Linear, contract: nn.Linear) -> Tensor:
    """contract(gelu(expand(x))) with the tanh form of GELU; x (..., D)."""
    if plain_float32(x):
        keep = torch.is_grad_enabled()
        return _GeluMlp.apply(x, expand.weight, expand.bias, contract.weight, contract.bias, keep)
    return contract(F.gelu(expand(x), approximate="tanh"))


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


class _GeluMlp(Function):
    """Works on a few rows at a time, whose hidden values and their gradients stay in cache and are never stored.

    Stored for the backward pass are gelu(hidden) and its slope: both come of one sigmoid while hidden is at hand, and
    the backward pass is left with the products of an MLP and one multiplication.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, training: bool) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        rows = min(max(1, _IN_CACHE // len(w1)), len(flat))
        result = flat.new_empty(len(flat), len(w2))
        active = flat.new_empty(len(flat) if training else rows, len(w1))
        slope = torch.empty_like(active) if training else None
        linear = flat.new_tensor(_LINEAR)
        for begin in range(0, len(flat), rows):
            part = slice(begin, begin + rows)
            h = matmul(flat[part], w1.t(), b1)
            a = active[part] if training else active[: len(h)]
            torch.addcmul(linear, h, h, value=_CUBIC, out=a).mul_(h).sigmoid_()
            if slope is not None:
                # d gelu / dx = s + u s (1 - s) with u = x (LINEAR + 3 CUBIC x^2)
                u = torch.addcmul(linear, h, h, value=3 * _CUBIC, out=slope[part]).mul_(h)
                torch.ops.aten.sigmoid_backward.grad_input(u, a, grad_input=u).add_(a)
            matmul(a.mul_(h), w2.t(), b2, out=result[part])
        if training:
            ctx.save_for_backward(flat, w1, w2, active, slope)
        ctx.shape, ctx.rows = x.shape, rows
        return result.view(*x.shape[:-1], len(w2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, w1, w2, active, slope = ctx.saved_tensors
        gradient = gradient.reshape(-1, len(w2))
        of_x, of_w1, of_b1 = torch.empty_like(flat), torch.zeros_like(w1), flat.new_zeros(len(w1))
        parts = (tensor.split(ctx.rows) for tensor in (flat, gradient, slope, of_x))
        for x, g, d, out in zip(*parts, strict=True):
            h = matmul(g, w2).mul_(d)
            of_w1.add_(matmul(h.t(), x))
            of_b1.add_(h.sum(0))
            matmul(h, w1, out=out)
        return of_x.view(ctx.shape), of_w1, of_b1, matmul(gradient.t(), active), gradient.sum(0), None
