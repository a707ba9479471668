"""What the training steps of this house have in common: device and processes, rows of a batch, the update.

Modules are *not* wrapped in DistributedDataParallel: `update` averages the gradients over the processes itself. That
keeps several calls of one network, gradients of single layers (adaptive weights) and two alternating optimisers (GAN)
simple and exact, where the wrapper hangs or gives local gradients.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn

from vaebench.core.errors import ConfigError

Precision = Literal["no", "fp16", "bf16"]
_BUCKET_ELEMENTS = 2**25
# How long processes wait for each other. Torch's 10 minutes are too few where the first one checks hundreds of
# gigabytes meanwhile, and nobody waits for a dead one: a launcher ends all processes when one fails.
_PATIENCE = timedelta(hours=24)


def make_accelerator(device: str = "auto", mixed_precision: Precision = "no") -> Accelerator:
    """An accelerator for a device (auto, cpu, cuda or mps) and a precision.

    Under ``accelerate launch`` or ``torchrun`` it joins the group of processes. Calling it again with another precision
    is allowed, as a study does that trains one stage after the other in one process.

    Raises:
        ConfigError: the device is not there, or cannot compute in this precision.
    """
    present = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.partition(":")[0], False):
        raise ConfigError(f"Device '{device}' is not available here.", "Use --device auto.")
    AcceleratorState._reset_state(reset_partial_state=not dist.is_initialized())
    on_cpu = device == "cpu" or (device == "auto" and not present["cuda"] and not present["mps"])
    if on_cpu and mixed_precision == "fp16":
        raise ConfigError("fp16 training needs a GPU.", "Use mixed_precision=no or bf16.")
    patient = InitProcessGroupKwargs(timeout=_PATIENCE)
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed_precision, kwargs_handlers=[patient])
    if accelerator.device.type == "cuda" and accelerator.num_processes > 1:
        # Its barrier takes this for the number of a GPU, and a process may see fewer of them than there are processes.
        PartialState().local_process_index = accelerator.device.index
    return accelerator


def check_batch(batch_size: int, processes: int, accumulation: int) -> None:
    """Raise ConfigError unless the global batch splits evenly over processes and accumulation."""
    if batch_size % (processes * accumulation):
        raise ConfigError(
            f"batch_size {batch_size} does not divide by {processes} processes x {accumulation} accumulation steps.",
            "Choose a multiple; the batch size is the global one, whatever the number of processes.",
        )


def micro_batches(batch_size: int, accelerator: Accelerator, accumulation: int) -> list[slice]:
    """Rows of the global batch that this process works on, one slice for each accumulation step.

    Slices of all processes and steps are equal in size and cover the batch once, so the mean over them of a loss that
    is a mean over rows is the loss of the global batch.
    """
    check_batch(batch_size, accelerator.num_processes, accumulation)
    size = batch_size // (accelerator.num_processes * accumulation)
    start = accelerator.process_index * size * accumulation
    return [slice(start + i * size, start + (i + 1) * size) for i in range(accumulation)]


@torch.no_grad()
def mean_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over the processes, in place; nothing happens with one process."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    bucket: list[Tensor] = []
    for i, tensor in enumerate(tensors):
        bucket.append(tensor)
        last = i == len(tensors) - 1 or tensors[i + 1].dtype != tensor.dtype
        if last or sum(t.numel() for t in bucket) >= _BUCKET_ELEMENTS:
            flat = torch.cat([t.reshape(-1) for t in bucket])
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
            for target, values in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                target.copy_(values.view(target.shape))
            bucket = []


def update(
    accelerator: Accelerator, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], clip: float | None
) -> Tensor:
    """Average the gradients over the processes, clip them, take one optimiser step and clear them.

    The scale of an fp16 loss stays: `run_loop` adapts it after the step, once for all optimisers, whose gradients were
    made with the same one.

    Args:
        accelerator: whose ``backward`` made the gradients.
        optimizer: a plain torch optimiser (not one from ``accelerator.prepare``).
        parameters: those of the optimiser.
        clip: largest allowed norm of all gradients together; None for no clipping.

    Returns:
        Norm of the averaged gradients before clipping, a scalar on their device.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    mean_over_processes(gradients)
    accelerator.unscale_gradients(optimizer)
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None:
        torch._foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp(max=1.0).to(gradients[0].device))
    if accelerator.scaler is not None:
        accelerator.scaler.step(optimizer)
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """An array or a tensor on the CPU as a tensor on a device; page-locked on the way to CUDA so that the copy does not
    block."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
