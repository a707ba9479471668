"""The semantic gap: how well a linear classifier reads class labels from latents, and how much better neighbours do.

Sources differ in what is classified (flattened latents in MAETok, means over positions in REPA), and values with them,
so the pooling is part of the name. Multinomial logistic regression with an L2 penalty on standardised features; C is
chosen on the validation split, never on the test split.
"""

from collections.abc import Callable

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import TooFewSamples
from vaebench.core.scores import Score
from vaebench.data.base import SPLITS, SplitName
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.diffusability.spatial import area_means
from vaebench.metrics.separability.neighbours import nearest_neighbours
from vaebench.metrics.separability.softmax import fit_softmax, log_loss

POOLINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda block: block.mean((2, 3)),
    "grid2": lambda block: area_means(block, 2, 2).reshape(len(block), -1),
    "flattened": lambda block: block.reshape(len(block), -1),
}


class ClassProbeConfig(Config):
    """Settings of the class probe.

    Attributes:
        poolings: mean (over positions), grid2 (means of the quarters), flattened.
        cs: inverse penalties to choose from.
        k: neighbours of the classifier that is not linear.
        samples: images of each split at most.
    """

    poolings: tuple[str, ...] = ("mean", "flattened")
    cs: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    k: int = Field(10, ge=1)
    samples: int = Field(20_000, ge=2)


class ClassProbe(Metric):
    """Top-1 accuracy of a linear classifier and of k nearest neighbours, on held-out images."""

    name = "class-probe"
    version = 2
    summary = "linear and nearest-neighbour classification of labels from latents"
    needs = frozenset({"labels"})
    Config = ClassProbeConfig
    choices = frozenset({"poolings"})

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg = self.config
        labels = [np.asarray(getattr(inputs, split).labels)[inputs.rows(split, cfg.samples)] for split in SPLITS]
        seen, train_labels = np.unique(labels[0], return_inverse=True)
        if len(seen) < 2 or len(train_labels) <= len(seen):
            raise TooFewSamples(f"{len(train_labels)} training images of {len(seen)} classes train no classifier.")
        # Images of classes that training never saw are told apart by nobody: they count as wrong.
        place = {int(label): i for i, label in enumerate(seen)}
        known = [np.array([place.get(int(label), -1) for label in part]) for part in labels]
        baseline = float(np.mean(known[2] == np.bincount(train_labels).argmax()))
        scores = []
        for pooling in cfg.poolings:
            x = [_pooled(inputs, split, pooling, cfg.samples) for split in SPLITS]
            mean, std = x[0].mean(0), x[0].std(0)
            scale = np.divide(1, std, out=np.zeros_like(std), where=std > 1e-6 * np.abs(mean))
            x = [(part - mean) * scale for part in x]
            valid = known[1] >= 0
            fits, weights = [], None
            for c in sorted(cfg.cs):
                weights = fit_softmax(x[0], train_labels, len(seen), c, weights)
                fits.append((log_loss(weights, x[1][valid], known[1][valid]) if valid.any() else 0.0, c, weights))
            _, c, weights = min(fits, key=lambda fit: fit[0])
            right = (x[2] @ weights[:-1] + weights[-1]).argmax(1) == known[2]
            found = nearest_neighbours(x[2], x[0], k=min(cfg.k, len(x[0])), device=inputs.device)
            votes = np.stack([np.sum(train_labels[found] == label, 1) for label in range(len(seen))], 1)
            by_neighbours = votes.argmax(1) == known[2]
            protocol = {
                "latents": "posterior mean, standardised per feature on the training split", "split": "test",
                "pooling": pooling, "classes": len(seen), **inputs.drawn(cfg.samples, *SPLITS),
            }  # fmt: skip
            detail = {"vectorisation": pooling, "baseline": baseline, "width": x[0].shape[1]}
            for name, values, more in (
                ("class_linear_accuracy", right, {"c": c}),
                ("class_neighbour_accuracy", by_neighbours, {}),
                ("class_nonlinear_gap", by_neighbours.astype(np.float64) - right, {}),
            ):
                own = {**detail, **more}
                if name == "class_nonlinear_gap":
                    own.pop("baseline")
                direction = "none" if name == "class_nonlinear_gap" else "higher"
                scores.append(
                    self.mean_score(name, values, direction, seed=seed, protocol=protocol, detail=own)  # type: ignore[arg-type]
                )
        return scores


def _pooled(inputs: MetricInputs, split: SplitName, pooling: str, samples: int) -> np.ndarray:
    blocks = inputs.blocks(getattr(inputs, split), inputs.rows(split, samples))
    return np.concatenate([POOLINGS[pooling](block) for block in blocks])
