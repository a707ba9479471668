"""Matrix products in float32 on CPUs, from the library that is fast on the processor at hand.

PyTorch's come from Intel's MKL, which keeps its AVX-512 kernels for processors of Intel: one of AMD (Zen 4, Zen 5) gets
half of what it can do. oneDNN, which PyTorch brings for convolutions, gives them to every processor, and multiplies
matrices too. `tests/benchmarks/sit_step.py` tells what it gains.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


@functools.cache
def prefer_onednn() -> bool:
    """Whether oneDNN's products are the faster: an x86 processor with AVX-512 that is not Intel's, under Linux.

    By what the processor is and not by a timing, so that one machine always rounds alike.
    """
    if not sys.platform.startswith("linux") or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "GenuineIntel" not in _processor()


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    return told.read_text(errors="replace") if told.is_file() else "GenuineIntel"


def plain_float32(x: Tensor) -> bool:
    """Whether x is float32 on the CPU and no autocast would change its products: what code for CPUs is written for.

    Not while a network is compiled: the compiler fuses plain formulas itself, and knows them alone.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """a b + bias of matrices (M, K) and (K, N), float32 on the CPU, without gradients of its own; bias (N,).

    Args:
        out: (M, N), where the result is put, if it should not be a new tensor.
    """
    if prefer_onednn():
        product = torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, "none", [], "")
        return product if out is None else out.copy_(product)
    return torch.mm(a, b, out=out) if bias is None else torch.addmm(bias, a, b, out=out)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """layer(x) with x (..., D)."""
    if plain_float32(x) and prefer_onednn() and x.numel():
        return _Linear.apply(x, layer.weight, layer.bias)
    return layer(x)


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(flat, weight)
        ctx.shape, ctx.biased = x.shape, bias is not None
        return matmul(flat, weight.t(), bias).view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight = ctx.saved_tensors
        gradient = gradient.reshape(-1, len(weight))
        return (
            matmul(gradient, weight).view(ctx.shape) if ctx.needs_input_grad[0] else None,
            matmul(gradient.t(), flat) if ctx.needs_input_grad[1] else None,
            gradient.sum(0) if ctx.biased else None,
        )
