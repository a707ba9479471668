"""Results as files of ADM's evaluation suite, for its script and for others that read them."""

from pathlib import Path

import numpy as np

from vaebench.core.errors import ConfigError, DataError, MissingPath
from vaebench.core.files import read_json
from vaebench.core.seeds import numpy_generator
from vaebench.data import open_data
from vaebench.metrics.fidelity.batches import write_batch
from vaebench.metrics.fidelity.statistics import Statistics, statistics
from vaebench.stages.arrays import load_array
from vaebench.stages.base import require_kind
from vaebench.stages.fidelity import Reference, references

SPLITS = ("train", "test")


def export_batch(folder: Path, path: Path, split: str = "train", images: int = 10_000) -> None:
    """Write the samples of a ``generate`` folder, or a ``reference`` folder, as ``.npz``.

    Samples become ``arr_0``. A reference becomes ``mu`` and ``sigma`` (and ``mu_s``, ``sigma_s``, where its network
    gives spatial features) over all of its images of that split, and ``arr_0`` with so many of them, drawn at random.

    Args:
        folder: of the stage.
        path: the file, ending in .npz.
        split: of a reference, "train" or "test".
        images: of a reference; 0 writes moments alone.

    Raises:
        MissingPath, DataError: no such folder, or another stage's.
        ConfigError: no such split, or a file name that does not end in .npz.
    """
    if path.suffix != ".npz" or split not in SPLITS or images < 0:
        raise ConfigError(
            f"Cannot write split '{split}' with {images} images to '{path}'.",
            "Splits are train and test, and the file ends in .npz.",
        )
    require_kind(folder, ["generate", "reference"], "result")
    if (folder / "samples.npy").is_file():
        write_batch(path, load_array(folder / "samples.npy"))
        return
    reference = next(references(folder))
    if split in reference.source:
        raise DataError(
            f"The {split} reference of '{folder}' is itself a batch, {reference.source[split]['file']}.",
            "Copy that file.",
        )
    pooled = _moments(reference, split, "pooled")
    if pooled is None:
        raise DataError(f"'{folder}' holds no features of split '{split}'.", "Make the reference anew.")
    chosen = _images(folder, split, images) if images else None
    write_batch(path, chosen, pooled, _moments(reference, split, "spatial"))


def _moments(reference: Reference, split: str, kind: str) -> Statistics | None:
    features = reference.samples(split, kind)
    return None if features is None else statistics(features)


def _images(folder: Path, split: str, wanted: int) -> np.ndarray:
    data = Path(read_json(folder / "stage.json")["references"]["data"])
    if not data.exists():
        raise MissingPath(f"The data of '{folder}' are not at '{data}' any more.", "Use --images 0 for moments alone.")
    rows = load_array(folder / f"{split}_rows.npy")
    kept = numpy_generator(0, "batch", split).permutation(len(rows))[:wanted]
    return open_data(data / "data.h5").split(split).images(rows[np.sort(kept)])
