import numpy as np
import pytest
import torch
from torch.nn import functional

from sendvae.mapper import Mapper, default_width


def make(depth: int = 1, patch_size: int = 1, projector_layers: int = 3) -> Mapper:
    torch.manual_seed(0)
    return Mapper(
        8,
        (4, 6),
        20,
        depth=depth,
        width=32,
        heads=4,
        patch_size=patch_size,
        projector_layers=projector_layers,
        projector_hidden=24,
    )


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("patch_size", [1, 2])
def test_shapes_and_gradients(depth: int, patch_size: int) -> None:
    mapper = make(depth, patch_size)
    latents = torch.randn(3, 8, 4, 6, requires_grad=True)
    predicted = mapper(latents)
    assert predicted.shape == (3, 20, 4 // patch_size, 6 // patch_size)
    predicted.square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert all(p.grad is not None for p in mapper.parameters())
    assert len(mapper.layers) == depth


def test_only_attention_mixes_patches() -> None:
    latents = torch.randn(1, 8, 4, 6)
    changed = latents.clone()
    changed[:, :, 0, 0] += 1
    for depth in (0, 1):
        mapper = make(depth)
        moved = (mapper(latents) - mapper(changed)).abs().amax(1)[0] > 1e-6
        assert moved[0, 0]
        assert bool(moved.all()) == (depth > 0)


def test_forward_against_plain_mathematics() -> None:
    mapper = make(depth=1, projector_layers=2)
    x = torch.randn(2, 8, 4, 6)
    with torch.no_grad():
        layer, attention = mapper.layers[0], mapper.layers[0].self_attn
        weight = mapper.embedding.weight[:, :, 0, 0]
        tokens = x.flatten(2).transpose(1, 2) @ weight.T + mapper.embedding.bias + mapper.positions
        normed = functional.layer_norm(tokens, (32,), layer.norm1.weight, layer.norm1.bias, 1e-6)
        q, k, v = (
            (normed @ attention.in_proj_weight.T + attention.in_proj_bias).view(2, 24, 3, 4, 8).permute(2, 0, 3, 1, 4)
        )
        mixed = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v
        tokens = tokens + attention.out_proj(mixed.transpose(1, 2).reshape(2, 24, 32))
        normed = functional.layer_norm(tokens, (32,), layer.norm2.weight, layer.norm2.bias, 1e-6)
        tokens = tokens + layer.linear2(functional.gelu(layer.linear1(normed)))
        expected = (
            mapper.projector[2](functional.silu(mapper.projector[0](tokens))).transpose(1, 2).reshape(2, 20, 4, 6)
        )
        torch.testing.assert_close(mapper(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mapper.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_positions_against_a_loop() -> None:
    positions = make().positions.numpy()
    frequencies = [10000.0 ** (-k / 8) for k in range(8)]
    for row in range(4):
        for column in range(6):
            expected = [wave(place * w) for place in (column, row) for wave in (np.sin, np.cos) for w in frequencies]
            np.testing.assert_allclose(positions[row * 6 + column], expected, atol=1e-6)
    assert len(np.unique(positions.round(5), axis=0)) == 24


def test_default_width_gives_the_papers_heads() -> None:
    assert [default_width(channels) for channels in (768, 1024, 320, 40)] == [768, 1024, 320, 64]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_projector_layers(layers: int) -> None:
    projector = make(projector_layers=layers).projector
    linear = [module for module in projector if isinstance(module, torch.nn.Linear)]
    assert len(linear) == layers
    assert len(projector) == 2 * layers - 1
