"""Caps on samples: rows are drawn from the whole split, the same for everyone, and stay with their labels."""

import dataclasses
import warnings

import numpy as np
import pytest

from vaebench.data.base import DataInfo, Factor
from vaebench.metrics import METRICS
from vaebench.metrics.base import LatentSplit, MetricInputs, Selected
from vaebench.metrics.disentanglement.codes import targets, vectorise
from vaebench.metrics.readability.vectors import usable, vectors

ROWS, CAP = 600, 200
QUICK = {
    "gmm": {"dimension": 2, "components": [2]},
    "beta-vae": {"train_points": 50, "test_points": 50},
    "factor-vae": {"train_points": 50, "test_points": 50},
    "dci": {"rounds": 2},
    "nonlinear-gap": {"readers": ["knn"]},
    "sample-efficiency": {"vectorisations": ["flattened"]},
    "attribute-directions": {"vectorisations": ["flattened"]},
    "attribute-probe": {"vectorisations": ["flattened"]},
}
CAPS = {
    name: found
    for name in METRICS.names()
    if (found := {"samples", "queries", "bank", "images"} & set(METRICS.get(name).Config.model_fields))
}


class Watched:
    """An array that remembers which of its rows were read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.seen = values, values.shape, set()

    def __getitem__(self, index):
        self.seen |= set(np.arange(len(self.values))[index].tolist())
        return self.values[index]


def sorted_inputs() -> tuple[MetricInputs, dict[str, Watched]]:
    """Latents of images stored by class, factor and attribute, which their channels tell."""
    rng, read = np.random.default_rng(0), {}
    labels = np.arange(ROWS) * 6 // ROWS
    factors = np.stack([labels // 2, labels % 2], 1)
    images = rng.integers(0, 256, (ROWS, 3, 8, 8), dtype=np.uint8)
    splits = []
    for name in ("train", "validation", "test"):
        mean = 0.1 * rng.standard_normal((ROWS, 3, 4, 4)).astype(np.float32)
        mean[:, :2] += factors[:, :, None, None]
        read[name], read[f"{name} images"] = Watched(mean), Watched(images)
        splits.append(
            LatentSplit(
                read[name],
                np.full(mean.shape, 0.1, np.float32),
                labels=labels,
                attributes=np.stack([labels > 2, labels % 2], 1).astype(np.uint8),
                factors=factors,
                images=read[f"{name} images"].__getitem__,
                masks=lambda rows: np.tile(np.tri(8, dtype=np.uint8), (len(rows), 1, 1)),
            )
        )
    info = DataInfo(
        "toy", 8, classes=tuple("abcdef"), attributes=("a", "b"), attribute_level="image",
        factors=(Factor("f", ("0", "1", "2")), Factor("g", ("0", "1"))),
    )  # fmt: skip
    prepared = MetricInputs(
        *splits, info, np.zeros(3), np.ones(3), f=2,
        encode=lambda seen: seen[:, :, ::2, ::2].astype(np.float32) / 127.5 - 1,
        decode=lambda z: np.repeat(np.repeat(z, 2, 2), 2, 3),
        fid_features=lambda seen: seen.reshape(len(seen), -1)[:, :4].astype(np.float32),
    )  # fmt: skip
    return prepared, read


def test_rows_are_drawn_by_name_and_length_alone_and_fewer_are_among_more():
    prepared, _ = sorted_inputs()
    rows = prepared.rows("train", CAP)
    assert len(rows) == CAP
    assert (np.diff(rows) > 0).all()  # files are read in order
    assert set(prepared.rows("train", CAP // 2)) < set(rows)
    np.testing.assert_array_equal(rows, sorted_inputs()[0].rows("train", CAP))
    assert not np.array_equal(rows, prepared.rows("test", CAP))
    np.testing.assert_array_equal(prepared.rows("test", ROWS), np.arange(ROWS))
    # Of six classes of 100 rows each gets about a sixth of the draw, as a hypergeometric distribution has it.
    assert np.bincount(prepared.train.labels[rows]) == pytest.approx(CAP / 6, abs=4 * 4.3)
    assert prepared.drawn(CAP, "test") == {"rows": "drawn at random"}
    assert prepared.drawn(ROWS, "train", "test") == {}


@pytest.mark.parametrize("name", CAPS)
def test_a_cap_leaves_rows_of_every_class_and_the_protocol_says_so(name):
    prepared, read = sorted_inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = METRICS.get(name)({**QUICK.get(name, {}), **dict.fromkeys(CAPS[name], CAP)}).run(prepared, 0)
        assert scores
        assert {score.protocol["rows"] for score in scores} == {"drawn at random"}
        seen = [part.seen for part in read.values() if part.seen]
        assert seen
        for rows in seen:
            assert len(rows) <= CAP
            assert len(np.unique(prepared.train.labels[sorted(rows)])) == 6
        uncapped = METRICS.get(name)({**QUICK.get(name, {}), **dict.fromkeys(CAPS[name], ROWS)}).run(prepared, 0)
        assert all("rows" not in score.protocol for score in uncapped)


def test_rows_stay_with_their_factors_attributes_and_labels():
    prepared, _ = sorted_inputs()
    (codes,), found = vectorise(prepared, "pooled", CAP), targets(prepared, CAP)
    x, y = vectors(prepared, "pooled", 2, CAP), usable(prepared, CAP)
    for split in ("train", "validation", "test"):
        np.testing.assert_allclose(getattr(codes, split)[:, :2], getattr(found, split), atol=0.2)
        assert np.array_equal(getattr(x, split)[:, 1] > 0, getattr(y, split)[:, 1] == 1)
    scores = {s.metric: s.value for s in METRICS.get("class-probe")({"samples": CAP, "cs": [10.0]}).run(prepared, 0)}
    assert scores["class_linear_accuracy"] == 1
    lnc = METRICS.get("lnc")({"samples": CAP}).run(prepared, 0)[0]
    assert lnc.protocol["classes"] == 6
    assert lnc.value > 0.95


def test_selected_rows_are_read_when_they_are_asked_for():
    source = Watched(np.arange(20).reshape(10, 2))
    some = Selected(source, np.array([1, 4, 8]))
    assert some.shape == (3, 2)
    assert not source.seen
    np.testing.assert_array_equal(some[1:], [[8, 9], [16, 17]])
    assert source.seen == {4, 8}
    prepared, _ = sorted_inputs()
    assert prepared.means("train", ROWS) is prepared.train.mean
    few = dataclasses.replace(prepared, train=LatentSplit(source)).means("train", 4)
    assert few.shape == (4, 2)
