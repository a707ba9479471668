"""Controls beside the tokenizers of a study: the sizes they take, and what is done with them."""

import pytest

from vaebench.core.errors import ConfigError
from vaebench.study.graph import build_graph
from vaebench.study.spec import load_study
from vaebench.tokenizers.controls import CONTROLS

ALL = f"controls=[{', '.join(CONTROLS)}]"


def kinds(graph, tokenizer):
    return {node.kind for node in graph.nodes.values() if node.tokenizer == tokenizer}


def test_each_is_measured_at_the_size_of_the_network_and_none_generated_from():
    graph = build_graph(load_study("quickstart", [ALL]))
    measured = {"extract", "reconstruct", "probe"}
    assert kinds(graph, "pca-patches") == measured | {"train"}
    assert kinds(graph, "random-projection") == kinds(graph, "pixels") == measured
    assert {"f": 16, "d": 32}.items() <= graph.nodes["train-pca-patches-s0"].config.options.items()
    assert graph.nodes["extract-random-projection"].given == {"tokenizer": "random-projection?f=16&d=32"}
    assert graph.nodes["extract-pixels"].given == {"tokenizer": "pixels?f=16"}


def test_networks_of_several_sizes_have_controls_each_and_own_entries_stay():
    graph = build_graph(load_study("avatars-claim", [ALL]))
    for d in (8, 16, 32, 64):
        assert kinds(graph, f"pca-patches-f16d{d}") == {"train", "extract", "reconstruct", "probe", "score"}
    assert "generate" in kinds(graph, "pca-patches")
    assert "score" in kinds(graph, "pixels")


def test_stages_that_a_study_had_keep_their_identity():
    without, with_controls = (build_graph(load_study("quickstart", given)) for given in ([], [ALL]))
    assert {name: node.hash for name, node in without.nodes.items()}.items() <= {
        name: node.hash for name, node in with_controls.nodes.items()
    }.items()


def test_without_a_network_there_is_no_size(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text("study: s\ncontrols: [pixels]\ntokenizers: [{name: a, load: 'dct?f=8&d=4'}]\n")
    with pytest.raises(ConfigError, match="size of its controls"):
        build_graph(load_study(study))
