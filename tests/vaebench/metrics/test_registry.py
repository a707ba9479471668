"""Every registered metric keeps the contract, on latents of a small study."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vaebench.cli.app import app
from vaebench.core.errors import ConfigError, UnknownName
from vaebench.core.scores import Score
from vaebench.metrics import METRICS
from vaebench.metrics.base import NEEDS, Metric, MetricInputs
from vaebench.stages.base import Context
from vaebench.stages.score import ScoreConfig, metric_inputs

# What the metric would need more of than 192 small latents have.
SMALLER = {
    "gmm": {"dimension": 4, "components": [2, 3]},
    "uniformity": {"points": 100, "repeats": 2, "iterations": 250},
    "viv": {"minimum": 5, "shrinkage": 0.2, "draws": 50},
    "beta-vae": {"train_points": 300, "test_points": 200},
    "factor-vae": {"train_points": 300, "test_points": 200},
    "irs": {"minimum": 3},
}
# Several variants of what has one by default.
MORE: dict[str, dict[str, Any]] = {
    "dci": {"importances": ["boosting", "l1"], "rounds": 10},
    "attribute-directions": {"vectorisations": ["pca", "pooled"], "components": 8},
    "leakage": {"vectorisations": ["flattened", "pooled"]},
    "sample-efficiency": {"vectorisations": ["pca", "pooled"], "components": 8},
}


@pytest.fixture(scope="module")
def prepared(smoke_run) -> MetricInputs:
    stages = {path.name.rpartition("-")[0]: path for path in (smoke_run / "stages").iterdir()}
    given = {"latents": "extract-kl-vae-s0", "data": "data", "tokenizer": "train-kl-vae-s0"}
    return metric_inputs(ScoreConfig(), {k: str(stages[v]) for k, v in given.items()}, Context("cpu"))


@pytest.fixture(scope="module")
def first(prepared) -> Callable[[str], list[Score]]:
    """The scores of a metric, run once."""
    ran: dict[str, list[Score]] = {}

    def of(name: str) -> list[Score]:
        if name not in ran:
            ran[name] = made(name).run(prepared, 3)
        return ran[name]

    return of


def made(name: str, **options: Any) -> Metric:
    return METRICS.get(name)({**SMALLER.get(name, {}), **MORE.get(name, {}), **options})


def selectors(metric: Metric) -> dict[str, tuple]:
    """The settings that list variants."""
    settings = {key: getattr(metric.config, key) for key in metric.choices}
    return {key: value for key, value in settings.items() if isinstance(value, tuple)}


@pytest.mark.parametrize("name", METRICS.names())
def test_scores_carry_interval_n_direction_and_protocol(name, prepared, first):
    metric = made(name)
    assert metric.name == name
    assert metric.needs | {*metric.needs_one_of} <= set(NEEDS)
    assert metric.missing(prepared) is None
    assert metric.choices <= set(type(metric).Config.model_fields)
    scores = first(name)
    assert scores
    for score in scores:
        assert np.isfinite(score.value)
        assert score.n > 0
        assert score.protocol["metric"] == name
        assert {"version", *type(metric).Config.model_fields} - metric.choices <= set(score.protocol)
        assert not set(selectors(metric)) & {key for key, value in score.protocol.items() if isinstance(value, list)}
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
    assert len({score.protocol_hash for score in scores}) == len(scores), "and the protocol says it too"


@pytest.mark.parametrize("name", METRICS.names())
def test_same_seed_same_scores(name, prepared, first):
    if name in {"ifid", "uniformity", "class-probe"}:
        pytest.skip("as the others, and slow")
    one, other = first(name), made(name).run(prepared, 3)
    assert [(s.metric, s.value, s.low, s.high) for s in one] == [(s.metric, s.value, s.low, s.high) for s in other]


@pytest.mark.parametrize("name", [name for name in METRICS.names() if selectors(made(name))])
def test_a_variant_less_changes_neither_protocol_nor_value_of_the_others(name, prepared, first):
    few = {key: list(values[-1:]) for key, values in selectors(made(name)).items()}

    def told(scores: list[Score]) -> dict[tuple, tuple]:
        return {
            (s.metric, s.detail.get("vectorisation"), s.detail.get("variant")): (s.protocol_hash, s.value)
            for s in scores
        }

    every, rest = told(first(name)), told(made(name, **few).run(prepared, 3))
    assert 0 < len(rest) < len(every)
    assert rest.items() <= every.items()


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


def test_what_a_metric_needs_is_listed_as_it_is_missed():
    found = CliRunner().invoke(app, ["score", "--list"])
    assert found.exit_code == 0
    lines = {line.split()[0]: line for line in found.output.splitlines()}
    for name in METRICS.names():
        metric = METRICS.get(name)
        assert (f"[needs {', '.join(metric.lacking())}]" in lines[name]) == bool(metric.lacking())
    for name in ("beta-vae", "dci", "explicitness", "factor-vae", "infomec", "irs", "mig", "modularity", "sap"):
        assert METRICS.get(name).lacking() == ["generative factors or attributes"]
        assert METRICS.get(name).lacking(frozenset({"attributes"})) == []
    assert METRICS.get("srss").lacking(frozenset({"positions"})) == ["masks"]


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(UnknownName, match="spectrum"):
        METRICS.get("spectrun")
    with pytest.raises(ConfigError, match="rhos"):
        METRICS.get("spectrum")({"rho": 0.3})
