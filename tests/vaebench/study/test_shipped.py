"""The study files that ship: each can be planned without data or weights, and its small version runs to a report."""

import json
import sys
from pathlib import Path

import pytest

from vaebench.cli.plan import print_plan
from vaebench.core.errors import UnknownName
from vaebench.stages.train import TrainConfig
from vaebench.study.engine import run
from vaebench.study.graph import build_graph
from vaebench.study.plan import plan
from vaebench.study.reading import shipped
from vaebench.study.spec import load_study
from vaebench.tokenizers.architecture import PRESETS, AutoencoderConfig

sys.path.insert(0, str(Path(__file__).parent))
import standins

PAPER = [name for name in shipped() if name.startswith("paper-")]
SMOKE = [name for name in shipped() if name.startswith("smoke/paper-")]


def test_the_papers_tables_and_ablations_ship_with_a_small_version_of_each():
    ablations = ("depth", "noise", "teacher", "specification", "initialisation", "initialisation-512")
    tables = {"paper-table1", "paper-table1-lightningdit", "paper-table7-8"}
    assert set(PAPER) == {*tables, *(f"paper-ablation-{name}" for name in ablations)}
    assert {f"smoke/{name}" for name in PAPER} <= set(SMOKE)


@pytest.mark.parametrize("name", PAPER)
def test_a_study_of_the_paper_says_what_the_paper_says(name):
    graph = build_graph(load_study(name), tolerant=True)
    kinds = [node.kind for node in graph.nodes.values()]
    assert kinds.count("sit") == kinds.count("extract") - 4 * kinds.count("reconstruct") * (name == "paper-table7-8")
    for node in graph.nodes.values():
        if node.kind == "train":
            assert isinstance(node.config, TrainConfig)
            training = node.config.training
            # 80 epochs of 1,281,167 images.
            assert training.steps * training.batch_size == pytest.approx(80 * 1_281_167, rel=0.002)
            assert (training.learning_rate, training.reconstruction) == (3e-4, "mse")
            assert node.config.options["weight"] == 1.0
        if node.kind == "sit":
            training = node.config.training
            preset = "SiT-XL/1" if "table1" in name else "SiT-B/1"
            lightning = ("LightningDiT-XL/1", 0) if "lightningdit" in name else (preset, 0.5)
            assert (training.preset, training.repa.weight) == lightning
            assert training.steps * training.batch_size == pytest.approx(80 * 1_281_167, rel=0.002)
        if node.kind == "generate":
            lightning = "lightningdit" in name
            sampling = (249, 50_000, "euler") if lightning else (250, 50_000, "sde")
            assert (node.config.nfe, node.config.samples, node.config.sampler["method"]) == sampling
            assert node.config.cfg in ({1.0, 10.0} if lightning else {1.0, 2.5} if "table1" in name else {1.0})
    assert all(reference.startswith("./weights/") for reference in graph.missing)


@pytest.mark.parametrize("name", SMOKE)
def test_the_small_version_has_the_stages_of_the_study(name):
    small, whole = (build_graph(load_study(n), tolerant=True) for n in (name, name.removeprefix("smoke/")))
    assert [(node.kind, node.tokenizer) for node in small.nodes.values()] == [
        (node.kind, node.tokenizer) for node in whole.nodes.values()
    ]


def test_lightningdit_is_trained_and_sampled_as_published():
    nodes = build_graph(load_study("paper-table1-lightningdit"), tolerant=True).nodes
    training = nodes["sit-va-vae-s0"].config.training
    assert (training.batch_size, training.learning_rate, training.betas) == (1024, 2e-4, (0.9, 0.95))
    assert (training.time, training.cosine_weight, training.ema_decay) == ("logit-normal", 1.0, 0.9999)
    assert training.gradient_clip is None
    sampler = nodes["generate-va-vae-s0-steps100000-cfg10-nfe249"].config.sampler
    assert (sampler["shift"], sampler["cfg_interval"], sampler["cfg_channels"]) == (0.3, [0.1, 1.0], 3)


def test_the_ablations_differ_in_what_they_ablate():
    depth = build_graph(load_study("paper-ablation-depth"), tolerant=True).nodes
    options = [depth[f"train-depth-{n}-s0"].config.options for n in range(3)]
    assert [(o["depth"], o["noise"]) for o in options] == [(0, False), (1, False), (2, False)]
    noise = build_graph(load_study("paper-ablation-noise"), tolerant=True).nodes
    assert [noise[f"train-{n}-noise-s0"].config.options["noise"] for n in ("without", "with")] == [False, True]
    assert depth["train-depth-1-s0"].hash == noise["train-without-noise-s0"].hash  # 8.42 in both of the paper's tables
    # So folders of data, features and reference can serve several studies.
    assert all(depth[name].folder_name == noise[name].folder_name for name in ("data", "features", "reference"))
    start = build_graph(load_study("paper-ablation-initialisation"), tolerant=True).nodes
    assert start["sit-sd-vae-s0"].config.training.network == {"patch": 2}


def test_the_plan_of_table_1(tmp_path, capsys):
    graph = build_graph(load_study("paper-table1"), tolerant=True)
    lines = {line.id: line for line in plan(graph, tmp_path, "cpu")}
    # SiT-XL/1 on 16 x 16 tokens is SiT-XL/2 on 32 x 32 latents, of 118.64 G multiply-adds as published, but for 32
    # channels; 400,000 steps of 256, three passes each, and the projector.
    sit = 400_000 * 256 * 3 * (2 * 118.64e9 + 2 * 256 * (1152 * 2048 + 2048**2 + 2048 * 768))
    assert lines["sit-va-vae-s0"].work.half == pytest.approx(sit, rel=0.01)
    assert lines["sit-va-vae-s0"].work.half == lines["sit-va-vae-s0"].work.total
    guided, plain = (lines[f"generate-va-vae-s0-steps400000-cfg{c}-nfe250"].work.total for c in ("2.5", "1"))
    assert guided / plain == pytest.approx(1 + (0.96 - 0.25) / 0.96, rel=0.01)  # guided from 0.25 on
    assert lines["features"].disk_bytes == pytest.approx(1_281_167 * 2 * 768 * 256)
    assert lines["train-send-vae-s0"].work.total > 100_000 * 1024 * 3 * 389e9

    print_plan(graph, tmp_path, "cpu", "a100", 0.5)
    printed = capsys.readouterr().out
    total = sum(line.work.half / 312e12 + line.work.convolutions / 156e12 + line.work.products / 19.5e12
                for line in lines.values()) / 0.5 / 3600  # fmt: skip
    assert f" {total:,.0f} GPU-hours" in printed
    assert "NVIDIA A100" in printed
    assert "50% of the peaks" in printed
    assert "Not here yet: ./weights/va-vae-f16d32" in printed
    with pytest.raises(UnknownName, match="Did you mean 'a100'"):
        print_plan(graph, tmp_path, "cpu", "a101", 0.5)


@pytest.mark.parametrize("name", PAPER)
def test_every_study_of_the_paper_can_be_planned(name, tmp_path, monkeypatch):
    # Smaller autoencoders of the same f and d, which are counted in a tenth of the time; table 1 above has true ones.
    for preset, config in PRESETS.items():
        small = {"block_out_channels": (16, 16), "patch_size": config.f // 2, "norm_num_groups": 8}
        monkeypatch.setitem(PRESETS, preset, AutoencoderConfig(latent_channels=config.latent_channels, **small))
    lines = plan(build_graph(load_study(name), tolerant=True), tmp_path, "cpu")
    assert all(line.work.total > 0 for line in lines if line.kind != "data")
    assert all(line.disk_bytes > 0 for line in lines if line.kind != "probe")
    assert not any(line.left_out for line in lines)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("standins")
    standins.make_data(root / "data")
    standins.make_weights(root / "weights")
    tiny = f"model={standins.TINY_TEACHER}"
    reference = root / "weights" / "reference.safetensors"
    feature_network = f"{{{tiny.replace('=', ': ')}, input_size: 64, checkpoint: {reference}}}"
    overrides = [
        f"paths.data={root / 'data'}",
        f"paths.weights={root / 'weights'}",
        f"features.network.options.{tiny}",
        "features.network.options.input_size=64",
        f"reference.network={{name: timm, options: {feature_network}}}",
        "training.batch_size=2",
        "training.steps=1",
    ]  # fmt: skip

    def finish(name, *more):
        spec = load_study(name, overrides)
        teachers = [f"teachers.{t}.network.options.{o}" for t in spec.teachers for o in (tiny, "input_size=64")]
        spec = load_study(name, [*overrides, *teachers, *more])
        folder = root / "runs" / name
        run(spec, build_graph(spec), folder, _context())
        return folder

    return finish


def _context():
    from vaebench import Context

    return Context(device="cpu")


@pytest.mark.slow
def test_tables_7_and_8_run_to_a_report(small, tmp_path):
    from vaebench import make_report

    folder = small("smoke/paper-table7-8")
    index = json.loads((folder / "index.json").read_text())
    assert all(stage["complete"] for stage in index["stages"])
    page = make_report([folder], tmp_path / "report").read_text()
    assert "flattened celeba" in page
    assert "flattened deepfashion" in page
    table = (tmp_path / "report" / "tables" / "wide.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in table[1:]] == ["in-vae", "va-vae", "e2e-vae", "send-vae"]
    assert all(
        f"probe_macro_f1 [flattened {name}]" in table[0] for name in ("celeba", "deepfashion", "awa2", "awa2-unseen")
    )


@pytest.mark.slow
def test_table_1_and_the_ablations_run_to_one_report(small, tmp_path):
    from vaebench import make_report

    # One training with LPIPS, in table 1, is enough: it takes most of the time of the others.
    ablations = [name for name in SMOKE if "ablation" in name]
    folders = [small("smoke/paper-table1"), *(small(name, "training.perceptual_weight=0") for name in ablations)]
    for folder in folders:
        index = json.loads((folder / "index.json").read_text())
        assert all(stage["complete"] for stage in index["stages"]), folder
    page = make_report(folders, tmp_path / "report").read_text()
    for name in ("e2e-vae", "depth-2", "without-noise", "i-jepa", "f16d64-send", "sd-vae-send"):
        assert name in page
