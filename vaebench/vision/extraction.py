"""Features of many images as arrays."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from vaebench.core.errors import NumericalError
from vaebench.core.progress import progress
from vaebench.vision.base import FrozenNetwork
from vaebench.vision.transforms import to_unit

Want = Literal["patches", "pooled"]


def extract(
    network: FrozenNetwork,
    images: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    batch_size: int = 64,
    want: Sequence[Want] = ("patches", "pooled"),
    title: str = "features",
) -> dict[str, np.ndarray]:
    """Run a frozen network over n images.

    Args:
        network: as from ``load_network``; runs on its own device.
        images: gives uint8 images (b, 3, H, W) for int64 indices (b,) in [0, n).
        n: number of images.
        batch_size: images read and sent to the device at once. The result does not depend on it, up to rounding.
        want: which features to keep.
        title: what the progress bar says.

    Returns:
        "patches": float16 (n, D, h, w), "pooled": float32 (n, P); those that were wanted.

    Raises:
        NumericalError: a feature is NaN, infinite, or (patches) beyond the range of float16.
    """
    h, w = network.patch_grid
    layout = {
        "patches": ((n, network.patch_channels, h, w), np.float16),
        "pooled": ((n, network.pooled_channels), np.float32),
    }
    arrays = {kind: np.empty(shape, dtype) for kind, (shape, dtype) in layout.items() if kind in want}
    device = next(network.parameters()).device
    # An overflow of float16 becomes infinity, which is reported below as an error of its own.
    with progress(title, total=n, unit="images") as bar, torch.inference_mode(), np.errstate(over="ignore"):
        for start in range(0, n, batch_size):
            rows = np.arange(start, min(start + batch_size, n))
            features = network(to_unit(torch.as_tensor(images(rows)).to(device)))
            for kind, array in arrays.items():
                array[rows] = getattr(features, kind).cpu().numpy()
                if not np.isfinite(array[rows]).all():
                    raise NumericalError(f"{network.name} gives {kind} that are not finite for images {start} onwards.")
            bar.update(len(rows))
    return arrays
