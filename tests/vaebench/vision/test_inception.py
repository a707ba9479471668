from pathlib import Path

import pytest
import torch
from torch import Tensor

from vaebench.core.errors import MissingWeights
from vaebench.vision import load_network

module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the published file: the architecture's tensors, drawn at random."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    extractor = module.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(extractor, "load_state_dict", lambda self, state: None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(extractor("stand-in", ["2048"]).state_dict(), path)
    return path


def test_features_are_torch_fidelitys(weights: Path, images: Tensor) -> None:
    network = load_network("inception", weights=weights)
    assert (network.pooled_channels, network.patch_grid) == (2048, (1, 1))
    reference = module.FeatureExtractorInceptionV3("reference", ["2048"], str(weights))
    (expected,) = reference((images[:2] * 255).round().to(torch.uint8))
    torch.testing.assert_close(network(images[:2]).pooled, expected, atol=1e-5, rtol=1e-4)


def test_never_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: pytest.fail("downloads"))
    with pytest.raises(MissingWeights, match=r"Download https://.*weights=PATH"):
        load_network("inception")


def test_foreign_weights(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(MissingWeights, match="another network"):
        load_network("inception", weights=tmp_path / "foreign.pth")
