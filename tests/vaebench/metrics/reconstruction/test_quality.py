import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from vaebench.core.errors import DataError
from vaebench.metrics.reconstruction.quality import psnr, ssim


def pairs(height: int = 48, width: int = 64) -> tuple[Tensor, Tensor]:
    """Cuts of photographs, and the same with noise of growing strength, a flat one among them."""
    rng = np.random.default_rng(0)
    cat, cup = data.chelsea(), data.coffee()
    cuts = np.stack([image[y : y + height, y : y + width] for image in (cat, cup) for y in (0, 100, 200)])
    cuts[-1] = 90
    noise = rng.standard_normal(cuts.shape) * np.array([0.5, 2, 5, 20, 60, 3])[:, None, None, None]
    noisy = np.clip(np.round(cuts + noise), 0, 255).astype(np.uint8)
    first, second = (torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) for images in (cuts, noisy))
    return first, second


def test_psnr_as_scikit_image() -> None:
    first, second = pairs()
    expected = [
        peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(first.numpy(), second.numpy(), strict=True)
    ]
    np.testing.assert_allclose(psnr(first, second), expected, rtol=1e-12)


@pytest.mark.parametrize("size", [(48, 64), (11, 30), (100, 64)])
def test_ssim_as_scikit_image(size: tuple[int, int]) -> None:
    first, second = pairs(*size)
    expected = [
        structural_similarity(
            a, b, channel_axis=0, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(first.numpy(), second.numpy(), strict=True)
    ]
    np.testing.assert_allclose(ssim(first, second), expected, atol=1e-9)


def test_known_cases() -> None:
    first, _ = pairs()
    assert (psnr(first, first) == 100).all()
    np.testing.assert_allclose(ssim(first, first), 1, atol=1e-12)
    grey = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
    assert psnr(grey, grey + 5).item() == pytest.approx(20 * np.log10(255 / 5))
    c1 = (0.01 * 255) ** 2
    assert ssim(grey, grey + 5).item() == pytest.approx((2 * 100 * 105 + c1) / (100**2 + 105**2 + c1))


def test_symmetric_and_per_image() -> None:
    first, second = pairs()
    torch.testing.assert_close(ssim(first, second), ssim(second, first))
    torch.testing.assert_close(ssim(first, second)[2:3], ssim(first[2:3], second[2:3]))


def test_bad_images() -> None:
    first, second = pairs()
    for metric in (psnr, ssim):
        with pytest.raises(DataError, match="8-bit"):
            metric(first, second.float())
        with pytest.raises(DataError, match="one shape"):
            metric(first, second[:2])
    with pytest.raises(DataError, match="at least 11"):
        ssim(first[..., :10, :], second[..., :10, :])
