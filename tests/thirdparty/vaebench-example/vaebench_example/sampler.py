"""A sampler: the explicit midpoint method, order 2, two evaluations a step."""

from itertools import pairwise

from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError
from vaebench.generation.samplers import Problem, Sampler, Solution, time_grid


class MidpointConfig(Config):
    """Settings, given as ``sampler.options``: ``shift`` moves the times as that of the shipped samplers."""

    shift: float = Field(default=1.0, gt=0)


class Midpoint(Sampler):
    """x <- x + h v(x + h/2 v(x, t), t + h/2)."""

    Config = MidpointConfig
    summary = "explicit midpoint method, order 2"

    def solve(self, problem: Problem) -> Solution:
        if problem.nfe % 2:
            raise ConfigError(f"The midpoint method takes two evaluations a step, so nfe {problem.nfe} must be even.")
        x, times = problem.noise, time_grid(problem.nfe // 2, shift=self.config.shift)
        for now, after in pairwise(times):
            h = after - now
            middle = x + h / 2 * problem.velocity(x, now)
            x = x + h * problem.velocity(middle, now + h / 2)
        return Solution(x, problem.nfe)
