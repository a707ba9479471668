import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from vaebench.core.config import build
from vaebench.core.errors import ConfigError, DataError, MissingPath, MissingWeights, UnknownName
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.architecture import PRESETS, AutoencoderConfig, resolve_preset
from vaebench.tokenizers.autoencoder import AutoencoderNetwork, DiffusersTokenizer, build_autoencoder
from vaebench.tokenizers.base import LatentNormalisation
from vaebench.tokenizers.check import smooth_images

# Millions of parameters of the public checkpoints' architecture: f8d4 is Stable Diffusion's VAE (83.65M).
PAPER = {"f8d4": (8, 4, 83.65), "f16d16": (16, 16, None), "f16d32": (16, 32, None), "f16d64": (16, 64, None)}


def nano(seed: int = 0) -> DiffusersTokenizer:
    return build_autoencoder("nano", torch.Generator().manual_seed(seed), method="test")


def plain_folder(path: Path, **config: object) -> AutoencoderKL:
    autoencoder = AutoencoderKL(**{**PRESETS["nano"].diffusers_config(), **config})
    autoencoder.save_pretrained(path)
    return autoencoder.eval()


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_have_the_published_shape(name: str) -> None:
    f, d, millions = PAPER[name]
    config = PRESETS[name]
    with torch.device("meta"):
        network = AutoencoderNetwork(AutoencoderKL(**config.diffusers_config()))
        images = torch.zeros(2, 3, 256, 256)
        posterior = network.encode(images)
        decoded = network.decode(posterior.mean)
    assert config.f == f
    assert posterior.mean.shape == posterior.std.shape == (2, d, 256 // f, 256 // f)
    assert decoded.shape == images.shape
    count = sum(p.numel() for p in network.parameters()) / 1e6
    if millions:
        assert count == pytest.approx(millions, abs=0.01)
    else:
        assert 65 < count < 75
    attention = [key for key in network.state_dict() if key.endswith("to_q.weight")]
    # Middle blocks only, or also the 2 encoder and 3 decoder residual blocks of the lowest resolution.
    assert len(attention) == (7 if f == 16 else 2)
    assert network.autoencoder.quant_conv.weight.shape == (2 * d, 2 * d, 1, 1)
    assert network.autoencoder.post_quant_conv.weight.shape == (d, d, 1, 1)


def test_tiny_makes_f16d32_of_small_images() -> None:
    tokenizer = build_autoencoder("tiny", torch.Generator().manual_seed(0))
    with torch.inference_mode():
        posterior = tokenizer.encode(smooth_images(2, 64))
        assert posterior.mean.shape == (2, 32, 4, 4)
        assert tokenizer.decode(posterior.mean).shape == (2, 3, 64, 64)
    assert sum(p.numel() for p in tokenizer.network.parameters()) < 3.5e6


def test_initial_weights_follow_the_generator_and_leave_the_global_state() -> None:
    state = torch.get_rng_state()
    assert nano(1).spec.checkpoint_hash == nano(1).spec.checkpoint_hash != nano(2).spec.checkpoint_hash
    assert torch.equal(state, torch.get_rng_state())


def test_encode_is_diffusers_posterior_on_unshuffled_pixels() -> None:
    tokenizer = nano()
    autoencoder = tokenizer.network.autoencoder
    images = smooth_images(3, 32)
    p = 4
    # Pixel-unshuffle by hand: channel c, row i and column j of the patch become channel c p^2 + i p + j.
    patches = images.reshape(3, 3, 8, p, 8, p).permute(0, 1, 3, 5, 2, 4).reshape(3, 3 * p * p, 8, 8)
    with torch.inference_mode():
        ours = tokenizer.encode(images)
        theirs = autoencoder.encode(patches).latent_dist
        torch.testing.assert_close(ours.mean, theirs.mean)
        torch.testing.assert_close(ours.std, theirs.std)
        torch.testing.assert_close(ours.kl(), theirs.kl(), rtol=1e-4, atol=1e-3)
        decoded = autoencoder.decode(theirs.mean).sample
        whole = decoded.reshape(3, 3, p, p, 8, 8).permute(0, 1, 4, 2, 5, 3).reshape(images.shape)
        torch.testing.assert_close(tokenizer.decode(ours.mean), whole)


def test_logvar_is_clamped() -> None:
    tokenizer = nano()
    with torch.no_grad():
        tokenizer.network.autoencoder.quant_conv.bias[8:] = torch.tensor([-1e4, 1e4] * 4)
        std = tokenizer.encode(smooth_images(1, 32)).std
    assert std.log().mul(2).amin((0, 2, 3)).tolist() == pytest.approx([-30.0, 20.0] * 4, rel=1e-5)


def test_round_trip_through_a_folder_is_bit_equal(tmp_path: Path) -> None:
    tokenizer, images = nano(), smooth_images(2, 32)
    tokenizer.save(tmp_path / "tok")
    loaded = DiffusersTokenizer.from_folder(tmp_path / "tok")
    assert loaded.spec == tokenizer.spec
    assert not loaded.network.training
    with torch.inference_mode():
        before, after = tokenizer.encode(images), loaded.encode(images)
        assert torch.equal(before.mean, after.mean)
        assert torch.equal(before.std, after.std)
        assert torch.equal(tokenizer.decode(before.mean), loaded.decode(after.mean))
    theirs = AutoencoderKL.from_pretrained(tmp_path / "tok").state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in tokenizer.network.autoencoder.state_dict().items())


def test_spec_follows_the_weights_and_the_identity() -> None:
    tokenizer = nano()
    before = tokenizer.spec.checkpoint_hash
    renamed = tokenizer.with_identity("mine", "va-vae", "run 7")
    assert renamed.network.autoencoder is tokenizer.network.autoencoder
    with torch.no_grad():
        tokenizer.encoder_last_weight.add_(1e-3)
    spec = renamed.spec
    assert (spec.name, spec.method, spec.source) == ("mine", "va-vae", "run 7")
    assert spec.checkpoint_hash == tokenizer.spec.checkpoint_hash != before


def test_a_plain_diffusers_folder_loads_with_its_normalisation(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", scaling_factor=0.3611, shift_factor=0.1159)
    latents = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    spec = DiffusersTokenizer.from_folder(tmp_path / "a").spec
    assert (spec.f, spec.d, spec.name, spec.method) == (8, 8, "a", "")
    assert spec.normalisation is not None
    loaded = DiffusersTokenizer.from_folder(tmp_path / "a")
    assert loaded.with_identity("b", "", "renamed").spec.normalisation == spec.normalisation
    assert loaded.with_identity("b", "kl-vae", "trained on", retrained=True).spec.normalisation is None
    torch.testing.assert_close(spec.normalisation.normalise(latents), (latents - 0.1159) * 0.3611)

    mean, std = [0.1 * i for i in range(8)], [1.0 + i for i in range(8)]
    plain_folder(tmp_path / "b", scaling_factor=0.5, latents_mean=mean, latents_std=std)
    normalisation = DiffusersTokenizer.from_folder(tmp_path / "b").spec.normalisation
    assert normalisation is not None
    columns = [torch.tensor(v)[:, None, None] for v in (mean, std)]
    torch.testing.assert_close(normalisation.normalise(latents), (latents - columns[0]) * 0.5 / columns[1])

    plain_folder(tmp_path / "c")
    assert DiffusersTokenizer.from_folder(tmp_path / "c").spec.normalisation is None


def test_normalisation_survives_saving(tmp_path: Path) -> None:
    plain_folder(tmp_path / "plain", scaling_factor=0.2)
    first = DiffusersTokenizer.from_folder(tmp_path / "plain")
    first.save(tmp_path / "ours")
    assert DiffusersTokenizer.from_folder(tmp_path / "ours").spec == first.spec
    measured = LatentNormalisation(shift=(1.0,) * 8, scale=(2.0,) * 8, source="measured")
    DiffusersTokenizer(first.network.autoencoder, "x", normalisation=measured).save(tmp_path / "measured")
    assert DiffusersTokenizer.from_folder(tmp_path / "measured").spec.normalisation == measured


def test_what_is_saved_does_not_tell_where_it_was_loaded_from(tmp_path: Path) -> None:
    for place in ("here", "there"):
        plain_folder(tmp_path / place)
        DiffusersTokenizer.from_folder(tmp_path / place).save(tmp_path / f"from-{place}")
    written = [(tmp_path / f"from-{place}" / "config.json").read_text() for place in ("here", "there")]
    assert written[0] == written[1]
    assert str(tmp_path) not in written[0]


def test_a_pipeline_folder_loads_its_vae(tmp_path: Path) -> None:
    plain_folder(tmp_path / "pipe" / "vae")
    (tmp_path / "pipe" / "tokenizer").mkdir()  # of its text encoder
    for name in ("vocab.json", "tokenizer.json"):
        (tmp_path / "pipe" / "tokenizer" / name).write_text("{}")
    assert DiffusersTokenizer.from_folder(tmp_path / "pipe").spec.name == "pipe"
    assert load_tokenizer(tmp_path / "pipe").spec.name == "pipe"


def test_what_the_weights_do_not_tell_is_part_of_their_identity(tmp_path: Path) -> None:
    specs = []
    plain_folder(tmp_path / "weights")
    for groups in (8, 4, 8):
        folder = Path(shutil.copytree(tmp_path / "weights", tmp_path / str(len(specs))))
        config = json.loads((folder / "config.json").read_text()) | {"norm_num_groups": groups}
        (folder / "config.json").write_text(json.dumps(config))
        specs.append(load_tokenizer(folder).spec)
    assert specs[0].checkpoint_hash == specs[2].checkpoint_hash != specs[1].checkpoint_hash
    load_tokenizer(tmp_path / "1").save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").spec.checkpoint_hash == specs[1].checkpoint_hash


def test_half_precision_weights_load_in_single(tmp_path: Path) -> None:
    plain_folder(tmp_path / "h").half().save_pretrained(tmp_path / "h")
    tokenizer = DiffusersTokenizer.from_folder(tmp_path / "h")
    assert {p.dtype for p in tokenizer.network.parameters()} == {torch.float32}


def test_broken_folders_are_named(tmp_path: Path) -> None:
    load = DiffusersTokenizer.from_folder
    with pytest.raises(MissingPath, match=r"no config\.json"):
        load(tmp_path)
    tokenizer = nano()
    tokenizer.save(tmp_path / "good")
    weights_file = "diffusion_pytorch_model.safetensors"

    def damaged(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "good", tmp_path / name))

    folder = damaged("no-weights")
    (folder / weights_file).unlink()
    torch.save(tokenizer.network.autoencoder.state_dict(), folder / "diffusion_pytorch_model.bin")
    with pytest.raises(MissingWeights, match="pickles are not read"):
        load(folder)

    folder = damaged("truncated")
    (folder / weights_file).write_bytes((folder / weights_file).read_bytes()[:1000])
    with pytest.raises(DataError, match="do not load"):
        load(folder)

    changes = {"missing": lambda t: t.pop("encoder.conv_in.bias"), "extra": lambda t: t.update(x=torch.zeros(1))}
    for name, change in changes.items():
        folder = damaged(name)
        tensors = load_file(folder / weights_file)
        change(tensors)
        save_file(tensors, folder / weights_file, metadata={"format": "pt"})
        with pytest.raises(DataError, match=r"do not (fit|load)"):
            load(folder)

    folder = damaged("other-weights")
    nano(5).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / weights_file, folder / weights_file)
    with pytest.raises(DataError, match=r"not those that its tokenizer\.json was written for"):
        load(folder)

    folder = damaged("other-class")
    config = json.loads((folder / "config.json").read_text()) | {"_class_name": "AutoencoderDC"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="AutoencoderDC"):
        load(folder)


def test_not_an_image_autoencoder() -> None:
    config = PRESETS["nano"].diffusers_config() | {"in_channels": 6, "out_channels": 6}
    with pytest.raises(DataError, match="6 input"):
        DiffusersTokenizer(AutoencoderKL(**config), "six")


def test_foreign_latents_are_refused() -> None:
    with pytest.raises(DataError, match="N x 8 x h x w"):
        nano().decode(torch.zeros(1, 4, 4, 4))


def test_configuration_errors() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'tiny'"):
        resolve_preset("tinny")
    with pytest.raises(ConfigError, match="norm_num_groups"):
        build(AutoencoderConfig, {"block_out_channels": [20], "latent_channels": 4})
    assert AutoencoderConfig(block_out_channels=(32, 32), latent_channels=4, patch_size=2).f == 4
