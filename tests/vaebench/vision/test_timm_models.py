import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from vaebench.core.errors import ConfigError, MissingWeights
from vaebench.vision import load_network

VIT = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    """A stand-in for downloaded weights: the real architecture with weights drawn here."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(VIT, pretrained=False).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def checkpoint(vit: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(vit.state_dict(), path)
    return path


def test_patches_and_pooled_are_timms(vit: torch.nn.Module, checkpoint: Path, images: Tensor) -> None:
    network = load_network("timm", model=VIT, checkpoint=checkpoint, input_size=224, normalise="imagenet")
    assert (network.patch_channels, network.patch_grid, network.pooled_channels) == (192, (14, 14), 192)
    with torch.no_grad():
        tokens = vit.forward_features(network.preprocess(images[:2]))
    features = network(images[:2])
    torch.testing.assert_close(features.pooled, tokens[:, 0], atol=1e-4, rtol=1e-4)
    patches = tokens[:, 1:].transpose(1, 2).reshape(2, 192, 14, 14)
    torch.testing.assert_close(features.patches, patches, atol=1e-4, rtol=1e-4)


def test_layer_and_final_norm(vit: torch.nn.Module, checkpoint: Path, images: Tensor) -> None:
    network = load_network("timm", model=VIT, checkpoint=checkpoint, layer=3, norm=False, normalise="none")
    seen: list[Tensor] = []
    handle = vit.blocks[3].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        vit(network.preprocess(images[:1]))
    handle.remove()
    expected = seen[0][:, 1:].transpose(1, 2).reshape(1, 192, 14, 14)
    torch.testing.assert_close(network(images[:1]).patches, expected, atol=1e-4, rtol=1e-4)
    last = load_network("timm", model=VIT, checkpoint=checkpoint, layer=-9, norm=False, normalise="none")
    torch.testing.assert_close(last(images[:1]).patches, expected, atol=1e-4, rtol=1e-4)


def test_other_input_size_resamples_positions(checkpoint: Path) -> None:
    assert load_network("timm", model=VIT, checkpoint=checkpoint, input_size=64).patch_grid == (4, 4)


def test_convolutional_model(tmp_path: Path, images: Tensor) -> None:
    model = timm.create_model("resnet18", pretrained=False).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "resnet.pth")
    network = load_network("timm", model="resnet18", checkpoint=tmp_path / "resnet.pth", input_size=64, layer=-2)
    assert network.patch_grid == (4, 4)
    assert (network.patch_channels, network.pooled_channels) == (256, 512)


@pytest.mark.parametrize(("normalise", "low", "high"), [("none", 0, 1), ("half", -1, 1), ("imagenet", -2.2, 2.7)])
def test_normalisation(normalise: str, low: float, high: float, checkpoint: Path) -> None:
    network = load_network("timm", model=VIT, checkpoint=checkpoint, input_size=32, normalise=normalise)
    ends = network.preprocess(torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)]))
    assert ends.min() == pytest.approx(low, abs=0.1)
    assert ends.max() == pytest.approx(high, abs=0.1)


def test_weights_of_another_model(checkpoint: Path) -> None:
    with pytest.raises(MissingWeights, match="weights of another model"):
        load_network("timm", model="vit_small_patch16_224", checkpoint=checkpoint)
    with pytest.raises(MissingWeights, match="weights of another model"):
        load_network("timm", model="resnet18", checkpoint=checkpoint)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"none.pth' do(es)? not exist"):
        load_network("timm", model=VIT, checkpoint=tmp_path / "none.pth")


def test_unsafe_pickles_are_refused_and_the_way_to_convert_them_works(
    vit: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": vit.state_dict(), "args": argparse.Namespace(lr=1.0)}, tmp_path / "unsafe.pth")
    with pytest.raises(MissingWeights, match="could run any code") as caught:
        load_network("timm", model=VIT, checkpoint=tmp_path / "unsafe.pth")
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).partition('python -c "')[2].rpartition('"')[0], {})
    assert load_network("timm", model=VIT, checkpoint=tmp_path / "unsafe.safetensors").patch_channels == 192
    (tmp_path / "cut.pth").write_bytes((tmp_path / "unsafe.pth").read_bytes()[:5000])
    with pytest.raises(MissingWeights, match=r"cut\.pth"):
        load_network("timm", model=VIT, checkpoint=tmp_path / "cut.pth")


def test_offline_and_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: str, pretrained: bool, **options: object) -> torch.nn.Module:
        raise FileNotFoundError("cannot find the requested files in the local cache")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(MissingWeights, match="checkpoint=PATH"):
        load_network("timm", model=VIT)


def test_bad_options(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'vit_tiny_patch16_224'"):
        load_network("timm", model="vit_tiny_patch16_225")
    with pytest.raises(ConfigError, match="do not divide 100"):
        load_network("timm", model=VIT, checkpoint=checkpoint, input_size=100)
    with pytest.raises(ConfigError, match="12 layers"):
        load_network("timm", model=VIT, checkpoint=checkpoint, layer=12)


def test_timm_brings_no_tracker_with_it():
    code = "import sys, importlib.util as u; known = u.find_spec('wandb'); import vaebench.vision.timm_models\n"
    code += "assert 'wandb' not in sys.modules and (u.find_spec('wandb') is None) == (known is None)"
    subprocess.run([sys.executable, "-c", code], check=True)
