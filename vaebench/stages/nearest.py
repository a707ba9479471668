"""Stage ``nearest``: the training images nearest to samples, and whether these lie closer to them than real images do.

Distances are Euclidean between features of the reference's first network. A generator that copies its training images
has samples far nearer to them than held-out real images are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.files import write_json
from vaebench.core.scores import Score
from vaebench.data import open_data
from vaebench.stages.arrays import load_array, save_grid
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.fidelity import references
from vaebench.vision import extract


class NearestConfig(Config):
    """How many.

    Attributes:
        shown: samples drawn with their neighbours, evenly spaced, so that classes take turns.
        neighbours: training images drawn beside each.
        samples: samples whose distances are compared with those of as many held-out real images.
        batch_size: images at a time.
    """

    shown: int = Field(6, ge=1)
    neighbours: int = Field(4, ge=1)
    samples: int = Field(256, ge=2)
    batch_size: int = Field(64, gt=0)


class NearestStage(Stage[NearestConfig]):
    """Leaves ``nearest.json`` and ``nearest.png``: per row a sample, then its nearest training images, nearest first.

    Both are left out where a file of ADM's suite stands for the training images. Inputs: ``generate``, ``reference``,
    ``data``.
    """

    kind = "nearest"
    Config = NearestConfig

    def run(self, config: NearestConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        generate = require_kind(inputs["generate"], ["generate"], "generate")
        reference = require_kind(inputs["reference"], ["reference"], "reference")
        dataset = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5")
        real = next(references(reference))
        train, test = real.samples("train"), real.samples("test")
        if train is None or test is None or real.source:
            write_json(folder / "nearest.json", {"note": "The reference holds no features of single training images."})
            return []
        samples = load_array(generate / "samples.npy")
        some = np.linspace(0, len(samples) - 1, min(config.samples, len(samples))).round().astype(int)
        found = extract(
            real.network(context.torch_device()), lambda i: np.asarray(samples[some[i]]), len(some),
            batch_size=config.batch_size, want=("pooled",), title="features of samples",
        )["pooled"]  # fmt: skip
        held_out = np.asarray(test[: len(some)])
        distances, to_real = (_distances(values, np.asarray(train)) for values in (found, held_out))
        shown = np.linspace(0, len(some) - 1, min(config.shown, len(some))).round().astype(int)
        order = np.argsort(distances[shown], axis=1, kind="stable")[:, : config.neighbours]
        rows = load_array(reference / "train_rows.npy")
        split, pictures = dataset.split("train"), []
        for sample, neighbours in zip(shown, order, strict=True):
            pictures += [np.asarray(samples[some[sample]])[None], split.images(rows[neighbours])]
        save_grid(folder / "nearest.png", np.concatenate(pictures), columns=1 + order.shape[1])
        threshold = float(np.quantile(to_real.min(1), 0.01))
        write_json(folder / "nearest.json", {
            "network": real.record["name"], "samples": len(some), "held_out": len(held_out), "reference": len(train),
            "median": float(np.median(distances.min(1))), "median_held_out": float(np.median(to_real.min(1))),
            "nearer_than_real": float((distances.min(1) < threshold).mean()), "threshold": threshold,
            "shown": some[shown].tolist(),
            "distances": np.take_along_axis(distances[shown], order, 1).round(4).tolist(),
        })  # fmt: skip
        return []

    def estimate(self, config: NearestConfig, facts: Mapping[str, Any]) -> Estimate:
        return Estimate(seconds=2 + config.samples / 100, disk_bytes=1e6)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (n, m) of rows, in float64 as squares of near rows cancel."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))
