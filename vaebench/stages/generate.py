"""Stage ``generate``: sample from a trained SiT, decode, and score against both references."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vaebench.core.config import Config
from vaebench.core.files import read_json
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.generation.checkpoint import load_sit
from vaebench.generation.sample import SamplerConfig, choose_labels, generate_latents
from vaebench.generation.sit import forward_flops, sit_config
from vaebench.stages.arrays import load_array, save_array, save_grid
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.fidelity import feature_network, fidelity_scores
from vaebench.tokenizers import load_tokenizer
from vaebench.vision import extract
from vaebench.vision.transforms import ROUNDING, to_uint8


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
        per_class: samples of each class in the picture grid.
        seed: sampling seed.
    """

    steps: int
    cfg: float = 1.0
    nfe: int = 50
    sampler: dict[str, Any] = {}
    samples: int = 2048
    labels: Literal["balanced", "random"] = "balanced"
    batch_size: int = 128
    bootstrap: int = 1000
    per_class: int = 8
    seed: int = 0


class GenerateStage(Stage[GenerateConfig]):
    """Leaves ``samples.npy`` (uint8), ``samples.png`` (one row per class) and the scores.

    Inputs: ``sit``, ``tokenizer``, ``reference``, ``reconstruct``.
    """

    kind = "generate"
    Config = GenerateConfig

    def resolve(self, config: GenerateConfig) -> GenerateConfig:
        sampler = _sampler(config).model_dump(mode="json", exclude={"cfg", "nfe"})
        return config.model_copy(update={"sampler": sampler})

    def run(self, config: GenerateConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        folders = {role: require_kind(inputs[role], [role], role) for role in ("sit", "reference", "reconstruct")}
        device = context.torch_device()
        tokenizer = load_tokenizer(inputs["tokenizer"], device=device)
        sit = load_sit(folders["sit"], config.steps, tokenizer=tokenizer.spec, device=device)
        classes = sit.card.network.num_classes
        labels = choose_labels(config.samples, classes, config.labels, config.seed)
        generated = generate_latents(
            sit, np.arange(config.samples), labels, _sampler(config), config.seed, config.batch_size
        )
        parts = []
        with progress("decode", config.samples, "samples") as bar, torch.inference_mode():
            for part in generated.latents.split(config.batch_size):
                parts.append(to_uint8(tokenizer.decode(part.to(device))).cpu().numpy())
                bar.update(len(part))
        images = np.concatenate(parts)
        save_array(folder / "samples.npy", images)
        _save_class_grid(folder / "samples.png", images, labels, config.per_class)

        network, network_protocol = feature_network(folders["reference"], device)
        title = "features of samples"
        features = extract(network, images.__getitem__, len(images), want=("pooled",), title=title)["pooled"]
        training = read_json(folders["sit"] / "stage.json")["config"]["training"]
        protocol = {
            **network_protocol,
            "sampler": _sampler(config).model_dump(mode="json"),
            "labels": config.labels,
            "rounding": ROUNDING,
            "weights": "EMA",
            "sit_steps": config.steps,
            "sit": {key: value for key, value in training.items() if key not in UNSEEN},
        }
        real, own = (load_array(folders[role] / "train.npy") for role in ("reference", "reconstruct"))
        against_real = {**protocol, "reference": "training images"}
        against_own = {**protocol, "reference": "the tokenizer's reconstructions of those training images"}
        options = config.bootstrap, config.seed
        return [
            *fidelity_scores(("fid",), features, real, against_real, *options, {"fid": "gfid"}),
            *fidelity_scores(("fid",), features, own, against_own, *options, {"fid": "gfid_vs_reconstructions"}),
            *fidelity_scores(("kid", "manifold"), features, real, against_real, *options),
        ]

    def estimate(self, config: GenerateConfig, facts: Mapping[str, Any]) -> Estimate:
        shape = facts["latent_shape"]
        preset, overrides = facts.get("sit_preset", "nano"), facts.get("sit_network", {})
        network = sit_config(preset, shape[0], shape[1:], max(facts["classes"], 1), **overrides)
        guided = 1 if config.cfg == 1 else 2
        flops = config.samples * config.nfe * guided * forward_flops(network, 1)
        flops += 0.6 * config.samples * facts["coding_flops"]
        pixels = 3 * facts["image_size"] ** 2
        return Estimate(flops=flops, seconds=config.samples / 200, disk_bytes=config.samples * pixels)


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
