"""Training and sampling together, on a toy of two classes."""

import json
import shutil

import numpy as np
import pytest
import torch

from vaebench.core.config import build
from vaebench.core.errors import ConfigError, DataError, MismatchError, MissingDependency, MissingPath
from vaebench.generation.checkpoint import load_sit
from vaebench.generation.sample import SamplerConfig, choose_labels, generate_latents
from vaebench.generation.training import ArrayLatents, SiTTrainingConfig, train_sit
from vaebench.stages import STAGES
from vaebench.tokenizers.base import LatentNormalisation, TokenizerSpec
from vaebench.training.step import make_accelerator

SPEC = TokenizerSpec(name="toy", method="toy", f=16, d=2, checkpoint_hash="abc")
SMALL = {"width": 32, "depth": 2, "heads": 2}


def toy(n: int = 64) -> ArrayLatents:
    """Class 0 lies at -3 + 10, class 1 at 3 + 10, so that normalisation matters."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    centre = (6.0 * labels - 3 + 10).reshape(-1, 1, 1, 1)
    means = (centre + 0.3 * rng.standard_normal((n, 2, 2, 2))).astype(np.float32)
    return ArrayLatents(means, np.full_like(means, 0.1), labels, "toy")


def settings(**changes) -> SiTTrainingConfig:
    base = {"steps": 6, "network": SMALL, "batch_size": 8, "learning_rate": 2e-3, "log_every": 1, "tensorboard": False}
    return SiTTrainingConfig(**{**base, "checkpoint_seconds": None, **changes})


def train(folder, latents=None, config=None, **options):
    return train_sit(latents or toy(), SPEC, config or settings(), folder, make_accelerator("cpu"), **options)


def equal(a, b) -> bool:
    first, second = a.network.state_dict(), b.network.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sit")
    config = settings(steps=250, batch_size=32, ema_decay=0.98, log_every=20)
    return folder, train(folder, config=config, snapshots=(10, 250))


def test_training_lowers_the_loss_and_learns_the_classes(trained):
    folder, sit = trained
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    labels = choose_labels(64, 2)
    latents = generate_latents(sit, np.arange(64), labels, SamplerConfig(nfe=20)).latents
    means = [float(latents[torch.from_numpy(labels == label)].mean()) for label in (0, 1)]
    assert means[0] == pytest.approx(7, abs=0.8)  # raw latents: de-normalised
    assert means[1] == pytest.approx(13, abs=0.8)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler: apt-get install g++")
def test_compiled_training_is_the_same_up_to_rounding(tmp_path):
    plain, compiled = (train(tmp_path / str(flag), config=settings(compile=flag)) for flag in (False, True))
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(compiled.network.state_dict()[name], value, atol=1e-4, rtol=1e-3)
    assert not equal(plain, train(tmp_path / "other", config=settings(compile=True, seed=1)))
    assert equal(load_sit(tmp_path / "True"), compiled)


def test_compiling_without_a_compiler_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("vaebench.generation.training.shutil.which", lambda name: None)
    with pytest.raises(MissingDependency, match=r"C\+\+ compiler.*compile=false"):
        train(tmp_path, config=settings(compile=True))
    assert "compile" not in settings().model_dump()


def test_snapshots_and_loading(trained):
    folder, sit = trained
    assert equal(load_sit(folder), sit)
    assert load_sit(folder, 10).step == 10
    assert not equal(load_sit(folder, 10), sit)
    with pytest.raises(MissingPath, match=r"step 11; it has \[10, 250\]"):
        load_sit(folder, 11)
    with pytest.raises(MissingPath, match="no trained SiT"):
        load_sit(folder / "nowhere")


def test_other_normalisations_and_tokenizers_are_refused(trained):
    folder, _ = trained
    load_sit(folder, normalisation=toy().normalisation("file"), tokenizer=SPEC)
    other = LatentNormalisation(shift=(0.0, 0.0), scale=(1.0, 1.0), source="elsewhere")
    with pytest.raises(MismatchError, match="elsewhere"):
        load_sit(folder, normalisation=other)
    with pytest.raises(MismatchError, match="abc"):
        load_sit(folder, tokenizer=SPEC.model_copy(update={"checkpoint_hash": "def"}))
    with pytest.raises(MismatchError, match="interpolant"):
        train(folder, config=settings(interpolant="gvp"))


@pytest.mark.parametrize("method", ["euler", "heun", "sde", "dopri5"])
def test_samples_depend_on_their_id_only(trained, method):
    _, sit = trained
    config = SamplerConfig(method=method, nfe=6, cfg=1.5, cfg_interval=(0.2, 1.0), atol=1e-6, rtol=1e-6)
    ids, labels = np.arange(6), choose_labels(6, 2)
    whole = generate_latents(sit, ids, labels, config, seed=3, batch_size=6)
    assert method == "dopri5" or whole.nfe == 6
    order = np.array([4, 0, 5, 2, 1, 3])
    parts = generate_latents(sit, ids[order], labels[order], config, seed=3, batch_size=4).latents
    # The steps of dopri5 adapt to the batch, so its samples agree within its tolerance only.
    tolerance = 2e-2 if method == "dopri5" else 1e-3
    torch.testing.assert_close(parts, whole.latents[order], rtol=1e-4, atol=tolerance)
    other = generate_latents(sit, ids, labels, config, seed=4, batch_size=6).latents
    assert not torch.allclose(other, whole.latents)


def test_float64_state_agrees_with_single(trained):
    _, sit = trained
    ids, labels = np.arange(4), choose_labels(4, 2)
    single, double = (
        generate_latents(sit, ids, labels, SamplerConfig(nfe=10, float64_state=f)).latents for f in (False, True)
    )
    torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-4)


def test_labels():
    assert np.bincount(choose_labels(10, 3)).tolist() == [4, 3, 3]
    random = choose_labels(3000, 3, "random", seed=1)
    assert random.dtype == np.int64
    assert np.bincount(random).min() > 900
    assert not np.array_equal(random, choose_labels(3000, 3, "random", seed=2))


def test_bad_sampling_is_refused(trained):
    _, sit = trained
    with pytest.raises(DataError, match="one label in"):
        generate_latents(sit, np.arange(2), np.array([0, 2]), SamplerConfig())
    for bad in ({"method": "heun", "nfe": 5}, {"method": "sde", "diffusion": "sbdm"}, {"cfg_interval": (0.5, 0.2)}):
        with pytest.raises(ValueError, match=r"even|infinite|low <= high"):
            SamplerConfig(**bad)


class StopHere(Exception):
    pass


def test_interrupted_and_resumed_is_bit_equal(tmp_path):
    config = settings(checkpoint_every=2)
    whole = train(tmp_path / "whole", config=config)

    def stop_at(step):
        def on_step(done):
            if done == step:
                raise StopHere

        return on_step

    for step in (3, 5):
        with pytest.raises(StopHere):
            train(tmp_path / "cut", config=config, on_step=stop_at(step))
    assert equal(train(tmp_path / "cut", config=config), whole)


def test_accumulation_gives_the_same_step(tmp_path):
    config = settings(steps=2, gradient_clip=None)
    whole = train(tmp_path / "one", config=config).network.state_dict()
    parts = train(tmp_path / "four", config=config.model_copy(update={"accumulation": 4})).network.state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=5e-5)


def test_repa_is_a_loss_of_its_own(tmp_path):
    direction = np.random.default_rng(1).standard_normal((1, 5, 1, 1)).astype(np.float16)
    teacher = np.tile(direction, (64, 1, 2, 2))
    config = settings(steps=30, repa={"weight": 0.5, "block": 1, "hidden": 16})
    train(tmp_path / "a", config=config, features=lambda rows: teacher[rows])
    text = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    values = [json.loads(line)["loss_repa"] for line in text]
    assert values[-1] < values[0] - 0.1
    with pytest.raises(ConfigError, match="needs a teacher"):
        train(tmp_path / "b", config=config)


@pytest.mark.parametrize("changes", [{"time": "logit-normal"}, {"interpolant": "gvp"}, {"sample_posterior": False}])
def test_variants_train(tmp_path, changes):
    sit = train(tmp_path, config=settings(**changes))
    assert sit.step == 6
    assert not equal(sit, train(tmp_path / "plain"))


def test_without_labels_there_is_one_class(tmp_path):
    latents = toy()
    sit = train(tmp_path, ArrayLatents(latents.means, latents.stds))
    assert sit.card.network.num_classes == 1


def test_bad_training_is_refused(tmp_path):
    latents = toy()
    with pytest.raises(DataError, match="constant"):
        train(tmp_path / "a", ArrayLatents(np.zeros_like(latents.means), np.zeros_like(latents.means)))
    with pytest.raises(DataError, match="classes"):
        train(tmp_path / "b", num_classes=1)
    with pytest.raises(ConfigError, match="Snapshots"):
        train(tmp_path / "c", snapshots=(7,))
    with pytest.raises(ConfigError, match="divide"):
        train(tmp_path / "d", config=settings(network={**SMALL, "patch": 4}))


@pytest.mark.parametrize("name", ["tap", "in_channels", "grid", "num_classes"])
def test_what_follows_from_the_latents_cannot_be_replaced(name):
    with pytest.raises(ConfigError, match=f"'{name}' follows from"):
        build(SiTTrainingConfig, {"network": {name: 1}})


def test_a_block_that_is_not_there_is_named_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"sit\.repa\.block 8 lies beyond the 2 blocks"):
        train(tmp_path, config=settings(repa={"weight": 0.5}))
    stage = STAGES.get("sit")()
    with pytest.raises(ConfigError, match=r"sit\.repa\.block 8 lies beyond the 6 blocks of this SiT \('nano'\)"):
        stage.resolve(stage.Config(training={"repa": {"weight": 0.5}}))
    stage.resolve(stage.Config(training={"repa": {"weight": 0.5, "block": 6}}))
    stage.resolve(stage.Config(training={"repa": {"block": 8}}))


def test_the_second_backbone_trains_by_its_own_recipe(tmp_path):
    recipe = {"preset": "lightning-nano", "time": "logit-normal", "cosine_weight": 1.0}
    config = settings(steps=120, batch_size=32, ema_decay=0.98, log_every=20, **recipe)
    sit = train(tmp_path, config=config)
    assert sit.card.network.mlp == "swiglu"
    logs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logs[-1]["loss_direction"] < 0.6 * logs[0]["loss_direction"]
    assert logs[-1]["loss"] == pytest.approx(logs[-1]["loss_velocity"] + logs[-1]["loss_direction"], rel=1e-5)
    assert equal(sit, load_sit(tmp_path))
    labels = choose_labels(32, 2)
    latents = generate_latents(sit, np.arange(32), labels, SamplerConfig(nfe=20, shift=0.3)).latents
    assert float(latents[torch.from_numpy(labels == 1)].mean()) > float(latents[torch.from_numpy(labels == 0)].mean())
