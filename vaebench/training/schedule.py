"""Learning-rate schedules as pure functions of the step, so that there is no scheduler state to save."""

import math
from typing import Literal

Schedule = Literal["constant", "cosine"]


def learning_rate_factor(step: int, steps: int, schedule: Schedule, warmup: int = 0, final: float = 0.0) -> float:
    """Factor on the base learning rate for the update at ``step`` (counted from 0) of ``steps``.

    The first ``warmup`` steps rise linearly, ``(step + 1) / warmup``. After them, "constant" stays at 1 and "cosine"
    falls from 1 to ``final`` along half a cosine, reaching ``final`` at the last step.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
