"""iFID, interpolated FID (arXiv 2603.05630): does the space between neighbouring latents decode to images?

Each query latent is mixed half and half with a near latent of a bank, decoded, and the Fréchet distance of the decoded
images to the query images is taken. The published code searches flattened latents of the training set by cosine, takes
the ten best, draws one with probability softmax(-mean squared difference), and mixes on the sphere (slerp); the paper's
text is simpler: the nearest, mixed on a line. Images are rounded to 8 bits here, as for gFID; the code does not.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.fidelity.report import fid
from vaebench.metrics.separability.neighbours import nearest_neighbours

PARALLEL = 1e-6


def slerp(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Spherical mixture of rows (n, D): (sin((1 - a) theta) x + sin(a theta) y) / sin(theta), theta the angle between
    them; a straight mixture where sin(theta) < 1e-6. Works in float64, whose arccos near 1 is exact enough."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosine = np.clip((x * y).sum(1) / np.maximum(lengths, np.finfo(float).tiny), -1, 1)
    theta = np.arccos(cosine)[:, None]
    sine = np.sin(theta)
    flat = sine < PARALLEL
    safe = np.where(flat, 1, sine)
    one = np.where(flat, 1 - share, np.sin((1 - share) * theta) / safe)
    two = np.where(flat, share, np.sin(share * theta) / safe)
    return np.asarray(one * x + two * y)


def choose(queries: np.ndarray, bank: np.ndarray, candidates: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One of each query's candidates (n, k), with probability softmax(-mean squared difference of the latents)."""
    differences = np.stack(
        [
            np.mean((queries - bank[candidates[:, i]]) ** 2, axis=1, dtype=np.float64)
            for i in range(candidates.shape[1])
        ],
        1,
    )
    # The largest of -difference + Gumbel noise is a draw from that softmax.
    best = (-differences + generator.gumbel(size=differences.shape)).argmax(1)
    return np.asarray(candidates[np.arange(len(candidates)), best])


class IFIDConfig(Config):
    """Settings.

    Attributes:
        mix: slerp with cosine search (the code), or linear with Euclidean search.
        share: of the neighbour.
        candidates: nearest latents to draw from; 1 takes the nearest.
        queries, bank: test and training latents at most.
        resamples: of the bootstrap.
    """

    mix: Literal["slerp", "linear"] = "slerp"
    share: float = Field(0.5, gt=0, lt=1)
    candidates: int = Field(10, ge=1)
    queries: int = Field(2_000, ge=2)
    bank: int = Field(50_000, ge=1)
    resamples: int = Field(200, ge=20)


class IFID(Metric):
    """Fréchet distance of decoded interpolations."""

    name = "ifid"
    version = 3
    summary = "Fréchet distance of decoded interpolations between neighbouring latents (iFID)"
    needs = frozenset({"tokenizer", "images", "fid features"})
    Config = IFIDConfig

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        cfg = self.config
        rows = inputs.rows("test", cfg.queries)
        queries = np.asarray(inputs.test.mean[rows], np.float32)
        bank = np.asarray(inputs.train.mean[inputs.rows("train", cfg.bank)], np.float32)
        bank = bank.reshape(len(bank), -1)
        flat, generator = queries.reshape(len(queries), -1), numpy_generator(seed, self.name)
        distance: Literal["cosine", "euclidean"] = "cosine" if cfg.mix == "slerp" else "euclidean"
        found = nearest_neighbours(
            flat, bank, k=min(cfg.candidates, len(bank)), distance=distance, device=inputs.device
        )
        near = bank[choose(flat, bank, found, generator)]
        mixed = slerp(flat, near, cfg.share) if cfg.mix == "slerp" else (1 - cfg.share) * flat + cfg.share * near
        assert inputs.decode is not None
        assert inputs.fid_features is not None
        assert inputs.test.images is not None
        decoded = inputs.decode(mixed.reshape(queries.shape).astype(np.float32))
        images = np.clip(np.rint(127.5 * decoded + 127.5), 0, 255).astype(np.uint8)
        features, reference = inputs.fid_features(images), inputs.fid_features(inputs.test.images(rows))
        (result,) = fid(features, reference, generator=generator, resamples=cfg.resamples, paired=True)
        return [
            self.score(
                "ifid", result.value, "lower", len(rows), seed=seed, low=result.low, high=result.high,
                interval=result.interval, detail={"notes": list(result.notes)} if result.notes else {},
                protocol={
                    "latents": "posterior mean, raw", "split": "test, neighbours from train", "bank": len(bank),
                    "rounding": "8 bits", **inputs.drawn(cfg.queries, "test"), **inputs.drawn(cfg.bank, "train"),
                    **result.settings,
                },
            )
        ]  # fmt: skip
