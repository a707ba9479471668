import pytest
import torch
from torch import nn
from torch.nn import functional

from vaebench.training.losses import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    ramp,
    reconstruction_loss,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_reconstruction_loss_by_kind_and_reduction(generator):
    a, b = torch.randn(2, 5, 3, 4, 4, generator=generator)
    torch.testing.assert_close(reconstruction_loss(a, b), functional.l1_loss(a, b))
    torch.testing.assert_close(reconstruction_loss(a, b, "mse"), functional.mse_loss(a, b))
    summed = functional.l1_loss(a, b, reduction="sum") / 5
    torch.testing.assert_close(reconstruction_loss(a, b, "l1", "sum"), summed)
    torch.testing.assert_close(summed, 48 * functional.l1_loss(a, b))


def test_reconstruction_loss_of_half_precision_is_single(generator):
    a = torch.randn(2, 3, 4, 4, generator=generator).bfloat16()
    assert reconstruction_loss(a, a).dtype == torch.float32


def test_hinge_losses():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 3.0])
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(0.5 * (2.5 / 3 + 5 / 3))
    assert hinge_generator_loss(fake).item() == pytest.approx(-1 / 3)


def test_adaptive_weight_equals_the_ratio_of_gradient_norms(generator):
    layer = nn.Conv2d(2, 3, 1)
    inputs = torch.randn(4, 2, 5, 5, generator=generator)
    outputs = layer(inputs)
    reference, loss = outputs.square().sum(), outputs.abs().mean()
    weight = adaptive_weight(reference, loss, layer.weight, scale=0.1, maximum=1e8)
    # By hand: d reference / d w = sum 2 y x, d loss / d w = mean sign(y) x.
    by_hand_reference = torch.einsum("nohw,nihw->oi", 2 * outputs, inputs).norm()
    by_hand_loss = torch.einsum("nohw,nihw->oi", outputs.sign() / outputs.numel(), inputs).norm()
    torch.testing.assert_close(weight, 0.1 * by_hand_reference / (by_hand_loss + 1e-4))
    assert not weight.requires_grad
    assert layer.weight.grad is None
    (reference + weight * loss).backward()  # both graphs are still there


def test_adaptive_weight_is_clamped_before_it_is_scaled():
    parameter = torch.ones(3, requires_grad=True)
    weight = adaptive_weight(1e6 * parameter.sum(), 1e-8 * parameter.sum(), parameter, scale=0.5, maximum=1e4)
    assert weight.item() == 0.5 * 1e4
    assert adaptive_weight(0 * parameter.sum(), parameter.sum(), parameter, scale=0.5, maximum=1e4).item() == 0


def test_ramp():
    assert [ramp(step, 2, 4) for step in range(8)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [ramp(step, 2, 0) for step in range(4)] == [0, 0, 1, 1]
