"""Stage ``sit``: train a SiT on the training latents of a tokenizer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, MismatchError
from vaebench.core.scores import Score
from vaebench.generation.sit import sit_config, training_flops
from vaebench.generation.training import SiTTrainingConfig, train_sit
from vaebench.latents import LatentFile
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.features import load_patches


class SiTStageConfig(Config):
    """How a SiT is trained, and after which steps its averaged weights are kept for sampling."""

    training: SiTTrainingConfig = SiTTrainingConfig()
    snapshots: tuple[int, ...] = ()


class SiTStage(Stage[SiTStageConfig]):
    """Leaves ``sit.json``, ``snapshots/``, ``metrics.jsonl`` and ``tb/``.

    Inputs: ``latents``; ``features`` with REPA.
    """

    kind = "sit"
    Config = SiTStageConfig
    parallel = True

    def resolve(self, config: SiTStageConfig) -> SiTStageConfig:
        # Validates preset and overrides before anything is trained; the shape itself follows from the latents.
        config.training.shape(4, (32, 32), 1)
        return config

    def run(self, config: SiTStageConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        latents = LatentFile(require_kind(inputs["latents"], ["extract"], "latents") / "train.h5").load()
        train_sit(
            latents,
            latents.info.tokenizer,
            config.training,
            folder,
            context.accelerator(config.training.mixed_precision),
            num_classes=len(latents.data.classes) or None,
            features=_features(inputs["features"], latents) if "features" in inputs else None,
            snapshots=config.snapshots,
        )
        return []

    def estimate(self, config: SiTStageConfig, facts: Mapping[str, Any]) -> Estimate:
        training, shape = config.training, facts["latent_shape"]
        network = sit_config(training.preset, shape[0], shape[1:], max(facts["classes"], 1), **training.network)
        flops = training_flops(network, training.batch_size) * training.steps
        parameters = 18 * network.depth * network.width**2
        return Estimate(flops=flops, disk_bytes=4 * parameters * (1 + len(config.snapshots)))


def _features(reference: str, latents: LatentFile) -> Callable[[np.ndarray], np.ndarray]:
    """The cached teacher features as a function of latent rows.

    Raises:
        ConfigError: the latents hold mirrored images, whose features are not cached.
        MismatchError: the features are of another number of images.
    """
    if latents.flipped.any():
        raise ConfigError("REPA with cached features needs latents without mirrored images.", "Set extract.flip=none.")
    patches = load_patches(require_kind(reference, ["features"], "features"))
    if len(patches) != len(latents):
        raise MismatchError(f"The teacher features are of {len(patches)} images, the latents of {len(latents)}.")
    return lambda rows: np.asarray(patches[rows])
