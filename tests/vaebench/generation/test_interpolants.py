import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaebench.generation.interpolants import INTERPOLANTS

names = pytest.mark.parametrize("name", list(INTERPOLANTS))
inner_time = st.floats(0.01, 0.99)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@names
def test_starts_at_noise_and_ends_at_data(name):
    interpolant = INTERPOLANTS[name]
    data, noise = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(interpolant.interpolate(data, noise, torch.zeros(3)), noise)
    assert torch.equal(interpolant.interpolate(data, noise, torch.ones(3)), data)


@names
@given(t=inner_time)
def test_derivatives_are_those_of_autograd(name, t):
    interpolant = INTERPOLANTS[name]
    time = number(t).requires_grad_()
    for value, derivative in ((interpolant.alpha, interpolant.alpha_dot), (interpolant.sigma, interpolant.sigma_dot)):
        (slope,) = torch.autograd.grad(value(time), time)
        torch.testing.assert_close(slope, derivative(time.detach()))


@given(t=st.floats(0, 1))
def test_gvp_preserves_variance(t):
    gvp = INTERPOLANTS["gvp"]
    assert float(gvp.alpha(number(t)) ** 2 + gvp.sigma(number(t)) ** 2) == pytest.approx(1)


def test_linear_target_is_data_minus_noise():
    data, noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(INTERPOLANTS["linear"].velocity(data, noise, torch.rand(5)), data - noise)


@names
@given(t=inner_time)
def test_velocity_gives_back_data_and_noise(name, t):
    interpolant = INTERPOLANTS[name]
    data, noise = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    times = torch.full((4,), t, dtype=torch.float64)
    x, v = interpolant.interpolate(data, noise, times), interpolant.velocity(data, noise, times)
    torch.testing.assert_close(interpolant.data_from_velocity(v, x, times), data)
    torch.testing.assert_close(interpolant.noise_from_velocity(v, x, times), noise)


@names
@given(t=inner_time)
def test_score_and_velocity_invert_each_other(name, t):
    interpolant = INTERPOLANTS[name]
    v, x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    score = interpolant.score_from_velocity(v, x, number(t))
    torch.testing.assert_close(interpolant.velocity_from_score(score, x, number(t)), v)


@names
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_score_is_the_gradient_of_the_log_density_of_gaussian_data(name, t):
    # Data N(m, s^2): x_t is N(alpha m, alpha^2 s^2 + sigma^2), and the velocity follows from linear regression.
    interpolant, (m, s), time = INTERPOLANTS[name], (1.5, 0.7), number(t)
    alpha, sigma = interpolant.alpha(time), interpolant.sigma(time)
    variance = alpha**2 * s**2 + sigma**2
    x = torch.linspace(-3, 3, 9, dtype=torch.float64).requires_grad_()
    log_density = torch.distributions.Normal(alpha * m, variance.sqrt()).log_prob(x)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    residual = (x.detach() - alpha * m) / variance
    data, noise = m + alpha * s**2 * residual, sigma * residual
    velocity = interpolant.alpha_dot(time) * data + interpolant.sigma_dot(time) * noise
    torch.testing.assert_close(interpolant.score_from_velocity(velocity, x.detach(), time), score)
