import pytest

from vaebench.core.errors import ConfigError, UnknownName
from vaebench.study.graph import build_graph
from vaebench.study.spec import load_study


def graph(smoke_file, *overrides):
    return build_graph(load_study(smoke_file, overrides))


def test_nodes_come_after_what_they_need(smoke_file):
    nodes = graph(smoke_file, "seeds=[0,1]").nodes
    order = list(nodes)
    for node in nodes.values():
        assert all(order.index(need) < order.index(node.id) for need in node.needs.values())
    kinds = [node.kind for node in nodes.values()]
    assert kinds.count("data") == kinds.count("features") == 1
    assert kinds.count("train") == 6
    assert kinds.count("sit") == 6
    assert kinds.count("generate") == 12


def test_a_setting_moves_the_hashes_downstream_and_no_others(smoke_file):
    before, after = graph(smoke_file).nodes, graph(smoke_file, "probe.seed=3").nodes
    moved = {name for name in before if before[name].hash != after[name].hash}
    assert moved == {name for name in before if name.startswith("probe-")}
    tokenizers = graph(smoke_file, "training.log_every=3").nodes
    stay = {name for name in before if before[name].hash == tokenizers[name].hash}
    assert stay == {"data", "reference", "features"}


def test_a_fine_tuned_tokenizer_starts_from_the_one_of_its_seed(smoke_file):
    nodes = graph(smoke_file, "seeds=[3]").nodes
    assert nodes["train-send-vae-s3"].needs["init"] == "train-kl-vae-s3"
    assert "features" not in nodes["train-kl-vae-s3"].needs
    assert nodes["train-kl-vae-s3"].config.network is not None
    assert nodes["train-send-vae-s3"].config.network is None


@pytest.mark.parametrize(("override", "error", "message"), [
    ("tokenizers=[{name: a, method: kl-vae, init: b}, {name: b, method: kl-vae, init: a}]", ConfigError, "circle"),
    ("tokenizers=[{name: a, method: kl-vae, init: nobody}]", ConfigError, "no entry of this study"),
    ("tokenizers=[{name: a, method: kl-vea}]", UnknownName, "Did you mean 'kl-vae'"),
    ("sit.stepz=3", ConfigError, "stepz"),
    ("data.name=avatar", UnknownName, "Did you mean 'avatars'"),
    ("data.options.image_sise=3", ConfigError, "Did you mean 'image_size'"),
])  # fmt: skip
def test_mistakes_are_found_before_anything_runs(smoke_file, override, error, message):
    with pytest.raises(error, match=message):
        graph(smoke_file, override)


def test_a_tokenizer_that_is_only_a_start_is_not_evaluated(smoke_file):
    two = "tokenizers=[{name: base, method: kl-vae, evaluate: false}, {name: kl-vae, method: kl-vae, init: base}]"
    nodes = graph(smoke_file, two).nodes
    assert nodes["train-kl-vae-s0"].needs["init"] == "train-base-s0"
    assert {node.tokenizer for node in nodes.values() if node.kind in {"extract", "probe", "sit"}} == {"kl-vae"}


def test_a_ready_tokenizer_is_extracted_once_for_all_seeds(smoke_run, smoke_file):
    folder = next((smoke_run / "stages").glob("train-kl-vae-*"))
    nodes = graph(smoke_file, "seeds=[0,1]", f"tokenizers=[{{name: ready, load: '{folder}'}}]").nodes
    kinds = [node.kind for node in nodes.values()]
    assert kinds.count("extract") == kinds.count("probe") == 1
    assert kinds.count("sit") == 2
    assert "train" not in kinds
