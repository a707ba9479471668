"""Latents and attributes as the metrics of this room take them."""

from collections.abc import Callable

import numpy as np
import pytest

from vaebench.data.base import DataInfo
from vaebench.metrics.base import LatentSplit, MetricInputs


@pytest.fixture(scope="session")
def made() -> Callable[..., MetricInputs]:
    """(latents (n, d, h, w) or (n, d), attributes (n, A)) cut into three equal splits."""

    def make(latents: np.ndarray, y: np.ndarray, **info: object) -> MetricInputs:
        third = len(y) // 3
        parts = (slice(0, third), slice(third, 2 * third), slice(2 * third, 3 * third))
        latents = latents.reshape(*latents.shape, *(1,) * (4 - latents.ndim)).astype(np.float32)
        splits = [LatentSplit(latents[part], attributes=y[part]) for part in parts]
        about = DataInfo("toy", 8, attributes=tuple(f"a{i}" for i in range(y.shape[1])), **info)
        return MetricInputs(*splits, about, np.zeros(latents.shape[1]), np.ones(latents.shape[1]))

    return make
