"""From a study to a graph of stages, each with its configuration, its inputs and its content-addressed folder."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaebench.core.config import Config, build, content_hash, refuse_elsewhere
from vaebench.core.errors import ConfigError, MissingPath, MissingWeights, suggest
from vaebench.stages import STAGES
from vaebench.stages.base import Stage, input_hash, stage_hash
from vaebench.stages.generate import GenerateConfig
from vaebench.stages.reference import reference_parts
from vaebench.study.controls import control_entries
from vaebench.study.reading import merged
from vaebench.study.spec import GenerateSweep, StudySpec, TokenizerEntry
from vaebench.tokenizers import TOKENIZERS

# A folder's name may have 255 bytes on most disks; hashes and suffixes need some of them.
LONGEST_NAME = 160
# Where settings are made that each stage gets from the study, or from the command for a single tokenizer.
SEEDS = "seeds (--seed)"
SWEPT = {"steps": "generate.steps (--steps)", "cfg": "generate.cfg (--cfg)", "nfe": "generate.nfe (--nfe)"}
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
    """Nodes in an order in which each comes after what it needs.

    Attributes:
        nodes: by id.
        tolerant: take inputs from outside that are not there yet, for a plan; their nodes have no true hash.
        missing: such an input -> why it cannot be had.
        networks: input from outside -> the architecture that the study says it has.
    """

    def __init__(self, tolerant: bool = False) -> None:
        self.nodes: dict[str, Node] = {}
        self.tolerant = tolerant
        self.missing: dict[str, str] = {}
        self.networks: dict[str, str | dict[str, Any]] = {}
        self._given: dict[tuple[str, str], str] = {}

    def add(
        self,
        node_id: str,
        kind: str,
        config: Mapping[str, Any],
        needs: Mapping[str, str] | None = None,
        given: Mapping[str, str] | None = None,
        **subject: Any,
    ) -> str:
        """Add a node, validating its configuration; returns its id. One that is there already is added once.

        Raises:
            ConfigError: the configuration is not valid for that stage, or another stage has that name.
        """
        if node_id != Path(node_id).name or not node_id.isprintable() or len(node_id) > LONGEST_NAME:
            raise ConfigError(
                f"{node_id!r} cannot name a folder.", f"Use names without '/', of at most {LONGEST_NAME} characters."
            )
        stage = STAGES.get(kind)()
        needs, given = dict(needs or {}), dict(given or {})
        resolved = stage.resolve(build(stage.Config, config, f"'{node_id}'"))
        hashes = {role: self.nodes[other].hash for role, other in needs.items()}
        hashes |= {role: self._given_hash(role, reference) for role, reference in given.items()}
        identity = stage_hash(stage, resolved, hashes)
        node = Node(node_id, kind, resolved, needs, given, identity, **subject)
        other = self.nodes.setdefault(node_id, node)
        if other != node:
            raise ConfigError(
                f"Two stages would be called '{node_id}': one of {_subject(other)} and one of {_subject(node)}.",
                "Rename a tokenizer, backbone, teacher or entry of probe_data.",
            )
        return node_id

    def _given_hash(self, role: str, reference: str) -> str:
        key = (role, reference)
        if key not in self._given:
            try:
                self._given[key] = input_hash(role, reference)
            except (MissingPath, MissingWeights) as error:
                if not self.tolerant:
                    raise
                self.missing[reference] = str(error)
                self._given[key] = content_hash({"missing": reference})
        return self._given[key]

    def folders(self, root: Path) -> dict[str, Path]:
        """Node id -> folder of its result."""
        return {node.id: root / "stages" / node.folder_name for node in self.nodes.values()}

    def inputs(self, node: Node, root: Path) -> dict[str, str]:
        """Role -> path (or outside reference) of a node's inputs."""
        folders = self.folders(root)
        return {role: str(folders[other]) for role, other in node.needs.items()} | node.given


def _subject(node: Node) -> str:
    """What a stage is about, in words."""
    about = f"tokenizer '{node.tokenizer}'" if node.tokenizer is not None else f"'{node.kind}' of the whole study"
    about += f", seed {node.seed}" if node.seed is not None else ""
    variant = getattr(node.config, "variant", "")
    return about + (f", '{variant}'" if variant else "")


def build_graph(spec: StudySpec, tolerant: bool = False) -> Graph:
    """The stages of a study: data, teacher features and references once; the rest per tokenizer and seed.

    Args:
        spec: the study.
        tolerant: for a plan of a study whose pretrained weights are not there yet, see `Graph`.

    Raises:
        ConfigError: an ``init`` that is unknown or runs in a circle, or a section that its stage refuses.
        MissingPath, MissingWeights: a ready tokenizer is not there.
    """
    graph = Graph(tolerant)
    graph.add("data", "data", spec.data)
    reference, batches = reference_parts(spec.reference)
    graph.add("reference", "reference", reference, {"data": "data"}, batches)
    for name, settings in spec.probe_data.items():
        graph.add(f"data-{name}", "data", settings)
    entries = {entry.name: entry for entry in (*spec.tokenizers, *control_entries(spec))}
    graph.networks |= {e.load: e.network for e in spec.tokenizers if e.load is not None and e.network is not None}
    order = _in_order(entries)
    for seed in dict.fromkeys(seed for name in order for seed in spec.seeds_of(entries[name])):
        for entry in (entries[name] for name in order if seed in spec.seeds_of(entries[name])):
            tokenizer = _add_tokenizer(graph, spec, entry, entries, seed)
            if entry.evaluate:
                add_evaluation(graph, spec, entry, seed, tokenizer)
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
        registered = entry.init.partition("?")[0] in TOKENIZERS
        if not (registered or Path(entry.init).exists() or ":" in entry.init or "/" in entry.init):
            raise ConfigError(
                f"Tokenizer '{entry.name}' starts from '{entry.init}', which is no entry of this study, no path and no "
                "registered tokenizer.",
                suggest(entry.init, entries),
            )
        given["init"] = entry.init
    if _needs_teacher(entry):
        needs["features"] = _add_features(graph, spec, entry.teacher)
    elif entry.teacher is not None:
        raise ConfigError(f"Tokenizer '{entry.name}' has a teacher, and method '{entry.method}' takes none.")
    training = {**spec.training, **entry.training}
    refuse_elsewhere(training, f"training of tokenizer '{entry.name}'", {"seed": SEEDS})
    config: dict[str, Any] = {
        "method": entry.method,
        "options": entry.options,
        "training": {**training, "seed": seed},
    }
    if entry.init is None:
        config["network"] = entry.network or spec.network
    node = graph.add(f"train-{entry.name}-s{seed}", "train", config, needs, given, tokenizer=entry.name, seed=seed)
    return {"needs": {"tokenizer": node}}


def _add_features(graph: Graph, spec: StudySpec, teacher: str | None = None) -> str:
    """Add the features of a teacher (default: the study's), once."""
    node = "features" if teacher is None else f"features-{teacher}"
    if node not in graph.nodes:
        if "data" not in graph.nodes:
            raise ConfigError("A teacher's features need data, and these latents come alone.", "Use a study file.")
        settings = spec.features if teacher is None else spec.teachers[teacher]
        graph.add(node, "features", settings, {"data": "data"})
    return node


def add_evaluation(graph: Graph, spec: StudySpec, entry: TokenizerEntry, seed: int, tokenizer: Source) -> None:
    """Add all that is measured of one tokenizer and seed: latents, scores, SiT and every generation budget."""
    made, given = dict(tokenizer.get("needs", {})), dict(tokenizer.get("given", {}))
    # A ready tokenizer has no training seed: what does not depend on one is done once for all seeds.
    own_tag = f"{entry.name}-s{seed}" if made else entry.name
    own: dict[str, Any] = {"tokenizer": entry.name, "seed": seed if made else None}
    latents = graph.add(f"extract-{own_tag}", "extract", spec.extract, {"data": "data", **made}, given, **own)
    reconstruct = graph.add(
        f"reconstruct-{own_tag}",
        "reconstruct",
        spec.reconstruct,
        {"data": "data", "reference": "reference", **made},
        given,
        **own,
    )
    if spec.probe is not None and not spec.probe_data:
        graph.add(f"probe-{own_tag}", "probe", spec.probe, {"latents": latents}, **own)
    for name in spec.probe_data:
        # Probes need every split and no mirrored images, whatever generation needs of its own latents.
        settings = {key: value for key, value in spec.extract.items() if key not in {"splits", "flip"}}
        needs = {"data": f"data-{name}", **made}
        elsewhere = graph.add(f"extract-{own_tag}-{name}", "extract", settings, needs, given, **own)
        probe = {**(spec.probe or {}), "variant": name}
        graph.add(f"probe-{own_tag}-{name}", "probe", probe, {"latents": elsewhere}, **own)
    if spec.score is not None:
        needs = {"latents": latents, "data": "data", **made}
        graph.add(f"score-{own_tag}", "score", spec.score, needs, given, **own)
    source = {"needs": {"latents": latents}}
    for backbone in ("", *entry.backbones):
        settings = spec.backbones.get(backbone, {})
        own_sit = merged(entry.sit, {key: value for key, value in settings.items() if key != "generate"})
        sweep = spec.sweep_of(entry, backbone)
        add_generation(graph, spec, entry.name, seed, source, tokenizer, reconstruct, own_sit, sweep, backbone)
    if spec.gallery is not None and entry.gallery and seed == spec.seeds_of(entry)[0]:
        _add_gallery(graph, spec.gallery, entry.name, seed, latents, tokenizer)


def _add_gallery(
    graph: Graph, settings: Mapping[str, Any], name: str, seed: int, latents: str, tokenizer: Source
) -> None:
    """Add what is there to be looked at: the latents, and the samples of the budget that reports lead with."""
    made, given = tokenizer.get("needs", {}), tokenizer.get("given", {})
    subject: dict[str, Any] = {"tokenizer": name, "seed": seed}
    own = {key: value for key, value in settings.items() if key != "nearest"}
    needs = {"latents": latents, "data": "data", "reference": "reference", **made}
    graph.add(f"gallery-{name}-s{seed}", "gallery", own, needs, given, **subject)
    samples = [
        (abs(node.config.cfg - 1), -node.config.steps, -node.config.nfe, node)
        for node in graph.nodes.values()
        if isinstance(node.config, GenerateConfig)
        and (node.tokenizer, node.seed, node.config.variant) == (name, seed, "")
    ]
    if samples:
        *_, leading = min(samples, key=lambda sample: sample[:3])
        needs = {"generate": leading.id, "reference": "reference", "data": "data"}
        graph.add(f"nearest-{name}-s{seed}", "nearest", settings.get("nearest") or {}, needs, **subject)


def add_generation(
    graph: Graph,
    spec: StudySpec,
    name: str,
    seed: int,
    latents: Source,
    tokenizer: Source,
    reconstruct: str,
    own: Mapping[str, Any] | None = None,
    sweep: GenerateSweep | None = None,
    backbone: str = "",
) -> None:
    """Add the SiT of one tokenizer and seed, and every generation budget; ``own`` settings replace the study's.

    The scores of a ``backbone`` other than the study's own carry its name as their variant.
    """
    tag, subject = "-".join(filter(None, (name, backbone, f"s{seed}"))), {"tokenizer": name, "seed": seed}
    sweep, settings = sweep or spec.generate, merged(spec.sit, own or {})
    if not sweep.steps:
        return
    refuse_elsewhere(settings, f"the settings of the SiT of '{name}'", {"seed": SEEDS, "steps": SWEPT["steps"]})
    refuse_elsewhere(sweep.settings, f"the settings of the samples of '{name}'", SWEPT)
    if len(sweep.nfe) > 1 and (sweep.settings.get("sampler") or {}).get("method") == "dopri5":
        raise ConfigError("dopri5 takes what its tolerances need, so several nfe are one.", "Give one.")
    with_repa = bool((settings.get("repa") or {}).get("weight"))
    sit = graph.add(
        f"sit-{tag}",
        "sit",
        {"training": {**settings, "seed": seed, "steps": max(sweep.steps)}, "snapshots": sorted(set(sweep.steps))},
        {**latents.get("needs", {}), **({"features": _add_features(graph, spec)} if with_repa else {})},
        latents.get("given"),
        **subject,
    )
    made, given = tokenizer.get("needs", {}), tokenizer.get("given", {})
    variant = {"variant": backbone} if backbone else {}
    draws: list[dict[str, Any]] = [{"seed": draw} for draw in sweep.seeds] or [{}]
    for steps, cfg, nfe, draw in itertools.product(sorted(set(sweep.steps)), sweep.cfg, sweep.nfe, draws):
        graph.add(
            f"generate-{tag}-steps{steps}-cfg{cfg:g}-nfe{nfe}" + (f"-draw{draw['seed']}" if draw else ""),
            "generate",
            {**sweep.settings, **draw, "steps": steps, "cfg": cfg, "nfe": nfe, **variant},
            {"sit": sit, "reference": "reference", "reconstruct": reconstruct, **made},
            given,
            **subject,
            budget={"steps": steps, "cfg": cfg, "nfe": nfe},
        )
