"""The study of our own claim: what it compares, and its small version from nothing to a report."""

import json

import pytest

from vaebench import Context, make_report
from vaebench.study.engine import run
from vaebench.study.graph import build_graph
from vaebench.study.spec import load_study


def test_the_study_compares_enough_tokenizers_at_equal_budgets():
    spec = load_study("avatars-claim")
    compared = [entry for entry in spec.tokenizers if entry.evaluate]
    assert len(compared) >= 24
    repeated = [entry for entry in compared if len(spec.seeds_of(entry)) >= 3]
    assert len(repeated) >= len(compared) / 4
    graph = build_graph(spec)
    trained = [node for node in graph.nodes.values() if node.kind == "train" and node.tokenizer not in {"pca-patches"}]
    starts = {node.tokenizer for node in trained if not node.needs.get("init")}
    assert all(name.startswith("start") for name in starts)
    assert len({node.config.training.steps for node in trained if node.tokenizer not in starts}) == 1
    assert len({node.config.training.steps for node in trained if node.tokenizer in starts}) == 1
    generated = [node for node in graph.nodes.values() if node.kind == "generate"]
    assert {node.config.samples for node in generated} == {10_000}
    assert {node.config.seed for node in generated} == {0, 1}
    assert len({node.config.training.steps for node in graph.nodes.values() if node.kind == "sit"}) == 1
    assert {(node.config.variant, node.config.cfg) for node in generated} == {("", 1.0)}


@pytest.mark.slow
def test_the_small_version_runs_to_a_report(tmp_path):
    spec = load_study("smoke/avatars-claim")
    run(spec, build_graph(spec), tmp_path / "run", Context(device="cpu"))
    index = json.loads((tmp_path / "run" / "index.json").read_text())
    assert all(stage["complete"] for stage in index["stages"])
    page = make_report([tmp_path / "run"], tmp_path / "report").read_text()
    for name in ("kl-vae", "kl-d4", "send-vae", "pca-patches", "random-projection", "lightning", "Attribute shift"):
        assert name in page


def test_other_budgets_are_of_the_same_tokenizers_and_latents():
    first, other = build_graph(load_study("avatars-claim")), build_graph(load_study("budgets-claim"))
    same = [node for node in other.nodes.values() if node.kind not in {"sit", "generate"}]
    assert sum(node.kind == "extract" for node in same) == 7
    assert {node.hash for node in same} <= {node.hash for node in first.nodes.values()}
    generated = [node.config for node in other.nodes.values() if node.kind == "generate"]
    assert {(one.variant, one.cfg) for one in generated} == {("", 1.0), ("", 2.0), ("lightning", 1.0)}
    short, long = (
        {node.config.training.steps for node in graph.nodes.values() if node.kind == "sit"} for graph in (first, other)
    )
    assert min(long) >= 2 * max(short)


def test_the_second_data_set_has_twelve_of_the_same_tokenizers_trained_alike():
    first, second = load_study("avatars-claim"), load_study("fashion-claim")
    assert second.data["name"] == "fashion-mnist"
    known = {entry.name: entry for entry in first.tokenizers}
    compared = [entry for entry in second.tokenizers if entry.evaluate]
    assert len(compared) >= 12
    for entry in compared:
        same = known[entry.name]
        assert (entry.method, entry.init) == (same.method, same.init)
        options = [{**one.options, "num_classes": None} for one in (entry, same)]  # the data's own number
        assert options[0] == options[1]
        assert entry.training == same.training
    assert (first.training, first.sit, first.generate) == (second.training, second.sit, second.generate)
