"""What reconstruction and generation share: the feature network, and the scores of one set of features to another."""

from pathlib import Path
from typing import Any

import numpy as np

from vaebench.core.errors import MismatchError
from vaebench.core.files import read_json
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.fidelity.report import fidelity
from vaebench.vision import load_network
from vaebench.vision.base import FrozenNetwork


def feature_network(reference: Path, device: str) -> tuple[FrozenNetwork, dict[str, Any]]:
    """The network that a reference was made with, and what of it belongs to the protocol of a score.

    Raises:
        MismatchError: the weights at hand are not those of the reference.
    """
    record = read_json(reference / "network.json")
    network = load_network(record["name"], device=device, **record["options"])
    if network.weights_hash != record["weights_hash"]:
        raise MismatchError(
            f"The reference '{reference}' was made with weights {record['weights_hash'][:10]} of '{record['name']}', "
            f"and {network.weights_hash[:10]} are here.",
            "Compute the reference anew.",
        )
    return network, {"network": record}


def fidelity_scores(
    metrics: tuple[str, ...],
    features: np.ndarray,
    reference: np.ndarray,
    protocol: dict[str, Any],
    resamples: int,
    seed: int,
    rename: dict[str, str] | None = None,
) -> list[Score]:
    """Scores of features against a reference.

    Args:
        metrics: of fid, kid and manifold.
        features, reference: (n, d) and (m, d).
        protocol: settings known to the caller; the metric adds its own and the sizes.
        resamples: of the bootstrap.
        seed: of resampling.
        rename: metric name -> name of the score ("fid" -> "gfid").
    """
    generator = numpy_generator(seed, "fidelity", *metrics)
    results = fidelity(features, np.asarray(reference), generator=generator, metrics=metrics, resamples=resamples)
    return [
        Score(
            metric=(rename or {}).get(result.name, result.name),
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
        for result in results
    ]
