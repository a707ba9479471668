"""What estimates need to know of each stage: the size of its images and splits, and the networks that it runs.

Facts come from what is there (prepared data, tokenizers at hand); before that from the study file and from what the
data sets' publications say.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from vaebench.core.config import build, content_hash
from vaebench.core.errors import ConfigError, VaebenchError
from vaebench.data.base import SPLITS
from vaebench.stages.base import completed
from vaebench.stages.features import FeaturesConfig, NetworkConfig
from vaebench.stages.reference import ReferenceConfig
from vaebench.stages.sit import SiTStageConfig
from vaebench.stages.train import TrainConfig
from vaebench.study.counting import (
    CodingCount,
    NetworkCount,
    Work,
    count_coding,
    count_network,
    count_training_step,
    goes_without_numbers,
    without_weights,
)
from vaebench.study.graph import Graph, Node
from vaebench.tokenizers import load_method, load_tokenizer
from vaebench.tokenizers.autoencoder import AutoencoderConfig, resolve_preset
from vaebench.tokenizers.base import Tokenizer, TrainableTokenizer
from vaebench.tokenizers.method import FittedMethod, TeacherSpec

# Of data whose classes and attributes are not known before they are drawn.
CLASSES, ATTRIBUTES = 10, 40


class Facts:
    """Facts of the stages of a graph, each found once.

    Args:
        graph: the stages.
        root: folder of the study, whose finished data are asked first.
    """

    def __init__(self, graph: Graph, root: Path) -> None:
        self._graph, self._folders = graph, graph.folders(root)
        self._kept: dict[str, Any] = {}

    def of(self, node: Node) -> dict[str, Any]:
        """What `Stage.estimate` of this node may look at.

        Raises:
            ConfigError: a tokenizer that is not at hand and whose architecture the study does not give.
        """
        facts = dict(self.data(node))
        reference = self.above(node, "reference")
        if reference is not None and isinstance(reference.config, ReferenceConfig):
            config, splits = reference.config, self.data(reference)["splits"]
            wanted = {"train": config.train, "test": config.test}
            facts["reference_images"] = sum(n or splits[name] for name, n in wanted.items())
        sit = self.above(node, "sit")
        if sit is not None and isinstance(sit.config, SiTStageConfig):
            facts |= {"sit_preset": sit.config.training.preset, "sit_network": sit.config.training.network}
        if node.kind in {"train", "extract", "reconstruct", "sit", "generate", "probe"}:
            coding = self.coding(node)
            facts |= {"latent_shape": coding.latent_shape, "coding_flops": (coding.encode + coding.decode).total}
            facts["network"] = self._architecture(node)[0]
        if isinstance(node.config, FeaturesConfig) and (counted := self.network(node.config.network)):
            facts["features_shape"] = counted.patches
        return facts

    def data(self, node: Node) -> dict[str, Any]:
        """``image_size``, ``splits``, ``classes`` and ``attributes`` of the node's data, and whether the sizes of its
        splits are ``known``: else they are 0."""
        found = self._data_of(node)
        name = found if isinstance(found, str) else found.id
        return self._once(f"data {name}", lambda: self._read_data(found))

    def coding(self, node: Node) -> CodingCount:
        """Encoding and decoding of an image by the node's tokenizer."""
        size = self.data(node)["image_size"]
        network, method, reference = self._architecture(node)
        key = content_hash([network, None if method is None else [method.name, method.config], reference, size])
        return self._once(f"coding {key}", lambda: count_coding(self._tokenizer(node), size))

    def network(self, config: NetworkConfig) -> NetworkCount | None:
        """A frozen network; None where it cannot be counted."""
        return self._once(f"network {content_hash(config)}", lambda: count_network(config))

    def training_step(self, node: Node) -> tuple[Work, bool]:
        """One image in one step of a tokenizer's training, see `count_training_step`."""
        config = node.config
        assert isinstance(config, TrainConfig)
        method = load_method(config.method, config.options)
        if isinstance(method, FittedMethod):
            return Work(), True
        size = self.data(node)["image_size"]
        training = config.training.model_dump(exclude={"steps", "seed", "learning_rate"})
        network, _, reference = self._architecture(node)
        teacher = self._teacher(node)
        key = content_hash([method.name, method.config, network, reference, training, str(teacher), size])
        return self._once(
            f"step {key}",
            lambda: count_training_step(method, self._bare(node), size, config.training, teacher),
        )

    def _once(self, key: str, find: Any) -> Any:
        if key not in self._kept:
            self._kept[key] = find()
        return self._kept[key]

    def above(self, node: Node, kind: str) -> Node | None:
        """The node itself, or the first above it, of this kind."""
        if node.kind == kind:
            return node
        for other in node.needs.values():
            if (found := self.above(self._graph.nodes[other], kind)) is not None:
                return found
        return None

    def _data_of(self, node: Node) -> Node | str:
        if node.kind == "data":
            return node
        if "data" in node.given:
            return node.given["data"]
        if "data" in node.needs:
            return self._graph.nodes[node.needs["data"]]
        for role in ("latents", "sit", "reference", "reconstruct"):
            if role in node.needs:
                return self._data_of(self._graph.nodes[node.needs[role]])
        return next(other.given["data"] for other in self._graph.nodes.values() if "data" in other.given)

    def _read_data(self, found: Node | str) -> dict[str, Any]:
        folder = Path(found) if isinstance(found, str) else self._folders[found.id]
        if completed(folder) is not None:
            from vaebench.data import open_data

            data = open_data(folder / "data.h5")
            return {
                "image_size": data.info.image_size,
                "classes": len(data.info.classes),
                "attributes": len(data.info.attributes),
                "splits": dict.fromkeys(SPLITS, 0) | {name: len(split) for name, split in data.splits.items()},
                "known": True,
            }
        assert isinstance(found, Node)
        from vaebench.data import DATASETS
        from vaebench.data.listed import ListedSource

        plain = found.config.model_dump()
        options, source = plain["options"], DATASETS.get(plain["name"])
        config = build(source.Config, options, f"data '{plain['name']}'")
        parts: Mapping[str, int] = {name: options[name] for name in SPLITS if options.get(name)}
        if issubclass(source, ListedSource):
            parts = source.expected(config)
        elif not parts and plain["files"]:  # nothing says how many there are, but the files themselves
            with suppress(VaebenchError):  # of files that are not all there yet
                made = source(config)
                sizes = {name: len(split.ids) for name, split in made.plan().items()}
                info = made.describe()
                parts = {**sizes, "classes": len(info.classes), "attributes": len(info.attributes)}
        return {
            "image_size": options["image_size"],
            "classes": parts.get("classes", CLASSES),
            "attributes": parts.get("attributes", ATTRIBUTES),
            "splits": {name: parts.get(name, 0) for name in SPLITS},
            "known": any(parts.get(name) for name in SPLITS),
        }

    def _architecture(self, node: Node) -> tuple[AutoencoderConfig | None, Any, str | None]:
        """Architecture where it is known, the method that builds it (if one does), and the outside tokenizer."""
        if isinstance(node.config, TrainConfig) and isinstance(node.config.network, AutoencoderConfig):
            return node.config.network, load_method(node.config.method, node.config.options), None
        for role in ("init", "tokenizer", "latents", "sit"):
            if role in node.needs:
                return self._architecture(self._graph.nodes[node.needs[role]])
            if role in node.given and role in {"init", "tokenizer"}:
                return self._outside(node.given[role])
        given = (other.given["tokenizer"] for other in self._graph.nodes.values() if "tokenizer" in other.given)
        return self._outside(next(given))

    def _outside(self, reference: str) -> tuple[AutoencoderConfig | None, None, str]:
        declared = self._graph.networks.get(reference)
        if reference not in self._graph.missing:
            return None, None, reference
        if declared is None:
            raise ConfigError(
                f"What '{reference}' costs cannot be told: {self._graph.missing[reference]}",
                "Or give its architecture as 'network' (such as f16d32) beside 'load'.",
            )
        network = resolve_preset(declared if isinstance(declared, str) else build(AutoencoderConfig, declared))
        return network, None, reference

    def _tokenizer(self, node: Node) -> Tokenizer:
        network, method, reference = self._architecture(node)
        if network is not None:
            return without_weights(method, network, self.data(node)["image_size"])
        return load_tokenizer(str(reference))

    def _bare(self, node: Node) -> TrainableTokenizer:
        """The tokenizer on the meta device if it can be there."""
        tokenizer = self._tokenizer(node)
        if not isinstance(tokenizer, TrainableTokenizer):
            raise ConfigError(f"The tokenizer that '{node.id}' starts from has no network that can be trained.")
        if self._architecture(node)[0] is None and not goes_without_numbers(tokenizer, self.data(node)["image_size"]):
            return cast(TrainableTokenizer, self._tokenizer(node))
        return tokenizer

    def _teacher(self, node: Node) -> TeacherSpec | None:
        if "features" not in node.needs:
            return None
        config = self._graph.nodes[node.needs["features"]].config
        assert isinstance(config, FeaturesConfig)
        counted = self.network(config.network)
        if counted is None:
            return None
        channels, height, width = counted.patches
        return TeacherSpec(config.network.name, channels, (height, width))
