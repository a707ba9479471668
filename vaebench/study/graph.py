"""From a study to a graph of stages, each with its configuration, its inputs and its content-addressed folder."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaebench.core.config import Config, build
from vaebench.core.errors import ConfigError, suggest
from vaebench.stages import STAGES
from vaebench.stages.base import Stage, input_hash, stage_hash
from vaebench.study.spec import StudySpec, TokenizerEntry

# Where an input comes from: "needs" maps roles to nodes of the graph, "given" to paths or names from outside.
Source = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Node:
    """One stage of a study.

    Attributes:
        id: readable and unique within the study.
        kind: stage kind.
        config: resolved configuration.
        needs: role -> id of the node that provides it.
        given: role -> path or name of an input from outside the study.
        hash: identity of the result.
        tokenizer, seed, budget: what the result is about, for tables.
    """

    id: str
    kind: str
    config: Config
    needs: dict[str, str]
    given: dict[str, str]
    hash: str
    tokenizer: str | None = None
    seed: int | None = None
    budget: dict[str, float] = field(default_factory=dict)

    @property
    def stage(self) -> Stage[Any]:
        """The stage that carries this node out."""
        return STAGES.get(self.kind)()

    @property
    def folder_name(self) -> str:
        """Readable name with the head of the hash, below the study's ``stages`` folder."""
        return f"{self.id}-{self.hash[:10]}"


class Graph:
    """Nodes in an order in which each comes after what it needs."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def add(
        self,
        node_id: str,
        kind: str,
        config: Mapping[str, Any],
        needs: Mapping[str, str] | None = None,
        given: Mapping[str, str] | None = None,
        **subject: Any,
    ) -> str:
        """Add a node, validating its configuration; returns its id.

        Raises:
            ConfigError: the configuration is not valid for that stage.
        """
        stage = STAGES.get(kind)()
        needs, given = dict(needs or {}), dict(given or {})
        resolved = stage.resolve(build(stage.Config, config, f"'{node_id}'"))
        hashes = {role: self.nodes[other].hash for role, other in needs.items()}
        hashes |= {role: input_hash(role, reference) for role, reference in given.items()}
        identity = stage_hash(stage, resolved, hashes)
        self.nodes[node_id] = Node(node_id, kind, resolved, needs, given, identity, **subject)
        return node_id

    def folders(self, root: Path) -> dict[str, Path]:
        """Node id -> folder of its result."""
        return {node.id: root / "stages" / node.folder_name for node in self.nodes.values()}

    def inputs(self, node: Node, root: Path) -> dict[str, str]:
        """Role -> path (or outside reference) of a node's inputs."""
        folders = self.folders(root)
        return {role: str(folders[other]) for role, other in node.needs.items()} | node.given


def build_graph(spec: StudySpec) -> Graph:
    """The stages of a study: data, teacher features and references once; the rest per tokenizer and seed.

    Raises:
        ConfigError: an ``init`` that is unknown or runs in a circle, or a section that its stage refuses.
    """
    graph = Graph()
    graph.add("data", "data", spec.data)
    graph.add("reference", "reference", spec.reference, {"data": "data"})
    entries = {entry.name: entry for entry in spec.tokenizers}
    for seed, name in itertools.product(spec.seeds, _in_order(entries)):
        tokenizer = _add_tokenizer(graph, spec, entries[name], entries, seed)
        if entries[name].evaluate:
            add_evaluation(graph, spec, name, seed, tokenizer)
    return graph


def _in_order(entries: Mapping[str, TokenizerEntry]) -> list[str]:
    """Names so that each comes after the entry it starts from."""
    order: list[str] = []

    def visit(name: str, below: tuple[str, ...]) -> None:
        if name in below:
            raise ConfigError(f"Tokenizers start from each other in a circle: {' -> '.join([*below, name])}.")
        if name in order:
            return
        start = entries[name].init
        if start is not None and start in entries:
            visit(start, (*below, name))
        order.append(name)

    for name in entries:
        visit(name, ())
    return order


def _needs_teacher(entry: TokenizerEntry) -> bool:
    from vaebench.tokenizers import load_method

    return load_method(str(entry.method), entry.options).needs_teacher


def _add_tokenizer(
    graph: Graph, spec: StudySpec, entry: TokenizerEntry, entries: Mapping[str, TokenizerEntry], seed: int
) -> Source:
    """Add what makes the tokenizer; returns where later stages find it, as ``needs`` or ``given``."""
    if entry.load is not None:
        return {"given": {"tokenizer": entry.load}}
    needs, given = {"data": "data"}, {}
    if entry.init in entries:
        needs["init"] = f"train-{entry.init}-s{seed}"
        if entries[str(entry.init)].load is not None:
            del needs["init"]
            given["init"] = str(entries[str(entry.init)].load)
    elif entry.init is not None:
        if not Path(entry.init).exists() and ":" not in entry.init and "/" not in entry.init:
            raise ConfigError(
                f"Tokenizer '{entry.name}' starts from '{entry.init}', which is no entry of this study and no path.",
                suggest(entry.init, entries),
            )
        given["init"] = entry.init
    if _needs_teacher(entry):
        if "features" not in graph.nodes:
            graph.add("features", "features", spec.features, {"data": "data"})
        needs["features"] = "features"
    config: dict[str, Any] = {
        "method": entry.method,
        "options": entry.options,
        "training": {**spec.training, **entry.training, "seed": seed},
    }
    if entry.init is None:
        config["network"] = entry.network or spec.network
    node = graph.add(f"train-{entry.name}-s{seed}", "train", config, needs, given, tokenizer=entry.name, seed=seed)
    return {"needs": {"tokenizer": node}}


def add_evaluation(graph: Graph, spec: StudySpec, name: str, seed: int, tokenizer: Source) -> None:
    """Add extraction, reconstruction, probe, SiT and every generation budget of one tokenizer and seed."""
    tag = f"{name}-s{seed}"
    made, given = dict(tokenizer.get("needs", {})), dict(tokenizer.get("given", {}))
    # A ready tokenizer has no training seed: what does not depend on one is done once for all seeds.
    own_tag = tag if made else name
    own: dict[str, Any] = {"tokenizer": name, "seed": seed if made else None}
    latents = graph.add(f"extract-{own_tag}", "extract", spec.extract, {"data": "data", **made}, given, **own)
    reconstruct = graph.add(
        f"reconstruct-{own_tag}",
        "reconstruct",
        spec.reconstruct,
        {"data": "data", "reference": "reference", **made},
        given,
        **own,
    )
    graph.add(f"probe-{own_tag}", "probe", spec.probe, {"latents": latents}, **own)
    add_generation(graph, spec, name, seed, {"needs": {"latents": latents}}, tokenizer, reconstruct)


def add_generation(
    graph: Graph,
    spec: StudySpec,
    name: str,
    seed: int,
    latents: Source,
    tokenizer: Source,
    reconstruct: str,
) -> None:
    """Add the SiT of one tokenizer and seed, and every generation budget."""
    tag, subject = f"{name}-s{seed}", {"tokenizer": name, "seed": seed}
    sweep = spec.generate
    if not sweep.steps:
        return
    with_repa = bool((spec.sit.get("repa") or {}).get("weight"))
    if with_repa and "features" not in graph.nodes:
        if "data" not in graph.nodes:
            raise ConfigError("REPA needs teacher features, and these latents come alone.", "Use a study file.")
        graph.add("features", "features", spec.features, {"data": "data"})
    sit = graph.add(
        f"sit-{tag}",
        "sit",
        {"training": {**spec.sit, "seed": seed, "steps": max(sweep.steps)}, "snapshots": sorted(set(sweep.steps))},
        {**latents.get("needs", {}), **({"features": "features"} if with_repa else {})},
        latents.get("given"),
        **subject,
    )
    made, given = tokenizer.get("needs", {}), tokenizer.get("given", {})
    for steps, cfg, nfe in itertools.product(sorted(set(sweep.steps)), sweep.cfg, sweep.nfe):
        graph.add(
            f"generate-{tag}-steps{steps}-cfg{cfg:g}-nfe{nfe}",
            "generate",
            {**sweep.settings, "steps": steps, "cfg": cfg, "nfe": nfe},
            {"sit": sit, "reference": "reference", "reconstruct": reconstruct, **made},
            given,
            **subject,
            budget={"steps": steps, "cfg": cfg, "nfe": nfe},
        )
