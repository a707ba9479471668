"""Peak signal-to-noise ratio and structural similarity of 8-bit images, per image."""

import torch
from torch import Tensor

from vaebench.core.errors import DataError

DATA_RANGE = 255.0
PSNR_CEILING = 100.0
"""Decibels given to an image that comes back byte for byte, whose ratio is infinite; the mean stays finite."""

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def _checked(reference: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    if reference.shape != images.shape or reference.ndim != 4:
        raise DataError(f"Images (n, c, H, W) of one shape are needed, got {reference.shape} and {images.shape}.")
    if reference.dtype != torch.uint8 or images.dtype != torch.uint8:
        raise DataError(f"8-bit images are needed, got {reference.dtype} and {images.dtype}; use transforms.to_uint8.")
    return reference.double(), images.double()


def psnr(reference: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(255² / MSE) over all channels and pixels of an image, in decibels.

    Args:
        reference, images: uint8 (n, c, H, W).

    Returns:
        float64 (n,), higher is better, at most 100.

    Raises:
        DataError: other shapes, or images that are not 8-bit.
    """
    first, second = _checked(reference, images)
    error = (first - second).square().mean((1, 2, 3))
    return (10.0 * torch.log10(DATA_RANGE**2 / error)).clamp(max=PSNR_CEILING)


def ssim(reference: Tensor, images: Tensor) -> Tensor:
    """Structural similarity with a Gaussian window of 11 x 11, sigma 1.5, K1 0.01, K2 0.03, averaged over channels.

        SSIM = mean of (2 mx my + C1)(2 cxy + C2) / ((mx² + my² + C1)(vx + vy + C2)),  C = (K 255)²

    with local means, variances and covariance under the window, over the pixels where it fits into the image. Equals
    scikit-image's with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255``.

    Args:
        reference, images: uint8 (n, c, H, W) with sides of at least 11.

    Returns:
        float64 (n,), higher is better, at most 1.

    Raises:
        DataError: other shapes, images that are not 8-bit or smaller than the window.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004).
    """
    x, y = _checked(reference, images)
    height, width = x.shape[-2:]
    if min(height, width) < WINDOW:
        raise DataError(f"SSIM needs images of at least {WINDOW} x {WINDOW}, got {height} x {width}.")
    down, across = _window_matrix(height, x.device), _window_matrix(width, x.device)

    def smooth(values: Tensor) -> Tensor:
        return down @ values @ across.T

    mean_x, mean_y = smooth(x), smooth(y)
    variance_x = smooth(x * x) - mean_x * mean_x
    variance_y = smooth(y * y) - mean_y * mean_y
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = (K1 * DATA_RANGE) ** 2, (K2 * DATA_RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean((1, 2, 3))


def _window_matrix(size: int, device: torch.device) -> Tensor:
    """Rows are the Gaussian window at each place where it fits: float64 (size - 10, size)."""
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=device) - WINDOW // 2
    window = torch.exp(-0.5 * (offsets / SIGMA).square())
    places = size - WINDOW + 1
    matrix = torch.zeros(places, size, dtype=torch.float64, device=device)
    matrix[torch.arange(places)[:, None], torch.arange(places)[:, None] + torch.arange(WINDOW)] = window / window.sum()
    return matrix
