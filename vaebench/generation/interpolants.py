"""Interpolants between noise and data (Ma et al. 2024, "SiT: Exploring Flow and Diffusion-based Generative Models").

An interpolant draws a path  x_t = alpha(t) x + sigma(t) eps  from noise eps at t = 0 to data x at t = 1. The network
learns its velocity; the score follows from the velocity in closed form, so one network serves ODE and SDE samplers.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

InterpolantName = Literal["linear", "gvp"]


def expand_time(t: Tensor, x: Tensor) -> Tensor:
    """Reshape times (N,) to (N, 1, ..., 1) so that they broadcast over x (N, ...); a scalar passes unchanged."""
    return t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim else t


class Interpolant(ABC):
    """x_t = alpha(t) x + sigma(t) eps with alpha(0) = sigma(1) = 0 and alpha(1) = sigma(0) = 1.

    Every method takes times t in [0, 1], a scalar tensor or one per sample (N,); states are (N, ...).
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor: ...

    def interpolate(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha(t) x + sigma(t) eps."""
        t = expand_time(t, data)
        return self.alpha(t) * data + self.sigma(t) * noise

    def velocity(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The regression target d x_t / dt = alpha'(t) x + sigma'(t) eps; for the linear interpolant x - eps."""
        t = expand_time(t, data)
        return self.alpha_dot(t) * data + self.sigma_dot(t) * noise

    def _wronskian(self, t: Tensor) -> Tensor:
        """alpha' sigma - alpha sigma', the determinant of (x, eps) -> (x_t, velocity); positive on [0, 1]."""
        return self.alpha_dot(t) * self.sigma(t) - self.alpha(t) * self.sigma_dot(t)

    def data_from_velocity(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """E[data | x_t] = (sigma v - sigma' x_t) / (alpha' sigma - alpha sigma')."""
        t = expand_time(t, x)
        return (self.sigma(t) * velocity - self.sigma_dot(t) * x) / self._wronskian(t)

    def noise_from_velocity(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """E[noise | x_t] = (alpha' x_t - alpha v) / (alpha' sigma - alpha sigma')."""
        t = expand_time(t, x)
        return (self.alpha_dot(t) * x - self.alpha(t) * velocity) / self._wronskian(t)

    def score_from_velocity(self, velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x_t) = -E[noise | x_t] / sigma(t) (SiT, eq. 9); singular at t = 1 only."""
        return -self.noise_from_velocity(velocity, x, t) / self.sigma(expand_time(t, x))

    def velocity_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """v = (alpha' / alpha) x_t + sigma (alpha' sigma - alpha sigma') / alpha * score; singular at t = 0 only."""
        t = expand_time(t, x)
        return (self.alpha_dot(t) * x + self.sigma(t) * self._wronskian(t) * score) / self.alpha(t)


class Linear(Interpolant):
    """alpha = t, sigma = 1 - t (rectified flow)."""

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


class GVP(Interpolant):
    """Generalised variance-preserving: alpha = sin(pi t / 2), sigma = cos(pi t / 2), so alpha^2 + sigma^2 = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        # sin(pi (1 - t) / 2), not cos: exactly 0 at t = 1, so that data come back bit-equal.
        return torch.sin((1 - t) * (math.pi / 2))

    def alpha_dot(self, t: Tensor) -> Tensor:
        return (math.pi / 2) * self.sigma(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -(math.pi / 2) * self.alpha(t)


INTERPOLANTS: dict[InterpolantName, Interpolant] = {"linear": Linear(), "gvp": GVP()}
