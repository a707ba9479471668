"""Stage ``extract``: every split of a data set as a latent file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import LatentFileError, UnknownName
from vaebench.core.scores import Score
from vaebench.data import open_data
from vaebench.data.base import SPLITS, SplitName
from vaebench.latents import extract_latents, verify
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.tokenizers import load_tokenizer


class ExtractConfig(Config):
    """How latents are extracted and stored."""

    splits: tuple[SplitName, ...] = SPLITS
    flip: Literal["none", "both"] = "none"
    dtype: Literal["float16", "float32"] = "float32"
    batch_size: int = Field(64, gt=0)


class ExtractStage(Stage[ExtractConfig]):
    """Leaves one ``<split>.h5`` per split. Inputs: ``tokenizer``, ``data``."""

    kind = "extract"
    Config = ExtractConfig
    parallel = True

    def run(self, config: ExtractConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        dataset = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5")
        there = [name for name, split in dataset.splits.items() if len(split)]
        if lacking := [name for name in config.splits if name not in there]:
            raise UnknownName(
                f"Data set '{dataset.info.name}' has no images for {' and '.join(lacking)}.",
                f"Extract what there is: -o splits=[{','.join(there)}] (in a study, of 'extract').",
            )
        tokenizer = load_tokenizer(inputs["tokenizer"])
        accelerator = context.accelerator()
        for name in config.splits:
            path = folder / f"{name}.h5"
            extract_latents(
                tokenizer,
                dataset.split(name),
                path,
                data_info=dataset.info,
                batch_size=config.batch_size,
                device=accelerator.device,
                # Mirrored copies serve generation; scores are taken on the images as they are.
                flip=config.flip if name == "train" else "none",
                dtype=config.dtype,
                processes=accelerator,
                title=f"extract, {name}",
            )
            if accelerator.is_main_process and (problems := verify(path)):
                raise LatentFileError(f"Latents of '{inputs['tokenizer']}', {name}: {'; '.join(problems)}.")
        return []

    def estimate(self, config: ExtractConfig, facts: Mapping[str, Any]) -> Estimate:
        images = sum(facts["splits"][name] for name in config.splits)
        images += facts["splits"]["train"] if config.flip == "both" else 0
        size = 2 * math.prod(facts["latent_shape"]) * (2 if config.dtype == "float16" else 4)
        # Encoding is rather less than half of coding and decoding.
        return Estimate(flops=0.4 * images * facts["coding_flops"], disk_bytes=images * size)
