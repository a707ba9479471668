"""LPIPS against the package itself, with a random backbone in the place of torchvision's weights."""

import warnings

import pytest
import torch

from vaebench.core.errors import DataError, MissingWeights
from vaebench.training.perceptual import BACKBONE_FILES, PerceptualLoss, backbone_file

lpips = pytest.importorskip("lpips")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from torchvision.models import alexnet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = alexnet(weights=None)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 3, 64, 64, generator=generator) * 2 - 1


def test_equals_the_package(weights, pair):
    ours = PerceptualLoss("alex", weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(weights, weights_only=True)
    for name, parameter in theirs.net.named_parameters():
        parameter.data.copy_(state[f"features.{name.partition('.')[2]}"])
    torch.testing.assert_close(ours(*pair), theirs(*pair).flatten(), rtol=1e-5, atol=1e-7)


def test_zero_between_equal_images_with_a_finite_gradient(weights, pair):
    ours = PerceptualLoss("alex", weights)
    images = pair[0].clone().requires_grad_()
    distance = ours(images, pair[0])
    assert distance.tolist() == [0, 0, 0]
    distance.sum().backward()
    assert torch.isfinite(images.grad).all()


def test_gradient_is_finite_where_all_features_vanish(weights, pair):
    ours = PerceptualLoss("alex", weights)
    for parameter in ours.model.net.parameters():
        parameter.data.zero_()
    images = pair[0].clone().requires_grad_()
    ours(images, pair[1]).sum().backward()
    assert torch.isfinite(images.grad).all()


def test_network_is_frozen(weights):
    ours = PerceptualLoss("alex", weights)
    assert not any(p.requires_grad for p in ours.parameters())


def test_missing_backbone_is_an_error_and_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for network, name in BACKBONE_FILES.items():
        with pytest.raises(MissingWeights, match=f"{name}.*perceptual_weights=PATH"):
            PerceptualLoss(network)
    assert list(tmp_path.iterdir()) == []


def test_backbone_is_found_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / BACKBONE_FILES["vgg"]
    path.parent.mkdir(parents=True)
    path.touch()
    assert backbone_file("vgg") == path


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(DataError, match="does not hold"):
        PerceptualLoss("vgg", weights)


def test_a_backbone_that_was_cut_off_or_is_unsafe_is_refused(weights, tmp_path):
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MissingWeights, match=r"cut\.pth"):
        PerceptualLoss("alex", tmp_path / "cut.pth")
    torch.save({"features": object}, tmp_path / "unsafe.pth")
    with pytest.raises(MissingWeights, match="could run any code"):
        PerceptualLoss("alex", tmp_path / "unsafe.pth")
