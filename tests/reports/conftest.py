"""Synthetic study folders in the layout that `vaebench study run` leaves."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaebench.core.scores import Score, write_scores

BUDGET = {"steps": 600, "cfg": 1.0, "nfe": 25}
ATTRIBUTES = ("glasses", "beard", "hat", "smile")
TILE, GAP, FACES, STEPS = 16, 2, 2, [-1.0, 0.0, 1.0]  # of traversals
FIVE = ("kl-vae", "va-vae", "send-vae", "eq-vae", "<script>alert(1)</script>")

# tokenizer: (PSNR, rFID, probe macro-F1, gFID, gFID to own reconstructions)
THREE = {
    "kl-vae": (22.6, 31.0, 0.52, 61.0, 33.0),
    "va-vae": (22.1, 33.0, 0.58, 55.0, 26.0),
    "send-vae": (21.9, 34.0, 0.63, 49.0, 19.0),
}


class StudyWriter:
    """Writes stage folders one by one; `finish` writes the index."""

    def __init__(self, folder: Path, name: str = "quickstart") -> None:
        self.folder, self.name = folder, name
        self.stages: list[dict[str, Any]] = []

    def stage(
        self,
        kind: str,
        tokenizer: str | None = None,
        seed: int | None = 0,
        budget: Mapping[str, Any] | None = None,
        scores: Sequence[Score] = (),
        losses: Sequence[Mapping[str, float]] = (),
        images: Mapping[str, np.ndarray] | None = None,
        complete: bool = True,
    ) -> Path:
        """Add a stage; returns its folder."""
        stage_id = "-".join(str(part) for part in (kind, tokenizer, f"s{seed}", len(self.stages)) if part is not None)
        folder = self.folder / "stages" / f"{len(self.stages):03d}-1a2b3c4d5e"
        self.stages.append({
            "id": stage_id, "kind": kind, "folder": str(folder.relative_to(self.folder)), "tokenizer": tokenizer,
            "seed": seed, "budget": dict(budget or {}), "complete": complete, "seconds": 12.3,
        })  # fmt: skip
        if complete:
            folder.mkdir(parents=True)
            write_scores(folder / "scores.json", scores)
            (folder / "stage.json").write_text(json.dumps({"id": stage_id, "kind": kind}))
            if losses:
                (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses))
            for file, pixels in (images or {}).items():
                Image.fromarray(pixels).save(folder / file)
        return folder

    def tokenizer(
        self, name: str, values: Sequence[float], seed: int = 0, half: float = 0.02, grids: bool = True
    ) -> None:
        """All stages of one tokenizer and seed; `half` is the relative half width of every interval."""
        psnr, rfid, f1, gfid, own = values
        rng = np.random.default_rng(len(self.stages))
        picture = {"originals.png": _noise(0), "reconstructions.png": _noise(1)} if grids else {}
        losses = [
            {"step": step, "loss_reconstruction": 1 / (step + 5) + 0.01 * rng.random(), "loss": 2.0}
            for step in range(1, 300, 10)
        ]
        self.stage("train", name, seed, losses=losses)
        self.stage("reconstruct", name, seed, images=picture, scores=[
            make_score("psnr", psnr, half=half), make_score("ssim", 0.8, half=half),
            make_score("rfid", rfid, "lower", half=half, protocol={"network": "mobilenetv2", "reference": "test"}),
        ])  # fmt: skip
        probes = []
        for vectorisation in ("flattened", "pooled"):
            protocol = {"vectorisation": vectorisation, "C": [0.01, 0.1, 1.0]}
            detail = {"vectorisation": vectorisation, "attribute": None, "baseline": 0.3}
            probes.append(make_score("probe_macro_f1", f1, half=half, protocol=protocol, detail=detail))
            for place, attribute in enumerate(ATTRIBUTES):
                value = f1 + 0.05 * (place - 1.5)
                probes.append(
                    make_score(
                        "probe_macro_f1", value, half=half, protocol=protocol, detail={**detail, "attribute": attribute}
                    )
                )
        self.stage("probe", name, seed, scores=probes)
        self.stage(
            "sit", name, seed, losses=[{"step": row["step"], "loss": 1 + row["loss_reconstruction"]} for row in losses]
        )
        self.stage("generate", name, seed, BUDGET, images={"samples.png": _noise(2)} if grids else {}, scores=[
            make_score("gfid", gfid, "lower", half=half, protocol={"network": "mobilenetv2", "nfe": 25}),
            make_score("gfid_vs_reconstructions", own, "lower", half=half, protocol={"network": "mobilenetv2"}),
            make_score("kid", 0.02, "lower", half=half),
        ])  # fmt: skip

    def gallery(self, name: str, seed: int = 0, points: int = 60, read: bool = True) -> None:
        """What stages `gallery` and `nearest` leave; an attribute turned up is seen in 60 + 5 `seed` percent more."""
        rng = np.random.default_rng(seed)
        turned = ("glasses", "hat")
        entries = []
        for target in turned:
            change = {other: [0.02 * i, 0.0, 0.04 * i] for i, other in enumerate(ATTRIBUTES)}
            change[target] = [0.6 + 0.05 * seed, 0.5, 0.9]
            entry = {
                "name": target, "probe": dict.fromkeys(ATTRIBUTES, 0.1) | {target: 0.7}, "images": 20,
                "cooccurrence": dict.fromkeys(ATTRIBUTES, 0.0) | {target: 1.0},
            }  # fmt: skip
            entries.append({**entry, "read": change, "before": dict.fromkeys(ATTRIBUTES, 0.1)} if read else entry)
        pitch = TILE + GAP
        size = (len(turned) * FACES * pitch - GAP, len(STEPS) * pitch - GAP, 3)
        folder = self.stage("gallery", name, images={
            "traversals.png": rng.integers(0, 255, size, dtype=np.uint8),
            "map.png": rng.integers(0, 255, (-(-points // 20) * 8, 160, 3), dtype=np.uint8),
        })  # fmt: skip
        (folder / "traversals.json").write_text(json.dumps({
            "steps": STEPS, "faces": [FACES] * len(turned), "tile": [TILE, TILE], "gap": GAP, "attributes": entries,
            "reader": {"network": "mobilenetv2", "least": 0.75, "balanced_accuracy": {}} if read else None,
        }))  # fmt: skip
        shared = np.random.default_rng(99)
        (folder / "map.json").write_text(json.dumps({
            "x": rng.random(points).tolist(), "y": rng.random(points).tolist(), "ids": list(range(points)),
            "thumbnail": 8, "columns": 20, "labels": None, "method": "t-SNE",
            "attributes": {"glasses": (shared.random(points) < 0.3).astype(int).tolist(),
                           "hat": (shared.random(points) < 0.7).astype(int).tolist()},
        }))  # fmt: skip
        folder = self.stage("nearest", name, images={"nearest.png": rng.integers(0, 255, (34, 52, 3), dtype=np.uint8)})
        (folder / "nearest.json").write_text(json.dumps({
            "network": "mobilenetv2", "median": 4.2, "median_held_out": 4.0, "nearer_than_real": 0.02,
        }))  # fmt: skip

    def finish(self, **extra: Any) -> Path:
        """Write index.json; returns the study folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        index = {
            "schema": 1, "study": self.name, "study_hash": "abc123", "created": "2026-11-22T10:00:00+00:00",
            "machine": {"cpu": "Test CPU", "cores": 2, "memory_gib": 24, "device": "cpu"},
            "versions": {"vaebench": "0.1.0"}, "config": {"study": self.name}, "stages": self.stages, **extra,
        }  # fmt: skip
        (self.folder / "index.json").write_text(json.dumps(index))
        return self.folder


def make_score(
    metric: str, value: float, direction: str = "higher", *, half: float | None = 0.02,
    protocol: Mapping[str, Any] | None = None, detail: Mapping[str, Any] | None = None, n: int = 500,
) -> Score:  # fmt: skip
    """A score whose interval is value -+ half * |value|."""
    bounds = {} if half is None else {
        "low": value - half * abs(value), "high": value + half * abs(value), "interval": "95% bootstrap over samples",
    }  # fmt: skip
    return Score(metric=metric, value=value, n=n, direction=direction, protocol=dict(protocol or {"n": n}),
                 detail=dict(detail or {}), **bounds)  # fmt: skip


@pytest.fixture
def new_study(tmp_path: Path) -> Callable[..., StudyWriter]:
    """Start a study: new_study(name="quickstart", folder="study")."""
    return lambda name="quickstart", folder="study": StudyWriter(tmp_path / folder, name)


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete study of three tokenizers, one seed, one budget; read only."""
    writer = StudyWriter(tmp_path_factory.mktemp("complete") / "study")
    writer.stage("data", seed=None)
    for name, values in THREE.items():
        writer.tokenizer(name, values)
    return writer.finish()


@pytest.fixture(scope="session")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete study of five tokenizers with something for every section of a page; read only."""
    writer = StudyWriter(tmp_path_factory.mktemp("five") / "study")
    for i, name in enumerate(FIVE):
        writer.tokenizer(name, (22 - 0.1 * i, 31 + i, 0.5 + 0.03 * i, 61 - 3 * i + (-1) ** i, 33 - 2 * i))
        writer.gallery(name, seed=i)
    return writer.finish()


@pytest.fixture
def mixed(new_study: Callable[..., StudyWriter]) -> Path:
    """Three tokenizers, the last of which was sampled by another protocol."""
    writer = new_study()
    for place, (name, nfe) in enumerate((("a", 25), ("b", 25), ("c", 50))):
        detail = {"vectorisation": "flattened", "attribute": None}
        writer.stage("probe", name, scores=[make_score("probe_macro_f1", 0.5 + 0.1 * place, detail=detail)])
        protocol = {"network": "mobilenetv2", "sampler": {"name": "heun", "nfe": nfe}}
        writer.stage("generate", name, scores=[make_score("gfid", 60 - 5.0 * place, "lower", protocol=protocol)])
    return writer.finish()


@pytest.fixture
def score() -> Callable[..., Score]:
    """Make a score: score("gfid", 50.0, "lower")."""
    return make_score


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (46, 46, 3), dtype=np.uint8)  # eight columns of four pixels
