"""What reconstruction and generation share: feature networks, their references, and scores of features against them.

A reference folder holds what its first network made of the real images at its top, and what each companion made in
``companions/<name>``. Both have the same files: ``network.json``; per split ``<split>.npy`` (pooled features) and
``<split>_spatial.npy`` where the network gives spatial ones; and ``<split>_moments.npz`` where published moments take
their place.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.core.errors import MismatchError
from vaebench.core.files import read_json
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.fidelity.batches import read_batch
from vaebench.metrics.fidelity.report import Result, fidelity, inception
from vaebench.metrics.fidelity.statistics import Statistics
from vaebench.stages.arrays import load_array
from vaebench.stages.processes import Processes
from vaebench.vision import extract, load_network
from vaebench.vision.base import FrozenNetwork

COMPANIONS = "companions"
SOURCE = "source.json"
Features = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """What one network made of the real images.

    Attributes:
        folder: of this network.
        label: "" for the first network; a companion's name, which is then part of its scores' names.
        record: the network's name, options and weights hash, which belong to the protocol of a score.
        source: per split, which file of ADM's suite stands for the images, if one does.
    """

    folder: Path
    label: str
    record: dict[str, Any]
    source: dict[str, Any]

    def network(self, device: str) -> FrozenNetwork:
        """The network itself.

        Raises:
            MismatchError: the weights at hand are not those of the reference.
        """
        network = load_network(self.record["name"], device=device, **self.record["options"])
        if network.weights_hash != self.record["weights_hash"]:
            raise MismatchError(
                f"The reference '{self.folder}' was made with weights {self.record['weights_hash'][:10]} of "
                f"'{self.record['name']}', and {network.weights_hash[:10]} are here.",
                "Compute the reference anew.",
            )
        return network

    def moments(self, split: str, kind: str = "pooled") -> np.ndarray | Statistics | None:
        """What a Fréchet distance compares to: published moments where there are some, else features, else None."""
        published = self.folder / f"{split}_moments.npz"
        if published.is_file():
            batch = read_batch(published)
            return batch.pooled if kind == "pooled" else batch.spatial
        return self.samples(split, kind)

    def samples(self, split: str, kind: str = "pooled") -> np.ndarray | None:
        """Features (n, d), mapped from the file; None where there are none."""
        path = self.folder / (f"{split}.npy" if kind == "pooled" else f"{split}_{kind}.npy")
        return load_array(path) if path.is_file() else None

    def said(self, split: str, otherwise: str, moments: bool) -> str:
        """What the reference is, for the protocol."""
        if split not in self.source:
            return otherwise
        entry = self.source[split]
        what = "stored moments" if moments and entry["moments"] else "images"
        return f"{what} of the batch {entry['sha256'][:16]}"

    def name(self, metric: str) -> str:
        """The name of a score: with the network's where it is a companion."""
        return f"{metric}_{self.label}" if self.label else metric


def companion_name(network: str) -> str:
    """What a companion is called in folders and scores: its registered name, or of a path only the last part."""
    return network.rpartition("/")[2]


def references(folder: Path) -> Iterator[Reference]:
    """The networks of a reference folder: the first, then its companions by name."""
    source = read_json(folder / SOURCE) if (folder / SOURCE).is_file() else {}
    yield Reference(folder, "", read_json(folder / "network.json"), source)
    for path in sorted((folder / COMPANIONS).glob("*/network.json")):
        yield Reference(path.parent, path.parent.name.replace("-", "_"), read_json(path), {})


def shared_features(
    network: FrozenNetwork,
    images: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    n: int,
    want: tuple[str, ...],
    batch_size: int,
    title: str,
    folder: Path,
    processes: Processes,
) -> dict[str, np.ndarray]:
    """Features of n images of which this process has ``rows``; all of them in the main process, none in the others.

    Args:
        images: positions within ``rows`` -> uint8 images.
        want: kinds of features; those that the network does not give are left out.
    """
    kinds: Any = tuple(kind for kind in want if kind in network.sizes)
    found = extract(network, images, len(rows), batch_size=batch_size, want=kinds, title=title)
    return processes.join(folder, title, rows, n, **found)


def fidelity_scores(
    metrics: tuple[str, ...],
    features: np.ndarray,
    reference: np.ndarray | Statistics,
    protocol: dict[str, Any],
    resamples: int,
    seed: int,
    rename: dict[str, str] | None = None,
    paired: bool = False,
) -> list[Score]:
    """Scores of features against a reference.

    Args:
        metrics: of fid, kid and manifold.
        features, reference: (n, d) and (m, d), or the reference's moments for fid.
        protocol: settings known to the caller; the metric adds its own and the sizes.
        resamples: of the bootstrap.
        seed: of resampling.
        rename: metric name -> name of the score ("fid" -> "gfid").
        paired: whether row i of both belongs to one image.
    """
    generator = numpy_generator(seed, "fidelity", *metrics)
    given = reference if isinstance(reference, Statistics) else np.asarray(reference)
    results = fidelity(features, given, generator=generator, metrics=metrics, resamples=resamples, paired=paired)
    return [_score(result, protocol, seed, (rename or {}).get(result.name, result.name)) for result in results]


def inception_score(logits: np.ndarray, protocol: dict[str, Any], resamples: int, seed: int) -> Score:
    """The Inception Score of logits (n, classes)."""
    generator = numpy_generator(seed, "fidelity", "inception_score")
    result = inception(logits, generator=generator, resamples=resamples)
    return _score(result, protocol, seed, result.name)


def _score(result: Result, protocol: dict[str, Any], seed: int, name: str) -> Score:
    return Score(
        metric=name,
        value=result.value,
        low=result.low,
        high=result.high,
        interval=result.interval,
        n=result.n,
        seed=seed,
        direction=result.direction,
        protocol={**protocol, **result.settings, "samples": result.n, "reference_samples": result.n_reference},
        detail={"notes": list(result.notes)} if result.notes else {},
    )
