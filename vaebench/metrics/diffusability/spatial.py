"""Spatial structure of latents: do nearby positions resemble each other more than distant ones?

With u_p = z_p / |z_p| the unit vector of position p, S(p, q) = <u_p, u_q>, and distance d the Manhattan distance on the
grid, per image (Singh et al., iREPA, arXiv 2512.10794, and its code):

    LDS  = mean S over d = 1  -  mean S over d >= far                        local against distant, as the code has it
    LDS' = mean S over 0 < d < H/2  -  mean S over d >= H/2             "lds_half": as the paper has it
    CDS  = -slope of the least-squares line through (delta, mean S over d = delta), delta = 1 .. 8
    SRSS = mean over foreground anchors of (mean S to foreground at d = 1 - mean S to background at d >= far)
    RMSC = sqrt(mean_p |u_p - mean_q u_q|^2), in [0, 1]; 1 for white noise: diversity, not quality

Cosines do not see the scale of latents, but they see an offset: a channel with a large mean makes everything alike. So
each is given as it is and with the image's own mean over positions subtracted ("centred").
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.scores import Score
from vaebench.metrics.base import LatentSplit, Metric, MetricInputs

LONGEST = 8
# Similarities of pairs of positions at a time.
PAIRS = 2**22


class Structure(NamedTuple):
    """One value per image (N,); NaN where a position is a zero vector or the grid is too small."""

    lds: np.ndarray
    lds_half: np.ndarray
    cds: np.ndarray
    rmsc: np.ndarray


@lru_cache(maxsize=8)
def distances(height: int, width: int) -> np.ndarray:
    """Manhattan distances between positions of a grid, int (T, T), positions row by row."""
    rows, columns = np.divmod(np.arange(height * width), width)
    return np.abs(rows[:, None] - rows) + np.abs(columns[:, None] - columns)


def far_distance(height: int, width: int, far: int) -> int:
    """The distance from which positions count as distant: ``far``, or the grid's largest distance where it is less."""
    return min(far, height + width - 2)


def unit_vectors(latents: np.ndarray, centred: bool = False) -> np.ndarray:
    """Latents (n, d, h, w) as unit vectors (n, T, d); NaN for a zero vector."""
    tokens = latents.reshape(*latents.shape[:2], -1).transpose(0, 2, 1).astype(np.float32)
    if centred:
        tokens = tokens - tokens.mean(1, keepdims=True)
    lengths = np.linalg.norm(tokens, axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 1e-12, tokens / lengths, np.nan)


def structure(latents: np.ndarray, far: int = 6, centred: bool = False) -> Structure:
    """LDS by either rule, CDS and RMSC of latents (n, d, h, w), for every image."""
    parts = [_structure(latents[few], far, centred) for few in _few(latents)]
    return Structure(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _few(latents: np.ndarray) -> list[slice]:
    """So few of the images at a time that the similarities of all pairs of positions take bounded memory."""
    step = max(1, PAIRS // int(np.prod(latents.shape[2:])) ** 2)
    return [slice(start, start + step) for start in range(0, max(len(latents), 1), step)]


def _structure(latents: np.ndarray, far: int, centred: bool) -> Structure:
    height, width = latents.shape[2:]
    units, apart = unit_vectors(latents, centred), distances(height, width)
    similar = (units @ units.transpose(0, 2, 1)).reshape(len(units), -1).astype(np.float64)
    longest = apart.max()
    counts = np.bincount(apart.ravel(), minlength=longest + 1)
    groups = np.eye(longest + 1)[apart.ravel()]
    sums = similar @ groups  # (n, distances)
    means = sums / counts
    distant = slice(far_distance(height, width, far), None)
    lds = means[:, 1] - sums[:, distant].sum(1) / counts[distant].sum()
    half = -(-max(height, width) // 2)  # the least whole distance that is not below half a side
    lds_half = np.full(len(units), np.nan)
    if half > 1:
        near, apart_by_half = slice(1, half), slice(half, None)
        lds_half = (
            sums[:, near].sum(1) / counts[near].sum() - sums[:, apart_by_half].sum(1) / counts[apart_by_half].sum()
        )
    delta = np.arange(1, min(LONGEST, longest) + 1)
    cds = np.full(len(units), np.nan)
    if len(delta) > 1:
        weights = (delta - delta.mean()) / np.sum((delta - delta.mean()) ** 2)
        cds = -(means[:, delta] @ weights)
    off = units - units.mean(1, keepdims=True)
    return Structure(lds, lds_half, cds, np.sqrt(np.mean(np.sum(off.astype(np.float64) ** 2, 2), 1)))


def srss(latents: np.ndarray, foreground: np.ndarray, far: int = 6, centred: bool = False) -> np.ndarray:
    """SRSS of latents (n, d, h, w) with foreground (n, h, w) of booleans; NaN where an image has no valid anchor.

    An anchor is valid with a foreground neighbour at distance 1 and a background position at distance ``far`` or more.
    """
    return np.concatenate([_srss(latents[few], foreground[few], far, centred) for few in _few(latents)])


def _srss(latents: np.ndarray, foreground: np.ndarray, far: int, centred: bool) -> np.ndarray:
    height, width = latents.shape[2:]
    units, apart = unit_vectors(latents, centred), distances(height, width)
    similar = (units @ units.transpose(0, 2, 1)).astype(np.float64)
    inside = foreground.reshape(len(foreground), -1).astype(np.float64)
    near, distant = (apart == 1).astype(np.float64), (apart >= far_distance(height, width, far)).astype(np.float64)

    def mean_over(pairs: np.ndarray, others: np.ndarray) -> np.ndarray:
        number = others @ pairs
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(number > 0, np.einsum("npq,pq,nq->np", similar, pairs, others) / number, np.nan)

    gap = mean_over(near, inside) - mean_over(distant, 1 - inside)
    valid = (inside > 0) & np.isfinite(gap)
    number = valid.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, np.where(valid, gap, 0).sum(1) / number, np.nan)


def resized_masks(masks: np.ndarray, height: int, width: int, threshold: float = 0.5) -> np.ndarray:
    """Masks (n, H, W) of 0 and 1 on a grid (n, height, width): foreground where the covered share of the cell's area
    exceeds the threshold."""
    return area_means(masks.astype(np.float32), height, width) > threshold


def area_means(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Means of planes (..., H, W) over the cells of a grid (..., height, width); cells may cut pixels."""

    def weights(pixels: int, cells: int) -> np.ndarray:
        edges = np.linspace(0, pixels, cells + 1)
        low, high = np.arange(pixels), np.arange(pixels) + 1
        cover = np.minimum(high, edges[1:, None]) - np.maximum(low, edges[:-1, None])
        return (np.maximum(cover, 0) * cells / pixels).astype(np.float32)

    rows, columns = weights(planes.shape[-2], height), weights(planes.shape[-1], width)
    return np.asarray(rows @ planes @ columns.T)


class SpatialConfig(Config):
    """Settings of the spatial scores.

    Attributes:
        far: distance in grid cells from which positions are distant; 6 in the published code. On grids whose largest
            distance is less, that one counts. The paper says half the side of the grid, which ``lds_half`` is by.
        samples: test images at most.
    """

    far: int = Field(6, ge=1)
    samples: int = Field(10_000, ge=1)


PROTOCOL = {"latents": "posterior mean, normalised by training statistics", "split": "test", "distance": "Manhattan"}


class SpatialStructure(Metric):
    """LDS, CDS and RMSC, raw and centred per image."""

    name = "spatial-structure"
    version = 3
    summary = "local against distant self-similarity: LDS, CDS, RMSC (iREPA), and LDS by the paper's thresholds"
    needs = frozenset({"positions"})
    Config = SpatialConfig

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        rows = inputs.rows("test", self.config.samples)
        drawn = inputs.drawn(self.config.samples, "test")
        scores = []
        for centred in (False, True):
            parts = [structure(block, self.config.far, centred) for block in inputs.blocks(inputs.test, rows)]
            for name in Structure._fields:
                values = np.concatenate([getattr(part, name) for part in parts])
                if np.isnan(values).all():  # CDS on a grid of few distances, or latents that are constant
                    continue
                scores.append(
                    self.mean_score(
                        name,
                        values,
                        "none" if name == "rmsc" else "higher",
                        seed=seed,
                        protocol={**PROTOCOL, **drawn, "centred": centred, "grid": list(inputs.test.shape[1:])},
                        detail={"variant": "centred"} if centred else None,
                    )
                )
        return scores


class SRSS(Metric):
    """Similarity of foreground to neighbouring foreground against distant background; needs masks."""

    name = "srss"
    version = 2
    summary = "similarity within the foreground against the background (iREPA); needs masks"
    needs = frozenset({"positions", "masks"})
    Config = SpatialConfig

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        rows = inputs.rows("test", self.config.samples)
        drawn = inputs.drawn(self.config.samples, "test")
        foreground = foreground_of(inputs.test, rows)
        scores = []
        for centred in (False, True):
            values, done = [], 0
            for block in inputs.blocks(inputs.test, rows):
                values.append(srss(block, foreground[done : done + len(block)], self.config.far, centred))
                done += len(block)
            protocol = {
                **PROTOCOL,
                **drawn,
                "centred": centred,
                "masks": "foreground where it covers over half of a cell",
            }
            detail = {"variant": "centred"} if centred else None
            scores.append(
                self.mean_score("srss", np.concatenate(values), "higher", seed=seed, protocol=protocol, detail=detail)
            )
        return scores


def foreground_of(split: LatentSplit, rows: np.ndarray) -> np.ndarray:
    """Foreground positions (n, h, w) of these rows on the latent grid."""
    assert split.masks is not None
    _, height, width = split.shape
    masks = split.masks
    return np.concatenate(
        [resized_masks(masks(part), height, width) for part in np.array_split(rows, len(rows) // 512 + 1)]
    )
