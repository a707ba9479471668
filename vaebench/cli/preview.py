"""What ``--dry-run`` prints."""

from typing import Any

from vaebench.core.config import build, dump_yaml


def stage_preview(kind: str, settings: dict[str, Any]) -> None:
    """The resolved configuration of a stage."""
    from vaebench.stages import STAGES

    stage = STAGES.get(kind)()
    print(dump_yaml(stage.resolve(build(stage.Config, settings, kind))), end="")


def extraction_preview(tokenizer: str, data: str, data_options: dict[str, Any], settings: dict[str, Any]) -> None:
    """The resolved configuration of an extraction, with the size of its files where the data are prepared."""
    from vaebench.api import prepare_data
    from vaebench.core.errors import MissingPath
    from vaebench.data import open_data
    from vaebench.stages.extract import ExtractConfig, ExtractStage
    from vaebench.tokenizers import load_tokenizer

    stage_preview("extract", settings)
    spec, config = load_tokenizer(tokenizer).spec, build(ExtractConfig, settings, "extract")
    try:
        folder = prepare_data(data, options=data_options, known=True)
    except MissingPath:
        print("The data are not prepared yet, so how large their latents will be is not known.")
        return
    dataset = open_data(folder / "data.h5")
    images = {name: len(dataset.split(name)) for name in config.splits}
    side = dataset.info.image_size // spec.f
    facts = {"splits": {"train": 0, **images}, "latent_shape": (spec.d, side, side), "coding_flops": 0}
    size = ExtractStage().estimate(config, facts).disk_bytes
    print(f"{sum(images.values())} images, {size / 2**20:,.1f} MiB of latents")
