import copy
import math

import pytest
import torch
import torch.nn.functional as F

from vaebench.core.errors import ConfigError, UnknownName
from vaebench.generation.sit import (
    PRESETS,
    SiT,
    SiTConfig,
    drop_labels,
    forward_flops,
    sincos_positions,
    sit_config,
    time_features,
    training_flops,
)


def small(**changes) -> SiT:
    values = {"width": 32, "depth": 2, "heads": 4, "patch": 2, "in_channels": 3, "grid": (4, 6), "num_classes": 5}
    return SiT(SiTConfig(**{**values, **changes}), torch.Generator().manual_seed(0))


def randomised(network: SiT) -> SiT:
    """Without the zeros of adaLN-Zero, which would hide most of the network."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1, generator=generator)
    return network


def inputs(n: int = 3):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(n, 3, 4, 6, generator=generator)
    return x, torch.rand(n, generator=generator), torch.arange(n) % 6


@pytest.mark.parametrize(("size", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_parameter_counts_are_the_published_ones(size, millions):
    with torch.device("meta"):
        network = SiT(sit_config(f"SiT-{size}/2", 4, (32, 32), 1000))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_grid(name):
    assert sit_config(name, 4, (8, 8), 10).tokens == (8 // PRESETS[name]["patch"]) ** 2


def test_published_gflops():
    # SiT paper, table 1: 6.06, 23.01, 80.71, 118.64 for S to XL at patch 2, where one multiply-add is one.
    for size, published in (("S", 6.06), ("B", 23.01), ("L", 80.71), ("XL", 118.64)):
        config = sit_config(f"SiT-{size}/2", 4, (32, 32), 1000)
        assert forward_flops(config) / 2e9 == pytest.approx(published, rel=0.005)


def test_training_flops_agree_with_torch_counter():
    from torch.utils.flop_counter import FlopCounterMode

    network = small().to("meta")  # off the CPU, whose fused operations the counter does not see into
    x, t, labels = (value.to("meta") for value in inputs())
    with FlopCounterMode(display=False) as counter:
        network(x, t, labels).velocity.sum().backward()
    # The counter leaves out nothing of ours but the gradients of the inputs, which no one asks for.
    linear = training_flops(network.config, 3, "linear")
    assert 0.9 * linear <= counter.get_total_flops() <= 1.1 * training_flops(network.config, 3)


def test_first_velocity_is_zero_and_initialisation_as_published():
    network = small(width=64, depth=3)
    assert not network(*inputs()).velocity.any()
    assert not network.modulation.weight.any()
    assert not network.output.weight.any()
    for weight in (network.labels.weight, network.time[0].weight, network.time[2].weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.15)
    qkv = network.blocks[0].qkv
    bound = math.sqrt(6 / (64 + 3 * 64))
    assert qkv.weight.abs().max().item() <= bound
    assert qkv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))


def test_initialisation_is_a_function_of_the_generator():
    first, second = (small().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def reference_forward(network: SiT, x, t, labels):
    """The published network, step by step, from the same weights."""
    cfg, w = network.config, network.state_dict()
    n, p, d = len(x), cfg.patch, cfg.width
    kernel = w["patches.weight"].view(d, cfg.in_channels, p, p)
    tokens = F.conv2d(x, kernel, w["patches.bias"], stride=p).flatten(2).transpose(1, 2)
    tokens = tokens + sincos_positions(d, (x.shape[2] // p, x.shape[3] // p))
    frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    angles = t[:, None] * frequencies
    c = F.linear(torch.cat([angles.cos(), angles.sin()], 1), w["time.0.weight"], w["time.0.bias"])
    c = F.linear(F.silu(c), w["time.2.weight"], w["time.2.bias"]) + w["labels.weight"][labels]
    ada = F.linear(F.silu(c), w["modulation.weight"], w["modulation.bias"])

    def norm(x):
        return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-6)

    for i in range(cfg.depth):
        parts = ada[:, 6 * i * d : 6 * (i + 1) * d].chunk(6, dim=1)
        shift1, scale1, gate1, shift2, scale2, gate2 = (part.unsqueeze(1) for part in parts)
        h = norm(tokens) * (1 + scale1) + shift1
        h = F.linear(h, w[f"blocks.{i}.qkv.weight"], w[f"blocks.{i}.qkv.bias"])
        q, k, v = h.reshape(n, -1, 3, cfg.heads, d // cfg.heads).permute(2, 0, 3, 1, 4)
        h = ((q @ k.transpose(-2, -1)) / math.sqrt(d // cfg.heads)).softmax(-1) @ v
        h = h.transpose(1, 2).reshape(n, -1, d)
        tokens = tokens + gate1 * F.linear(h, w[f"blocks.{i}.projection.weight"], w[f"blocks.{i}.projection.bias"])
        h = norm(tokens) * (1 + scale2) + shift2
        h = F.linear(h, w[f"blocks.{i}.expand.weight"], w[f"blocks.{i}.expand.bias"])
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        tokens = tokens + gate2 * F.linear(h, w[f"blocks.{i}.contract.weight"], w[f"blocks.{i}.contract.bias"])
    shift, scale = (part.unsqueeze(1) for part in ada[:, 6 * cfg.depth * d :].chunk(2, dim=1))
    out = F.linear(norm(tokens) * (1 + scale) + shift, w["output.weight"], w["output.bias"])
    out = out.view(n, x.shape[2] // p, x.shape[3] // p, p, p, cfg.in_channels)
    return torch.einsum("nhwpqc->nchpwq", out).reshape(x.shape)


@pytest.mark.parametrize("patch", [1, 2])
def test_agrees_with_the_published_formulas_written_out(patch):
    network = randomised(small(patch=patch))
    torch.testing.assert_close(network(*inputs()).velocity, reference_forward(network, *inputs()), rtol=1e-4, atol=1e-4)


def test_positions_put_the_column_first():
    positions = sincos_positions(16, (2, 3)).view(2, 3, 16)
    assert torch.equal(positions[0, :, :8], positions[1, :, :8])  # first half: column only
    assert torch.equal(positions[:, 0, 8:], positions[:, 2, 8:])  # second half: row only
    torch.testing.assert_close(positions[0, 2, :4], torch.sin(2 * 10000.0 ** -(torch.arange(4) / 4)))
    torch.testing.assert_close(positions[1, 0, 12:], torch.cos(10000.0 ** -(torch.arange(4) / 4)))


def test_time_features_are_cosines_then_sines():
    features = time_features(torch.tensor([0.0, 1.0]))
    assert torch.equal(features[0], torch.cat([torch.ones(128), torch.zeros(128)]))
    assert float(features[1, 0]) == pytest.approx(math.cos(1))
    assert float(features[1, 128]) == pytest.approx(math.sin(1))


def test_tap_gives_the_tokens_after_that_block():
    plain, tapped = randomised(small()), randomised(small(tap=1))
    first = tapped(*inputs())
    assert torch.equal(tapped.tapped(*inputs()), first.tokens)
    with pytest.raises(ValueError, match="no tap"):
        plain.tapped(*inputs())
    assert plain(*inputs()).tokens is None
    assert first.tokens.shape == (3, 6, 32)
    assert torch.equal(first.velocity, plain(*inputs()).velocity)
    tapped.blocks[1].contract.bias.data.add_(1)
    assert torch.equal(tapped(*inputs()).tokens, first.tokens)


def test_samples_do_not_touch_each_other():
    network, (x, t, labels) = randomised(small()), inputs()
    whole = network(x, t, labels).velocity
    torch.testing.assert_close(network(x[1:2], t[1:2], labels[1:2]).velocity, whole[1:2])


def test_label_dropout_rate():
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(3))
    dropped = drop_labels(torch.zeros(100_000, dtype=torch.long), uniform, 0.1, 7)
    assert set(dropped.tolist()) == {0, 7}
    assert float((dropped == 7).float().mean()) == pytest.approx(0.1, abs=0.004)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="patch 8 does not divide"):
        sit_config("SiT-S/8", 4, (4, 4), 10)
    with pytest.raises(ConfigError, match="multiple of 4 and of heads"):
        sit_config("nano", 4, (4, 4), 10, heads=5)
    with pytest.raises(ConfigError, match="beyond the last"):
        sit_config("nano", 4, (4, 4), 10, tap=40)
    with pytest.raises(UnknownName, match="SiT-XL/2"):
        sit_config("SiT-XXL/2", 4, (4, 4), 10)
    with pytest.raises(ConfigError, match="widht"):
        sit_config("nano", 4, (4, 4), 10, widht=64)


@pytest.mark.parametrize("block", [{}, {"norm": "rms", "mlp": "swiglu", "rope": True}], ids=["sit", "lightning"])
def test_compiles_into_one_graph_of_plain_formulas(block, product_library):
    # PyTorch's compiler to C++ fails on the products that eager networks take from oneDNN.
    network, (x, t, labels) = randomised(small(**block)), inputs()
    called = []

    def backend(graph, example_inputs):
        called.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compiler.reset()  # or the graph of another case would do
    compiled = torch.compile(copy.deepcopy(network), backend=backend, fullgraph=True)
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    for one in (network, compiled):
        F.mse_loss(one(x, t, labels).velocity, target).backward()
    assert called
    assert not [name for name in called if "autograd_function" in name or "mkldnn" in name]
    torch.testing.assert_close(compiled(x, t, labels).velocity, network(x, t, labels).velocity)
    for (name, ours), theirs in zip(network.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)
