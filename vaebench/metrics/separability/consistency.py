"""LNC, latent neighbour consistency: how often the nearest latents are of the same class (arXiv 2606.03578).

Each image becomes one vector, the mean of its positions, over the foreground where there are masks (LNC proper) and
over all positions otherwise (another score, with another name). LNC@K is the mean over images of the share of the K
nearest others, by cosine, that have the image's label. K is not stated in the source (a figure shows 5).
"""

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import TooFewSamples
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.base import LatentSplit, Metric, MetricInputs
from vaebench.metrics.diffusability.spatial import foreground_of
from vaebench.metrics.intervals import half_width
from vaebench.metrics.separability.neighbours import nearest_neighbours


def consistency(vectors: np.ndarray, labels: np.ndarray, k: int, device: str = "cpu") -> np.ndarray:
    """Share of the k nearest others by cosine that have the same label, per image (n,), of vectors (n, D)."""
    found = nearest_neighbours(vectors, k=k, distance="cosine", device=device)
    return np.asarray((labels[found] == labels[:, None]).mean(1))


def jackknife(found: np.ndarray, same: np.ndarray, k: int, groups: np.ndarray) -> float:
    """Standard error of mean consistency from leaving out one group of images at a time, as queries and as neighbours.

    Images share neighbours, so a bootstrap that draws them as if they were independent covers the truth three times in
    four instead of 95 in 100 (`tests/vaebench/metrics/separability`).

    Args:
        found: nearest neighbours of each image, nearest first, int (n, m) with m well above k, so that k are left.
        same: whether each has the image's label, bool (n, m). k: neighbours that count. groups: int (n,) from 0.
    """
    values = []
    for group in range(int(groups.max()) + 1):
        kept = groups != group
        left = groups[found[kept]] != group
        first = left & (np.cumsum(left, axis=1) <= k)
        values.append((same[kept] & first).sum() / first.sum())
    count = len(values)
    return float(np.sqrt((count - 1) / count * np.sum((np.array(values) - np.mean(values)) ** 2)))


def chance(labels: np.ndarray) -> float:
    """Expected consistency of random neighbours: mean over images of (n_class - 1) / (n - 1)."""
    counts = np.bincount(labels)
    return float(np.mean((counts[labels] - 1) / (len(labels) - 1)))


def ceiling(labels: np.ndarray, k: int) -> float:
    """The largest value that class sizes allow: mean of min(1, (n_class - 1) / k)."""
    counts = np.bincount(labels)
    return float(np.mean(np.minimum(1, (counts[labels] - 1) / k)))


class ConsistencyConfig(Config):
    """Settings of LNC.

    Attributes:
        ks: numbers of neighbours.
        center: subtract the mean vector first; cosines of vectors with a common offset see little else.
        samples: test images at most.
        groups: of the jackknife.
    """

    ks: tuple[int, ...] = (5, 10)
    center: bool = True
    samples: int = Field(20_000, ge=2)
    groups: int = Field(10, ge=2)


class LNC(Metric):
    """LNC over the foreground, and over the whole image."""

    name = "lnc"
    version = 3
    summary = (
        "share of nearest latents of the same class (Diffusing in the Right Space); over the foreground with masks"
    )
    needs = frozenset({"labels"})
    Config = ConsistencyConfig
    choices = frozenset({"ks"})

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg, split = self.config, inputs.test
        rows = inputs.rows("test", cfg.samples)
        assert split.labels is not None
        kinds = {"lnc_whole_image": np.ones((len(rows), *split.shape[1:]), np.float32)}
        if split.masks is not None:
            kinds["lnc"] = foreground_of(split, rows).astype(np.float32)
        scores = []
        for name, weights in kinds.items():
            vectors, kept = mean_vectors(inputs, split, rows, weights)
            labels = split.labels[rows][kept]
            if cfg.center:
                vectors = vectors - vectors.mean(0)
            if len(vectors) <= max(cfg.ks):
                raise TooFewSamples(f"LNC@{max(cfg.ks)} needs more than {len(vectors)} images.")
            # Twice as many as count, and some: when a tenth of the images is left out, k are still among them.
            most = min(2 * max(cfg.ks) + 20, len(vectors) - 1)
            found = nearest_neighbours(vectors, k=most, distance="cosine", device=inputs.device)
            groups = numpy_generator(seed, self.name, "groups").permutation(len(vectors)) % cfg.groups
            for k in cfg.ks:
                protocol = {
                    "latents": "posterior mean, normalised by training statistics", "split": "test", "k": k,
                    "distance": "cosine", "classes": len(np.unique(labels)), **inputs.drawn(cfg.samples, "test"),
                }  # fmt: skip
                detail = {
                    "variant": f"k={k}", "baseline": chance(labels), "ceiling": ceiling(labels, k),
                    "empty_masks": len(rows) - len(vectors),
                }  # fmt: skip
                same = labels[found] == labels[:, None]
                value = float(same[:, :k].mean())
                half = half_width(jackknife(found, same, k, groups), cfg.groups)
                scores.append(
                    self.score(
                        name, value, "higher", len(labels), seed=seed, low=value - half, high=value + half,
                        interval="95% by Student's t, jackknife over groups of images", protocol=protocol,
                        detail=detail,
                    )
                )  # fmt: skip
        return scores


def mean_vectors(
    inputs: MetricInputs, split: LatentSplit, rows: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means over positions by weights (n, h, w) as vectors (m, d), and which rows have them: empty masks have none."""
    totals = weights.sum((1, 2))
    kept = totals > 0
    parts, done = [], 0
    for block in inputs.blocks(split, rows):
        part = slice(done, done + len(block))
        parts.append(np.einsum("ndhw,nhw->nd", block, weights[part]) / np.maximum(totals[part], 1e-12)[:, None])
        done += len(block)
    return np.concatenate(parts)[kept], kept
