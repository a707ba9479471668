"""Stage ``reference``: features of real images, to which rFID and gFID compare.

gFID has the training images as its reference (a generator should give the training law), rFID the test images that are
reconstructed. The two references are never mixed.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.core.config import Config
from vaebench.core.files import write_json
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.data import open_data
from vaebench.data.base import ImageSplit
from vaebench.stages.arrays import save_array
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.features import NetworkConfig
from vaebench.vision import extract, load_network


class ReferenceConfig(Config):
    """Which feature network, and how many images of each split (0: all)."""

    network: NetworkConfig = NetworkConfig(name="mobilenetv2")
    train: int = 0
    test: int = 0
    batch_size: int = 64
    seed: int = 0


class ReferenceStage(Stage[ReferenceConfig]):
    """Leaves ``<split>.npy`` (float32 features) and ``<split>_rows.npy`` for train and test, and ``network.json``."""

    kind = "reference"
    Config = ReferenceConfig

    def resolve(self, config: ReferenceConfig) -> ReferenceConfig:
        return config.model_copy(update={"network": config.network.resolved()})

    def run(self, config: ReferenceConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        dataset = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5")
        network = load_network(config.network.name, device=context.torch_device(), **config.network.options)
        for name, wanted in (("train", config.train), ("test", config.test)):
            split = dataset.splits[name]
            rows = choose_rows(len(split), wanted, config.seed, name)
            features = extract(
                network,
                partial(_images, split, rows),
                len(rows),
                batch_size=config.batch_size,
                want=("pooled",),
                title=f"reference features, {name}",
            )
            save_array(folder / f"{name}.npy", features["pooled"])
            save_array(folder / f"{name}_rows.npy", rows)
        write_json(
            folder / "network.json",
            {"name": config.network.name, "options": config.network.options, "weights_hash": network.weights_hash},
        )
        return []

    def estimate(self, config: ReferenceConfig, facts: Mapping[str, Any]) -> Estimate:
        images = sum(
            wanted or facts["splits"][name] for name, wanted in (("train", config.train), ("test", config.test))
        )
        return Estimate(seconds=images / 500, disk_bytes=images * 1280 * 4)


def _images(split: ImageSplit, rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return split.images(rows[indices])


def choose_rows(n: int, wanted: int, seed: int, split: str) -> np.ndarray:
    """Sorted rows of a random subset of size ``wanted`` (all rows when 0 or more than there are)."""
    if wanted == 0 or wanted >= n:
        return np.arange(n)
    return np.sort(numpy_generator(seed, "reference rows", split).permutation(n)[:wanted])
