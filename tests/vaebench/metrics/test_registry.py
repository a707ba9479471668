"""Every registered metric keeps the contract, on latents of a small study."""

import dataclasses

import numpy as np
import pytest

from vaebench.core.errors import ConfigError, UnknownName
from vaebench.metrics import METRICS
from vaebench.metrics.base import NEEDS, Metric, MetricInputs
from vaebench.stages.base import Context
from vaebench.stages.score import ScoreConfig, metric_inputs

# What the metric would need more of than 192 small latents have.
SMALLER = {
    "gmm": {"dimension": 4, "components": [2]},
    "uniformity": {"points": 100, "repeats": 2, "iterations": 250},
    "viv": {"minimum": 5, "shrinkage": 0.2, "draws": 50},
    "beta-vae": {"train_points": 300, "test_points": 200},
    "factor-vae": {"train_points": 300, "test_points": 200},
    "irs": {"minimum": 3},
}


@pytest.fixture(scope="module")
def prepared(smoke_run) -> MetricInputs:
    stages = {path.name.rpartition("-")[0]: path for path in (smoke_run / "stages").iterdir()}
    given = {"latents": "extract-kl-vae-s0", "data": "data", "tokenizer": "train-kl-vae-s0"}
    return metric_inputs(ScoreConfig(), {k: str(stages[v]) for k, v in given.items()}, Context("cpu"))


def made(name: str) -> Metric:
    return METRICS.get(name)(SMALLER.get(name, {}))


@pytest.mark.parametrize("name", METRICS.names())
def test_scores_carry_interval_n_direction_and_protocol(name, prepared):
    metric = made(name)
    assert metric.name == name
    assert metric.needs <= set(NEEDS)
    assert metric.missing(prepared) is None
    scores = metric.run(prepared, 0)
    assert scores
    for score in scores:
        assert np.isfinite(score.value)
        assert score.n > 0
        assert score.protocol["metric"] == name
        assert {"version", *type(metric).Config.model_fields} <= set(score.protocol) or name == "attribute-probe"
        if score.low is None:
            assert "no interval" in score.detail["note"]
        else:
            assert score.low <= score.value + 1e-9
            assert score.high >= score.value - 1e-9
            assert score.interval
    variants = [
        (s.metric, *(s.detail.get(k) for k in ("vectorisation", "variant", "attribute", "factor"))) for s in scores
    ]
    assert len(set(variants)) == len(variants), "two scores of one name need a variant that tells them apart"


@pytest.mark.parametrize("name", METRICS.names())
def test_same_seed_same_scores(name, prepared):
    if name in {"ifid", "uniformity", "class-probe"}:
        pytest.skip("as the others, and slow")
    first, second = (made(name).run(prepared, 3) for _ in range(2))
    assert [(s.metric, s.value, s.low, s.high) for s in first] == [(s.metric, s.value, s.low, s.high) for s in second]


@pytest.mark.parametrize("name", METRICS.names())
def test_what_is_missing_is_said_and_not_computed(name, prepared):
    bare = {"labels": None, "attributes": None, "factors": None, "std": None, "images": None, "masks": None}
    splits = {key: dataclasses.replace(getattr(prepared, key), **bare) for key in ("train", "validation", "test")}
    stripped = dataclasses.replace(prepared, **splits, encode=None, decode=None, fid_features=None)
    why = made(name).missing(stripped)
    if why is None:
        assert made(name).run(stripped, 0)
    else:
        assert why.startswith("needs ")


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(UnknownName, match="spectrum"):
        METRICS.get("spectrun")
    with pytest.raises(ConfigError, match="rhos"):
        METRICS.get("spectrum")({"rho": 0.3})
