"""The element-wise parts of a SiT block, written for CPUs: the same formulas with fewer passes over memory.

On a CPU a training step of SiT-S/2 spends a quarter of its time outside matrix products, most of it moving memory and
computing tanh. What helps: LayerNorm that scales and shifts each sample in its own pass (and gives their gradients in
its backward), products reduced while they are in cache, and tanh-GELU as x sigmoid(2u), whose sigmoid is vectorised
better than tanh. Other devices, other precisions and short sequences take the plain formulas.
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
# Elements of a scratch (2 MiB), and the least elements of a sample for a loop over samples to pay.
_IN_CACHE = 2**19
_LONG_SAMPLE = 2**15


def _per_sample(x: Tensor) -> bool:
    """Whether a sample is long enough for a loop over samples to cost less than what it saves."""
    return _fused(x) and x[0].numel() >= _LONG_SAMPLE


def _fused(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) (1 + scale) + shift of tokens (N, T, D) with per-sample shift and scale (N, 1, D); LN has no parameters."""
    if _per_sample(x):
        return _ModulatedNorm.apply(x, shift, scale)
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPSILON), 1 + scale)


def gated_sum(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """x + gate * branch of tokens (N, T, D) with a per-sample gate (N, 1, D)."""
    if _per_sample(x):
        return _GatedSum.apply(x, gate, branch)
    return x + gate * branch


def gelu_linear(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """gelu(hidden) W^T + b with the tanh form of GELU; hidden (..., K), weight (D, K), bias (D,)."""
    if _fused(hidden):
        return _GeluLinear.apply(hidden, weight, bias)
    return F.linear(F.gelu(hidden, approximate="tanh"), weight, bias)


class _ModulatedNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        x, shift, factor = x.contiguous(), shift.contiguous(), 1 + scale
        out, mean, rstd = torch.empty_like(x), x.new_empty(*x.shape[:2], 1), x.new_empty(*x.shape[:2], 1)
        for i in range(len(x)):
            torch.ops.aten.native_layer_norm.out(
                x[i], x.shape[-1:], factor[i, 0], shift[i, 0], EPSILON, out0=out[i], out1=mean[i], out2=rstd[i]
            )
        ctx.save_for_backward(x, shift, factor, mean, rstd)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, shift, factor, mean, rstd = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x, of_shift, of_scale = torch.empty_like(x), torch.empty_like(shift), torch.empty_like(factor)
        for i in range(len(x)):
            torch.ops.aten.native_layer_norm_backward.out(
                gradient[i], x[i], x.shape[-1:], mean[i], rstd[i], factor[i, 0], shift[i, 0], [True, True, True],
                out0=of_x[i], out1=of_scale[i, 0], out2=of_shift[i, 0],
            )  # fmt: skip
        return of_x, of_shift, of_scale


class _GatedSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
        ctx.save_for_backward(gate, branch)
        return torch.addcmul(x, gate, branch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, branch = ctx.saved_tensors
        of_gate, product = gate.new_empty(gate.shape), branch.new_empty(branch.shape[1:])
        for i in range(len(branch)):
            torch.mul(gradient[i], branch[i], out=product)
            torch.sum(product, 0, keepdim=True, out=of_gate[i])
        return gradient, of_gate, gradient * gate


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
