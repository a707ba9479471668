"""Where a study with a gallery has its stages, and that one without keeps its identity."""

from vaebench.study.graph import build_graph
from vaebench.study.index import study_hash
from vaebench.study.spec import load_study


def graph(smoke_file, *overrides):
    return build_graph(load_study(smoke_file, overrides))


def test_the_first_seed_has_a_gallery_of_the_budget_that_reports_lead_with(smoke_file):
    nodes = graph(
        smoke_file, "seeds=[3,1]", "gallery={points: 50, nearest: {shown: 2}}", "generate.cfg=[2.0,1.0]",
        "generate.nfe=[4,8]",
    ).nodes  # fmt: skip
    galleries = [node for node in nodes.values() if node.kind in {"gallery", "nearest"}]
    assert {node.seed for node in galleries} == {3}
    assert len(galleries) == 2 * len({node.tokenizer for node in nodes.values() if node.kind == "extract"})
    assert nodes["gallery-kl-vae-s3"].config.points == 50
    assert nodes["nearest-kl-vae-s3"].config.shown == 2
    budget = nodes[nodes["nearest-kl-vae-s3"].needs["generate"]].budget
    steps = max(node.config.steps for node in nodes.values() if node.kind == "generate")
    assert budget == {"steps": steps, "cfg": 1.0, "nfe": 8}


def test_without_a_gallery_nothing_changes(smoke_file):
    plain, shown = load_study(smoke_file), load_study(smoke_file, ["gallery={}"])
    assert "gallery" not in plain.model_dump(mode="json")
    assert study_hash(plain) != study_hash(shown)
    before, after = build_graph(plain).nodes, build_graph(shown).nodes
    assert {name: node.hash for name, node in before.items()} == {
        name: node.hash for name, node in after.items() if node.kind not in {"gallery", "nearest"}
    }
