"""The published way of sampling, and half precision, on a toy of two classes."""

import numpy as np
import pytest
import torch

from vaebench.generation.sample import SamplerConfig, choose_labels, generate_latents
from vaebench.generation.training import ArrayLatents, SiTTrainingConfig, train_sit
from vaebench.tokenizers.base import TokenizerSpec
from vaebench.training.step import make_accelerator

SPEC = TokenizerSpec(name="toy", method="toy", f=16, d=2, checkpoint_hash="abc")
SETTINGS = {
    "network": {"width": 32, "depth": 2, "heads": 2}, "batch_size": 32, "learning_rate": 2e-3, "log_every": 50,
    "tensorboard": False, "ema_decay": 0.98, "checkpoint_seconds": None, "gradient_clip": 1.0,
}  # fmt: skip


def toy() -> ArrayLatents:
    """Class 0 lies at -3, class 1 at 3."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    means = (6.0 * labels - 3).reshape(-1, 1, 1, 1) + 0.3 * rng.standard_normal((64, 2, 2, 2))
    return ArrayLatents(means.astype(np.float32), np.full(means.shape, 0.1, np.float32), labels, "toy")


def train(folder, steps=200, mixed_precision="no"):
    config = SiTTrainingConfig(**SETTINGS, steps=steps, mixed_precision=mixed_precision)
    return train_sit(toy(), SPEC, config, folder, make_accelerator("cpu", mixed_precision))


@pytest.fixture(scope="module")
def sit(tmp_path_factory):
    return train(tmp_path_factory.mktemp("sit"))


def test_published_sampler_takes_250_evaluations_and_guides_within_the_interval(sit):
    """Euler-Maruyama, 250 NFE, CFG 2.5 off near the noise: REPA's [0, 0.75], whose time runs from the data."""
    config = SamplerConfig(
        method="sde", nfe=250, diffusion="sigma", last_step="mean", last_step_size=0.04, cfg=2.5,
        cfg_interval=(0.25, 1.0), float64_state=True,
    )  # fmt: skip
    seen: list[tuple[float, int]] = []
    handle = sit.network.register_forward_pre_hook(
        lambda module, inputs: seen.append((float(inputs[1][0]), len(inputs[0])))
    )
    labels = choose_labels(8, 2)
    try:
        found = generate_latents(sit, np.arange(8), labels, config, batch_size=8)
    finally:
        handle.remove()
    assert found.nfe == len(seen) == 250
    times = np.array([time for time, _ in seen])
    # 249 noisy steps from 0 to 0.96, then the last one from there.
    np.testing.assert_allclose(times, np.linspace(0, 0.96, 250), atol=1e-6)
    assert all(size == (16 if time >= 0.25 else 8) for time, size in seen)
    assert found.latents.dtype == torch.float32
    assert (np.sign(found.latents.mean((1, 2, 3)).numpy()) == 2 * labels - 1).all()


def test_without_a_last_step_the_noisy_ones_go_all_the_way(sit):
    seen: list[float] = []
    handle = sit.network.register_forward_pre_hook(lambda module, inputs: seen.append(float(inputs[1][0])))
    try:
        config = SamplerConfig(method="sde", nfe=10, last_step="none")
        found = generate_latents(sit, np.arange(8), choose_labels(8, 2), config)
    finally:
        handle.remove()
    assert found.nfe == 10
    np.testing.assert_allclose(seen, np.linspace(0, 0.9, 10), atol=1e-6)
    assert config.sde_times[-1] == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_runs_the_network_alone(sit, precision):
    ids, labels = np.arange(8), choose_labels(8, 2)
    kinds: set[torch.dtype] = set()
    linear = next(module for module in sit.network.modules() if isinstance(module, torch.nn.Linear))
    single = generate_latents(sit, ids, labels, SamplerConfig(nfe=20, cfg=1.5)).latents
    handle = linear.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    try:
        half = generate_latents(sit, ids, labels, SamplerConfig(nfe=20, cfg=1.5, mixed_precision=precision)).latents
    finally:
        handle.remove()
    assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert half.dtype == torch.float32
    assert not torch.equal(half, single)
    torch.testing.assert_close(half, single, rtol=0, atol=0.1 if precision == "bf16" else 0.02)


def test_precision_enters_the_protocol_only_where_it_is_asked_for():
    assert "mixed_precision" not in SamplerConfig().model_dump(mode="json")
    assert SamplerConfig(mixed_precision="bf16").model_dump(mode="json")["mixed_precision"] == "bf16"
    with pytest.raises(ValueError, match="mixed_precision"):
        SamplerConfig(mixed_precision="fp8")  # type: ignore[arg-type]


def test_training_under_bf16_keeps_single_weights_and_follows_single_precision(tmp_path):
    single, half, start = (
        dict(train(tmp_path / name, steps, "bf16" if name == "bf16" else "no").network.named_parameters())
        for name, steps in (("no", 20), ("bf16", 20), ("start", 1))
    )
    assert all(weight.dtype == torch.float32 for weight in half.values())
    apart = sum((half[name] - single[name]).square().sum() for name in half).sqrt()
    travelled = sum((single[name] - start[name]).square().sum() for name in half).sqrt()
    assert 0 < apart < 0.3 * travelled
