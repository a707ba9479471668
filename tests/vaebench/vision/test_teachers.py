from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from vaebench.core.errors import ConfigError, MissingWeights
from vaebench.vision import NETWORKS, load_network
from vaebench.vision.base import HALF, IMAGENET
from vaebench.vision.teachers import TEACHERS
from vaebench.vision.timm_models import teacher_class

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Published preprocessing of each family.
NORMALISATION = {"dinov2": IMAGENET, "dinov3": IMAGENET, "siglip": HALF, "siglip2": HALF, "clip": CLIP,
                 "mae": IMAGENET, "i": IMAGENET}  # fmt: skip
ONE_EACH = ("dinov2-s", "dinov2-s-reg", "dinov3-s", "siglip-b", "siglip2-b", "clip-b", "mae-b", "i-jepa-h")
TINY = {"depth": 2, "embed_dim": 48, "num_heads": 3}
create = timm.create_model


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every architecture with two narrow blocks, so that its real code runs in no time."""
    monkeypatch.setattr(timm, "create_model", partial(create, **TINY))


def stand_in(name: str, path: Path) -> torch.nn.Module:
    """Random weights in the layout of a downloaded file, at the size that the published weights have."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create(TEACHERS[name].model, pretrained=False, **TINY).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return model


@pytest.mark.parametrize("name", TEACHERS)
def test_every_row_is_a_pretrained_model_of_timm(name: str) -> None:
    row = TEACHERS[name]
    assert row.model in timm.list_pretrained(row.model)
    assert name in NETWORKS
    known = timm.get_pretrained_cfg(row.model)
    assert known is not None
    mean, std = NORMALISATION[name.split("-")[0]]
    assert (known.mean, known.std) == (mean, std)
    assert known.interpolation == "bicubic"
    patch = int(row.model.partition("_patch")[2][:2])
    assert row.input_size == 16 * patch  # 16 x 16 patches
    config = teacher_class(name).Config()  # type: ignore[call-arg]
    assert (config.model, config.input_size) == (row.model, row.input_size)  # type: ignore[attr-defined]
    size = {"s": "small", "b": "base", "l": "large", "h": "huge"}
    assert name == "dinov2" or f"vit_{size[name.removesuffix('-va-vae').removesuffix('-reg')[-1]]}_" in row.model
    assert ("reg4" in row.model) == name.endswith("-reg")


@pytest.mark.parametrize("name", ONE_EACH)
def test_each_family_from_a_local_checkpoint(tiny: None, name: str, tmp_path: Path, images: Tensor) -> None:
    path = tmp_path / f"{name}-random.safetensors"
    model = stand_in(name, path)
    network = load_network(name, checkpoint=path)
    assert network.patch_grid == (16, 16)
    assert network.patch_channels == 48
    features = network(images[:2])
    assert features.patches.std() > 0
    own = create(TEACHERS[name].model, pretrained=False, num_classes=0, img_size=TEACHERS[name].input_size, **TINY)
    own.load_state_dict(network.network.state_dict())
    with torch.no_grad():
        tokens = own.eval().forward_features(network.preprocess(images[:2]))
    patches = tokens[:, model.num_prefix_tokens :].transpose(1, 2).reshape(2, 48, 16, 16)
    torch.testing.assert_close(features.patches, patches, atol=1e-4, rtol=1e-4)


def test_fd_dinov2_takes_the_class_token(tiny: None, tmp_path: Path, images: Tensor) -> None:
    stand_in("dinov2", tmp_path / "random.safetensors")
    network = load_network("dinov2", checkpoint=tmp_path / "random.safetensors")
    with torch.no_grad():
        tokens = network.network.forward_features(network.preprocess(images[:2]))
    torch.testing.assert_close(network(images[:2]).pooled, tokens[:, 0], atol=1e-4, rtol=1e-4)
    assert network.preprocess.resample == "bicubic"


def test_va_vae_feeds_dinov2_without_normalisation(tiny: None, tmp_path: Path, images: Tensor) -> None:
    stand_in("dinov2-l", tmp_path / "random.safetensors")
    network = load_network("dinov2-l-va-vae", checkpoint=tmp_path / "random.safetensors")
    expected = torch.nn.functional.interpolate(2 * images - 1, size=(224, 224), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network.preprocess(images), expected, atol=1e-5, rtol=1e-5)
    own = load_network("dinov2-l", checkpoint=tmp_path / "random.safetensors")
    assert own.preprocess.mean == IMAGENET[0]
    assert (
        load_network("dinov2-l", checkpoint=tmp_path / "random.safetensors", normalise="half").preprocess.mean
        == (HALF[0])
    )


def test_layer_and_size_can_be_chosen(tiny: None, tmp_path: Path, images: Tensor) -> None:
    path = tmp_path / "random.safetensors"
    stand_in("dinov2-s", path)
    first = load_network("dinov2-s", checkpoint=path, layer=0, norm=False, input_size=56)
    assert first.patch_grid == (4, 4)
    last = load_network("dinov2-s", checkpoint=path, input_size=56)
    assert not torch.allclose(first(images[:1]).patches, last(images[:1]).patches)
    with pytest.raises(ConfigError, match="patches of 14 pixels, which do not divide 100"):
        load_network("dinov2-s", checkpoint=path, input_size=100)
    with pytest.raises(ConfigError, match="2 layers"):
        load_network("dinov2-s", checkpoint=path, layer=5)


def test_layouts_of_the_authors(tiny: None, tmp_path: Path, images: Tensor) -> None:
    """MAE keeps its weights under "model", I-JEPA under "encoder" with the prefix of parallel training."""
    for name, wrap in (
        ("mae-b", lambda state: {"model": state}),
        ("i-jepa-h", lambda state: {"encoder": {f"module.{k}": v for k, v in state.items()}, "epoch": 300}),
    ):
        model = stand_in(name, tmp_path / "random.safetensors")
        state = {key: value for key, value in model.state_dict().items() if not key.startswith("head.")}
        torch.save(wrap(state), tmp_path / "authors.pth")
        found = load_network(name, checkpoint=tmp_path / "authors.pth")(images[:1])
        expected = load_network(name, checkpoint=tmp_path / "random.safetensors")(images[:1])
        torch.testing.assert_close(found.patches, expected.patches)


def test_a_checkpoint_of_another_teacher(tiny: None, tmp_path: Path) -> None:
    stand_in("dinov2-s", tmp_path / "random.safetensors")
    with pytest.raises(MissingWeights, match="weights of another model"):
        load_network("siglip-b", checkpoint=tmp_path / "random.safetensors")
    with pytest.raises(MissingWeights, match="weights of another model"):
        load_network("dinov2-s-reg", checkpoint=tmp_path / "random.safetensors")


@pytest.mark.parametrize("name", ["dinov2-l", "dinov3-b", "i-jepa-h"])
def test_offline_is_strict_and_immediate(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: pytest.fail("built, or asked the network"))
    with pytest.raises(MissingWeights, match=r"offline.*(hf download|download https:).*checkpoint=PATH"):
        load_network(name)


def test_a_revision_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def note(model: str, **options: object) -> None:
        asked.update(options)
        raise OSError("noted")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(timm, "create_model", note)
    with pytest.raises(MissingWeights, match="--revision 0123abc"):
        load_network("dinov2-b", revision="0123abc")
    assert asked["pretrained_cfg_overlay"] == {"hf_hub_id": "timm/vit_base_patch14_dinov2.lvd142m@0123abc"}
    with pytest.raises(ConfigError, match="not on the hub"):
        load_network("i-jepa-h", revision="0123abc")
    with pytest.raises(ConfigError, match="hf-hub:a/b@0123abc"):
        load_network("timm", model="hf-hub:a/b", revision="0123abc")


def test_options_of_old_keep_their_identity() -> None:
    dumped = NETWORKS.get("timm").Config(model="vit_base_patch14_dinov2.lvd142m").model_dump(mode="json")
    assert set(dumped) == {"model", "checkpoint", "input_size", "normalise", "resample", "layer", "norm"}
    assert NETWORKS.get("dinov2-l-va-vae").Config().model_dump(mode="json")["antialias"] is False
