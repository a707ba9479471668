"""The second backbone: LightningDiT's block against its formulas written out, and its size as published."""

import math

import pytest
import torch
import torch.nn.functional as F

from vaebench.core.errors import ConfigError
from vaebench.generation.guidance import guided_velocity
from vaebench.generation.sit import (
    Block,
    SiT,
    SiTConfig,
    forward_flops,
    rotary_angles,
    rotate,
    sit_config,
    training_flops,
)


def config(**changes) -> SiTConfig:
    shape = {"width": 48, "depth": 2, "heads": 4, "patch": 1, "in_channels": 3, "grid": (3, 4), "num_classes": 5}
    return SiTConfig(**{**shape, "norm": "rms", "mlp": "swiglu", "rope": True, **changes})


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return module


def test_published_sizes():
    # LightningDiT paper: XL has 675M parameters, and its SwiGLU is 3,072 wide.
    shape = sit_config("LightningDiT-XL/1", 32, (16, 16), 1000)
    assert shape.mlp_width == 3072
    with torch.device("meta"):
        network = SiT(shape)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == 675


@pytest.mark.parametrize("qk_norm", [False, True])
def test_block_agrees_with_its_formulas_written_out(qk_norm):
    shape = config(qk_norm=qk_norm)
    block = randomised(Block(shape))
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 12, 48, generator=generator)
    modulation = tuple(torch.randn(2, 1, 48, generator=generator) for _ in range(6))
    angles = rotary_angles(12, (3, 4))
    w = dict(block.named_parameters())

    def rms(x, scale):
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6) * scale

    shift, scale, gate, shift2, scale2, gate2 = modulation
    h = F.linear(rms(x, w["norms.0.weight"]) * (1 + scale) + shift, w["qkv.weight"], w["qkv.bias"])
    q, k, v = h.reshape(2, 12, 3, 4, 12).permute(2, 0, 3, 1, 4)
    if qk_norm:
        q, k = rms(q, w["qk_norms.0.weight"]), rms(k, w["qk_norms.1.weight"])
    turn = torch.polar(torch.ones_like(angles), angles)  # a rotation of pairs is a product of complex numbers
    q, k = (torch.view_as_real(torch.view_as_complex(y.unflatten(-1, (-1, 2)).contiguous()) * turn) for y in (q, k))
    q, k = q.flatten(-2), k.flatten(-2)
    mixed = ((q @ k.transpose(-1, -2)) / math.sqrt(12)).softmax(-1) @ v
    x1 = x + gate * F.linear(mixed.transpose(1, 2).reshape(2, 12, 48), w["projection.weight"], w["projection.bias"])
    h = rms(x1, w["norms.1.weight"]) * (1 + scale2) + shift2
    one, two = F.linear(h, w["expand.weight"], w["expand.bias"]).chunk(2, -1)
    expected = x1 + gate2 * F.linear(one * torch.sigmoid(one) * two, w["contract.weight"], w["contract.bias"])
    torch.testing.assert_close(block(x, modulation, (angles.cos(), angles.sin())), expected, rtol=1e-4, atol=1e-4)


def test_rotation_makes_products_depend_on_the_difference_of_places_alone():
    angles = rotary_angles(16, (5, 5))
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 16, generator=generator)

    def product(first: tuple[int, int], second: tuple[int, int]) -> float:
        i, j = (5 * row + column for row, column in (first, second))
        return float(
            (rotate(q, angles[[i]].cos(), angles[[i]].sin()) * rotate(k, angles[[j]].cos(), angles[[j]].sin())).sum()
        )

    assert product((0, 1), (2, 2)) == pytest.approx(product((1, 3), (3, 4)), rel=1e-5)
    assert product((0, 1), (2, 2)) != pytest.approx(product((0, 1), (2, 3)), rel=1e-3)


def test_rotation_starts_at_the_origin_and_keeps_lengths():
    angles = rotary_angles(16, (2, 3))
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, angles.cos(), angles.sin())
    assert torch.equal(turned[0], x[0])
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1))


def test_operations_agree_with_torch_counter():
    from torch.utils.flop_counter import FlopCounterMode

    network = SiT(config()).to("meta")
    inputs = torch.empty(3, 3, 3, 4, device="meta"), torch.empty(3, device="meta"), torch.zeros(3, device="meta").long()
    with FlopCounterMode(display=False) as counter:
        network(*inputs).velocity.sum().backward()
    linear = training_flops(network.config, 3, "linear")
    assert 0.9 * linear <= counter.get_total_flops() <= 1.1 * training_flops(network.config, 3)
    assert forward_flops(config()) != forward_flops(config(mlp="gelu", mlp_ratio=3))


def test_heads_that_cannot_turn_are_refused():
    with pytest.raises(ConfigError, match="heads of a multiple of 4"):
        sit_config("lightning-nano", 4, (4, 4), 10, width=24, heads=4)


def test_guiding_the_first_channels_only_leaves_the_others():
    def network(x, t, labels):
        return x + labels[:, None, None, None]

    x, labels = torch.zeros(2, 5, 1, 1), torch.tensor([1, 2])
    velocity = guided_velocity(network, labels, 0, scale=3.0, channels=3)(x, 0.5)
    assert velocity[:, :3].flatten(1).tolist() == [[3, 3, 3], [6, 6, 6]]
    assert velocity[:, 3:].flatten(1).tolist() == [[1, 1], [2, 2]]
