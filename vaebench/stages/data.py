"""Stage ``data``: draw or read a data set once, into one uint8 HDF5 file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import Field

from vaebench.core.config import Config, content_hash
from vaebench.core.files import file_states
from vaebench.core.scores import Score
from vaebench.data import DATASETS, open_data, prepare
from vaebench.data.show import contact_sheet, prevalence
from vaebench.data.source import SourceConfig, configure
from vaebench.stages.base import Context, Estimate, Stage


class DataConfig(Config):
    """Which data set, with which options of its own (image size, split sizes, paths ...).

    ``files`` is filled in: a hash of the names, sizes and times of the files that the options point at, so that images
    that changed are read again, and those that only lie elsewhere are not. So is ``code``: the hash of a source that
    comes from outside.
    """

    name: str = "avatars"
    options: dict[str, Any] = {}
    files: str = ""
    code: str = Field(default="", exclude_if=lambda code: not code)


class DataStage(Stage[DataConfig]):
    """Leaves ``data.h5``, ``contact-sheet.png`` and, where there are attributes, ``prevalence.csv``."""

    kind = "data"
    Config = DataConfig
    accelerated = False

    def resolve(self, config: DataConfig) -> DataConfig:
        options = configure(config.name, DATASETS.get(config.name), config.options)
        return DataConfig(
            name=config.name,
            options=options.model_dump(mode="json"),
            files=_files_state(config.name, options),
            code=DATASETS.code(config.name),
        )

    def identity(self, config: DataConfig) -> dict[str, Any]:
        # Where the files lie does not count once it is known what they are.
        places = _places(config.name, config.options) if config.files else {}
        options = {name: value for name, value in config.options.items() if name not in places}
        return {**config.model_dump(mode="json"), "options": options}

    def run(self, config: DataConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        path = folder / "data.h5"
        if not path.is_file():
            prepare(config.name, config.options, path, workers=context.workers)
        dataset = open_data(path)
        contact_sheet(dataset, folder / "contact-sheet.png")
        if dataset.info.attributes:
            prevalence(dataset).to_csv(folder / "prevalence.csv")
        return []

    def estimate(self, config: DataConfig, facts: Mapping[str, Any]) -> Estimate:
        images = sum(facts["splits"].values())
        pixels = facts["image_size"] ** 2
        return Estimate(seconds=images * (2e-3 + 5e-7 * pixels), disk_bytes=images * (3 * pixels + 256))


def _places(name: str, options: Mapping[str, Any]) -> dict[str, Path]:
    """The options of a source that say where its files are and point at something, in their order."""
    source = DATASETS.get(name)
    annotated = {key for key, field in source.Config.model_fields.items() if Path in _types(field.annotation)}
    given = {key: Path(value) for key, value in options.items() if key in annotated | set(source.files) and value}
    return {key: path for key, path in given.items() if path.exists()}


def _types(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) or (annotation,)


def _files_state(name: str, config: SourceConfig) -> str:
    """A hash of names, sizes and times of what the options point at and of what else the source reads."""
    source = DATASETS.get(name)(config)
    found = {key: source.contents(key, path) for key, path in _places(name, config.model_dump(mode="json")).items()}
    found |= {key: file_states(path) for key, path in source.watched().items()}
    listing = [(key, *state) for key, states in found.items() for state in states]
    return content_hash(listing) if listing else ""
