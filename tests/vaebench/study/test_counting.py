"""Counted operations against sums written out by hand from the layers' shapes."""

import pytest
import torch

from vaebench.generation.sit import forward_flops, sit_config, training_flops
from vaebench.stages.features import NetworkConfig
from vaebench.study.counting import (
    META,
    Work,
    count,
    count_coding,
    count_network,
    count_training_step,
    without_weights,
)
from vaebench.tokenizers import load_method
from vaebench.tokenizers.architecture import PRESETS
from vaebench.tokenizers.method import TeacherSpec
from vaebench.training.tokenizer_training import GanConfig, TokenizerTrainingConfig

NANO, SIZE = PRESETS["nano"], 32
TEACHER = TeacherSpec("t", 24, (4, 4))


def convolution(channels_in, channels_out, side, kernel=3):
    """A multiply-add is two operations."""
    return 2 * kernel**2 * channels_in * channels_out * side**2


def nano_encoder():
    # 32 x 32 in patches of 4 gives 8 x 8 of 48 channels; two blocks of 16, one halving; nothing but convolutions.
    first, last = 8, 4
    return (
        convolution(48, 16, first) + 2 * convolution(16, 16, first) + convolution(16, 16, last)  # block 1, halving
        + 2 * convolution(16, 16, last) + 4 * convolution(16, 16, last)  # block 2, middle
        + convolution(16, 16, last) + convolution(16, 16, last, kernel=1)  # to the moments, quantisation
    )  # fmt: skip


def nano_decoder():
    first, last = 8, 4
    return (
        convolution(8, 8, last, kernel=1) + convolution(8, 16, last) + 4 * convolution(16, 16, last)
        + 4 * convolution(16, 16, last) + convolution(16, 16, first)  # two residual blocks, doubling
        + 4 * convolution(16, 16, first) + convolution(16, 48, first)
    )  # fmt: skip


def tokenizer():
    return without_weights(None, NANO, SIZE)


def test_coding_against_the_sum_over_layers():
    counted = count_coding(tokenizer(), SIZE)
    assert counted.latent_shape == (8, 4, 4)
    assert counted.encode == Work(convolutions=nano_encoder())
    assert counted.decode == Work(convolutions=nano_decoder())


def test_a_tokenizer_with_weights_counts_the_same():
    from vaebench.tokenizers.autoencoder import build_autoencoder

    assert count_coding(build_autoencoder("nano", torch.Generator()), SIZE) == count_coding(tokenizer(), SIZE)


def test_any_tokenizer_can_be_counted():
    from vaebench.tokenizers import load_tokenizer

    counted = count_coding(load_tokenizer("dct?f=8&d=8"), 32)
    assert counted.latent_shape == (8, 4, 4)


def test_a_plain_step_is_three_passes_but_for_the_gradient_of_the_image():
    work, whole = count_training_step(load_method("kl-vae"), tokenizer(), SIZE, TokenizerTrainingConfig(), None)
    assert whole
    passes = 3 * (nano_encoder() + nano_decoder())
    assert work.total == passes - convolution(48, 16, 8)


def test_the_discriminator_and_lpips_add_their_passes():
    method, plain = load_method("kl-vae"), TokenizerTrainingConfig()

    def extra(**settings):
        config = TokenizerTrainingConfig(**settings)
        work = count_training_step(method, tokenizer(), SIZE, config, None)[0]
        return work.total - count_training_step(method, tokenizer(), SIZE, plain, None)[0].total

    # 4 x 4 kernels: 32 -> 16 -> 8 by strides, then 7 and 6 without.
    layers = [(3, 8, 16), (8, 16, 8), (16, 32, 7), (32, 1, 6)]
    forward = sum(convolution(a, b, side, kernel=4) for a, b, side in layers)
    first = convolution(*layers[0], kernel=4)
    gan = {"weight": 1.0, "adaptive": False, "channels": 8, "layers": 2}
    # The generator's pass and its gradient by the image; two passes of the discriminator's own step with gradients by
    # weights and, but for the first layer, by inputs.
    assert extra(gan=gan) == 2 * forward + 2 * (3 * forward - first)
    # Adaptive weights take the gradient at the decoder's last convolution once more: through the discriminator.
    assert extra(gan={**gan, "adaptive": True}) == pytest.approx(extra(gan=gan) + forward, rel=0.2)

    vgg = [(3, 64, 32), (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8), (256, 256, 8),
           (256, 512, 4), (512, 512, 4), (512, 512, 4), (512, 512, 2), (512, 512, 2), (512, 512, 2)]  # fmt: skip
    # Two images through the network, and the gradient by the reconstruction.
    assert extra(perceptual_weight=1.0) == 3 * sum(convolution(*layer) for layer in vgg)


def test_mixed_precision_moves_the_tokenizer_and_nothing_else():
    method = load_method("send-vae", {"width": 64, "projector_hidden": 32})
    gan = GanConfig(weight=1.0, channels=8, layers=2)
    full, _ = count_training_step(method, tokenizer(), SIZE, TokenizerTrainingConfig(gan=gan), TEACHER)
    mixed, _ = count_training_step(
        method, tokenizer(), SIZE, TokenizerTrainingConfig(gan=gan, mixed_precision="bf16"), TEACHER
    )
    assert mixed.total == full.total
    assert mixed.half == 3 * (nano_encoder() + nano_decoder()) - convolution(48, 16, 8)


def test_the_objective_is_counted():
    plain, _ = count_training_step(load_method("kl-vae"), tokenizer(), SIZE, TokenizerTrainingConfig(), None)
    method = load_method("send-vae", {"width": 64, "projector_hidden": 32, "depth": 0, "normalisation": "none"})
    work, whole = count_training_step(method, tokenizer(), SIZE, TokenizerTrainingConfig(), TEACHER)
    mapper = 2 * 16 * (8 * 64 + 64 * 32 + 32 * 32 + 32 * 24)
    assert whole
    assert work.total - plain.total == 3 * mapper


def test_every_method_that_trains_can_be_counted():
    from vaebench.core.errors import VaebenchError
    from vaebench.tokenizers import TOKENIZERS

    counted = set()
    for name in TOKENIZERS.names():
        try:
            method = load_method(name)
        except VaebenchError:  # a ready tokenizer
            continue
        if method.trainable:
            work, _ = count_training_step(
                method, without_weights(method, NANO, SIZE), SIZE, TokenizerTrainingConfig(), TEACHER
            )
            assert work.total > 0, name
            counted.add(name)
    assert {"kl-vae", "va-vae", "send-vae", "e2e-vae"} <= counted


def test_the_analytic_count_of_sit_is_torchs():
    from vaebench.generation.sit import SiT

    config = sit_config("SiT-B/1", 32, (16, 16), 1000, depth=2)
    with META:
        network = SiT(config)
    inputs = (
        torch.empty(1, 32, 16, 16, device=META),
        torch.empty(1, device=META),
        torch.zeros(1, dtype=int, device=META),
    )
    assert count(lambda: network(*inputs)).total == pytest.approx(forward_flops(config), rel=1e-6)
    counted = count(lambda: network(*inputs).velocity.sum().backward()).total
    assert counted == pytest.approx(training_flops(config, 1), rel=0.01)


def test_a_vision_transformer_against_the_sum_over_its_layers():
    options = {"model": "vit_base_patch14_dinov2.lvd142m", "input_size": 224}
    counted = count_network(NetworkConfig(name="timm", options=options))
    tokens, width = 257, 768
    block = 2 * tokens * 12 * width**2 + 4 * tokens**2 * width
    assert counted.work.total == pytest.approx(12 * block + 2 * 256 * 3 * 14**2 * width, rel=1e-3)
    assert counted.patches == (768, 16, 16)


def test_frozen_networks_without_and_with_their_weights():
    # 5.7 G multiply-adds, as published for Inception-v3.
    assert count_network(NetworkConfig(name="inception")).work.total == pytest.approx(2 * 5.7e9, rel=0.02)
    # 0.3 G for MobileNetV2 at 224, here at 96.
    assert count_network(NetworkConfig(name="mobilenetv2")).work.total == pytest.approx(
        2 * 0.3e9 * (96 / 224) ** 2, rel=0.05
    )
    assert (
        count_network(NetworkConfig(name="timm", options={"model": "test_vit.r160_in1k", "input_size": 64})) is not None
    )
