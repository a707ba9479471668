"""Stage ``probe``: attribute linear probes on latents, by every vectorisation asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import DataError
from vaebench.core.files import write_json
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import SPLITS
from vaebench.latents import LatentFile, require_match
from vaebench.metrics.probing.probe import ProbeConfig, probe
from vaebench.metrics.probing.report import scores
from vaebench.stages.base import Context, Estimate, Stage, require_kind

NEEDS = "needs attributes"


class ProbeStageConfig(Config):
    """Which probes, the seed of their bootstrap, and what tells these scores from others of the same tokenizer (the
    data set, where a study probes on several)."""

    probes: tuple[ProbeConfig, ...] = (
        ProbeConfig(vectorisation="flattened"),
        ProbeConfig(vectorisation="pooled"),
        ProbeConfig(vectorisation="pca"),
    )
    seed: int = 0
    # Left out where empty, so that the identity of probes without one is what it always was.
    variant: str = Field(default="", exclude_if=lambda variant: not variant)


class ProbeStage(Stage[ProbeStageConfig]):
    """Leaves the scores and ``notes.json``: what was excluded or deserves a word, and that data without attributes
    allow no probe. Input: ``latents``."""

    kind = "probe"
    Config = ProbeStageConfig

    def run(self, config: ProbeStageConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        latents = require_kind(inputs["latents"], ["extract"], "latents")
        files = {name: LatentFile(latents / f"{name}.h5") for name in SPLITS}
        data = files["train"].data
        for name, file in files.items():
            require_match(files["train"], file)
            if file.flipped.any() and name != "train":
                raise DataError("Probes are scored on images as they are; these latents hold mirrored ones.")
        if any(file.attributes is None for file in files.values()):
            write_json(folder / "notes.json", {"not_available": {"probes": NEEDS}})
            return []
        train, validation, test = (_arrays(file) for file in files.values())
        protocol = {
            "data": data.fingerprint,
            "latents": "posterior mean, raw",
            "flip": files["train"].info.transform.flip,
        }
        found: list[Score] = []
        notes = {}
        with progress("probe", len(config.probes), "probes") as bar:
            for settings in config.probes:
                result = probe(
                    train,
                    validation,
                    test,
                    settings,
                    numpy_generator(config.seed, "probe bootstrap", settings.vectorisation),
                    attributes=data.attributes,
                    attribute_level=data.attribute_level or "image",
                    device=context.torch_device(),
                )
                found += (score.of_variant(config.variant) for score in scores(result, config.seed, protocol))
                notes[settings.vectorisation] = {"excluded": result.excluded, "notes": list(result.notes)}
                bar.update(1)
        write_json(folder / "notes.json", notes)
        return found

    def estimate(self, config: ProbeStageConfig, facts: Mapping[str, Any]) -> Estimate:
        return Estimate(seconds=len(config.probes) * 3e-4 * facts["splits"]["train"])


def _arrays(file: LatentFile) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means as stored (in memory if they fit) and attributes."""
    assert file.attributes is not None  # `run` has looked
    return file.load().stored("mean"), file.attributes
