import pytest
import torch
from torch import nn

from vaebench.core.errors import DataError
from vaebench.training.discriminator import PatchDiscriminator


def test_logits_are_one_per_patch():
    # 64 -> 32 -> 16 -> 8 by strides of two, then two unstrided 4 x 4 convolutions with padding 1 lose one each.
    assert PatchDiscriminator(channels=8)(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 6, 6)
    assert PatchDiscriminator(channels=8)(torch.zeros(2, 3, 24, 24)).shape == (2, 1, 1, 1)


def test_parameters_are_those_of_the_seventy_pixel_patchgan():
    # Published PatchGAN-70 with batch norm and no bias before it (pix2pix): 2,766,529 - 1 up to biases counted here.
    convolutions = 64 * 3 * 16 + 64 + 16 * (64 * 128 + 128 * 256 + 256 * 512 + 512) + 1
    norms = 2 * (128 + 256 + 512)
    assert sum(p.numel() for p in PatchDiscriminator().parameters()) == convolutions + norms


def test_a_logit_sees_seventy_pixels():
    network = PatchDiscriminator(channels=4, norm="none").double()
    image = torch.zeros(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = network(image + 0.1)
    logits[0, 0, 7, 7].backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 70


def test_without_norm_rows_do_not_meet():
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = PatchDiscriminator(channels=8, norm="none")
    torch.testing.assert_close(plain(images)[:2], plain(images[:2]))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    normed = PatchDiscriminator(channels=8, norm="batch").eval()  # batch statistics even in evaluation mode
    assert not torch.allclose(normed(images)[:2], normed(images[:2]))


def test_small_images_are_refused():
    with pytest.raises(DataError, match="24 x 24"):
        PatchDiscriminator(channels=8)(torch.zeros(2, 3, 16, 16))
