"""The start from frequencies against SciPy's cosine transform, and what it does not touch."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from skimage import data, transform

from vaebench.tokenizers.architecture import PRESETS, AutoencoderConfig
from vaebench.tokenizers.autoencoder import DiffusersTokenizer, build_autoencoder
from vaebench.tokenizers.frequency_start import AMPLITUDES, COLOURS, LOGVAR, frequencies

ARCHITECTURES = {
    "tiny": PRESETS["tiny"],
    "no change of width": AutoencoderConfig(
        block_out_channels=(16, 16), latent_channels=8, patch_size=4, layers_per_block=1, norm_num_groups=8,
    ),
    "pixels": AutoencoderConfig(
        block_out_channels=(32, 32, 64), latent_channels=12, norm_num_groups=8, lowest_attention=True,
    ),
    "one block": AutoencoderConfig(block_out_channels=(64,), latent_channels=16, patch_size=8, norm_num_groups=4),
}  # fmt: skip


def build(name: str, **changes) -> DiffusersTokenizer:
    config = ARCHITECTURES[name].model_copy(update={"frequency_start": True, **changes})
    return build_autoencoder(config, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    """64 x 64 photographs on the [-1, 1] scale."""
    found = [data.astronaut(), data.cat(), data.coffee(), data.chelsea(), data.rocket()]
    small = [transform.resize(image, (64, 64), anti_aliasing=True) for image in found]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() * 2 - 1


def coefficients(images: torch.Tensor, f: int, count: int) -> np.ndarray:
    """The ``count`` coefficients of largest expected amplitude of every patch, (patches, count), by SciPy."""
    n, _, height, width = images.shape
    patches = images.numpy().reshape(n, 3, height // f, f, width // f, f).transpose(0, 2, 4, 1, 3, 5)
    colours = np.array(COLOURS) / np.linalg.norm(COLOURS, axis=1, keepdims=True)
    transformed = dctn(np.einsum("kc,nabcyx->nabkyx", colours, patches), axes=(4, 5), norm="ortho")
    k = np.arange(f)
    amplitude = np.array(AMPLITUDES)[:, None, None] / (0.5 + np.hypot(k[:, None], k))
    order = np.argsort(-amplitude.ravel(), kind="stable")[:count]
    return transformed.reshape(-1, 3 * f * f)[:, order]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_latents_are_the_lowest_frequencies(name, photographs):
    tokenizer = build(name)
    with torch.inference_mode():
        posterior = tokenizer.encode(photographs)
    d = tokenizer.spec.d
    latents = posterior.mean.permute(0, 2, 3, 1).reshape(-1, d).numpy()
    expected = coefficients(photographs, tokenizer.spec.f, d)
    for j in range(d):
        # The last norm scales each group of channels by the image's contrast, the more so without constants.
        assert np.corrcoef(latents[:, j], expected[:, j])[0, 1] > (0.7 if "width" in name else 0.95), f"latent {j}"
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, float(np.exp(LOGVAR / 2))))
    assert 0.2 < latents.std() < 3


def test_latents_know_the_image_as_well_as_its_lowest_frequencies_do(photographs):
    tokenizer = build("tiny")
    with torch.inference_mode():
        latents = tokenizer.encode(photographs).mean.permute(0, 2, 3, 1).reshape(-1, 32).double().numpy()
    patches = photographs.reshape(-1, 3, 4, 16, 4, 16).permute(0, 2, 4, 1, 3, 5).reshape(-1, 768).double().numpy()

    def unexplained(known: np.ndarray) -> float:
        known = np.column_stack([known, np.ones(len(known))])
        return float(np.mean((patches - known @ np.linalg.lstsq(known, patches, rcond=None)[0]) ** 2))

    assert unexplained(latents) < 1.15 * unexplained(coefficients(photographs, 16, 32))


@pytest.mark.parametrize("side", [1, 4, 16])
def test_patterns_are_orthonormal(side):
    patterns = frequencies(side, 3 * side**2)
    torch.testing.assert_close(patterns @ patterns.T, torch.eye(3 * side**2, dtype=torch.float64))


def test_everything_is_trained(photographs):
    network = build("tiny").network
    posterior = network.encode(photographs)
    (network.decode(posterior.sample(torch.Generator().manual_seed(0))) - photographs).abs().mean().backward()
    moved = {name for name, parameter in network.named_parameters() if parameter.grad.abs().max() > 0}
    ends = {
        f"autoencoder.{side}.{layer}.weight" for side in ("encoder", "decoder") for layer in ("conv_in", "conv_out")
    }
    assert moved >= ends
    assert {"autoencoder.encoder.mid_block.resnets.0.conv2.weight", "autoencoder.quant_conv.weight"} <= moved


def test_latents_without_room_keep_their_weights():
    narrow = {"block_out_channels": (16, 16), "norm_num_groups": 16}  # groups of one channel hold no pair
    ours, plain = (
        build("no change of width", **narrow, frequency_start=start).network.autoencoder for start in (True, False)
    )
    assert torch.equal(ours.encoder.conv_out.weight[:8], plain.encoder.conv_out.weight[:8])


def test_the_decoder_keeps_its_drawn_weights_and_the_setting_its_name():
    ours, plain = (build("tiny", frequency_start=start).network.autoencoder.decoder for start in (True, False))
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other) or "to_out" in name
    assert "frequency_start" not in AutoencoderConfig(block_out_channels=(32,), latent_channels=4).model_dump()
    assert PRESETS["tiny"].model_dump()["frequency_start"] is True
