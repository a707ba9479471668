"""The fused operations against the plain formulas and autograd."""

import pytest
import torch
import torch.nn.functional as F

from vaebench.generation import fused


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


@pytest.mark.parametrize("block", [7, 40, 2**21])
def test_gelu_linear(block, monkeypatch):
    monkeypatch.setattr(fused, "_IN_CACHE", block)
    hidden, weight, bias = draw(2, 6, 8), draw(5, 8, seed=1), draw(5, seed=2)
    plain = F.linear(F.gelu(hidden, approximate="tanh"), weight, bias)
    agree(fused.gelu_linear(hidden, weight, bias), plain, (hidden, weight, bias), 1e-5, 1e-5)


def test_gelu_linear_far_from_zero():
    hidden = torch.tensor([[-200.0, -30.0, -5.0, 5.0, 30.0, 200.0]]).requires_grad_()
    weight, bias = torch.eye(6).requires_grad_(), torch.zeros(6).requires_grad_()
    plain = F.linear(F.gelu(hidden, approximate="tanh"), weight, bias)
    agree(fused.gelu_linear(hidden, weight, bias), plain, (hidden, weight, bias), 1e-5, 1e-6)


def test_other_precisions_take_the_plain_formulas(tokens):
    x, shift, scale = (value.detach().double().requires_grad_() for value in tokens)
    assert torch.autograd.gradcheck(fused.modulated_norm, (x, shift, scale))
    assert torch.autograd.gradcheck(
        fused.gated_sum, (x, shift, draw(3, 5, 16, seed=3).detach().double().requires_grad_())
    )


def test_gradients_may_be_asked_for_twice():
    hidden, weight, bias = draw(2, 3, 8), draw(5, 8, seed=1), draw(5, seed=2)
    out = fused.gelu_linear(hidden, weight, bias).sum()
    first = torch.autograd.grad(out, hidden, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(out, hidden)[0], first)
