"""Real photographs that scikit-image and scikit-learn ship."""

import numpy as np
import pytest
import torch
from skimage import data
from sklearn.datasets import load_sample_image

from vaebench.vision.transforms import centre_crop_resize, to_unit


@pytest.fixture(scope="session")
def photographs() -> dict[str, np.ndarray]:
    """uint8 arrays (H, W, 3) or (H, W)."""
    own = {name: getattr(data, name)() for name in ("chelsea", "coffee", "camera", "astronaut", "rocket", "page")}
    return own | {"china": load_sample_image("china.jpg"), "flower": load_sample_image("flower.jpg")}


@pytest.fixture(scope="session")
def images(photographs: dict[str, np.ndarray]) -> torch.Tensor:
    """The photographs as float (8, 3, 128, 128) in [0, 1]."""
    return to_unit(np.stack([centre_crop_resize(photograph, 128) for photograph in photographs.values()]))
