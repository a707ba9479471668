"""The work of each stage in floating-point operations, and the GPU-hours that it stands for.

Time on a GPU is operations / (peak of their precision x utilisation). The peaks are the makers' figures without
sparsity; the utilisation is an assumption of whoever asks. Reading, drawing and writing are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vaebench.core.config import build
from vaebench.core.errors import UnknownName, suggest
from vaebench.generation.sample import SamplerConfig
from vaebench.generation.samplers import time_grid
from vaebench.generation.sit import SiTConfig, forward_flops, sit_config, training_flops
from vaebench.stages.extract import ExtractConfig
from vaebench.stages.features import FeaturesConfig, NetworkConfig
from vaebench.stages.generate import GenerateConfig
from vaebench.stages.probe import ProbeStageConfig
from vaebench.stages.reconstruct import ReconstructConfig
from vaebench.stages.reference import ReferenceConfig
from vaebench.stages.sit import SiTStageConfig
from vaebench.stages.train import TrainConfig
from vaebench.study.counting import Work
from vaebench.study.facts import Facts
from vaebench.study.graph import Node

# Passes over the training features that a fit of all attributes at one C takes (L-BFGS, two products a pass).
PROBE_PASSES = 100


@dataclass(frozen=True)
class Gpu:
    """Peaks of a GPU in operations a second, dense: bfloat16 or float16 with sums in float32, TF32, and float32."""

    name: str
    half: float
    tf32: float
    single: float

    def seconds(self, work: Work, utilisation: float) -> float:
        """Time for this work at this share of each peak."""
        return (work.half / self.half + work.convolutions / self.tf32 + work.products / self.single) / utilisation


GPUS = {
    "a100": Gpu("NVIDIA A100", 312e12, 156e12, 19.5e12),
    "h100": Gpu("NVIDIA H100 SXM", 989e12, 494e12, 67e12),
    "h200": Gpu("NVIDIA H200 SXM", 989e12, 494e12, 67e12),
    "l40s": Gpu("NVIDIA L40S", 362e12, 183e12, 91.6e12),
    "rtx4090": Gpu("NVIDIA RTX 4090", 165e12, 82.6e12, 82.6e12),
    "v100": Gpu("NVIDIA V100 (no TF32, float16 for bfloat16)", 125e12, 15.7e12, 15.7e12),
}


def gpu_named(name: str) -> Gpu:
    """The GPU of this name in `GPUS`.

    Raises:
        UnknownName: another; the nearest is suggested.
    """
    if name not in GPUS:
        raise UnknownName(f"Unknown GPU '{name}'.", suggest(name, GPUS))
    return GPUS[name]


@dataclass(frozen=True)
class Counted:
    """A stage's work, and what of it could not be counted ("" if nothing)."""

    work: Work
    left_out: str = ""


def stage_work(node: Node, facts: Facts) -> Counted:
    """The work of one stage, counted on its own networks."""
    config = node.config
    if node.kind in {"data", "gallery", "nearest"}:
        return Counted(Work())  # no GPU in the first, and next to nothing in pictures
    splits = facts.data(node)["splits"]
    if isinstance(config, FeaturesConfig):
        return _frozen([config.network], splits[config.split], facts)
    if isinstance(config, ReferenceConfig):
        return _frozen([config.network, *config.companions], facts.of(node)["reference_images"], facts)
    if isinstance(config, TrainConfig):
        work, whole = facts.training_step(node)
        left_out = "" if whole else f"the objective of {config.method}"
        return Counted(work * (config.training.batch_size * config.training.steps), left_out)
    if isinstance(config, ExtractConfig):
        images = sum(splits[name] for name in config.splits) + (splits["train"] if config.flip == "both" else 0)
        return Counted(facts.coding(node).encode * images)
    if isinstance(config, ProbeStageConfig):
        shape = facts.coding(node).latent_shape
        attributes = facts.data(node)["attributes"]
        return Counted(Work(products=probe_flops(config, splits["train"], attributes, shape)))
    if isinstance(config, SiTStageConfig):
        return Counted(_sit(config, facts, node))
    if isinstance(config, ReconstructConfig):
        images, coding = facts.of(node)["reference_images"], facts.coding(node)
        return _with_features((coding.encode + coding.decode) * images, images, facts, node)
    if isinstance(config, GenerateConfig):
        sit = facts.above(node, "sit")
        assert sit is not None
        assert isinstance(sit.config, SiTStageConfig)
        flow = Work(products=evaluations(config) * forward_flops(_sit_network(sit.config, facts, node)))
        if _sampler(config).mixed_precision != "no":
            flow = flow.in_half()
        work = (flow + facts.coding(node).decode) * config.samples
        return _with_features(work, config.samples, facts, node)
    return Counted(Work(), f"stage '{node.kind}'")


def evaluations(config: GenerateConfig) -> float:
    """Passes of the SiT on one sample: guidance takes two at each evaluation within its interval."""
    sampler = _sampler(config)
    times = evaluation_times(sampler)
    low, high = sampler.cfg_interval
    guided = 0 if sampler.cfg == 1 else sum(low <= t <= high for t in times)
    return len(times) + guided


def _sampler(config: GenerateConfig) -> SamplerConfig:
    return build(SamplerConfig, {**config.sampler, "cfg": config.cfg, "nfe": config.nfe})


def evaluation_times(sampler: SamplerConfig) -> Sequence[float]:
    """Times at which a sampler evaluates the velocity. dopri5, whose steps adapt, is taken at ``nfe`` even ones."""
    if sampler.method == "heun":
        return [t for pair in pairwise(time_grid(sampler.nfe // 2, shift=sampler.shift)) for t in pair]
    if sampler.method == "sde":
        times = sampler.sde_times
        return times if sampler.last_step != "none" else times[:-1]
    return time_grid(sampler.nfe, shift=sampler.shift)[:-1]


def probe_flops(config: ProbeStageConfig, images: int, attributes: int, latent_shape: tuple[int, int, int]) -> float:
    """Matrix products of the probes: at every C, for all attributes at once, `PROBE_PASSES` times features x weights
    and its transpose; and the covariance that PCA needs."""
    d, h, w = latent_shape
    flops = 0.0
    for probe in config.probes:
        width = {"flattened": d * h * w, "pooled": d, "pca": probe.components}[probe.vectorisation]
        flops += len(probe.cs) * PROBE_PASSES * 4.0 * images * width * attributes
        if probe.vectorisation == "pca":
            flops += 2.0 * images * (d * h * w) ** 2
    return flops


def projector_flops(tokens: int, width: int, hidden: int, channels: int) -> float:
    """One image in one training step of REPA's projector of three layers."""
    return 3 * 2.0 * tokens * (width * hidden + hidden**2 + hidden * channels)


def _sit(config: SiTStageConfig, facts: Facts, node: Node) -> Work:
    training = config.training
    network = _sit_network(config, facts, node)
    flops = float(training_flops(network, 1))
    if training.repa.weight > 0:
        features = facts.above(node, "features")
        teacher = None if features is None else features.config
        counted = facts.network(teacher.network) if isinstance(teacher, FeaturesConfig) else None
        channels = counted.patches[0] if counted is not None else network.width
        flops += projector_flops(network.tokens, network.width, training.repa.hidden, channels)
    work = Work(products=flops * training.batch_size * training.steps)
    return work if training.mixed_precision == "no" else work.in_half()


def _sit_network(config: SiTStageConfig, facts: Facts, node: Node) -> SiTConfig:
    d, h, w = facts.coding(node).latent_shape
    classes = max(facts.data(node)["classes"], 1)
    return sit_config(config.training.preset, d, (h, w), classes, **config.training.network)


def _frozen(networks: Sequence[NetworkConfig], images: int, facts: Facts) -> Counted:
    """So many images through each of these networks."""
    work, missing = Work(), []
    for network in networks:
        counted = facts.network(network)
        if counted is None:
            missing.append(f"network '{network.name}'")
        else:
            work = work + counted.work * images
    return Counted(work, ", ".join(missing))


def _with_features(work: Work, images: int, facts: Facts, node: Node) -> Counted:
    """That work, and the feature networks of the reference on so many images."""
    reference = facts.above(node, "reference")
    assert reference is not None
    assert isinstance(reference.config, ReferenceConfig)
    features = _frozen([reference.config.network, *reference.config.companions], images, facts)
    return Counted(work + features.work, features.left_out)
