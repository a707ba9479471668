"""What every metric does with latents and targets that are no good: an error that says so, or a number, never NaN."""

import dataclasses
import warnings

import numpy as np
import pytest

from vaebench.core.errors import VaebenchError
from vaebench.core.files import read_json
from vaebench.data.base import DataInfo, Factor
from vaebench.metrics import METRICS
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.diffusability.manifold import EffectiveRank
from vaebench.stages.base import Context
from vaebench.stages.score import ScoreConfig, ScoreStage

SHAPE = (3, 3, 3)
QUICK = {
    "gmm": {"dimension": 2, "components": [2]},
    "uniformity": {"points": 100, "maps": ["pca"]},
    "viv": {"minimum": 3, "draws": 10},
    "beta-vae": {"train_points": 50, "test_points": 50},
    "factor-vae": {"train_points": 50, "test_points": 50},
    "dci": {"rounds": 2},
    "nonlinear-gap": {"readers": ["knn"]},
    "sample-efficiency": {"smallest": 30},
}


def inputs(rows: int = 120, **columns: np.ndarray) -> MetricInputs:
    """Latents of noise with two classes, two attributes, two factors, masks, images and a tokenizer of pixels."""
    rng = np.random.default_rng(0)
    given = {
        "mean": rng.standard_normal((rows, *SHAPE)).astype(np.float32),
        "std": np.full((rows, *SHAPE), 0.1, np.float32),
        "labels": rng.integers(0, 2, rows),
        "attributes": rng.integers(0, 2, (rows, 2)).astype(np.uint8),
        "factors": rng.integers(0, 3, (rows, 2)),
        **columns,
    }
    images = rng.integers(0, 256, (rows, 3, 6, 6), dtype=np.uint8)
    masks = np.tile(np.tri(6, dtype=np.uint8), (rows, 1, 1))
    split = LatentSplit(**given, images=images.__getitem__, masks=masks.__getitem__)
    info = DataInfo(
        "toy", 6, classes=tuple(map(str, range(int(given["labels"].max()) + 2))), attributes=("a", "b"),
        factors=tuple(Factor(name, tuple(map(str, range(999)))) for name in "fg"), attribute_level="image",
    )  # fmt: skip
    return MetricInputs(
        split, split, split, info, np.zeros(3), np.ones(3), f=2,
        encode=lambda seen: seen.astype(np.float32).reshape(len(seen), 3, 3, 2, 3, 2).mean((3, 5)) / 127.5 - 1,
        decode=lambda z: np.repeat(np.repeat(z, 2, 2), 2, 3),
        fid_features=lambda seen: seen.reshape(len(seen), -1)[:, :4].astype(np.float32),
    )  # fmt: skip


def scored(name: str, prepared: MetricInputs) -> str | None:
    """Run a metric: what it says of the input, or None where it gives scores."""
    metric = METRICS.get(name)(QUICK.get(name, {}))
    why = metric.missing(prepared)
    if why is not None:
        return why
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = metric.run(prepared, 0)
    except VaebenchError as error:
        return str(error)
    assert found
    for score in found:
        assert np.isfinite(score.value), score.metric
        assert score.low is None or score.low <= score.high
    return None


@pytest.mark.parametrize("name", METRICS.names())
def test_latents_that_are_not_numbers_are_refused(name):
    if name == "equivariance":
        pytest.skip("encodes images, and sees no latents that are stored")
    mean = inputs().train.mean.copy()
    mean[7, 1, 2, 2] = np.nan
    assert "NaN or infinity" in scored(name, inputs(mean=mean))


@pytest.mark.parametrize("name", METRICS.names())
def test_constant_latents_have_a_score_or_a_reason(name):
    why = scored(name, inputs(mean=np.ones((120, *SHAPE), np.float32)))
    assert why is None or len(why) > 20


@pytest.mark.parametrize("name", METRICS.names())
def test_fewer_samples_than_dimensions_have_a_score_or_a_reason(name):
    why = scored(name, inputs(rows=12))  # of 27 dimensions
    assert why is None or any(
        word in why for word in ("sample", "image", "few", "latents", "needs", "one class", "No ")
    )


@pytest.mark.parametrize("name", ["class-probe", "lnc", "viv"])
def test_more_classes_than_samples_of_them(name):
    why = scored(name, inputs(rows=40, labels=np.arange(40)))
    assert why is None or "class" in why


@pytest.mark.parametrize("name", ["mig", "modularity", "sap", "dci", "infomec", "explicitness", "irs", "factor-vae"])
def test_constant_and_continuous_factors_are_named(name):
    factors = inputs().train.factors.copy()
    factors[:, 0] = 0
    prepared = inputs(factors=factors)
    for broken in (prepared, inputs(factors=np.stack([np.arange(120), np.zeros(120, int)], 1))):
        metric = METRICS.get(name)(QUICK.get(name, {}))
        why = ""
        try:
            found = metric.run(broken, 0)
        except VaebenchError as error:
            why = str(error)
        if why:
            assert any(word in why for word in ("constant", "continuous", "two factors", "two values"))
            continue
        assert found[0].detail["excluded"]["f"] == "is constant"
        assert found[0].protocol["names"] == ["g"]


@pytest.mark.parametrize("error", [ValueError("Input X contains NaN."), np.linalg.LinAlgError("singular")])
def test_what_a_library_refuses_costs_no_other_score(monkeypatch, tmp_path, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(EffectiveRank, "run", refuse)
    monkeypatch.setattr("vaebench.stages.score.metric_inputs", lambda *_: inputs())
    names = ("effective-rank", "spectrum")
    found = ScoreStage().run(ScoreConfig(metrics=names), {}, tmp_path, Context("cpu"))
    assert "sec" in {score.metric for score in found}
    assert read_json(tmp_path / "notes.json")["not_available"] == {"effective-rank": f"{type(error).__name__}: {error}"}


def test_sap_takes_continuous_factors_by_correlation():
    factors = np.stack([inputs().train.factors[:, 1], np.arange(120)], 1)
    scores = {
        score.metric: score
        for score in METRICS.get("sap")({"vectorisations": ["flattened"]}).run(inputs(factors=factors), 0)
    }
    assert scores["sap"].protocol["names"] == ["f"]
    assert scores["sap_r2"].protocol["names"] == ["g"]
    assert scores["sap_r2"].low < scores["sap_r2"].value < scores["sap_r2"].high


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("srss", "masks"),
        ("lnc", "class labels of two classes or more"),
        ("mig", "generative factors or attributes"),
        ("leakage", "attributes"),
    ],
)
def test_what_is_not_there_is_needed(name, needs):
    whole = inputs()
    bare = dataclasses.replace(whole.test, masks=None, labels=None, attributes=None, factors=None)
    assert scored(name, dataclasses.replace(whole, train=bare, validation=bare, test=bare)) == f"needs {needs}"
