import json

import pytest
import yaml

from vaebench.cli.plan import amount, duration, print_plan, size
from vaebench.core.errors import ConfigError, UnknownName
from vaebench.data import DATASETS
from vaebench.generation.sample import SamplerConfig
from vaebench.generation.sit import forward_flops, sit_config
from vaebench.metrics.probing.probe import ProbeConfig
from vaebench.stages.generate import GenerateConfig
from vaebench.stages.probe import ProbeStageConfig
from vaebench.study.cost import GPUS, evaluation_times, evaluations, gpu_named, probe_flops, stage_work
from vaebench.study.counting import Work
from vaebench.study.facts import Facts
from vaebench.study.graph import build_graph
from vaebench.study.plan import Assumptions, plan
from vaebench.study.spec import load_study


@pytest.fixture
def planned(smoke_file, tmp_path):
    def make(*overrides):
        graph = build_graph(load_study(smoke_file, overrides), tolerant=True)
        return graph, {line.id: line for line in plan(graph, tmp_path, "cpu")}

    return make


def test_work_becomes_hours_by_the_peak_of_its_precision():
    h100 = gpu_named("h100")
    work = Work(half=989e12, convolutions=494e12, products=67e12)
    assert h100.seconds(work, 1.0) == pytest.approx(3)
    assert Assumptions(h100, 0.25).hours(work) == pytest.approx(12 / 3600)
    with pytest.raises(UnknownName, match="Did you mean 'h100'"):
        gpu_named("h1000")


@pytest.mark.parametrize(("sampler", "samples_of_network"), [
    ({"method": "euler", "nfe": 10}, 10),
    ({"method": "euler", "nfe": 10, "cfg": 2.0}, 20),
    ({"method": "heun", "nfe": 10, "cfg": 2.0}, 20),
    # Times 0, 0.1 ... 0.9, of which the last seven and a half lie from 0.25 on: 0.3 to 0.9.
    ({"method": "euler", "nfe": 10, "cfg": 2.0, "cfg_interval": (0.25, 1.0)}, 17),
    ({"method": "sde", "nfe": 250}, 250),
    ({"method": "sde", "nfe": 250, "last_step": "none"}, 250),
])  # fmt: skip
def test_guidance_takes_two_passes_within_its_interval(sampler, samples_of_network):
    config = GenerateConfig(steps=1, sampler=sampler, cfg=sampler.get("cfg", 1.0), nfe=sampler["nfe"])
    assert evaluations(config) == samples_of_network


@pytest.mark.parametrize("settings", [
    {"method": "euler", "nfe": 7}, {"method": "heun", "nfe": 8}, {"method": "sde", "nfe": 9},
    {"method": "sde", "nfe": 9, "last_step": "none"}, {"method": "euler", "nfe": 6, "shift": 0.3},
])  # fmt: skip
def test_the_times_counted_are_those_of_the_sampler(settings):
    import torch

    from vaebench.generation.interpolants import INTERPOLANTS
    from vaebench.generation.samplers import euler, euler_maruyama, heun, time_grid

    config, seen = SamplerConfig(**settings), []

    def velocity(x, t):
        seen.append(t)
        return x

    x = torch.ones(1)
    if config.method == "sde":
        linear = INTERPOLANTS["linear"]
        euler_maruyama(velocity, x, config.sde_times, linear, lambda step: torch.zeros(1), last_step=config.last_step)
    elif config.method == "heun":
        heun(velocity, x, time_grid(config.nfe // 2, shift=config.shift))
    else:
        euler(velocity, x, time_grid(config.nfe, shift=config.shift))
    assert list(evaluation_times(config)) == pytest.approx(seen)


def test_probes_cost_two_products_a_pass():
    config = ProbeStageConfig(probes=(ProbeConfig(vectorisation="pooled", cs=(0.1, 1.0)),))
    assert probe_flops(config, images=1000, attributes=3, latent_shape=(8, 4, 4)) == 2 * 100 * 4 * 1000 * 8 * 3


def test_every_tokenizer_is_counted_with_its_own_network(planned, smoke_file):
    wide = "{block_out_channels: [32, 32], latent_channels: 4, patch_size: 4, norm_num_groups: 8}"
    entries = (
        f"tokenizers=[{{name: a, method: kl-vae}}, {{name: b, method: kl-vae, network: {wide}}},"
        " {name: c, method: kl-vae, init: b}]"
    )
    _, lines = planned(entries)
    totals = {name: lines[f"train-{name}-s0"].work.total for name in "abc"}
    assert totals["b"] == totals["c"] > 2 * totals["a"]
    assert lines["extract-b-s0"].disk_bytes == lines["extract-a-s0"].disk_bytes / 2  # 4 channels, not 8
    # 32 / (4 x 2) = 4: half the channels on the same grid is half the patches' part of the SiT's work, and no more.
    assert lines["sit-b-s0"].work.total < lines["sit-a-s0"].work.total


def test_the_work_of_sampling_is_that_of_the_sit_its_decoder_and_the_feature_network(smoke_file, tmp_path):
    graph = build_graph(load_study(smoke_file))
    facts = Facts(graph, tmp_path)
    node = graph.nodes["generate-kl-vae-s0-steps4-cfg1-nfe4"]
    network = sit_config("nano", 8, (4, 4), 10, width=32, depth=1, heads=2)
    counted = stage_work(node, facts)
    flow = 48 * 4 * forward_flops(network)
    assert counted.work.products == pytest.approx(flow + 48 * facts.coding(node).decode.products)
    assert counted.work.convolutions > 48 * facts.coding(node).decode.convolutions
    assert counted.left_out == ""


def test_sampling_in_half_precision_and_further_feature_networks(smoke_file, tmp_path):
    def work(*overrides):
        graph = build_graph(load_study(smoke_file, overrides))
        return stage_work(graph.nodes["generate-kl-vae-s0-steps4-cfg1-nfe4"], Facts(graph, tmp_path)).work

    plain, half = work(), work("generate.settings.sampler={mixed_precision: bf16}")
    assert (plain.half, half.total) == (0, plain.total)
    assert half.half == 48 * 4 * forward_flops(sit_config("nano", 8, (4, 4), 10, width=32, depth=1, heads=2))
    two = work("reference.networks=[mobilenetv2, efficientnet-lite0]")
    assert two.convolutions - plain.convolutions == pytest.approx(
        48 * 250_715_136,
        rel=0.04,  # at 128 x 128, and the zeros in kernels that pad by themselves
    )


def test_data_that_are_not_there_yet_are_taken_at_their_published_size(smoke_file, tmp_path):
    def disk(more=""):
        data = f"data={{name: imagenet, options: {{root: ./nowhere, image_size: 32, validation_fraction: 0{more}}}}}"
        graph = build_graph(load_study(smoke_file, [data]), tolerant=True)
        node = graph.nodes["data"]
        return node.stage.estimate(node.config, Facts(graph, tmp_path).of(node)).disk_bytes

    assert disk() == pytest.approx(1_331_167 * 3 * 32**2, rel=0.1)
    assert disk(", train: 100, test: 50") == pytest.approx(150 * 3 * 32**2, rel=0.1)


def test_images_of_ones_own_are_counted_where_they_are(planned, tmp_path):
    data = f"data={{name: folder, options: {{root: '{tmp_path / 'images'}', image_size: 32}}}}"
    others = ("reference={}", "tokenizers=[{name: kl-vae, method: kl-vae}]")
    _, unknown = planned(data, *others)
    assert unknown["data"].disk_bytes == 0
    assert unknown["extract-kl-vae-s0"].left_out == unknown["data"].left_out != ""
    for number in range(40):
        path = tmp_path / "images" / f"class-{number % 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("drawn later")
    graph, found = planned(data, *others)
    assert found["data"].disk_bytes == pytest.approx(40 * 3 * 32**2, rel=0.1)
    assert found["data"].left_out == ""
    assert found["extract-kl-vae-s0"].work.total > 0
    assert Facts(graph, tmp_path).data(graph.nodes["data"])["classes"] == 4


@pytest.mark.parametrize(("name", "total"), [
    ("imagenet", 1_331_167), ("celeba", 202_599), ("deepfashion", 289_222), ("awa2", 37_322), ("cub", 11_788),
])  # fmt: skip
def test_published_sizes_add_up(name, total):
    source = DATASETS.get(name)
    expected = source.expected(source.Config(root="."))
    images = sum(expected[split] for split in ("train", "validation", "test"))
    # DeepFashion publishes 289,222 images and divides them as 209,222, 40,000 and 40,000.
    assert images == total
    assert source.expected(source.Config(root=".", train=10))["train"] == 10


def test_what_cannot_be_counted_is_said(planned):
    _, lines = planned("score={metrics: [spectrum]}", "tokenizers=[{name: kl-vae, method: kl-vae}]")
    assert lines["score-kl-vae-s0"].left_out == "stage 'score'"


def test_a_tokenizer_of_unknown_architecture_is_an_error(smoke_file, tmp_path):
    graph = build_graph(load_study(smoke_file, ["tokenizers=[{name: a, load: ./nowhere/vae}]"]), tolerant=True)
    with pytest.raises(ConfigError, match="give its architecture"):
        plan(graph, tmp_path, "cpu")


def test_a_tokenizer_at_hand_is_counted_itself(smoke_run, planned):
    folder = next((smoke_run / "stages").glob("train-kl-vae-*"))
    _, lines = planned(f"tokenizers=[{{name: ready, load: '{folder}'}}, {{name: own, method: kl-vae}}]")
    assert lines["extract-ready"].work == lines["extract-own-s0"].work


def test_time_here_is_that_of_the_same_network(smoke_run, smoke_file):
    wide = "{block_out_channels: [32, 32], latent_channels: 4, patch_size: 4, norm_num_groups: 8}"
    entries = [
        *load_study(smoke_file).model_dump(exclude_defaults=True)["tokenizers"],
        {"name": "same", "method": "kl-vae", "training": {"steps": 3}},
        {"name": "wide", "method": "kl-vae", "network": yaml.safe_load(wide)},
    ]  # fmt: skip
    graph = build_graph(load_study(smoke_file, [f"tokenizers={json.dumps(entries)}"]))
    lines = {line.id: line for line in plan(graph, smoke_run, "cpu")}
    for kind in ("extract", "reconstruct", "probe"):
        done = [line.seconds for line in lines.values() if line.done and line.kind == kind]
        assert len(done) == 3
        assert lines[f"{kind}-same-s0"].seconds == pytest.approx(sum(done) / 3)
        assert lines[f"{kind}-wide-s0"].seconds != pytest.approx(sum(done) / 3)


def test_what_images_of_unknown_number_take_is_not_said(smoke_file, tmp_path, capsys):
    data = f"data={{name: folder, options: {{root: '{tmp_path / 'images'}', image_size: 32}}}}"
    graph = build_graph(load_study(smoke_file, [data, "reference={}"]), tolerant=True)
    print_plan(graph, tmp_path / "run", "cpu")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {words[0]: words[1:] for words in lines if words[1:3] == ["to", "do"]}
    for name in ("data", "features", "reference", "extract-kl-vae-s0"):
        assert rows[name][:4] == ["to", "do", "?", "?"]
    assert rows["train-kl-vae-s0"][2].startswith("~")


def test_units():
    assert [duration(s) for s in (5, 600, 7200, 86400 * 10, 86400 * 365.25 * 30)] == [
        "5 s", "10 min", "2.0 h", "10 days", "30 years",
    ]  # fmt: skip
    assert [size(n) for n in (2**20, 3 * 2**30, 2**41)] == ["1.0 MiB", "3.0 GiB", "2.0 TiB"]
    assert [amount(x) for x in (0, 0.001, 0.123, 5.5, 1234.5)] == ["0", "<0.01", "0.12", "5.5", "1,234"]
    assert set(GPUS) >= {"a100", "h100"}
