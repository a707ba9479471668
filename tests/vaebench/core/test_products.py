"""Products of either library against float64, and which library which processor gets."""

import pytest
import torch
from torch import nn

from vaebench.core import products


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (7, 5, 3), (33, 64, 130)])
def test_matmul(product_library, m, k, n, transposed, biased):
    a = draw(k, m).t() if "a" in transposed else draw(m, k)
    b = draw(n, k, seed=1).t() if "b" in transposed else draw(k, n, seed=1)
    bias = draw(n, seed=2) if biased else None
    expected = (a.double() @ b.double() + (0 if bias is None else bias.double())).float()
    out = torch.full((m, n), torch.nan)
    torch.testing.assert_close(products.matmul(a, b, bias), expected, rtol=1e-5, atol=1e-5)
    products.matmul(a, b, bias, out=out)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", [(6, 8), (3, 5, 8), (0, 8)])
def test_linear_and_its_gradients(product_library, shape, biased):
    layer = nn.Linear(8, 4, bias=biased)
    x, weight = draw(*shape).requires_grad_(), draw(*shape[:-1], 4, seed=3)
    doubled = nn.Linear(8, 4, bias=biased).double()
    doubled.load_state_dict(layer.state_dict())
    y = x.detach().double().requires_grad_()
    ours, expected = products.linear(x, layer), doubled(y)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(ours, [x, *layer.parameters()], weight)
    of_expected = torch.autograd.grad(expected, [y, *doubled.parameters()], weight.double())
    for gradient, reference in zip(gradients, of_expected, strict=True):
        torch.testing.assert_close(gradient, reference.float(), rtol=1e-5, atol=1e-5)


def test_linear_of_strided_input_without_gradients(product_library):
    layer, x = nn.Linear(8, 4), draw(3, 8, 5).transpose(1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(products.linear(x, layer), layer(x.contiguous()), rtol=1e-5, atol=1e-5)


def test_other_precisions_are_the_layers_own(monkeypatch):
    monkeypatch.setattr(products, "prefer_onednn", lambda: True)
    layer, x = nn.Linear(8, 4), draw(3, 8)
    assert products.linear(x.double(), layer.double()).dtype == torch.float64
    layer = layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products.linear(x, layer).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("platform", "processor", "capability", "expected"),
    [
        ("linux", "vendor_id : AuthenticAMD", "AVX512", True),
        ("linux", "vendor_id : AuthenticAMD", "AVX2", False),
        ("linux", "vendor_id : GenuineIntel", "AVX512", False),
        ("darwin", "vendor_id : AuthenticAMD", "AVX512", False),
    ],
)
def test_which_processor_gets_onednn(monkeypatch, platform, processor, capability, expected):
    for library in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(library, "is_available", lambda: True)
    monkeypatch.setattr(products.sys, "platform", platform)
    monkeypatch.setattr(products, "_processor", lambda: processor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    products.prefer_onednn.cache_clear()
    assert products.prefer_onednn() is expected
    products.prefer_onednn.cache_clear()
