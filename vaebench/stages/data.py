"""Stage ``data``: draw or read a data set once, into one uint8 HDF5 file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from vaebench.core.config import Config, content_hash
from vaebench.core.scores import Score
from vaebench.data import DATASETS, open_data, prepare
from vaebench.data.show import contact_sheet, prevalence
from vaebench.data.source import configure
from vaebench.stages.base import Context, Estimate, Stage


class DataConfig(Config):
    """Which data set, with which options of its own (image size, split sizes, paths ...).

    ``files`` is filled in: a hash of the names, sizes and times of the files that the options point at, so that images
    that changed are read again. So is ``code``: the hash of a source that comes from outside.
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
        source = DATASETS.get(config.name)
        options = configure(config.name, source, config.options)
        plain = options.model_dump(mode="json")
        code = DATASETS.code(config.name)
        return DataConfig(name=config.name, options=plain, files=_files_state(plain), code=code)

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


def _files_state(options: Mapping[str, Any]) -> str:
    paths = [Path(value) for value in options.values() if isinstance(value, str) and Path(value).exists()]
    listing = [
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for path in paths
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]
    return content_hash(listing) if listing else ""
