import pytest
import torch

from vaebench.generation.repa import Projector, alignment_loss, features_as_tokens


def test_loss_is_minus_the_mean_cosine():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert float(alignment_loss(x, 3 * x)) == pytest.approx(-1)
    assert float(alignment_loss(x, -x)) == pytest.approx(1)
    y = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(x.view(-1, 8), y.view(-1, 8), strict=True)]
    assert float(alignment_loss(x, y)) == pytest.approx(-sum(cosines) / 10)


def test_projector_is_the_published_mlp():
    projector = Projector(384, 768)
    assert sum(p.numel() for p in projector.parameters()) == 384 * 2048 + 2048**2 + 2048 * 768 + 2 * 2048 + 768
    assert projector(torch.zeros(2, 16, 384)).shape == (2, 16, 768)


def test_features_keep_their_order_and_are_resampled_only_if_they_must():
    features = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    tokens = features_as_tokens(features, (2, 4))
    assert torch.equal(tokens[1, 5], features[1, :, 1, 1])
    assert features_as_tokens(features, (1, 2)).shape == (2, 2, 3)
    torch.testing.assert_close(features_as_tokens(torch.ones(1, 3, 7, 7), (4, 4)), torch.ones(1, 16, 3))
