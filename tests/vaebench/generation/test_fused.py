"""The fused operations against the plain formulas and autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vaebench.generation import fused

pytestmark = pytest.mark.usefixtures("product_library")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def agree(ours, plain, inputs, rtol=1e-4, atol=1e-4):
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(ours, plain, rtol=rtol, atol=atol)
    for a, b in zip(torch.autograd.grad(ours, inputs, weight), torch.autograd.grad(plain, inputs, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.fixture
def tokens():
    return draw(3, 5, 16), draw(3, 1, 16, seed=1), draw(3, 1, 16, seed=2)


def test_modulated_norm(tokens):
    x, shift, scale = tokens
    plain = F.layer_norm(x, (16,), eps=1e-6) * (1 + scale) + shift
    agree(fused.modulated_norm(x, shift, scale), plain, tokens)


def test_modulated_norm_of_strided_inputs(tokens):
    _, shift, scale = tokens
    x = draw(3, 16, 5).transpose(1, 2)
    plain = F.layer_norm(x, (16,), eps=1e-6) * (1 + scale) + shift
    agree(fused.modulated_norm(x, shift, scale), plain, (x, shift, scale))


def test_gated_sum(tokens):
    x, gate, _ = tokens
    branch = draw(3, 5, 16, seed=3)
    agree(fused.gated_sum(x, gate, branch), x + gate * branch, (x, gate, branch))


def mlp(width: int, hidden: int, out: int) -> tuple[nn.Linear, nn.Linear]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(width, hidden), nn.Linear(hidden, out)


def agree_mlp(x, expand, contract, atol):
    inputs = (x, *expand.parameters(), *contract.parameters())
    plain = contract(F.gelu(expand(x), approximate="tanh"))
    agree(fused.gelu_mlp(x, expand, contract), plain, inputs, 1e-5, atol)


@pytest.mark.parametrize("block", [7, 40, 2**21])
def test_gelu_mlp(block, monkeypatch):
    monkeypatch.setattr(fused, "_IN_CACHE", block)
    agree_mlp(draw(2, 6, 4), *mlp(4, 8, 5), 1e-5)


def test_gelu_mlp_without_gradients():
    x, (expand, contract) = draw(2, 6, 4), mlp(4, 8, 5)
    expected = fused.gelu_mlp(x, expand, contract)
    with torch.no_grad():
        assert torch.equal(fused.gelu_mlp(x, expand, contract), expected)


def test_gelu_mlp_far_from_zero():
    # In float64, as tanh near -1 loses the digits that count here.
    x, (expand, contract) = torch.tensor([[-200.0, -30.0, -5.0, 5.0, 30.0, 200.0]]).requires_grad_(), mlp(6, 6, 6)
    with torch.no_grad():
        for layer in (expand, contract):
            layer.weight.copy_(torch.eye(6))
            layer.bias.zero_()
    exact = x.detach().double().requires_grad_()
    ours, plain = fused.gelu_mlp(x, expand, contract), F.gelu(exact, approximate="tanh")
    torch.testing.assert_close(ours.double(), plain, rtol=1e-5, atol=1e-6)
    slopes = (torch.autograd.grad(value.sum(), at)[0].double() for value, at in ((ours, x), (plain, exact)))
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)


def test_other_precisions_take_the_plain_formulas(tokens):
    x, shift, scale = (value.detach().double().requires_grad_() for value in tokens)
    assert torch.autograd.gradcheck(fused.modulated_norm, (x, shift, scale))
    assert torch.autograd.gradcheck(
        fused.gated_sum, (x, shift, draw(3, 5, 16, seed=3).detach().double().requires_grad_())
    )


def test_gradients_may_be_asked_for_twice():
    x, (expand, contract) = draw(2, 3, 4), mlp(4, 8, 5)
    out = fused.gelu_mlp(x, expand, contract).sum()
    first = torch.autograd.grad(out, x, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(out, x)[0], first)
