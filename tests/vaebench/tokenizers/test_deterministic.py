import sys
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch

from vaebench.core.errors import DataError, MissingDependency
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.check import check_tokenizer, smooth_images
from vaebench.tokenizers.deterministic import DeterministicTokenizer


def dc() -> torch.nn.Module:
    blocks = ("ResBlock", "ResBlock", "EfficientViTBlock")
    return diffusers.AutoencoderDC(
        latent_channels=8,
        attention_head_dim=8,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(16, 16, 32),
        decoder_block_out_channels=(16, 16, 32),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        scaling_factor=0.41407,
    )


def dc_without_first_stage() -> torch.nn.Module:
    """As the published f64 and f128: the first stage has no layers, the input convolution halves at once."""
    return diffusers.AutoencoderDC(
        latent_channels=8,
        encoder_block_out_channels=(16, 16, 32),
        decoder_block_out_channels=(16, 16, 32),
        encoder_layers_per_block=(0, 1, 1),
        decoder_layers_per_block=(0, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
    )


def tiny() -> torch.nn.Module:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=5,
        scaling_factor=0.5,
        shift_factor=0.25,
    )


def rae() -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    return diffusers.AutoencoderRAE(
        encoder_hidden_size=64,
        encoder_patch_size=14,
        encoder_num_hidden_layers=1,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
        patch_size=8,
        encoder_input_size=56,
        latents_mean=torch.randn(64, 4, 4, generator=generator),
        latents_std=torch.rand(64, 4, 4, generator=generator) + 0.5,
        noise_tau=0.8,
    )


KINDS = {"dc": (dc, 4, 8), "dc-f64": (dc_without_first_stage, 4, 8), "tiny": (tiny, 4, 5), "rae": (rae, 8, 64)}


@pytest.fixture(params=KINDS)
def made(request, tmp_path: Path) -> tuple[torch.nn.Module, DeterministicTokenizer, int, int]:
    """Diffusers' own model, and what we load from the folder it saves."""
    build, f, d = KINDS[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval()
    model.save_pretrained(tmp_path / request.param)
    return model, load_tokenizer(tmp_path / request.param), f, d


def test_it_is_what_diffusers_computes(made) -> None:
    model, tokenizer, f, d = made
    images = smooth_images(2, 32)
    assert (tokenizer.spec.f, tokenizer.spec.d) == (f, d)
    assert tokenizer.deterministic
    unit = isinstance(model, diffusers.AutoencoderRAE)  # RAE works on images in [0, 1]
    with torch.inference_mode():
        output = model.encode((images + 1) / 2 if unit else images)
        latents = output.latents if hasattr(output, "latents") else output.latent
        decoded = model.decode(latents).sample
        posterior = tokenizer.encode(images)
        torch.testing.assert_close(posterior.mean, latents)
        assert not posterior.std.any()
        torch.testing.assert_close(tokenizer.decode(latents), decoded * 2 - 1 if unit else decoded)
    assert posterior.mean.shape == (2, d, 32 // f, 32 // f)


def test_it_keeps_the_contract_and_survives_saving(made, tmp_path: Path) -> None:
    _, tokenizer, _, _ = made
    assert check_tokenizer(tokenizer, 32) == []
    tokenizer.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.spec == tokenizer.spec
    assert type(again) is type(tokenizer)
    with torch.inference_mode():
        assert torch.equal(again.encode(smooth_images(2, 32)).mean, tokenizer.encode(smooth_images(2, 32)).mean)
    with pytest.raises(DataError, match="decodes latents"):
        tokenizer.decode(torch.zeros(1, 3, 4, 4))


def test_published_factors_become_the_normalisation(tmp_path: Path) -> None:
    latents = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    tiny().save_pretrained(tmp_path / "tiny")
    normalisation = load_tokenizer(tmp_path / "tiny").spec.normalisation
    torch.testing.assert_close(normalisation.normalise(latents), (latents - 0.25) * 0.5)
    dc().save_pretrained(tmp_path / "dc")
    assert load_tokenizer(tmp_path / "dc").spec.normalisation.scale == (0.41407,) * 8
    dc_without_first_stage().save_pretrained(tmp_path / "plain")
    assert load_tokenizer(tmp_path / "plain").spec.normalisation is None


def test_rae_takes_one_image_size(tmp_path: Path) -> None:
    rae().save_pretrained(tmp_path / "rae")
    tokenizer = load_tokenizer(tmp_path / "rae")
    assert tokenizer.image_size == 32
    with pytest.raises(DataError, match=r"takes images of 32 x 32, not 64 x 64.*image_size=32"):
        tokenizer.encode(smooth_images(1, 64))


def test_rae_needs_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rae().save_pretrained(tmp_path / "rae")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r"'transformers' is not installed.*vaebench\[pretrained\]"):
        load_tokenizer(tmp_path / "rae")


def test_other_kinds_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "VQModel"}')
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="a diffusers VQModel; vaebench reads AutoencoderKL, AutoencoderDC, Auto"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderDC"}')
    older = SimpleNamespace(__version__="0.20.0")
    monkeypatch.setattr("vaebench.tokenizers.deterministic.diffusers", older)
    with pytest.raises(MissingDependency, match=r"diffusers 0.20.0 has no AutoencoderDC.*pip install -U diffusers"):
        load_tokenizer(tmp_path)
