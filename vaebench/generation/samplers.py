"""Samplers: plain functions that carry noise at t = 0 to data at t = 1 along a velocity field.

A velocity is a function of a state (N, ...) and a time, a Python number in [0, 1]. The state keeps the precision that
it comes in. Every sampler returns the final state and the exact number of velocity evaluations (NFE).

A sampler from outside is a `Sampler`, registered under the entry-point group "vaebench.samplers".
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from vaebench.core.config import Config as BaseConfig
from vaebench.core.config import build as validated
from vaebench.core.errors import ConfigError, import_optional
from vaebench.generation.guidance import Velocity
from vaebench.generation.interpolants import Interpolant

Diffusion = Literal["sigma", "constant", "linear", "decreasing", "increasing-decreasing", "sbdm"]
LastStep = Literal["mean", "tweedie", "euler", "none"]


class Solution(NamedTuple):
    """Final state and number of velocity evaluations."""

    state: Tensor
    nfe: int


@dataclass(frozen=True)
class Problem:
    """What a sampler from outside has to solve: dx/dt = v(x, t) from t = 0, noise, to t = 1, data.

    Attributes:
        velocity: guidance is in it already. Every call counts towards NFE, and is what sampling costs.
        noise: the state at t = 0, (N, d, h, w).
        nfe: evaluations asked for.
        interpolant: turns a velocity into a score or an estimate of the data, for samplers that want one.
        draw: step number -> standard normal draw of the state's shape, the same for a sample whatever its batch.
    """

    velocity: Velocity
    noise: Tensor
    nfe: int
    interpolant: Interpolant
    draw: Callable[[int], Tensor]


class Sampler(ABC):
    """A sampler from outside. Row i of its result may depend on row i of the noise only.

    Class attributes:
        Config: its settings, given as ``sampler.options``.
    """

    Config: ClassVar[type[BaseConfig]] = BaseConfig

    def __init__(self, config: BaseConfig | Mapping[str, Any] | None = None) -> None:
        if not isinstance(config, self.Config):
            config = validated(self.Config, dict(config or {}), where=f"sampler '{type(self).__name__}'")
        self.config: Any = config

    @abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """The state at t = 1, and how often the velocity was evaluated."""


def time_grid(steps: int, end: float = 1.0, shift: float = 1.0) -> list[float]:
    """steps + 1 times from 0 to end, uniform and then moved by t -> s t / (1 + (s - 1) t).

    shift s < 1 puts more steps near the noise (LightningDiT uses 0.3); 1 leaves them uniform.
    """
    uniform = (end * i / steps for i in range(steps + 1))
    # The same, written so that 0 and 1 stay exactly where they are.
    return [t / (t + (1 - t) / shift) for t in uniform]


def euler(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Solution:
    """Euler's method, order 1; one evaluation a step."""
    for now, after in pairwise(times):
        x = x + (after - now) * velocity(x, now)
    return Solution(x, len(times) - 1)


def heun(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Solution:
    """Heun's method (explicit trapezoid), order 2; two evaluations a step."""
    for now, after in pairwise(times):
        first = velocity(x, now)
        second = velocity(x + (after - now) * first, after)
        x = x + (after - now) / 2 * (first + second)
    return Solution(x, 2 * (len(times) - 1))


def dopri5(
    velocity: Velocity, x: Tensor, start: float = 0.0, end: float = 1.0, atol: float = 1e-6, rtol: float = 1e-3
) -> Solution:
    """Dormand-Prince 5(4) with adaptive steps, through torchdiffeq (extra "ode").

    The step adapts to the whole batch, so a sample depends, within the tolerance, on its batch. The last step lands on
    ``end``; no evaluation lies beyond it, where a velocity need not be defined and guidance may be off.

    Raises:
        MissingDependency: torchdiffeq is not installed.
    """
    torchdiffeq = import_optional("torchdiffeq", "ode")
    count = 0

    def counted(t: Tensor, state: Tensor) -> Tensor:
        nonlocal count
        count += 1
        # The evaluation from which the solver guesses its first step may lie anywhere.
        return velocity(state, min(float(t), end))

    times = torch.tensor([start, end], dtype=torch.float64, device=x.device)
    path = torchdiffeq.odeint(counted, x, times, method="dopri5", atol=atol, rtol=rtol, options={"step_t": times[1:]})
    return Solution(path[-1], count)


def diffusion_coefficient(form: Diffusion, interpolant: Interpolant, t: float, norm: float = 1.0) -> float:
    """w(t) of the SDE dx = (v + w score) dt + sqrt(2 w) dW, which has the marginals of the ODE for every w >= 0.

    sigma: c sigma(t); constant: c; linear: c (1 - t); decreasing: (c cos(pi t) + 1)^2 / 4; increasing-decreasing:
    c sin^2(pi t); sbdm: c (alpha'/alpha sigma^2 - sigma sigma'), that of score-based models, infinite at t = 0.
    """
    time = torch.tensor(t, dtype=torch.float64)
    if form == "sigma":
        return norm * float(interpolant.sigma(time))
    if form == "constant":
        return norm
    if form == "linear":
        return norm * (1 - t)
    if form == "decreasing":
        return 0.25 * (norm * math.cos(math.pi * t) + 1) ** 2
    if form == "increasing-decreasing":
        return norm * math.sin(math.pi * t) ** 2
    alpha, sigma = interpolant.alpha(time), interpolant.sigma(time)
    ratio = interpolant.alpha_dot(time) / alpha
    return norm * float(ratio * sigma**2 - sigma * interpolant.sigma_dot(time))


def euler_maruyama(
    velocity: Velocity,
    x: Tensor,
    times: Sequence[float],
    interpolant: Interpolant,
    noise: Callable[[int], Tensor],
    diffusion: Diffusion = "sigma",
    norm: float = 1.0,
    last_step: LastStep = "mean",
) -> Solution:
    """Euler-Maruyama on dx = (v + w score) dt + sqrt(2 w) dW from times[0] to times[-1], then a last step to t = 1.

    The score is singular at t = 1, so the noisy steps end before it (at 0.96 as published) and one step without noise
    closes the gap h = 1 - times[-1]: "mean" adds h (v + w score), "euler" h v, "tweedie" gives E[data | x]; "none"
    returns the state at times[-1]. NFE is the number of steps plus one for the last.

    Args:
        noise: step number -> standard normal draw of the shape of x.
        diffusion, norm: form and factor c of w, see `diffusion_coefficient`.

    Raises:
        ConfigError: "sbdm" started at t = 0, where it is infinite; or noisy steps that reach t = 1.
    """
    if diffusion == "sbdm" and float(interpolant.alpha(torch.tensor(times[0], dtype=torch.float64))) == 0:
        raise ConfigError(
            "The diffusion 'sbdm' is infinite at t = 0, where sampling starts.",
            "Use diffusion 'sigma', or start later.",
        )
    if times[-1] >= 1 and last_step != "none":
        raise ConfigError("The noisy steps reach t = 1 and leave no last step.", "End them earlier, as at 0.96.")

    def drift(x: Tensor, t: float, w: float) -> tuple[Tensor, Tensor]:
        v = velocity(x, t)
        # Without diffusion the score is not needed, and may be singular.
        return v, v + w * interpolant.score_from_velocity(v, x, x.new_tensor(t)) if w else v

    for step, (now, after) in enumerate(pairwise(times)):
        w = diffusion_coefficient(diffusion, interpolant, now, norm)
        x = x + (after - now) * drift(x, now, w)[1] + math.sqrt(2 * w * (after - now)) * noise(step)
    if last_step == "none":
        return Solution(x, len(times) - 1)
    now = times[-1]
    v, sde_drift = drift(x, now, diffusion_coefficient(diffusion, interpolant, now, norm))
    if last_step == "tweedie":
        return Solution(interpolant.data_from_velocity(v, x, x.new_tensor(now)), len(times))
    return Solution(x + (1 - now) * (sde_drift if last_step == "mean" else v), len(times))
