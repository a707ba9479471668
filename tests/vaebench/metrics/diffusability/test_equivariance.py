"""Encoders that are equivariant by construction, and one that is not."""

import numpy as np
import pytest

from vaebench.data.base import DataInfo
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.diffusability.equivariance import Equivariance, errors, halved, turned
from vaebench.metrics.diffusability.spatial import area_means


def encode(images: np.ndarray) -> np.ndarray:
    return area_means(images.astype(np.float32) / 127.5 - 1, images.shape[2] // 4, images.shape[3] // 4)


def decode(latents: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(latents, 4, 2), 4, 3)


def columns(images: np.ndarray) -> np.ndarray:
    """Not equivariant: every column is weighted by its place."""
    return encode(images) * np.arange(1, images.shape[3] // 4 + 1)


def inputs(encoder) -> MetricInputs:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), np.uint8)
    split = LatentSplit(encoder(images), images=images.__getitem__)
    ones = np.ones(3)
    return MetricInputs(
        split, split, split, DataInfo("toy", 16), 0 * ones, ones, encode=encoder, decode=decode, f=4
    )  # fmt: skip


def test_rotation_of_an_equivariant_tokenizer_costs_nothing():
    scores = {(s.metric, s.detail["variant"]): s for s in Equivariance().run(inputs(encode), 0)}
    for variant in ("latents", "decoded"):
        assert scores["rotation_equivariance_error", variant].value == pytest.approx(0, abs=1e-9)
        assert 0 < scores["scale_equivariance_error", variant].value < 2
    worse = {(s.metric, s.detail["variant"]): s for s in Equivariance().run(inputs(columns), 0)}
    rotation = worse["rotation_equivariance_error", "latents"]
    assert rotation.low < rotation.value < rotation.high
    assert rotation.value > 0.2


def test_unrelated_latents_have_error_two():
    rng = np.random.default_rng(0)
    wrong, scale = errors(*rng.standard_normal((2, 500, 3, 4, 4)))
    assert wrong.sum() / scale.sum() == pytest.approx(2, abs=0.05)


def test_transforms():
    plane = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    assert turned(1)(plane)[0, 0, 0].tolist() == [3, 7, 11, 15]
    assert turned(4)(plane).tolist() == plane.tolist()
    flat = np.full((1, 1, 8, 8), 77, np.uint8)
    assert halved(flat).tolist() == np.full((1, 1, 4, 4), 77).tolist()
    assert halved(flat.astype(np.float32)).dtype == np.float32


def test_sizes_that_cannot_be_halved_leave_scale_out():
    prepared = inputs(encode)
    small = MetricInputs(**{**{k: getattr(prepared, k) for k in prepared.__dataclass_fields__}, "f": 16})
    assert {s.metric for s in Equivariance().run(small, 0)} == {"rotation_equivariance_error"}
