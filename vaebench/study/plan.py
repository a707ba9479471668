"""What a study will do and cost, before anything starts.

The estimate is rough and says so: floating-point operations counted on the networks themselves over the matrix-product
rate measured on this machine now, times the share of it that such work reaches, plus constants for reading and
drawing. Where a stage of the same kind has already run in the study, its time is used instead.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from vaebench.stages.base import completed
from vaebench.stages.reference import ReferenceConfig
from vaebench.stages.sit import SiTStageConfig
from vaebench.stages.train import TrainConfig, autoencoder_cost
from vaebench.study.graph import Graph
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.autoencoder import AutoencoderConfig

# Share of the machine's matrix-product rate that a whole stage reaches, measured with the quickstart on two cores.
EFFICIENCY = {"train": 0.8, "sit": 0.6, "extract": 1.0, "reconstruct": 1.0, "generate": 0.8}


@dataclass(frozen=True)
class PlannedStage:
    """One line of the plan: seconds and bytes are estimates while ``done`` is False, facts when it is True."""

    id: str
    kind: str
    folder: Path
    done: bool
    seconds: float
    disk_bytes: float


def plan(graph: Graph, root: Path, device: str) -> list[PlannedStage]:
    """The stages in order, with what is done and an estimate of the rest."""
    rate = matmul_rate(device)
    facts = study_facts(graph, root)
    folders = graph.folders(root)
    records = {node_id: completed(folder) for node_id, folder in folders.items()}
    seen: dict[str, list[float]] = {}
    for node in graph.nodes.values():
        record = records[node.id]
        if record is not None:
            seen.setdefault(node.kind, []).append(record["seconds"])
    lines = []
    for node in graph.nodes.values():
        record, folder = records[node.id], folders[node.id]
        if record is not None:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            lines.append(PlannedStage(node.id, node.kind, folder, True, record["seconds"], size))
            continue
        cost = node.stage.estimate(node.config, facts)
        seconds = cost.seconds + cost.flops / (rate * EFFICIENCY.get(node.kind, 0.3))
        # Stages of these kinds cost the same for every tokenizer of a study, so a finished one tells the truth.
        if node.kind in {"extract", "reconstruct", "probe"} and node.kind in seen:
            seconds = mean(seen[node.kind])
        lines.append(PlannedStage(node.id, node.kind, folder, False, seconds, cost.disk_bytes))
    return lines


def matmul_rate(device: str) -> float:
    """float32 matrix-product rate of the device in FLOP/s, best of a few 1024 x 1024 products."""
    import torch

    matrix = torch.ones(1024, 1024, device=device)
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])
        best = max(best, 2 * 1024**3 / (time.perf_counter() - began))
    return best


def study_facts(graph: Graph, root: Path) -> dict[str, Any]:
    """What estimates need to know: image and split sizes, classes, latent shape, cost of coding an image.

    Facts come from the prepared data where they exist, else from the data's configuration. Architectures that differ
    within a study are all counted as the first.
    """
    facts: dict[str, Any] = {"splits": dict.fromkeys(("train", "validation", "test"), 0), "classes": 10}
    data = graph.nodes.get("data")
    if data is not None:
        options = data.config.model_dump()["options"]
        facts["image_size"] = options["image_size"]
        facts["splits"] |= {name: options[name] for name in facts["splits"] if options.get(name)}
    prepared = graph.folders(root)["data"] if data is not None else Path(_given(graph, "data"))
    if completed(prepared) is not None:
        from vaebench.data import open_data

        dataset = open_data(prepared / "data.h5")
        facts |= {"image_size": dataset.info.image_size, "classes": len(dataset.info.classes)}
        facts["splits"] |= {name: len(split) for name, split in dataset.splits.items()}
    for node in graph.nodes.values():
        if isinstance(node.config, ReferenceConfig):
            wanted = {"train": node.config.train, "test": node.config.test}
            facts["reference_images"] = sum(n or facts["splits"][name] for name, n in wanted.items())
        if isinstance(node.config, SiTStageConfig):
            facts |= {"sit_preset": node.config.training.preset, "sit_network": node.config.training.network}
    facts["network"], f, d = _architecture(graph)
    side = max(facts["image_size"] // f, 1)
    facts["latent_shape"] = (d, side, side)
    facts["coding_flops"] = autoencoder_cost(facts["network"], facts["image_size"])[0] if facts["network"] else 0.0
    return facts


def _given(graph: Graph, role: str) -> str:
    return next(node.given[role] for node in graph.nodes.values() if role in node.given)


def _architecture(graph: Graph) -> tuple[Any, int, int]:
    """Network configuration (None for a ready tokenizer), f and d."""
    for node in graph.nodes.values():
        if isinstance(node.config, TrainConfig) and isinstance(node.config.network, AutoencoderConfig):
            return node.config.network, node.config.network.f, node.config.network.latent_channels
    spec = load_tokenizer(_given(graph, "tokenizer")).spec
    return None, spec.f, spec.d
