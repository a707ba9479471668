"""What a study will do and cost, before anything starts: here, and in GPU-hours.

Both rest on the floating-point operations counted on the networks themselves (`vaebench.study.cost`). Here they go over
the matrix-product rate measured on this machine now, times the share of it that such work reaches, plus constants for
reading and drawing; where a stage of the same kind has already run in the study, its time is used instead.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from vaebench.core.errors import VaebenchError
from vaebench.stages.base import completed
from vaebench.study.cost import Gpu, stage_work
from vaebench.study.counting import CodingCount, Work
from vaebench.study.facts import Facts
from vaebench.study.graph import Graph
from vaebench.study.slim import wanting

# Share of the machine's matrix-product rate that a whole stage reaches, measured with the quickstart on two cores.
EFFICIENCY = {"train": 0.8, "sit": 0.6, "generate": 0.8}
# Kinds whose other time includes the operations of their small networks; what is larger counts.
WHOLE = frozenset({"data", "features", "reference", "probe", "score"})


@dataclass(frozen=True)
class PlannedStage:
    """One line of the plan: seconds and bytes are estimates while ``done`` is False, facts when it is True.

    Attributes:
        id, kind, folder: of the stage.
        done: whether it is complete.
        seconds: on this machine.
        disk_bytes: of its folder.
        work: floating-point operations.
        left_out: what of the work could not be counted, "" if nothing.
        sized: whether the number of its images is known; where it is not, an estimate of 0 means nothing.
    """

    id: str
    kind: str
    folder: Path
    done: bool
    seconds: float
    disk_bytes: float
    work: Work = field(default_factory=Work)
    left_out: str = ""
    sized: bool = True


@dataclass(frozen=True)
class Assumptions:
    """What turns operations into GPU-hours."""

    gpu: Gpu
    utilisation: float

    def hours(self, work: Work) -> float:
        """GPU-hours of this work."""
        return self.gpu.seconds(work, self.utilisation) / 3600


def plan(graph: Graph, root: Path, device: str) -> list[PlannedStage]:
    """The stages in order, with what is done and an estimate of the rest."""
    rate = matmul_rate(device)
    facts = Facts(graph, root)
    folders = graph.folders(root)
    again = set(wanting(graph, folders))
    records = {name: None if name in again else completed(folder) for name, folder in folders.items()}
    todo = {node.kind for node in graph.nodes.values() if records[node.id] is None}
    # Stages of these kinds cost the same for all tokenizers of one network and latent shape on the same data.
    alike: dict[str, tuple[str, str, CodingCount]] = {}
    for node in graph.nodes.values():
        if node.kind in todo & {"extract", "reconstruct", "probe", "score"}:
            with suppress(VaebenchError):  # of a tokenizer that is gone, whose stages may be complete all the same
                alike[node.id] = (node.kind, str(facts.data(node)), facts.coding(node))
    seen: dict[tuple[str, str, CodingCount], list[float]] = {}
    for node_id, key in alike.items():
        if (record := records[node_id]) is not None:
            seen.setdefault(key, []).append(record["seconds"])
    lines = []
    for node in graph.nodes.values():
        record, folder = records[node.id], folders[node.id]
        if record is not None:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            lines.append(PlannedStage(node.id, node.kind, folder, True, record["seconds"], size))
            continue
        cost, counted = node.stage.estimate(node.config, facts.of(node)), stage_work(node, facts)
        computing = counted.work.total / (rate * EFFICIENCY.get(node.kind, 1.0))
        seconds = max(cost.seconds, computing) if node.kind in WHOLE else cost.seconds + computing
        if node.id in alike and alike[node.id] in seen:
            seconds = mean(seen[alike[node.id]])
        sized = facts.data(node)["known"]
        unknown = "" if sized else "images of data whose number is not known before they are there"
        left_out = ", ".join(filter(None, (counted.left_out, unknown)))
        lines.append(
            PlannedStage(node.id, node.kind, folder, False, seconds, cost.disk_bytes, counted.work, left_out, sized)
        )
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
