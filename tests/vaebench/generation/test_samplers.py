"""Samplers on Gaussian data, whose velocity field and law at every time are known exactly."""

import math
from itertools import pairwise

import pytest
import torch

from vaebench.core.errors import ConfigError, MissingDependency
from vaebench.generation import samplers
from vaebench.generation.interpolants import INTERPOLANTS
from vaebench.generation.samplers import dopri5, euler, euler_maruyama, heun, time_grid

MEAN, STD = 1.5, 0.5


def exact(name: str):
    """Velocity of the flow to N(MEAN, STD^2)."""
    interpolant = INTERPOLANTS[name]

    def velocity(x, t):
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = interpolant.alpha(time), interpolant.sigma(time)
        residual = (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        data, noise = MEAN + alpha * STD**2 * residual, sigma * residual
        return interpolant.alpha_dot(time) * data + interpolant.sigma_dot(time) * noise

    return velocity


START = torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1)
END = MEAN + STD * START  # the flow between Gaussians is affine

both = pytest.mark.parametrize("name", list(INTERPOLANTS))


@both
@pytest.mark.parametrize(("method", "order"), [(euler, 1), (heun, 2)])
def test_order_of_convergence(name, method, order):
    errors = [float((method(exact(name), START, time_grid(n)).state - END).abs().max()) for n in (64, 128)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)
    assert errors[1] < 0.02


@both
def test_dopri5_reaches_the_exact_law_and_counts(name):
    calls = []

    def velocity(x, t):
        calls.append(t)
        return exact(name)(x, t)

    solution = dopri5(velocity, START, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(solution.state, END, rtol=1e-6, atol=1e-6)
    assert solution.nfe == len(calls)
    assert all(isinstance(t, float) for t in calls)


@pytest.mark.parametrize("end", [1.0, 0.7])
@pytest.mark.parametrize("velocity", [exact("linear"), lambda x, t: 1e-3 * x], ids=["gaussian", "nearly still"])
def test_dopri5_never_looks_beyond_the_end(velocity, end):
    times = []

    def watched(x, t):
        times.append(t)
        return velocity(x, t)

    dopri5(watched, START, end=end)
    assert end - 1e-12 < max(times) <= end


def test_dopri5_without_torchdiffeq(monkeypatch):
    def missing(module, extra):
        raise MissingDependency(f"{module} {extra}")

    monkeypatch.setattr(samplers, "import_optional", missing)
    with pytest.raises(MissingDependency, match="torchdiffeq ode"):
        dopri5(exact("linear"), START)


@pytest.mark.parametrize(("method", "nfe"), [(euler, 10), (heun, 20)])
def test_nfe_is_exact_and_dtype_kept(method, nfe):
    calls = []

    def velocity(x, t):
        calls.append(t)
        return x

    solution = method(velocity, START.float(), time_grid(10))
    assert solution.nfe == len(calls) == nfe
    assert solution.state.dtype == torch.float32
    assert calls[0] == 0


def normal_noise(shape, seed):
    return lambda step: torch.randn(shape, generator=torch.Generator().manual_seed(seed + step), dtype=torch.float64)


@both
@pytest.mark.parametrize("form", ["sigma", "constant", "linear", "decreasing", "increasing-decreasing"])
def test_sde_with_the_exact_score_keeps_the_marginals(name, form):
    n = 20_000
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = time_grid(100, end=0.96)
    solution = euler_maruyama(
        exact(name), x, times, INTERPOLANTS[name], normal_noise((n, 1), 1), form, last_step="none"
    )
    t = torch.tensor(0.96, dtype=torch.float64)
    alpha, sigma = INTERPOLANTS[name].alpha(t), INTERPOLANTS[name].sigma(t)
    assert float(solution.state.mean()) == pytest.approx(float(alpha) * MEAN, abs=0.02)
    assert float(solution.state.std()) == pytest.approx(float(torch.sqrt(alpha**2 * STD**2 + sigma**2)), rel=0.04)
    assert solution.nfe == 100
    assert abs(float(torch.corrcoef(torch.cat([x, solution.state], 1).T)[0, 1])) < 0.999  # noise did enter


@pytest.mark.parametrize("last_step", ["mean", "euler", "tweedie"])
def test_last_step_ends_near_the_data(last_step):
    n = 20_000
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    linear, calls = INTERPOLANTS["linear"], []

    def velocity(x, t):
        calls.append(t)
        return exact("linear")(x, t)

    times = time_grid(100, end=0.96)
    solution = euler_maruyama(velocity, x, times, linear, normal_noise((n, 1), 1), last_step=last_step)
    assert solution.nfe == len(calls) == 101
    assert calls[-1] == 0.96
    assert float(solution.state.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(solution.state.std()) == pytest.approx(STD, rel=0.05)


def test_sde_without_diffusion_is_euler():
    noise = normal_noise(START.shape, 0)
    sde = euler_maruyama(
        exact("linear"), START, time_grid(10), INTERPOLANTS["linear"], noise, norm=0.0, last_step="none"
    )
    assert torch.equal(sde.state, euler(exact("linear"), START, time_grid(10)).state)


def test_sbdm_is_refused_at_its_singularity_and_works_after_it():
    noise, linear = normal_noise(START.shape, 0), INTERPOLANTS["linear"]
    with pytest.raises(ConfigError, match="infinite at t = 0"):
        euler_maruyama(exact("linear"), START, time_grid(10, end=0.96), linear, noise, "sbdm")
    later = euler_maruyama(exact("linear"), START, [0.2, 0.5, 0.96], linear, noise, "sbdm")
    assert later.state.isfinite().all()


def test_noisy_steps_must_leave_a_last_step():
    with pytest.raises(ConfigError, match="reach t = 1"):
        euler_maruyama(exact("linear"), START, time_grid(4), INTERPOLANTS["linear"], normal_noise(START.shape, 0))


def test_time_grid():
    assert time_grid(4) == [0, 0.25, 0.5, 0.75, 1]
    shifted = time_grid(10, shift=0.3)
    assert shifted[0] == 0
    assert shifted[-1] == 1
    assert shifted[5] == pytest.approx(0.15 / 0.65)
    assert all(a < b for a, b in pairwise(shifted))
