"""Watching for values that stop being finite."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

NEVER = 2**62


class Guard:
    """Remembers the first step with a non-finite value without making any step wait for the device.

    Args:
        device: where the values live.
        fp16: leave gradient norms out: under fp16 they overflow now and then, and the loss scaler skips such steps.
    """

    def __init__(self, device: torch.device, fp16: bool) -> None:
        self._device = device
        self._fp16 = fp16
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._first = torch.full((), NEVER, dtype=torch.int64, device=self._device)

    def observe(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Look at a step's values, scalars on the device."""
        watched = [v.detach().float() for k, v in values.items() if not (self._fp16 and k.startswith("gradient_norm"))]
        finite = torch.isfinite(torch.stack(watched)).all()
        self._first = torch.where(finite, self._first, self._first.clamp(max=step))

    def first_bad(self) -> int | None:
        """The first bad step in any process, or None. Waits for the device; every process must ask."""
        first = self._first
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(first, op=dist.ReduceOp.MIN)
        step = int(first.item())
        return step if step != NEVER else None
