"""What the example package brings is right by itself; then all of it works together, by each of the three routes."""

import json
import math
import sys

import numpy as np
import pytest
import torch

import vaebench
from vaebench.core.errors import PluginError, UnknownName
from vaebench.core.plugins import code_of, load_object
from vaebench.core.scores import read_scores
from vaebench.data import DATASETS
from vaebench.generation.sample import SamplerConfig
from vaebench.metrics import METRICS
from vaebench.tokenizers import TOKENIZERS, load_method, load_tokenizer
from vaebench.tokenizers.check import check_tokenizer
from vaebench.vision import load_network

CPU = vaebench.Context(device="cpu", workers=1)
SMALL = {"image_size": 32, "train": 48, "validation": 24, "test": 24}
TRAINING = {"steps": 2, "batch_size": 8, "tensorboard": False}
SIT = {"network": {"width": 32, "depth": 1, "heads": 2}, "batch_size": 8, "tensorboard": False}
KINDS = {
    "tokenizer": "Haar", "method": "Align", "dataset": "Stripes", "metric": "Sparsity", "teacher": "Colours",
    "sampler": "Midpoint",
}  # fmt: skip
NAMES = {
    "tokenizer": ("tokenizers", "example-haar"), "method": ("tokenizers", "example-align"),
    "dataset": ("datasets", "example-stripes"), "metric": ("metrics", "example-sparsity"),
    "teacher": ("networks", "example-colours"), "sampler": ("samplers", "example-midpoint"),
}  # fmt: skip


def go_the_whole_way(names, tmp_path):
    """Train, extract, score, reconstruct and generate with what was brought in; returns the scores of the last two."""
    network = {"network": {"name": names["teacher"]}}
    options = {"image_size": 32} if names["dataset"] == "file-grey" else SMALL
    trained = vaebench.train(
        names["method"], names["dataset"], tmp_path / "trained", network="nano", training=TRAINING, features=network,
        data_options=options, context=CPU,
    )  # fmt: skip
    assert load_tokenizer(trained).spec.method == names["named"]
    latents = vaebench.extract(
        names["tokenizer"], names["dataset"], tmp_path / "latents", data_options=options, context=CPU
    )
    found = vaebench.score(latents, tmp_path / "scores", metrics=[names["metric"]], context=CPU)
    made = vaebench.generate(
        latents, tmp_path / "made", sit=SIT, steps=[2], nfe=[2], context=CPU, reference=network,
        settings={"samples": 16, "bootstrap": 5, "sampler": {"method": names["sampler"]}},
    )  # fmt: skip
    return found, made


def test_everything_installed_works_together(package, tmp_path):
    assert NAMES["dataset"][1] in DATASETS
    names = {kind: name for kind, (_, name) in NAMES.items()} | {"named": "example-align"}
    found, made = go_the_whole_way(names, tmp_path)
    assert [score.metric for score in found] == ["example_sparsity"]
    assert found[0].protocol["code"] == METRICS.code("example-sparsity") != ""
    gfid = next(score for score in made if score.metric == "gfid")
    assert gfid.protocol["network"]["name"] == "example-colours"
    assert gfid.protocol["sampler"]["method"] == "example-midpoint"
    assert gfid.protocol["sampler"]["options"] == {"shift": 1.0}
    log = [json.loads(line) for line in (tmp_path / "trained" / "metrics.jsonl").read_text().splitlines()]
    assert any("cosine" in key for line in log for key in line)  # the objective's own curve, out of our loop


def test_everything_in_a_plugin_file_works_together(plugin, tmp_path):
    from vaebench.core.plugins import load_plugins

    load_plugins([plugin])
    names = {"tokenizer": "file-blur", "method": "file-plain", "dataset": "file-grey", "metric": "file-energy",
             "teacher": "file-pixels", "sampler": "file-leap", "named": "file-plain"}  # fmt: skip
    found, made = go_the_whole_way(names, tmp_path)
    assert [score.metric for score in found] == ["file_energy"]
    gfid = next(score for score in made if score.metric == "gfid")
    assert gfid.protocol["sampler"]["code"] == code_of(f"{plugin}:Leap") != ""


@pytest.mark.parametrize("route", ["file", "module"])
def test_everything_can_be_named_by_reference(package, tmp_path, route):
    where = {kind: f"{package / kind}.py" if route == "file" else f"vaebench_example.{kind}" for kind in KINDS}
    refs = {kind: f"{where[kind]}:{name}" for kind, name in KINDS.items()}
    assert check_tokenizer(load_tokenizer(refs["tokenizer"]), 32) == []
    assert load_method(refs["method"], {"weight": 0.5}).config.weight == 0.5
    assert load_network(refs["teacher"], grid=4).patch_grid == (4, 4)
    assert METRICS.get(refs["metric"])({"images": 5}).config.images == 5
    assert SamplerConfig(method=refs["sampler"]).resolved().options == {"shift": 1.0}
    folder = vaebench.prepare_data(refs["dataset"], tmp_path / "data", SMALL, CPU)
    info = vaebench.open_data(folder / "data.h5").info
    assert info.name == "example-stripes"
    latents = vaebench.extract(refs["tokenizer"], folder, tmp_path / "latents", context=CPU)
    vaebench.score(latents, tmp_path / "scores", metrics=[refs["metric"]], context=CPU)
    assert [s.metric for s in read_scores(tmp_path / "scores" / "scores.json")] == ["example_sparsity"]


def test_haar_is_orthonormal_and_exact(package):
    tokenizer = load_tokenizer("example-haar")
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = tokenizer.encode(images).mean
    torch.testing.assert_close(tokenizer.decode(latents), images)
    torch.testing.assert_close(latents.square().sum(), images.square().sum())


def test_sparsity_of_known_vectors(package):
    hoyer = load_object("vaebench_example.metric:hoyer_sparsity")
    np.testing.assert_allclose(hoyer(np.array([[0.0, -3.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]])), [1, 0], atol=1e-12)


def test_midpoint_has_order_two(package):
    from vaebench.generation.samplers import Problem

    def solve(steps):
        calls = []

        def velocity(x, t):
            calls.append(t)
            return x * 1.0

        sampler = load_object("vaebench_example.sampler:Midpoint")()
        problem = Problem(velocity, torch.ones(1, dtype=torch.float64), 2 * steps, None, None)
        solution = sampler.solve(problem)
        assert len(calls) == solution.nfe == 2 * steps
        return float(solution.state)

    h = 0.25
    assert solve(4) == pytest.approx((1 + h + h * h / 2) ** 4, rel=1e-12)
    assert abs(solve(16) - math.e) / abs(solve(32) - math.e) == pytest.approx(4, rel=0.1)


def test_stripes_are_what_their_factors_say(package):
    split = vaebench.open_data(vaebench.prepare_data("example-stripes", None, SMALL, CPU) / "data.h5").split("train")
    images, masks, factors = split.images(slice(None)), split.masks(slice(None)), split.factors
    for image, mask, (colour, direction, _) in zip(images, masks, factors, strict=True):
        assert image[colour][mask == 1].min() == 255
        along = {0: mask[:, 1:] == mask[:, :-1], 1: mask[1:] == mask[:-1], 2: mask[1:, :-1] == mask[:-1, 1:]}
        assert along[direction].all()
    assert np.array_equal(split.attributes[:, 0], factors[:, 0] == 0)


def test_what_is_not_the_contract_is_named(forgetful, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from vaebench.metrics.base import Metric\nclass Thing: pass\nclass Half(Metric):\n    pass\n"
    )
    with pytest.raises(PluginError, match=r"is no metric class\. Derive it from vaebench\.metrics\.base\.Metric"):
        METRICS.get(f"{tmp_path / 'mine.py'}:Thing")
    with pytest.raises(PluginError, match=r"does not define run, name"):
        METRICS.get(f"{tmp_path / 'mine.py'}:Half")
    with pytest.raises(PluginError, match="is no data set class"):
        DATASETS.get("json:JSONDecoder")
    with pytest.raises(UnknownName, match="Did you mean 'metrics'"):
        vaebench.register("metric", "x")
    (tmp_path / "broken.py").write_text("import vaebench\n1 / 0\n")
    with pytest.raises(PluginError, match=r"broken\.py' cannot be imported: ZeroDivisionError.*line 2"):
        TOKENIZERS.get(f"{tmp_path / 'broken.py'}:X")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    with pytest.raises(PluginError, match=r"SyntaxError.*line 1"):
        TOKENIZERS.get(f"{tmp_path / 'syntax.py'}:X")
    with pytest.raises(ValueError, match=r"unknown sampler 'heum'\. Did you mean 'heun'"):
        SamplerConfig(method="heum")
    assert not [name for name in sys.modules if name.startswith(("broken_", "syntax_"))]
