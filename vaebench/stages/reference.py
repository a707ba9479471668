"""Stage ``reference``: features of real images, to which rFID and gFID compare.

gFID has the training images as its reference (a generator should give the training law), rFID the test images that are
reconstructed. The two references are never mixed. A file of ADM's suite may stand for either.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, MismatchError
from vaebench.core.files import sha256_file, write_json
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.data import open_data
from vaebench.data.base import ImageSplit
from vaebench.metrics.fidelity.batches import Batch, read_batch, write_batch
from vaebench.stages.arrays import save_array
from vaebench.stages.attributes import require_attributes, save_reader
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.features import NetworkConfig
from vaebench.stages.fidelity import COMPANIONS, SOURCE, companion_name, shared_features
from vaebench.stages.processes import Processes
from vaebench.vision import load_network
from vaebench.vision.base import FrozenNetwork

SPLITS = ("train", "test")
BATCH_ROLES = {"train": "npz", "test": "test_npz"}
"""Inputs by which a file of ADM's suite stands for the images of a split."""


class ReferenceConfig(Config):
    """Which feature networks, and how many images of each split (0: all).

    Attributes:
        network: the one of rFID, gFID, KID, precision and recall.
        companions: further ones, each of which adds Fréchet distances under its name. ``networks: [inception, dinov2]``
            gives the first and the rest at once.
        train, test: images of the splits.
        attributes: also train a reader of attributes on the first network's features, by which generated images are
            compared to real ones (`vaebench.stages.attributes`).
        batch_size: images at a time.
        seed: of the choice of images.
    """

    network: NetworkConfig = NetworkConfig(name="mobilenetv2")
    # What is not asked for is not dumped, so that references made before it existed keep their identity.
    companions: tuple[NetworkConfig, ...] = Field(default=(), exclude_if=lambda value: not value)
    train: int = Field(0, ge=0)
    test: int = Field(0, ge=0)
    attributes: bool = Field(default=False, exclude_if=lambda value: not value)
    batch_size: int = Field(64, gt=0)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _networks(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "networks" not in values:
            return values
        networks = values["networks"]
        if not isinstance(networks, list | tuple) or not networks or {"network", "companions"} & set(values):
            raise ValueError("networks must be a list of networks, and takes the place of network and companions")
        rest = {key: value for key, value in values.items() if key != "networks"}
        return {**rest, "network": networks[0], "companions": networks[1:]}

    @model_validator(mode="after")
    def _different(self) -> "ReferenceConfig":
        names = [companion_name(network.name) for network in (self.network, *self.companions)]
        if len(set(names)) < len(names):
            raise ValueError(f"names of networks must differ, since scores carry them, got {', '.join(names)}")
        return self


def reference_parts(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a study's section ``reference``, apart into the stage's configuration and its files.

    ``npz`` names the file of ADM's suite to which samples compare, ``test_npz`` that of reconstructions.
    """
    roles = set(BATCH_ROLES.values())
    config = {key: value for key, value in settings.items() if key not in roles}
    return config, {key: str(value) for key, value in settings.items() if key in roles and value is not None}


class ReferenceStage(Stage[ReferenceConfig]):
    """Leaves the files of :mod:`vaebench.stages.fidelity`, ``<split>_rows.npy``, and ``source.json`` with batches.

    Inputs: ``data``; ``npz`` and ``test_npz`` for the first network, where given.
    """

    kind = "reference"
    Config = ReferenceConfig
    parallel = True

    def resolve(self, config: ReferenceConfig) -> ReferenceConfig:
        companions = tuple(companion.resolved() for companion in config.companions)
        return config.model_copy(update={"network": config.network.resolved(), "companions": companions})

    def outside(self, config: ReferenceConfig) -> list[str]:
        return [path for network in (config.network, *config.companions) for path in network.paths]

    def run(self, config: ReferenceConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        dataset = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5")
        processes = context.processes()
        splits = {name: dataset.split(name) for name in SPLITS}
        rows = {name: choose_rows(len(splits[name]), getattr(config, name), config.seed, name) for name in SPLITS}
        batches = {name: read_batch(inputs[role]) for name, role in BATCH_ROLES.items() if role in inputs}
        if config.attributes:
            require_attributes(dataset)
            if batches:
                raise ConfigError("A reader of attributes needs features of the data, and a batch stands for them.")
        for number, settings in enumerate((config.network, *config.companions)):
            place = folder / COMPANIONS / companion_name(settings.name) if number else folder
            network = load_network(settings.name, device=context.torch_device(), **settings.options)
            for name in SPLITS:
                batch = batches.get(name) if number == 0 else None
                if batch is not None:
                    _fits(batch, network, inputs[BATCH_ROLES[name]], dataset.info.image_size)
                work = _Work(network, place, name, config.batch_size, processes)
                if batch is None:
                    chosen = rows[name]
                    work.features(len(chosen), partial(_images, splits[name], chosen))
                elif batch.images is not None:
                    work.features(len(batch.images), batch.images.__getitem__)
                if processes.main and batch is not None and batch.pooled is not None:
                    write_batch(place / f"{name}_moments.npz", None, batch.pooled, batch.spatial)
            if processes.main:
                record = {"name": settings.name, "options": settings.options, "weights_hash": network.weights_hash}
                write_json(place / "network.json", record)
        if processes.main:
            for name in SPLITS:
                save_array(folder / f"{name}_rows.npy", rows[name])
            if config.attributes:
                save_reader(folder, dataset, rows, context.torch_device())
            if batches:
                said = {name: _said(batch, inputs[BATCH_ROLES[name]]) for name, batch in batches.items()}
                write_json(folder / SOURCE, said)
        return []

    def estimate(self, config: ReferenceConfig, facts: Mapping[str, Any]) -> Estimate:
        images = sum(getattr(config, name) or facts["splits"][name] for name in SPLITS)
        networks = 1 + len(config.companions)
        return Estimate(seconds=images * networks / 500, disk_bytes=images * networks * 1280 * 4)


class _Work:
    """Features of a split by one network, shared by all processes."""

    def __init__(self, network: FrozenNetwork, place: Path, split: str, batch_size: int, processes: Processes) -> None:
        self.network, self.place, self.split = network, place, split
        self.batch_size, self.processes = batch_size, processes

    def features(self, n: int, images: Any) -> None:
        """Save the features of n images; ``images`` takes their numbers."""
        mine = self.processes.rows(n, self.batch_size)
        found = shared_features(
            self.network,
            lambda positions: images(mine[positions]),
            mine,
            n,
            ("pooled", "spatial") if self.split == "train" else ("pooled",),
            self.batch_size,
            f"reference features, {self.split}, {self.network.name}",
            self.place,
            self.processes,
        )
        for kind, values in found.items():
            save_array(self.place / (f"{self.split}.npy" if kind == "pooled" else f"{self.split}_{kind}.npy"), values)


def _fits(batch: Batch, network: FrozenNetwork, path: str, size: int) -> None:
    """Raise MismatchError unless the batch is of that network's features and of images of that size."""
    for kind, values in (("pooled", batch.pooled), ("spatial", batch.spatial)):
        if values is not None and network.sizes.get(kind) != (values.dimension,):
            given = network.sizes.get(kind, (0,))[0]
            raise MismatchError(
                f"'{path}' holds moments of {values.dimension} {kind} features, and network '{network.name}' gives "
                f"{given}.",
                "ADM's files are of Inception: set reference.network.name=inception.",
            )
    if batch.images is not None and batch.images.shape[2:] != (size, size):
        height, width = batch.images.shape[2:]
        raise MismatchError(
            f"The images of '{path}' are {height} x {width}, those of the data {size} x {size}.",
            "Take the reference batch of this image size.",
        )


def _said(batch: Batch, path: str) -> dict[str, Any]:
    return {
        "file": Path(path).name,
        "sha256": sha256_file(path),
        "images": 0 if batch.images is None else len(batch.images),
        "moments": batch.pooled is not None,
    }


def _images(split: ImageSplit, rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return split.images(rows[indices])


def choose_rows(n: int, wanted: int, seed: int, split: str) -> np.ndarray:
    """Sorted rows of a random subset of size ``wanted`` (all rows when 0 or more than there are)."""
    if wanted == 0 or wanted >= n:
        return np.arange(n)
    return np.sort(numpy_generator(seed, "reference rows", split).permutation(n)[:wanted])
