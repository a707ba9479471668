import pytest

from vaebench.core.errors import ConfigError, MissingPath, UnknownName
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
    ("sit.steps=3", ConfigError, r"'steps' in .* would do nothing. Set generate.steps"),
    ("sit.seed=3", ConfigError, r"'seed' in .* would do nothing. Set seeds"),
    ("training.seed=3", ConfigError, r"'seed' in training of tokenizer 'kl-vae' would do nothing. Set seeds"),
    ("tokenizers=[{name: a, method: kl-vae, training: {seed: 3}}]", ConfigError, "Set seeds"),
    ("generate.settings.cfg=2", ConfigError, r"Set generate.cfg \(--cfg\)"),
    ("generate.settings.nfe=2", ConfigError, r"Set generate.nfe \(--nfe\)"),
    ("generate.settings.steps=2", ConfigError, r"Set generate.steps \(--steps\)"),
    ("data.name=avatar", UnknownName, "Did you mean 'avatars'"),
    ("data.options.image_sise=3", ConfigError, "Did you mean 'image_size'"),
    ("generate={nfe: [8, 16], settings: {sampler: {method: dopri5}}}", ConfigError, "several nfe are one"),
    ("features.split=tset", ConfigError, "should be 'train', 'validation' or 'test', got 'tset'"),
    ("extract.splits=[train,tset]", ConfigError, "should be 'train', 'validation' or 'test', got 'tset'"),
])  # fmt: skip
def test_mistakes_are_found_before_anything_runs(smoke_file, override, error, message):
    with pytest.raises(error, match=message):
        graph(smoke_file, override)


def test_training_may_start_from_a_registered_tokenizer(smoke_file):
    nodes = graph(smoke_file, "tokenizers=[{name: a, method: kl-vae, init: 'dct?f=8&d=16'}]").nodes
    assert nodes["train-a-s0"].given == {"init": "dct?f=8&d=16"}
    assert nodes["train-a-s0"].config.network is None


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


def test_probes_without_a_variant_keep_the_identity_that_they_had_before_there_were_variants(smoke_file):
    assert set(graph(smoke_file).nodes["probe-kl-vae-s0"].config.model_dump()) == {"probes", "seed"}


def test_a_teacher_of_its_own_leaves_that_of_repa(smoke_file):
    other = "teachers={other: {network: {name: efficientnet-lite0, options: {input_size: 32}}}}"
    entries = (
        "tokenizers=[{name: a, method: send-vae}, {name: b, method: send-vae, teacher: other},"
        " {name: c, method: va-vae, teacher: other}]"
    )
    nodes = graph(smoke_file, other, entries, "sit.repa={weight: 0.5, block: 1}").nodes
    assert nodes["train-a-s0"].needs["features"] == "features"
    assert nodes["train-b-s0"].needs["features"] == nodes["train-c-s0"].needs["features"] == "features-other"
    assert {nodes[f"sit-{name}-s0"].needs["features"] for name in "abc"} == {"features"}
    assert nodes["features-other"].config.network.options["input_size"] == 32
    with pytest.raises(ConfigError, match="Did you mean 'other'"):
        graph(smoke_file, other, "tokenizers=[{name: a, method: send-vae, teacher: othr}]")
    with pytest.raises(ConfigError, match="takes none"):
        graph(smoke_file, other, "tokenizers=[{name: a, method: kl-vae, teacher: other}]")


def test_probes_on_other_data_read_their_own_latents(smoke_file):
    sets = "probe_data={one: {name: avatars, options: {train: 48}}, two: {name: shapes3d}}"
    nodes = graph(smoke_file, sets, "extract={splits: [train], flip: both, dtype: float16}").nodes
    assert nodes["extract-kl-vae-s0-one"].needs["data"] == "data-one"
    assert nodes["probe-kl-vae-s0-two"].needs == {"latents": "extract-kl-vae-s0-two"}
    assert "probe-kl-vae-s0" not in nodes
    assert nodes["probe-kl-vae-s0-two"].config.variant == "two"
    elsewhere, own = (nodes[name].config for name in ("extract-kl-vae-s0-one", "extract-kl-vae-s0"))
    assert (elsewhere.flip, elsewhere.dtype, len(elsewhere.splits)) == ("none", "float16", 3)
    assert (own.flip, own.splits) == ("both", ("train",))
    with pytest.raises(ConfigError, match="says where to probe"):
        graph(smoke_file, sets, "probe=null")


def test_without_probes(smoke_file):
    assert "probe" not in {node.kind for node in graph(smoke_file, "probe=null").nodes.values()}


def test_a_tokenizer_can_have_a_sit_of_its_own(smoke_file):
    entries = "tokenizers=[{name: a, method: kl-vae}, {name: b, method: kl-vae, sit: {network: {patch: 2}}}]"
    nodes = graph(smoke_file, entries).nodes
    a, b = (nodes[f"sit-{name}-s0"].config.training for name in "ab")
    assert b.network == {**a.network, "patch": 2}
    assert b.batch_size == a.batch_size


def test_a_plan_can_be_made_before_the_weights_are_there(smoke_file):
    entries = "tokenizers=[{name: a, load: ./nowhere/vae, network: f16d32}, {name: b, method: send-vae, init: a}]"
    with pytest.raises(MissingPath, match="nowhere"):
        graph(smoke_file, entries)
    planned = build_graph(load_study(smoke_file, [entries]), tolerant=True)
    assert "nowhere" in planned.missing["./nowhere/vae"]
    assert planned.nodes["train-b-s0"].given == {"init": "./nowhere/vae"}
    assert planned.networks == {"./nowhere/vae": "f16d32"}


def entries(*extra: str) -> str:
    rest = "".join(f", {line}" for line in extra)
    return "tokenizers=[{name: kl-vae, method: kl-vae}, {name: second, method: kl-vae, init: kl-vae" + rest + "}]"


def test_a_tokenizer_can_have_more_seeds_budgets_and_backbones_than_the_others(smoke_file):
    own = ("seeds: [0]", "generate: {cfg: [1, 2], seeds: [0, 1]}", "backbones: [lightning]")
    more = ("seeds=[0,1]", "backbones={lightning: {preset: lightning-nano}}", entries(*own))
    nodes = graph(smoke_file, *more).nodes
    assert {node.seed for node in nodes.values() if node.tokenizer == "kl-vae" and node.kind == "sit"} == {0, 1}
    sits = [node for node in nodes.values() if node.tokenizer == "second" and node.kind == "sit"]
    assert {(node.id, node.config.training.preset) for node in sits} == {
        ("sit-second-s0", "nano"),
        ("sit-second-lightning-s0", "lightning-nano"),
    }
    made = [node for node in nodes.values() if node.tokenizer == "second" and node.kind == "generate"]
    plain = [node for node in nodes.values() if node.tokenizer == "kl-vae" and node.kind == "generate"]
    assert len(made) == 2 * 2 * 2 * len(plain) / 2
    assert {(node.config.seed, node.config.cfg, node.config.variant) for node in made} == {
        (seed, cfg, variant) for seed in (0, 1) for cfg in (1.0, 2.0) for variant in ("", "lightning")
    }


def test_a_backbone_can_have_budgets_of_its_own(smoke_file):
    lightning = "backbones={lightning: {preset: lightning-nano, generate: {cfg: [1]}}}"
    own = ("generate: {cfg: [1, 2]}", "backbones: [lightning]")
    nodes = graph(smoke_file, lightning, entries(*own)).nodes
    made = [node for node in nodes.values() if node.tokenizer == "second" and node.kind == "generate"]
    assert {(node.config.variant, node.config.cfg) for node in made} == {("", 1.0), ("", 2.0), ("lightning", 1.0)}
    with pytest.raises(ConfigError, match=r"'second' with backbone 'lightning'.*Did you mean 'cfg'"):
        graph(smoke_file, lightning.replace("cfg", "cgf"), entries(*own))


@pytest.mark.parametrize(("lines", "message"), [
    (("seeds: [5]",), r"seeds \[5\] that its start 'kl-vae' lacks"),
    (("backbones: [lightening]",), "unknown backbone 'lightening'"),
    (("generate: {cgf: [1]}",), "Did you mean 'cfg'"),
])  # fmt: skip
def test_mistakes_in_what_is_a_tokenizers_own(smoke_file, lines, message):
    with pytest.raises(ConfigError, match=message):
        graph(smoke_file, entries(*lines))


@pytest.mark.parametrize(("lines", "first", "second"), [
    (["tokenizers=[{name: kl, method: kl-vae}, {name: kl-s0, load: ./nowhere/vae}]"],
     "tokenizer 'kl', seed 0", "tokenizer 'kl-s0'"),
    (["tokenizers=[{name: kl, method: kl-vae, backbones: [big]}, {name: kl-big, method: kl-vae}]",
      "backbones={big: {network: {depth: 2}}}"], "tokenizer 'kl', seed 0", "tokenizer 'kl-big', seed 0"),
    (["tokenizers=[{name: kl, load: ./nowhere/a}, {name: kl-x, load: ./nowhere/b}]",
      "probe_data={x: {options: {image_size: 32}}}"], "tokenizer 'kl', 'x'|tokenizer 'kl'", "tokenizer 'kl-x'"),
])  # fmt: skip
def test_names_that_would_become_one_are_refused(smoke_file, lines, first, second):
    with pytest.raises(ConfigError, match=f"Two stages would be called .*({first}) and one of {second}"):
        build_graph(load_study(smoke_file, lines), tolerant=True)
