"""Stage ``features``: a frozen teacher's patch features of the training images, computed once.

Valid because tokenizer training uses no augmentation when features are cached.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebench.core.config import Config, build
from vaebench.core.files import write_json
from vaebench.core.scores import Score
from vaebench.data import open_data
from vaebench.stages.arrays import save_array
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.vision import NETWORKS, extract, load_network


class NetworkConfig(Config):
    """A frozen network by name, with options of its own (input size, layer, weights ...)."""

    name: str
    options: dict[str, Any] = {}

    def resolved(self) -> "NetworkConfig":
        """With the defaults of the network's own options filled in."""
        options = build(NETWORKS.get(self.name).Config, self.options, f"network '{self.name}'")
        return NetworkConfig(name=self.name, options=options.model_dump(mode="json"))


class FeaturesConfig(Config):
    """Which teacher, on which split."""

    network: NetworkConfig = NetworkConfig(name="efficientnet-lite0")
    split: str = "train"
    batch_size: int = 64


class FeaturesStage(Stage[FeaturesConfig]):
    """Leaves ``patches.npy`` (float16, N x D x h x w) and ``teacher.json`` (name, weights hash, shape)."""

    kind = "features"
    Config = FeaturesConfig

    def resolve(self, config: FeaturesConfig) -> FeaturesConfig:
        return config.model_copy(update={"network": config.network.resolved()})

    def run(self, config: FeaturesConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        split = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5").splits[config.split]
        network = load_network(config.network.name, device=context.torch_device(), **config.network.options)
        features = extract(
            network, split.images, len(split), batch_size=config.batch_size, want=("patches",), title="teacher features"
        )
        save_array(folder / "patches.npy", features["patches"])
        shape = features["patches"].shape
        write_json(
            folder / "teacher.json",
            {
                "name": config.network.name,
                "weights_hash": network.weights_hash,
                "channels": shape[1],
                "grid": list(shape[2:]),
            },
        )
        return []

    def estimate(self, config: FeaturesConfig, facts: Mapping[str, Any]) -> Estimate:
        images = facts["splits"][config.split]
        return Estimate(seconds=images / 300, disk_bytes=images * 1280 * 16 * 2)
