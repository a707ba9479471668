"""What ``--dry-run`` prints."""

from typing import Any

from vaebench.core.config import build, dump_yaml


def stage_preview(kind: str, settings: dict[str, Any]) -> None:
    """The resolved configuration of a stage."""
    from vaebench.stages import STAGES

    stage = STAGES.get(kind)()
    print(dump_yaml(stage.resolve(build(stage.Config, settings, kind))), end="")


def training_preview(
    method: str, options: dict[str, Any], training: dict[str, Any], network: Any, init: str | None, seed: int
) -> None:
    """The resolved configuration of a training run."""
    config = {"method": method, "options": options, "training": {**training, "seed": seed}}
    if init is None:
        config["network"] = network or "tiny"
    stage_preview("train", config)


def extraction_preview(
    tokenizer: str, data: str, data_options: dict[str, Any], settings: dict[str, Any], context: Any
) -> None:
    """The resolved configuration of an extraction, with the size of its files where the data are prepared."""
    from vaebench.api import prepare_data
    from vaebench.data import open_data
    from vaebench.stages import STAGES
    from vaebench.tokenizers import load_tokenizer

    stage_preview("extract", settings)
    dataset = open_data(prepare_data(data, options=data_options, context=context) / "data.h5")
    spec = load_tokenizer(tokenizer).spec
    images = sum(len(split) for split in dataset.splits.values())
    stage = STAGES.get("extract")()
    config = build(stage.Config, settings, "extract")
    numbers = 2 * spec.d * (dataset.info.image_size // spec.f) ** 2
    size = images * numbers * (2 if config.dtype == "float16" else 4) * (2 if config.flip == "both" else 1)
    print(f"{images} images, {size / 2**20:,.1f} MiB of latents")
