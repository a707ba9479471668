"""Features of many images as arrays."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from vaebench.core.errors import ConfigError, NumericalError
from vaebench.core.progress import progress
from vaebench.vision.base import FrozenNetwork
from vaebench.vision.transforms import to_unit

Want = Literal["patches", "pooled", "spatial", "logits"]


def extract(
    network: FrozenNetwork,
    images: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    batch_size: int = 64,
    want: Sequence[Want] = ("patches", "pooled"),
    title: str = "features",
    into: tuple[Mapping[str, np.ndarray], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Run a frozen network over n images.

    Args:
        network: as from ``load_network``; runs on its own device.
        images: gives uint8 images (b, 3, H, W) for int64 indices (b,) in [0, n).
        n: number of images.
        batch_size: images read and sent to the device at once. The result does not depend on it, up to rounding.
        want: which features to keep, of those that the network gives (``network.sizes``).
        title: what the progress bar says.
        into: arrays by kind to fill instead of new ones, such as mapped files, and the row of each image there.

    Returns:
        "patches": float16 (n, D, h, w), "pooled", "spatial", "logits": float32 (n, ...); those that were wanted.

    Raises:
        ConfigError: the batch size is not positive.
        KeyError: a kind of feature that the network does not give.
        NumericalError: a feature is NaN, infinite, or (patches) beyond the range of float16.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be positive, got {batch_size}.")
    dtypes = {"patches": np.float16}
    if into is None:
        arrays: Mapping[str, np.ndarray] = {
            kind: np.empty((n, *network.sizes[kind]), dtypes.get(kind, np.float32)) for kind in want
        }
        places = np.arange(n)
    else:
        arrays, places = into
    tensors = itertools.chain(network.parameters(), network.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))  # one without weights has no device
    # An overflow of float16 becomes infinity, which is reported below as an error of its own.
    with progress(title, total=n, unit="images") as bar, torch.inference_mode(), np.errstate(over="ignore"):
        for start in range(0, n, batch_size):
            rows = np.arange(start, min(start + batch_size, n))
            features = network(to_unit(torch.as_tensor(images(rows)).to(device)))
            for kind, array in arrays.items():
                values = getattr(features, kind).cpu().numpy().astype(array.dtype, copy=False)
                array[places[rows]] = values
                if not np.isfinite(values).all():
                    raise NumericalError(f"{network.name} gives {kind} that are not finite for images {start} onwards.")
            bar.update(len(rows))
    return dict(arrays)
