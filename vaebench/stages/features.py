"""Stage ``features``: a frozen teacher's patch features of the training images, computed once.

Valid because tokenizer training uses no augmentation when features are cached.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from vaebench.core.config import Config, build
from vaebench.core.files import require_space, sha256_once, write_json
from vaebench.core.scores import Score
from vaebench.data import open_data
from vaebench.data.base import SplitName
from vaebench.stages.arrays import create_dataset, load_array, map_dataset
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.vision import NETWORKS, extract, load_network

FILE, PATCHES = "features.h5", "patches"


class NetworkConfig(Config):
    """A frozen network by name, with options of its own (input size, layer, weights ...). The name alone will do.

    ``files`` is filled in: the SHA-256 of what those options name that are paths of files, such as weights. So is
    ``code``: the hash of a network that comes from outside.
    """

    name: str
    options: dict[str, Any] = {}
    files: dict[str, str] = Field(default={}, exclude_if=lambda files: not files)
    code: str = Field(default="", exclude_if=lambda code: not code)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def resolved(self) -> "NetworkConfig":
        """With the defaults of the network's own options filled in."""
        options = build(NETWORKS.get(self.name).Config, self.options, f"network '{self.name}'")
        return NetworkConfig(
            name=self.name,
            options=options.model_dump(mode="json"),
            files=named_files(options),
            code=NETWORKS.code(self.name),
        )

    @property
    def paths(self) -> list[str]:
        """Of the files whose content is known."""
        return [str(self.options[option]) for option in self.files]


def named_files(options: Config) -> dict[str, str]:
    """Option -> SHA-256 of the file whose path it is, if it is one; of options that are a `Path`."""
    return {name: sha256_once(path) for name, path in options if isinstance(path, Path) and path.is_file()}


class FeaturesConfig(Config):
    """Which teacher, on which split."""

    network: NetworkConfig = NetworkConfig(name="efficientnet-lite0")
    split: SplitName = "train"
    batch_size: int = Field(64, gt=0)


class FeaturesStage(Stage[FeaturesConfig]):
    """Leaves ``features.h5`` (data set "patches", float16, N x D x h x w) and ``teacher.json`` (name, weights hash,
    shape), which are the data set's attributes too.

    The file is filled as features come: of ImageNet they are hundreds of gigabytes and pass through no memory.
    """

    kind = "features"
    Config = FeaturesConfig
    parallel = True

    def resolve(self, config: FeaturesConfig) -> FeaturesConfig:
        return config.model_copy(update={"network": config.network.resolved()})

    def outside(self, config: FeaturesConfig) -> list[str]:
        return config.network.paths

    def run(self, config: FeaturesConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        dataset = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5")
        split = dataset.split(config.split)
        network = load_network(config.network.name, device=context.torch_device(), **config.network.options)
        processes = context.processes()
        shape = (len(split), *network.sizes["patches"])
        teacher = {
            "name": config.network.name,
            "weights_hash": network.weights_hash,
            "channels": shape[1],
            "grid": list(shape[2:]),
        }
        if processes.main:
            require_space(folder, 2 * math.prod(shape))
            about = {**teacher, "data": dataset.info.fingerprint, "split": config.split}
            create_dataset(folder / FILE, PATCHES, shape, np.dtype(np.float16), about)
        processes.wait()
        rows = processes.rows(len(split), config.batch_size)
        patches = map_dataset(folder / FILE, PATCHES, "r+")
        extract(
            network,
            lambda indices: split.images(rows[indices]),
            len(rows),
            batch_size=config.batch_size,
            want=("patches",),
            title="teacher features",
            into=({"patches": patches}, rows),
        )
        patches.flush()  # type: ignore[attr-defined]
        processes.wait()
        if processes.main:
            write_json(folder / "teacher.json", teacher)
        return []

    def estimate(self, config: FeaturesConfig, facts: Mapping[str, Any]) -> Estimate:
        images = facts["splits"][config.split]
        return Estimate(
            seconds=images / 300, disk_bytes=2 * images * math.prod(facts.get("features_shape", (1280, 4, 4)))
        )


def load_patches(folder: Path) -> np.ndarray:
    """The patches (N, D, h, w) that a folder of this stage holds, mapped from the file.

    Raises:
        MissingPath, DataError: they are not there, or the file is truncated or foreign.
    """
    older = folder / "patches.npy"  # as this stage left them before features.h5
    return load_array(older) if older.is_file() else map_dataset(folder / FILE, PATCHES)
