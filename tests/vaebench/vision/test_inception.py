from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebench.core.errors import MissingWeights
from vaebench.vision import extract, load_network

module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the published file: the architecture's tensors, drawn at random."""
    path = tmp_path_factory.mktemp("inception") / "random-stand-in.pth"
    extractor = module.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(extractor, "load_state_dict", lambda self, state: None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(extractor("stand-in", ["2048"]).state_dict(), path)
    return path


def test_one_pass_gives_what_torch_fidelity_gives(weights: Path, images: Tensor) -> None:
    network = load_network("inception", weights=weights)
    assert (network.pooled_channels, network.patch_grid) == (2048, (1, 1))
    assert network.sizes == {"patches": (2048, 1, 1), "pooled": (2048,), "spatial": (2023,), "logits": (1008,)}
    reference = module.FeatureExtractorInceptionV3("reference", ["2048", "logits_unbiased"], str(weights))
    pooled, logits = reference((images[:2] * 255).round().to(torch.uint8))
    found = network(images[:2])
    torch.testing.assert_close(found.pooled, pooled, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.logits, logits, atol=1e-5, rtol=1e-4)


def test_spatial_features_are_seven_channels_of_mixed_6(weights: Path, images: Tensor) -> None:
    network = load_network("inception", weights=weights)
    reference = module.FeatureExtractorInceptionV3("reference", ["2048"], str(weights))
    seen: list[Tensor] = []
    reference.Mixed_6c.register_forward_hook(lambda module, inputs, output: seen.append(output))
    reference((images[:2] * 255).round().to(torch.uint8))
    branch = reference.Mixed_6d.branch1x1
    conv = torch.relu(branch.bn(branch.conv(seen[0]))).numpy()
    # TensorFlow's order: index = (row * 17 + column) * 7 + channel.
    expected = np.stack([conv[:, k % 7, k // 7 // 17, k // 7 % 17] for k in range(2023)], 1)
    spatial = network(images[:2]).spatial
    assert spatial is not None
    np.testing.assert_allclose(spatial.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected) > 0


def test_extraction_keeps_what_is_wanted(weights: Path, images: Tensor) -> None:
    network = load_network("inception", weights=weights)
    pixels = (images * 255).round().to(torch.uint8).numpy()
    found = extract(network, pixels.__getitem__, 3, batch_size=2, want=("pooled", "spatial", "logits"))
    assert {kind: values.shape for kind, values in found.items()} == {
        "pooled": (3, 2048), "spatial": (3, 2023), "logits": (3, 1008),
    }  # fmt: skip
    embedded = load_network("mobilenetv2")
    with pytest.raises(KeyError, match="spatial"):
        extract(embedded, pixels.__getitem__, 1, want=("spatial",))


def test_never_downloads_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: pytest.fail("downloads"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("downloads"))
    with pytest.raises(MissingWeights, match=r"Download https://.*weights=PATH"):
        load_network("inception")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeights, match="downloads are forbidden"):
        load_network("inception", download=True)
    with pytest.raises(MissingWeights, match=r"absent.pth"):
        load_network("inception", weights=tmp_path / "absent.pth", download=True)


def test_downloads_when_asked(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        assert url.startswith("https://github.com/toshas/torch-fidelity/releases/")
        assert hash_prefix == "6726825d"
        Path(target).write_bytes(weights.read_bytes())

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert load_network("inception", download=True).pooled_channels == 2048
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("downloads"))
    assert load_network("inception").pooled_channels == 2048  # in the cache now


def test_a_download_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(MissingWeights, match="no route to host"):
        load_network("inception", download=True)


def test_foreign_weights(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(MissingWeights, match="another network"):
        load_network("inception", weights=tmp_path / "foreign.pth")
