import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vaebench.core.errors import ConfigError, DataError, MismatchError, MissingPath
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.architecture import PRESETS
from vaebench.tokenizers.check import check_tokenizer, smooth_images
from vaebench.tokenizers.convert import convert_checkpoint, read_statistics, read_tensors
from vaebench.tokenizers.ldm import infer_config, to_diffusers

SHAPES = {
    "f4, attention at the lowest resolution (VA-VAE's kind)": {},
    "f8, two layers, attention in the middle only (Stable Diffusion's kind)": {
        "widths": (32, 64, 64, 96),
        "layers": 2,
        "z": 4,
        "attends": (False,) * 4,
    },
    "no attention, no 1 x 1 convolutions (FLUX's kind)": {"middle": False, "quant": False, "attends": (False,) * 3},
    "attention at two resolutions": {"attends": (False, True, True)},
}


def statistics(d: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(d, generator=generator), torch.rand(d, generator=generator) + 0.5


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_converted_weights_give_the_outputs_of_the_original(shape, ldm_autoencoder, tmp_path: Path) -> None:
    original = ldm_autoencoder(**shape)
    torch.save(original.state_dict(), tmp_path / "vae.pt")
    tokenizer = load_tokenizer(tmp_path / "vae.pt")
    widths, z = shape.get("widths", (32, 32, 64)), shape.get("z", 6)
    assert (tokenizer.spec.f, tokenizer.spec.d, tokenizer.spec.name) == (2 ** (len(widths) - 1), z, "vae")
    # In double precision, where the order of additions does not show: what is left is the posterior's float32.
    images = smooth_images(2, 32).double()
    original.double(), tokenizer.network.double()
    with torch.inference_mode():
        mean, std = original.moments(images)
        posterior = tokenizer.encode(images)
        torch.testing.assert_close(posterior.mean, mean.float(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(posterior.std, std.float(), rtol=1e-6, atol=1e-6)
        decoded = original.decode(mean)
        torch.testing.assert_close(tokenizer.decode(mean), decoded, rtol=1e-9, atol=1e-9)
    assert mean.std() > 0.01  # the comparison is not one of constants
    assert decoded.std() > 0.01


def test_every_weight_is_used_once_and_unchanged(ldm_autoencoder, tmp_path: Path) -> None:
    original = ldm_autoencoder()
    torch.save(original.state_dict(), tmp_path / "vae.pt")
    converted = load_tokenizer(tmp_path / "vae.pt").network.autoencoder.state_dict()
    theirs = sorted(t.numpy().tobytes() for t in original.state_dict().values())
    assert sorted(t.contiguous().numpy().tobytes() for t in converted.values()) == theirs


@pytest.mark.parametrize(
    ("preset", "shape"),
    {
        "f16d32": {"widths": (128, 128, 256, 256, 512), "z": 32, "attends": (False,) * 4 + (True,)},
        "f8d4": {"widths": (128, 256, 512, 512), "z": 4, "attends": (False,) * 4},
    }.items(),
)
def test_published_sizes_are_recognised(preset, shape, ldm_autoencoder) -> None:
    with torch.device("meta"):
        state = ldm_autoencoder(**shape, layers=2, seed=None).state_dict()
    config, expected = infer_config(state), PRESETS[preset].diffusers_config()
    assert config | expected == config
    to_diffusers({key: torch.empty_like(value, device="cpu") for key, value in state.items()}, config, "x")


@pytest.mark.parametrize("container", ["plain", "state_dict", "vae", "prefixed", "half", "safetensors"])
def test_the_ways_checkpoints_are_kept(container, ldm_autoencoder, tmp_path: Path) -> None:
    state = ldm_autoencoder().state_dict()
    path = tmp_path / ("v.safetensors" if container == "safetensors" else "v.ckpt")
    extra = {"loss.logvar": torch.zeros(()), "linear_proj.weight": torch.zeros(3, 3)}
    if container == "safetensors":
        save_file(state, path)
    elif container == "prefixed":
        unet = {"model.diffusion_model.out.weight": torch.zeros(1)}
        torch.save({"state_dict": unet | {f"first_stage_model.{k}": v for k, v in (state | extra).items()}}, path)
    elif container == "half":
        torch.save({k: v.half() for k, v in state.items()}, path)
    else:
        torch.save(state if container == "plain" else {container: state | extra, "global_step": 7}, path)
    conversion = convert_checkpoint(path, name="mine")
    reference = {k: v.half().float() for k, v in state.items()} if container == "half" else state
    weight = conversion.tokenizer.network.autoencoder.encoder.conv_in.weight
    assert torch.equal(weight, reference["encoder.conv_in.weight"])
    assert conversion.tokenizer.spec.name == "mine"
    assert path.name in conversion.tokenizer.spec.source
    left = {"prefixed": 3, "state_dict": 2, "vae": 2}.get(container, 0)
    assert len(conversion.left_out) == left, conversion.left_out


FORMS = {
    "VA-VAE": lambda mean, std: {"mean": mean.view(1, -1, 1, 1), "std": std.view(1, -1, 1, 1)},
    "variance": lambda mean, std: {"mean": mean, "var": std**2},
    "BatchNorm": lambda mean, std: {"running_mean": mean, "running_var": std**2, "num_batches_tracked": torch.ones(())},
    "BatchNorm in a SiT": lambda mean, std: {"ema": {"bn.running_mean": mean, "bn.running_var": std**2}, "steps": 3},
    "REPA-E": lambda mean, std: {"latents_scale": (1 / std).view(1, -1, 1, 1), "latents_bias": mean.view(1, -1, 1, 1)},
}


@pytest.mark.parametrize("form", FORMS)
def test_latent_statistics_become_the_normalisation(form, ldm_autoencoder, tmp_path: Path) -> None:
    mean, std = statistics(6)
    torch.save(ldm_autoencoder().state_dict(), tmp_path / "vae.pt")
    torch.save(FORMS[form](mean, std), tmp_path / "stats.pt")
    tokenizer = load_tokenizer(f"{tmp_path / 'vae.pt'}?stats={tmp_path / 'stats.pt'}")
    normalisation = tokenizer.spec.normalisation
    latents = torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = (latents - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    torch.testing.assert_close(normalisation.normalise(latents), expected)
    tokenizer.save(tmp_path / "folder")
    assert load_tokenizer(tmp_path / "folder").spec == tokenizer.spec
    assert check_tokenizer(tokenizer, 32) == []


def test_statistics_may_lie_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = statistics(6)
    torch.save({"mean": mean, "std": std}, tmp_path / "stats.pt")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_statistics("~/stats.pt", 6, "vae.pt").source == "stats.pt"


def test_statistics_that_do_not_fit_are_named(tmp_path: Path) -> None:
    mean, std = statistics(16)
    torch.save({"mean": mean, "std": std}, tmp_path / "stats.pt")
    with pytest.raises(
        MismatchError, match=r"stats\.pt has latent statistics of 16 channels .*vae\.pt has latents of 32"
    ):
        read_statistics(tmp_path / "stats.pt", 32, "vae.pt")
    torch.save({"mean": torch.zeros(6, 2, 2), "std": torch.ones(6, 2, 2)}, tmp_path / "positions.pt")
    with pytest.raises(DataError, match=r"\(6, 2, 2\), one value per position"):
        read_statistics(tmp_path / "positions.pt", 6, "vae.pt")
    torch.save({"average": mean}, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"its keys are average.*running_var"):
        read_statistics(tmp_path / "other.pt", 16, "vae.pt")
    torch.save({"mean": mean, "std": std * 0}, tmp_path / "flat.pt")
    with pytest.raises(DataError, match="cannot be used"):
        read_statistics(tmp_path / "flat.pt", 16, "vae.pt")


def test_a_difference_of_keys_is_readable(ldm_autoencoder, tmp_path: Path) -> None:
    state = ldm_autoencoder().state_dict()
    state["encoder.mid.blok_1.conv1.bias"] = state.pop("encoder.mid.block_1.conv1.bias")
    state["decoder.norm_out.weight"] = torch.zeros(5)
    state["teacher.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "vae.pt")
    with pytest.raises(DataError) as caught:
        load_tokenizer(tmp_path / "vae.pt")
    text = str(caught.value)
    assert "missing     encoder.mid.block_1.conv1.bias (nearest: encoder.mid.blok_1.conv1.bias)" in text
    assert "unexpected  encoder.mid.blok_1.conv1.bias (64,) (nearest: encoder.mid.block_1.conv1.bias)" in text
    assert "unexpected  teacher.weight (2,)\n" in text
    assert "shape       decoder.norm_out.weight is (5,), expected (32,)" in text
    assert "blocks of 32, 32, 64 channels, 1 layers each, d=6" in text


def test_long_differences_are_cut(ldm_autoencoder, tmp_path: Path) -> None:
    state = {k: v for k, v in ldm_autoencoder().state_dict().items() if not k.startswith("decoder.up.")}
    torch.save(state, tmp_path / "vae.pt")
    with pytest.raises(DataError, match=r"missing .*\n  and \d+ more"):
        load_tokenizer(tmp_path / "vae.pt")


def test_other_architectures_are_refused(ldm_autoencoder, tmp_path: Path) -> None:
    path, state = tmp_path / "x.pt", ldm_autoencoder().state_dict()

    def converting(changed: dict[str, object]) -> None:
        torch.save(changed, path)
        convert_checkpoint(path)

    with pytest.raises(DataError, match=r"no autoencoder.*blocks\.0\.attn"):
        converting({"blocks.0.attn.weight": torch.zeros(2, 2)})
    with pytest.raises(DataError, match=r"layout of diffusers.*config\.json"):
        converting(load_tokenizer_state(ldm_autoencoder, tmp_path))
    with pytest.raises(DataError, match=r"several autoencoders \(a\., b\.\)"):
        converting({f"{p}.{k}": v for p in "ab" for k, v in state.items()})
    with pytest.raises(DataError, match="gives 6 channels and the decoder takes 6"):
        converting(state | {"encoder.conv_out.weight": torch.zeros(6, 64, 3, 3)})
    with pytest.raises(DataError, match=r"decoder\.conv_in\.weight, decoder\.conv_out\.weight are not there"):
        converting({k: v for k, v in state.items() if not k.startswith("decoder.")})
    with pytest.raises(DataError, match="float64 and holds values that float32 cannot"):
        converting(state | {"encoder.conv_in.bias": torch.full((32,), 1 / 3, dtype=torch.float64)})
    with pytest.raises(DataError, match=r"no tensors at its top.*step"):
        converting({"step": 3})
    torch.save(ldm_autoencoder().state_dict(), path)
    with pytest.raises(DataError, match="32, 32 channels do not divide into 64 groups"):
        convert_checkpoint(path, norm_groups=64)
    with pytest.raises(ConfigError, match="Did you mean 'stats'"):
        load_tokenizer(path, stat="x")


def load_tokenizer_state(ldm_autoencoder, tmp_path: Path) -> dict[str, torch.Tensor]:
    torch.save(ldm_autoencoder().state_dict(), tmp_path / "ours.pt")
    return load_tokenizer(tmp_path / "ours.pt").network.autoencoder.state_dict()


def test_unsafe_and_damaged_files_are_refused(ldm_autoencoder, tmp_path: Path) -> None:
    state = ldm_autoencoder().state_dict()
    torch.save({"state_dict": state, "hyper_parameters": argparse.Namespace(lr=1.0)}, tmp_path / "unsafe.ckpt")
    with pytest.raises(DataError) as caught:
        load_tokenizer(tmp_path / "unsafe.ckpt")
    assert "could run any code" in str(caught.value)
    command = str(caught.value).partition('python -c "')[2].rpartition('"')[0]
    assert "weights_only=False" in command
    # What it advises works: the file it writes converts.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(command, {})
    assert load_tokenizer(tmp_path / "unsafe.safetensors").spec.d == 6

    whole = (tmp_path / "unsafe.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save(state, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    (tmp_path / "empty.ckpt").write_bytes(b"")
    for name in ("cut.safetensors", "cut.pt", "empty.ckpt"):
        with pytest.raises(DataError, match=f"{name} is no readable file|not read"):
            load_tokenizer(tmp_path / name)
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(DataError, match="holds a Tensor"):
        read_tensors(tmp_path / "tensor.pt")
    with pytest.raises(MissingPath, match=r"none\.pt' does not exist"):
        load_tokenizer(tmp_path / "none.pt")


def test_statistics_are_part_of_the_identity_of_a_checkpoint(ldm_autoencoder, tmp_path: Path) -> None:
    from vaebench.stages.base import input_hash

    mean, std = statistics(6)
    torch.save(ldm_autoencoder().state_dict(), tmp_path / "vae.pt")
    reference, found = f"{tmp_path / 'vae.pt'}?stats={tmp_path / 'stats.pt'}", []
    for scale in (1.0, 2.0, 1.0):
        torch.save({"mean": mean, "std": scale * std}, tmp_path / "stats.pt")
        found.append(input_hash("tokenizer", reference))
    assert found[0] == found[2] != found[1]
