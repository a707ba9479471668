"""The engines of one machine, with stages that do next to nothing."""

import os
import time

import pytest

from vaebench.core.errors import MismatchError
from vaebench.stages.base import Context
from vaebench.study.engine import Options, StagesFailed, run
from vaebench.study.engines.job import make_job, tail
from vaebench.study.engines.local import LocalEngine
from vaebench.study.events import read_events

CPU = Context(device="cpu")
TWO = Options(jobs=2, threads=1)


def names(root, event):
    return [e["stage"] for e in read_events(root) if e["event"] == event]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """These tests say what runs side by side, whatever this machine has."""
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def test_independent_stages_run_side_by_side_in_processes_of_their_own(stub_graph, stub_spec, tmp_path):
    graph = stub_graph(a={"seconds": 0.5}, b={"seconds": 0.5}, c={"needs": ["a", "b"]})
    run(stub_spec, graph, tmp_path / "run", CPU, TWO)
    made = graph.made(tmp_path / "run")
    assert made["a"]["began"] < made["b"]["ended"]
    assert made["b"]["began"] < made["a"]["ended"]
    assert made["c"]["value"] == 3
    assert len({made[name]["pid"] for name in "abc"} | {os.getpid()}) == 4
    assert {made[name]["threads"] for name in "abc"} == {1}


def test_never_more_than_asked_for_or_than_cores_hold(stub_graph, stub_spec, tmp_path, capfd):
    graph = stub_graph(**{f"s{i}": {"seconds": 0.8} for i in range(5)})
    run(stub_spec, graph, tmp_path / "run", CPU, Options(jobs=4, threads=1))
    made = list(graph.made(tmp_path / "run").values())
    assert max(sum(m["began"] < n["ended"] and n["began"] <= m["began"] for n in made) for m in made) == 2
    assert "2 cores hold 2 stages of 1 threads at a time, not 4" in capfd.readouterr().err


@pytest.mark.parametrize("options", [Options(jobs=1), TWO], ids=["one", "two"])
@pytest.mark.parametrize("fail", ["user", "fault"])
def test_a_failed_stage_takes_only_its_descendants_with_it(stub_graph, stub_spec, tmp_path, capfd, options, fail):
    root = tmp_path / "run"
    graph = stub_graph(
        a={}, bad={"needs": ["a"], "fail": fail}, child={"needs": ["bad"]}, grandchild={"needs": ["child", "a"]},
        b={"needs": ["a"]},
    )  # fmt: skip
    with pytest.raises(StagesFailed, match=r"1 stage failed, 2 of 5 are complete\. 2 that need them were left out"):
        run(stub_spec, graph, root, CPU, options)
    assert graph.made(root).keys() == {"a", "b"}
    assert names(root, "stage-failed") == ["bad"]
    assert sorted(names(root, "stage-skipped")) == ["child", "grandchild"]
    shown = capfd.readouterr().err
    assert "Stage 'bad' failed" in shown
    assert "bad speaks" in shown
    log = tail(root / "logs" / f"{graph.nodes['bad'].folder_name}.log", 50)
    assert ("Traceback" in log) == (fail == "fault")


def test_a_stage_that_was_mended_goes_on_and_finishes_the_study(stub_graph, stub_spec, tmp_path):
    root = tmp_path / "run"
    graph = stub_graph(a={"fail": "user", "fail_until": 1}, b={"needs": ["a"]})
    with pytest.raises(StagesFailed, match="upside down"):
        run(stub_spec, graph, root, CPU)
    run(stub_spec, graph, root, CPU)
    assert graph.made(root)["b"]["value"] == 2
    last = read_events(root)[-1]
    assert (last["event"], last["done"], last["failed"]) == ("study-finished", 2, 0)


def test_a_killed_process_harms_no_other_and_may_be_tried_again(stub_graph, stub_spec, tmp_path):
    root = tmp_path / "run"
    graph = stub_graph(a={"fail": "kill", "fail_until": 1}, b={"seconds": 0.3})
    with pytest.raises(StagesFailed, match="ended by SIGKILL"):
        run(stub_spec, graph, root, CPU, TWO)
    assert graph.made(root).keys() == {"b"}
    assert next(e["exit"] for e in read_events(root) if e["event"] == "stage-failed") == -9
    again = stub_graph(a={"fail": "kill", "fail_until": 1})
    run(stub_spec, again, tmp_path / "retry", CPU, Options(jobs=2, threads=1, retries=1))
    assert names(tmp_path / "retry", "stage-started") == ["a", "a"]
    assert not list((tmp_path / "retry" / "stages").glob(".*"))


def test_what_lies_in_the_current_folder_is_not_taken_for_a_module(stub_graph, stub_spec, tmp_path, monkeypatch):
    for name in ("vaebench", "queue"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} of the current folder')")
    monkeypatch.chdir(tmp_path)
    graph = stub_graph(a={})
    run(stub_spec, graph, tmp_path / "run", CPU, TWO)
    assert graph.made(tmp_path / "run").keys() == {"a"}


def test_an_error_longer_than_a_pipe_holds_hangs_nothing(stub_graph, stub_spec, tmp_path):
    with pytest.raises(StagesFailed, match=r"(?s)a: first .* last") as told:
        run(stub_spec, stub_graph(a={"fail": "long"}), tmp_path / "run", CPU, TWO)
    assert len(str(told.value)) < 6000
    log = next((tmp_path / "run" / "logs").glob("a-*.log"))
    assert log.stat().st_size > 300_000


def test_one_process_per_gpu_and_none_for_stages_without(stub_graph, tmp_path):
    graph = stub_graph(a={"seconds": 0.2}, b={"seconds": 0.2}, c={}, d={"as": "light"})
    folders = graph.folders(tmp_path)
    jobs = {n: make_job(graph.nodes[n], folders, tmp_path / f"{n}.log", CPU, 1) for n in "abcd"}
    engine = LocalEngine(8, 1, gpus=["5", "7"])
    try:
        assert [engine.start(jobs[name]) for name in "abcd"] == [True, True, False, True]
        ended = set()
        while ended < {"a", "b", "d"}:
            ended |= {outcome.id for outcome in engine.wait()}
        assert engine.start(jobs["c"])
        assert engine.wait()[0].error == ""
    finally:
        engine.stop()
    made = graph.made(tmp_path)
    assert {made["a"]["gpu"], made["b"]["gpu"]} == {"5", "7"}
    assert made["d"]["gpu"] == ""


def test_memory_bounds_what_starts_but_one_stage_always_may(stub_graph, tmp_path):
    graph = stub_graph(a={}, b={})
    folders = graph.folders(tmp_path)
    a, b = (make_job(graph.nodes[n], folders, tmp_path / f"{n}.log", CPU, 1) for n in "ab")
    engine = LocalEngine(8, 1, memory=2**29)
    try:
        assert (engine.start(a), engine.start(b)) == (True, False)
        (outcome,) = engine.wait()
        assert outcome.peak_bytes > 2**26
    finally:
        engine.stop()


def test_files_that_are_only_mapped_need_no_memory(stub_graph, stub_spec, tmp_path):
    run(stub_spec, stub_graph(data={}, latents={}), tmp_path, CPU)
    graph = stub_graph(
        data={}, latents={}, a={"needs": ["data"]}, b={"needs": ["data"]}, c={"needs": ["latents"]},
    )  # fmt: skip
    folders = graph.folders(tmp_path)
    for name in ("data", "latents"):
        with (folders[name] / "images.h5").open("wb") as file:
            file.truncate(64 * 2**30)
    a, b, c = (make_job(graph.nodes[n], folders, tmp_path / f"{n}.log", CPU, 1) for n in "abc")
    engine = LocalEngine(8, 1, memory=3 * 2**30)
    try:
        assert (engine.start(a), engine.start(b), engine.start(c)) == (True, True, False)
        ended = []
        while len(ended) < 2:
            ended += engine.wait()
        assert [outcome.error for outcome in ended] == ["", ""]
    finally:
        engine.stop()


def test_stopping_ends_the_children(stub_graph, tmp_path):
    import psutil

    graph = stub_graph(a={"seconds": 60.0})
    job = make_job(graph.nodes["a"], graph.folders(tmp_path), tmp_path / "a.log", CPU, 1)
    engine = LocalEngine(2, 1)
    engine.start(job)
    lock = next(_until(lambda: list((tmp_path / "stages").glob(".*.lock"))))
    next(_until(lambda: list((tmp_path / "stages").glob(".*.partial"))))
    nursery = psutil.Process(engine._nursery.pid)
    children = nursery.children()
    engine.stop()
    assert len(children) == 1
    assert not children[0].is_running()
    assert not lock.exists()


def _until(find):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := find():
            yield found[0]
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def test_the_engine_costs_little_and_nothing_when_all_is_done(stub_graph, stub_spec, tmp_path):
    graph = stub_graph(**{f"s{i}": {} for i in range(40)})
    began = time.monotonic()
    run(stub_spec, graph, tmp_path / "run", CPU)
    per_stage = (time.monotonic() - began) / 40
    assert per_stage < 0.25  # the promise is 50 ms on an idle machine
    again = read_events(tmp_path / "run")
    run(stub_spec, graph, tmp_path / "run", CPU)
    assert read_events(tmp_path / "run") == again


def test_the_folder_of_a_running_study_is_refused(stub_graph, stub_spec, tmp_path):
    from vaebench.core.locks import hold

    with hold(tmp_path / "run" / "stages" / ".lock", "this study"), pytest.raises(MismatchError, match="this study"):
        run(stub_spec, stub_graph(a={}), tmp_path / "run", CPU)
