"""Stage ``generate``: sample from a trained SiT, decode, and score against both references."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.files import read_json, write_json
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.generation.checkpoint import load_sit
from vaebench.generation.sample import SamplerConfig, choose_labels, generate_latents
from vaebench.generation.sit import forward_flops, sit_config
from vaebench.stages.arrays import load_array, save_array, save_grid
from vaebench.stages.attributes import attribute_scores
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.fidelity import (
    COMPANIONS,
    Features,
    Reference,
    fidelity_scores,
    inception_score,
    references,
    shared_features,
)
from vaebench.stages.reference import choose_rows
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.checked import Checked
from vaebench.vision.transforms import ROUNDING, rounded


class GenerateConfig(Config):
    """How samples are drawn and scored.

    Attributes:
        steps: which snapshot of the SiT.
        cfg, nfe: guidance scale and function evaluations; the study's sweep varies these.
        sampler: the rest of the sampler's settings.
        samples: how many samples.
        labels: balanced (every class equally often) or random.
        batch_size: samples at a time.
        bootstrap: resamples behind FID's interval.
        neighbours: images of the reference, drawn at random, that precision, recall, density and coverage look at; 0 is
            all, 10,000 what ADM's suite has.
        per_class: samples of each class in the picture grid.
        seed: sampling seed.
        variant: tells these scores from others of the same tokenizer and budget (the network, where there are several).
    """

    steps: int = Field(gt=0)
    cfg: float = 1.0
    nfe: int = Field(50, gt=0)
    sampler: dict[str, Any] = {}
    samples: int = Field(2048, gt=0)
    labels: Literal["balanced", "random"] = "balanced"
    batch_size: int = Field(128, gt=0)
    bootstrap: int = Field(1000, gt=0)
    per_class: int = Field(8, gt=0)
    seed: int = 0
    # Left out where not asked for, so that the identity of samples without them is what it always was.
    neighbours: int = Field(default=0, ge=0, exclude_if=lambda neighbours: not neighbours)
    variant: str = Field(default="", exclude_if=lambda variant: not variant)


class GenerateStage(Stage[GenerateConfig]):
    """Leaves ``samples.npy`` (uint8), ``samples.png`` (one row per class), ``sampling.json`` (the evaluations that a
    sample took, ``nfe``; of adaptive steps the most of any batch) and the scores.

    Inputs: ``sit``, ``tokenizer``, ``reference``, ``reconstruct``.
    """

    kind = "generate"
    Config = GenerateConfig
    parallel = True

    def resolve(self, config: GenerateConfig) -> GenerateConfig:
        sampler = _sampler(config).resolved().model_dump(mode="json", exclude={"cfg", "nfe"})
        return config.model_copy(update={"sampler": sampler})

    def run(self, config: GenerateConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        folders = {role: require_kind(inputs[role], [role], role) for role in ("sit", "reference", "reconstruct")}
        device = context.torch_device()
        tokenizer = Checked(load_tokenizer(inputs["tokenizer"], device=device))
        sit = load_sit(folders["sit"], config.steps, tokenizer=tokenizer.spec, device=device)
        classes = sit.card.network.num_classes
        labels = choose_labels(config.samples, classes, config.labels, config.seed)
        processes = context.processes()
        ids = processes.rows(config.samples, config.batch_size)
        generated = generate_latents(sit, ids, labels[ids], _sampler(config), config.seed, config.batch_size)
        parts = []
        with progress("decode", len(ids), "samples") as bar, torch.inference_mode():
            for part in generated.latents.split(config.batch_size):
                parts.append(rounded(tokenizer.decode(part.to(device))).cpu().numpy())
                bar.update(len(part))
        own = np.concatenate(parts) if parts else np.empty((0, 3, 1, 1), np.uint8)
        features: dict[str, Features] = {}
        for real in references(folders["reference"]):
            title = "features of samples" + (f", {real.label}" if real.label else "")
            want = ("pooled",) if real.label else ("pooled", "spatial", "logits")
            features[real.label] = shared_features(
                real.network(device), own.__getitem__, ids, config.samples, want, config.batch_size, title, folder,
                processes,
            )  # fmt: skip
        nfe = np.full(len(ids), generated.nfe)
        joined = processes.join(folder, "samples", ids, config.samples, images=own, nfe=nfe)
        if not processes.main:
            return []
        write_json(folder / "sampling.json", {"nfe": int(joined["nfe"].max())})
        save_array(folder / "samples.npy", joined["images"])
        _save_class_grid(folder / "samples.png", joined["images"], labels, config.per_class)
        training = read_json(folders["sit"] / "stage.json")["config"]["training"]
        sampler = _sampler(config)
        protocol = {
            # dopri5 takes as many evaluations as it needs, whatever was asked for.
            "sampler": sampler.model_dump(mode="json", exclude={"nfe"} if sampler.method == "dopri5" else None),
            "labels": config.labels,
            "rounding": ROUNDING,
            "weights": "EMA",
            "sit_steps": config.steps,
            "sit": {key: value for key, value in training.items() if key not in UNSEEN},
        }
        found = []
        for real in references(folders["reference"]):
            of_network, given = {"network": real.record, **protocol}, features[real.label]
            found += _frechet_scores(real, folders["reconstruct"], given, of_network, config)
            if not real.label:
                found += _other_scores(real, given, of_network, config)
                found += attribute_scores(folders["reference"], given["pooled"], of_network, config.seed)
        return [score.of_variant(config.variant) for score in found]

    def estimate(self, config: GenerateConfig, facts: Mapping[str, Any]) -> Estimate:
        shape = facts["latent_shape"]
        preset, overrides = facts.get("sit_preset", "nano"), facts.get("sit_network", {})
        network = sit_config(preset, shape[0], shape[1:], max(facts["classes"], 1), **overrides)
        guided = 1 if config.cfg == 1 else 2
        flops = config.samples * config.nfe * guided * forward_flops(network, 1)
        flops += 0.6 * config.samples * facts["coding_flops"]
        pixels = 3 * facts["image_size"] ** 2
        return Estimate(flops=flops, seconds=config.samples / 200, disk_bytes=config.samples * pixels)


def _frechet_scores(
    real: Reference, reconstruct: Path, features: Features, protocol: dict[str, Any], config: GenerateConfig
) -> list[Score]:
    """gFID to real images and to reconstructions of them; sFID where the network gives spatial features."""
    options = config.bootstrap, config.seed
    against_real = {**protocol, "reference": real.said("train", "training images", moments=True)}
    against_own = {**protocol, "reference": "the tokenizer's reconstructions of those training images"}
    place = reconstruct / COMPANIONS / real.folder.name if real.label else reconstruct
    compared = [
        ("gfid", "pooled", real.moments("train"), against_real),
        ("gfid_vs_reconstructions", "pooled", load_array(place / "train.npy"), against_own),
        ("sfid", "spatial", real.moments("train", "spatial"), against_real),
    ]
    found = []
    for name, kind, reference, against in compared:
        if reference is not None and kind in features:
            rename = {"fid": real.name(name)}
            found += fidelity_scores(("fid",), features[kind], reference, against, *options, rename)
    return found


def _other_scores(real: Reference, features: Features, protocol: dict[str, Any], config: GenerateConfig) -> list[Score]:
    """KID, precision, recall, density and coverage, which need the reference's images; and the Inception Score."""
    options, samples = (config.bootstrap, config.seed), real.samples("train")
    found = []
    if samples is not None:
        against = {**protocol, "reference": real.said("train", "training images", moments=False)}
        # One call with both where they share the reference: their draws have always come from one generator.
        if not 0 < config.neighbours < len(samples):
            found += fidelity_scores(("kid", "manifold"), features["pooled"], samples, against, *options)
        else:
            some = samples[choose_rows(len(samples), config.neighbours, 0, "neighbours")]
            found += fidelity_scores(("kid",), features["pooled"], samples, against, *options)
            found += fidelity_scores(("manifold",), features["pooled"], some, against, *options)
    if "logits" in features:
        found.append(inception_score(features["logits"], protocol, *options))
    return found


# Settings of SiT training that do not move its result (the seed is a source of variance, not of the protocol).
UNSEEN = frozenset(
    {"steps", "seed", "log_every", "checkpoint_every", "checkpoint_seconds", "keep_checkpoints", "tensorboard"}
)


def _sampler(config: GenerateConfig) -> SamplerConfig:
    from vaebench.core.config import build

    return build(SamplerConfig, {**config.sampler, "cfg": config.cfg, "nfe": config.nfe}, "'sampler'")


def _save_class_grid(path: Path, images: np.ndarray, labels: np.ndarray, per_class: int) -> None:
    """One row per class, the first samples of each; classes with fewer samples than the rest shorten every row."""
    rows = [np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]
    columns = min(len(row) for row in rows)
    save_grid(path, images[np.concatenate([row[:columns] for row in rows])], columns=columns)
