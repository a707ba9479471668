"""The engine ray on a real Ray of two nodes on this machine: same results, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from vaebench.core.errors import ConfigError, VaebenchError
from vaebench.stages.base import Context
from vaebench.study.engine import Options, run
from vaebench.study.engines.job import Needs
from vaebench.study.events import read_events

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")

CPU = Context(device="cpu")
STEPS = 200  # of 50 ms: long enough for a node to be added meanwhile
CHAIN = {
    "a": {},
    "long": {"needs": ["a"], "walk": STEPS},
    "other": {"needs": ["a"]},
    "end": {"needs": ["long", "other"]},
}


@pytest.fixture(scope="module")
def cluster():
    """A head without cores and one node with one; tests add a second. Memory is bounded on each."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "memory": 2 * 2**30}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    made.small = {"num_cpus": 1, **small}
    made.first = made.add_node(**made.small)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def values(graph, root):
    """Result, and scores, of every stage."""
    return {
        name: (json.loads((folder / "made.json").read_text())["value"], (folder / "scores.json").read_bytes())
        for name, folder in graph.folders(root).items()
    }


def until(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def walker(root):
    """The process that works on the long stage, once it has saved a state."""
    found = list((root / "stages").glob(".long-*.partial/state"))
    locks = list((root / "stages").glob(".long-*.lock"))
    if not found or not locks or int(found[0].read_text().split()[0]) < 3:
        return None
    return json.loads(locks[0].read_text())["pid"]


def attempts(root, name="long"):
    return [e["event"] for e in read_events(root) if e.get("stage") == name]


def test_a_worker_killed_and_a_node_lost_in_the_middle_change_no_number(cluster, stub_graph, stub_spec, tmp_path):
    graph = stub_graph(**CHAIN)
    run(stub_spec, graph, tmp_path / "serial", CPU, Options(threads=1))
    root, failure = tmp_path / "ray", []

    def study():
        try:
            run(stub_spec, graph, root, CPU, Options(engine="ray", address=cluster.address, threads=1))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=study)
    thread.start()
    until(lambda: walker(root))
    first = walker(root)
    os.kill(first, signal.SIGKILL)
    until(lambda: walker(root) not in {None, first})
    second = cluster.add_node(**cluster.small)
    lost, cluster.first = cluster.first, second
    cluster.remove_node(lost)
    thread.join(240)
    assert not failure, failure
    assert not thread.is_alive()
    assert attempts(root) == ["stage-started", "stage-failed"] * 2 + ["stage-started", "stage-finished"]
    assert values(graph, root) == values(graph, tmp_path / "serial")
    steps = [int(line) for line in (graph.folders(root)["long"] / "steps").read_text().split()]
    assert steps[-1] == STEPS
    assert len(steps) < 2 * STEPS  # it went on where it was
    assert not list((root / "stages").glob(".*"))


def test_the_driver_killed_and_started_again(cluster, stub_graph, stub_spec, tmp_path):
    graph, root = stub_graph(**CHAIN), tmp_path / "ray"
    options = {"engine": "ray", "address": cluster.address, "threads": 1}
    driver_file = Path(__file__).parent / "stubs" / "driver.py"
    command = [sys.executable, str(driver_file), str(root), json.dumps(CHAIN), json.dumps(options)]
    driver = subprocess.Popen(command)
    until(lambda: walker(root))
    worker = psutil.Process(walker(root))
    driver.kill()
    driver.wait()
    subprocess.run(command, check=True, timeout=240)
    assert not worker.is_running()
    assert values(graph, root)["end"][0] == values(graph, root)["long"][0] + values(graph, root)["other"][0] + 1
    run(stub_spec, graph, tmp_path / "serial", CPU, Options(threads=1))
    assert values(graph, root) == values(graph, tmp_path / "serial")


def test_what_no_node_can_hold_and_what_does_not_answer_is_said(cluster, stub_graph, stub_spec, tmp_path):
    with pytest.raises(ConfigError, match="No node of the Ray cluster has what a stage takes"):
        run(stub_spec, stub_graph(a={}), tmp_path / "a", CPU,
            Options(engine="ray", address=cluster.address, threads=64))  # fmt: skip
    with pytest.raises(VaebenchError, match="No Ray cluster answers"):
        run(stub_spec, stub_graph(a={}), tmp_path / "b", CPU, Options(engine="ray", address="nonsense"))


def test_without_a_shared_folder_another_node_goes_on_with_what_was_copied(
    cluster, stub_graph, stub_spec, tmp_path, monkeypatch
):
    monkeypatch.setattr("vaebench.study.engines.copying.SECONDS_BETWEEN_COPIES", 0.2)
    graph = stub_graph(**CHAIN)
    run(stub_spec, graph, tmp_path / "serial", CPU, Options(threads=1))
    root, failure = tmp_path / "ray", []

    def study():
        try:
            run(stub_spec, graph, root, CPU, Options(engine="ray", address=cluster.address, threads=1, copied=True))
        except BaseException as error:
            failure.append(error)

    def kept():
        found = list((root / "stages").glob(".long-*.partial/state"))
        return int(found[0].read_text().split()[0]) if found else 0

    thread = threading.Thread(target=study)
    thread.start()
    until(lambda: kept() >= 5)
    assert not list((root / "stages").glob(".long-*.lock"))  # it is made elsewhere
    second = cluster.add_node(**cluster.small)
    lost, cluster.first = cluster.first, second
    cluster.remove_node(lost)
    thread.join(240)
    assert not failure, failure
    assert not thread.is_alive()
    assert attempts(root) == ["stage-started", "stage-failed", "stage-started", "stage-finished"]
    assert values(graph, root) == values(graph, tmp_path / "serial")
    steps = [int(line) for line in (graph.folders(root)["long"] / "steps").read_text().split()]
    assert steps == list(range(1, STEPS + 1))  # what came after the last copy was done again, from there
    assert not list((root / "stages").glob(".*"))
    record = json.loads((graph.folders(root)["end"] / "stage.json").read_text())
    assert record["references"]["long"] == str(graph.folders(root)["long"])
    assert "long speaks" in (root / "logs" / f"{graph.nodes['long'].folder_name}.log").read_text()


def test_several_processes_share_a_stage_and_none_outlives_the_worker(cluster, stub_graph, stub_spec, tmp_path):
    graph, root = (
        stub_graph(a={}, shared={"as": "shared", "walk": 40}, end={"needs": ["shared", "a"]}),
        tmp_path / "ray",
    )
    run(stub_spec, graph, tmp_path / "serial", CPU, Options(threads=1))
    two = cluster.add_node(**{**cluster.small, "num_cpus": 2})
    options = Options(engine="ray", address=cluster.address, threads=1, needs={"stub": Needs(processes=2)})
    failure = []

    def study():
        try:
            run(stub_spec, graph, root, CPU, options)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=study)
    thread.start()
    until(lambda: list((root / "stages").glob(".shared-*.partial/state")))
    first = psutil.Process(json.loads(next((root / "stages").glob(".shared-*.lock")).read_text())["pid"])
    worker = first.parent()
    both = [child for child in worker.children() if "together" in " ".join(child.cmdline())]
    assert len(both) == 2
    worker.kill()
    until(lambda: not any(child.is_running() for child in both), 60)
    thread.join(240)
    cluster.remove_node(two)
    assert not failure, failure
    made = {name: json.loads((folder / "made.json").read_text()) for name, folder in graph.folders(root).items()}
    assert made["shared"]["processes"] == 2
    alone = {name: scores for name, (_, scores) in values(graph, tmp_path / "serial").items()}
    assert {name: (folder / "scores.json").read_bytes() for name, folder in graph.folders(root).items()} == alone


def test_what_a_stage_takes_is_that_of_its_kind():
    from vaebench.study.engines.job import Job
    from vaebench.study.engines.ray import Share

    share = Share(threads=4, gpus=0.5, memory=None)
    plain = {"id": "a", "kind": "sit", "stage": "", "config": {}, "inputs": {}, "folder": "", "log": ""}
    assert share.of(Job(**plain), True) == {"num_cpus": 4, "num_gpus": 0.5, "memory": None}
    assert share.of(Job(**plain, accelerated=False), True)["num_gpus"] == 0
    asked = Job(**plain, threads=8, gpus=1, memory=10, processes=4)
    assert share.of(asked, True) == {"num_cpus": 32, "num_gpus": 4, "memory": 40}
    assert share.of(asked, False)["num_gpus"] == 0
