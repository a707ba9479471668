"""The reader of attributes that a reference may hold, and the scores of generated images by it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.core.errors import DataError
from vaebench.core.files import read_json, write_json
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import ImageDataset
from vaebench.metrics.fidelity.attributes import READABLE, AttributeReader, attribute_shifts, fit_reader
from vaebench.stages.arrays import load_array, save_array


def require_attributes(dataset: ImageDataset) -> None:
    """Raise where no reader can be trained.

    Raises:
        DataError: no attributes, or attributes that are given per class.
    """
    lacking = any(dataset.split(name).attributes is None for name in ("train", "test"))
    if lacking or dataset.info.attribute_level == "class":
        raise DataError(
            "A reader of attributes needs attributes that are given per image.", "Set reference.attributes=false."
        )


def save_reader(folder: Path, dataset: ImageDataset, rows: Mapping[str, np.ndarray], device: str) -> None:
    """Train a reader on the features that ``folder`` holds of these rows, and leave it there."""
    features, attributes = {}, {}
    for name in ("train", "test"):
        features[name] = np.asarray(load_array(folder / f"{name}.npy"))
        attributes[name] = np.asarray(dataset.split(name).attributes)[rows[name]]
    names = tuple(dataset.info.attributes)
    reader = fit_reader(features["train"], attributes["train"], features["test"], attributes["test"], names, device)
    save_array(folder / "reader.npy", reader.coefficients)
    write_json(
        folder / "reader.json",
        {
            "names": list(reader.names),
            "intercepts": reader.intercepts.tolist(),
            "balanced_accuracy": reader.balanced_accuracy.tolist(),
        },
    )


def load_reader(reference: Path) -> AttributeReader | None:
    """The reader of attributes that a reference was made with, if any."""
    if not (reference / "reader.json").exists():
        return None
    record = read_json(reference / "reader.json")
    return AttributeReader(
        tuple(record["names"]),
        np.asarray(load_array(reference / "reader.npy")),
        np.array(record["intercepts"], np.float32),
        np.array(record["balanced_accuracy"]),
    )


def attribute_scores(reference: Path, features: np.ndarray, protocol: dict[str, Any], seed: int) -> list[Score]:
    """How far generated images differ from held-out real ones in their attributes; none where the reference reads none.

    Args:
        reference: folder of the reference stage.
        features: of the generated images, by the reference's first network, (n, d).
        protocol: settings known to the caller.
        seed: of the bootstrap, and of the splits behind the baseline.
    """
    reader = load_reader(reference)
    reader = reader and reader.readable()
    if reader is None or len(reader.names) < 2:
        return []
    real, shown = reader.read(np.asarray(load_array(reference / "test.npy"))), reader.read(features)
    settings = {
        **protocol,
        "reference": "held-out real images",
        "reader": "logistic regression on features of training images",
        "least_balanced_accuracy": READABLE,
        "attributes": list(reader.names),
        "samples": len(shown),
        "reference_samples": len(real),
    }
    found = []
    shifts = attribute_shifts(shown, real, numpy_generator(seed, "attribute shifts"))
    for name, shift in zip(("attribute_shift", "attribute_pair_shift"), shifts, strict=True):
        detail: dict[str, Any] = {"baseline": shift.floor}
        if shift.per_item.ndim == 1:
            detail["per_attribute"] = dict(zip(reader.names, np.round(shift.per_item, 4).tolist(), strict=True))
        found.append(
            Score(
                metric=name,
                value=shift.value,
                low=shift.low,
                high=shift.high,
                interval="95% bias-centred bootstrap over generated and real images, reader fixed",
                n=len(shown),
                seed=seed,
                direction="lower",
                protocol=settings,
                detail=detail,
            )
        )
    return found
