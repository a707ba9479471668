"""Weights & Biases, by a stand-in that notes what it is told, and by its own offline mode where it is installed."""

import sys
import types

import pytest

from vaebench.core.errors import MissingDependency
from vaebench.stages.base import Context
from vaebench.study.engine import Options, run

CPU = Context(device="cpu")


class Run:
    def __init__(self, about):
        self.about, self.rows, self.summary, self.finished = about, [], {}, False

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**about):
        module.runs.append(Run(about))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_stage_becomes_a_run_with_curves_and_scores(wandb, stub_graph, stub_spec, tmp_path, jobs):
    graph = stub_graph(a={"curve": 3}, b={"needs": ["a"]})
    run(stub_spec, graph, tmp_path, CPU, Options(wandb="latents", jobs=jobs, threads=1))
    first, second = wandb.runs
    assert first.about["id"] == graph.nodes["a"].hash
    assert (first.about["project"], first.about["group"], first.about["name"]) == ("latents", "stub", "a")
    assert first.about["resume"] == "allow"
    assert first.about["config"]["name"] == "a"
    assert first.rows == [(1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 1 / 3})]
    assert (first.summary, second.summary) == ({"value": 1}, {"value": 2})
    assert first.finished
    assert second.finished
    run(stub_spec, graph, tmp_path, CPU, Options(wandb="latents"))
    assert len(wandb.runs) == 2


def test_a_service_that_fails_stops_nothing_and_is_said_once(wandb, stub_graph, stub_spec, tmp_path, capfd):
    def refuse(**about):
        raise ConnectionError("no route")

    wandb.init = refuse
    graph = stub_graph(a={}, b={"needs": ["a"]})
    run(stub_spec, graph, tmp_path, CPU, Options(wandb="latents"))
    assert graph.made(tmp_path).keys() == {"a", "b"}
    assert capfd.readouterr().err.count("told nothing more (ConnectionError: no route)") == 1


def test_without_the_package_the_extra_is_named_before_anything_runs(stub_graph, stub_spec, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    graph = stub_graph(a={})
    with pytest.raises(MissingDependency, match=r"vaebench\[wandb\]"):
        run(stub_spec, graph, tmp_path, CPU, Options(wandb="latents"))
    assert not graph.made(tmp_path)
    run(stub_spec, graph, tmp_path, CPU)
    assert graph.made(tmp_path).keys() == {"a"}


@pytest.mark.slow
def test_offline_mode_of_the_real_one(stub_graph, stub_spec, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(stub_spec, stub_graph(a={"curve": 3}), tmp_path, CPU, Options(wandb="latents"))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
