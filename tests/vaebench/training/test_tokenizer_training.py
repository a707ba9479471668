import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vaebench.core.errors import ConfigError, DataError, PluginError
from vaebench.core.seeds import sample_uniform, torch_generator
from vaebench.tokenizers import TOKENIZERS, load_method, load_tokenizer
from vaebench.tokenizers.base import LatentNormalisation, Posterior, TrainableTokenizer
from vaebench.tokenizers.method import Method, Objective, ObjectiveOutput, TeacherSpec, initialised_by
from vaebench.training import tokenizer_training
from vaebench.training.checkpoint import checkpoint_path, load_checkpoint
from vaebench.training.losses import adaptive_weight
from vaebench.training.step import make_accelerator
from vaebench.training.tokenizer_training import GanConfig, TokenizerTrainingConfig, train_tokenizer

TEACHER = TeacherSpec("random", 6, (2, 2))


class Photographs:
    """Smooth random images and, as a teacher would give them, features."""

    def __init__(self, n=32, size=32):
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (n, 3, 4, 4), np.uint8)
        self.pixels = coarse.repeat(size // 4, 2).repeat(size // 4, 3)
        self.patches = rng.standard_normal((n, 6, 2, 2)).astype(np.float16)

    def __len__(self):
        return len(self.pixels)

    def images(self, indices):
        return self.pixels[indices]

    def features(self, indices):
        return self.patches[indices]


class Plain(Method):
    name, summary = "plain", "no objective"

    def objective(self, latent_channels, latent_grid, teacher, generator):
        return None


class Projection(Objective):
    def __init__(self, latent_channels, teacher, generator):
        super().__init__()
        with initialised_by(generator):
            self.project = nn.Conv2d(latent_channels, teacher.channels, 1)

    def forward(self, inputs):
        predicted = nn.functional.adaptive_avg_pool2d(self.project(inputs.latents), inputs.features.shape[-2:])
        loss = (predicted - inputs.features).square().mean()
        weight = adaptive_weight(inputs.reconstruction_loss, loss, inputs.encoder_last_weight, 0.1, 1e8)
        return ObjectiveOutput(loss, weight, {"feature_size": inputs.features.square().mean()})


class Aligned(Method):
    name, summary = "aligned", "squared distance to the teacher"

    @property
    def needs_teacher(self):
        return True

    def objective(self, latent_channels, latent_grid, teacher, generator):
        return Projection(latent_channels, teacher, generator)


def config(**values):
    defaults = {
        "steps": 10,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "log_every": 1,
        "checkpoint_every": 3,
        "checkpoint_seconds": None,
        "tensorboard": False,
    }
    return TokenizerTrainingConfig(**{**defaults, **values})


GAN = GanConfig(weight=0.5, discriminator_start=2, start=4, ramp=3, channels=8, layers=2, norm="none")


def train(folder, settings=None, method=None, data=None):
    method = method or Plain()
    data = Photographs() if data is None else data
    tokenizer = method.build("nano", torch_generator(1, "weights"))
    teacher = TEACHER if method.needs_teacher else None
    features = data.features if method.needs_teacher else None
    accelerator = make_accelerator("cpu")
    return train_tokenizer(method, tokenizer, data, features, teacher, settings or config(), folder, accelerator)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder, steps):
    checkpoint = load_checkpoint(checkpoint_path(folder / "checkpoints", steps))
    return {f"{m}.{n}": t for m, ts in checkpoint.weights.items() for n, t in ts.items()}


def test_reconstruction_improves_and_the_average_is_returned(tmp_path):
    tokenizer = train(tmp_path, config(steps=60, learning_rate=3e-3, kl_weight=0.0))
    logged = rows(tmp_path)
    assert logged[-1]["loss_reconstruction"] < 0.8 * logged[0]["loss_reconstruction"]
    saved = load_checkpoint(checkpoint_path(tmp_path / "checkpoints", 60)).weights["tokenizer-ema"]
    assert all(torch.equal(value, saved[name]) for name, value in tokenizer.network.state_dict().items())
    assert tokenizer.spec.method == "plain"
    assert not tokenizer.network.training


def test_total_is_the_weighted_sum_of_its_terms(tmp_path):
    settings = config(gan=GAN, kl_weight=1e-3, reconstruction="mse", reduction="sum", reconstruction_weight=2.0)
    train(tmp_path, settings, Aligned())
    for row in rows(tmp_path):
        total = 2 * row["loss_reconstruction"] + 1e-3 * row["loss_kl"] + row["weight_objective"] * row["loss_objective"]
        share = min(max(row["step"] - 1 - 4 + 1, 0) / 3, 1)
        if share:
            total += share * row["weight_gan"] * row["loss_gan"]
        assert row["loss"] == pytest.approx(total, rel=1e-5)


def test_gan_warms_up_and_logs_what_matters(tmp_path):
    train(tmp_path, config(gan=GAN))
    logged = rows(tmp_path)
    learning = ["loss_discriminator" in row for row in logged]
    counting = ["loss_gan" in row for row in logged]
    assert learning == [False] * 2 + [True] * 8
    assert counting == [False] * 4 + [True] * 6
    assert {"weight_gan", "logits_real", "logits_fake", "gradient_norm_discriminator"} <= set(logged[-1])
    plain = tmp_path / "plain"
    train(plain, config())
    losses = [row["loss_reconstruction"] for row in rows(plain)]
    # Until the step after the adversarial loss first counts, nothing differs.
    assert [row["loss_reconstruction"] for row in logged][:5] == losses[:5]
    assert [row["loss_reconstruction"] for row in logged][5:] != losses[5:]


def test_gan_with_a_fixed_weight(tmp_path):
    train(tmp_path, config(gan=GAN.model_copy(update={"adaptive": False, "weight": 0.1})))
    assert rows(tmp_path)[-1]["weight_gan"] == pytest.approx(0.1)


@pytest.mark.parametrize("method", [Plain, Aligned])
def test_three_pieces_equal_one_go(tmp_path, method, monkeypatch):
    settings = config(gan=GAN, flip=method is Plain, schedule="cosine", warmup_steps=2)
    one, pieces = tmp_path / "one", tmp_path / "pieces"
    train(one, settings, method())
    from vaebench.training import tokenizer_training

    run_loop = tokenizer_training.run_loop
    for last in (4, 8):

        def cut(*arguments, last=last):
            def on_step(step):
                if step == last:
                    raise InterruptedError

            return run_loop(*arguments, on_step=on_step)

        monkeypatch.setattr(tokenizer_training, "run_loop", cut)
        with pytest.raises(InterruptedError):
            train(pieces, settings, method())
    monkeypatch.undo()
    train(pieces, settings, method())
    expected, found = weights(one, 10), weights(pieces, 10)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (one / "metrics.jsonl").read_bytes() == (pieces / "metrics.jsonl").read_bytes()


def test_accumulation_keeps_the_global_batch(tmp_path):
    train(tmp_path / "whole", config(gan=GAN.model_copy(update={"adaptive": False})))
    train(tmp_path / "parts", config(gan=GAN.model_copy(update={"adaptive": False}), accumulation=4))
    for whole, part in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert whole == pytest.approx(part, rel=1e-3, abs=1e-5)


def test_half_precision_runs_and_keeps_single_weights(tmp_path):
    method, data = Aligned(), Photographs()
    tokenizer = method.build("nano", torch_generator(1, "weights"))
    settings = config(mixed_precision="bf16", gan=GAN, steps=6)
    accelerator = make_accelerator("cpu", "bf16")
    train_tokenizer(method, tokenizer, data, data.features, TEACHER, settings, tmp_path, accelerator)
    assert all(value.dtype == torch.float32 for value in weights(tmp_path, 6).values())
    assert all(np.isfinite(list(row.values())).all() for row in rows(tmp_path))


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_every_registered_method_trains(tmp_path, name):
    method = TOKENIZERS.get(name)
    if not getattr(method, "trainable", False):
        pytest.skip("a ready tokenizer")
    trained = train(tmp_path, config(steps=3), method())
    assert trained.spec.method == name
    logged = rows(tmp_path)
    assert all(np.isfinite(list(row.values())).all() for row in logged)
    assert not method().needs_teacher or all("loss_objective" in row for row in logged)


READY = [name for name in TOKENIZERS.names() if issubclass(TOKENIZERS.get(name), TrainableTokenizer)]


@pytest.mark.parametrize("name", READY)
def test_training_goes_on_from_every_ready_tokenizer_that_has_a_network(tmp_path, name):
    data = Photographs(size=32)
    method, settings, accelerator = load_method("kl-vae"), config(steps=1), make_accelerator("cpu")
    trained = train_tokenizer(method, load_tokenizer(name), data, None, None, settings, tmp_path, accelerator)
    trained.save(tmp_path / "tokenizer")
    assert load_tokenizer(tmp_path).spec == trained.spec


class Watching(Objective):
    """Doubles what the decoder sees, adds a loss of 1 and notes what it is given."""

    averaged, classes = True, 3

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.steps = []

    def to_decode(self, latents, positions, seed):
        return 2 * latents + sample_uniform(positions, latents.shape[1:], seed, "shift")

    def forward(self, inputs):
        self.seen += 1
        self.steps.append(inputs)
        torch.testing.assert_close(
            inputs.reconstruction, inputs.decode(self.to_decode(inputs.latents, inputs.positions, inputs.seed))
        )
        return ObjectiveOutput(torch.ones(()))

    def normalisation(self):
        return LatentNormalisation(shift=(float(self.seen),) * 8, scale=(1.0,) * 8, source="seen")


class Watched(Method):
    name, summary = "watched", "doubles"

    def objective(self, latent_channels, latent_grid, teacher, generator):
        self.made = Watching()
        return self.made


def labelled():
    data = Photographs()
    data.labels = np.arange(32) % 3
    return data


def test_an_objective_changes_what_is_decoded_and_what_is_published(tmp_path):
    method = Watched()
    trained = train(tmp_path, config(steps=3, accumulation=2, ema_decay=0.0), method, labelled())
    whole = Watched()
    train(tmp_path / "whole", config(steps=3, ema_decay=0.0), whole, labelled())
    parts, wholes = method.made.steps, whole.made.steps
    assert np.concatenate([part.positions for part in parts]).tolist() == list(range(12))
    for i, step in enumerate(wholes):
        pair = parts[2 * i : 2 * i + 2]
        torch.testing.assert_close(step.labels, torch.cat([part.labels for part in pair]))
        torch.testing.assert_close(step.images, torch.cat([part.images for part in pair]))
        assert {part.seed for part in pair} == {step.seed}
    first = torch.cat([part.reconstruction for part in parts[:2]])
    torch.testing.assert_close(first, wholes[0].reconstruction, rtol=1e-4, atol=1e-5)
    # Asked of the average, which with decay 0 is the last state: six parts.
    assert trained.spec.normalisation.shift == (6.0,) * 8
    with pytest.raises(DataError, match="knows 3 classes"):
        wrong = labelled()
        wrong.labels = np.arange(32)
        train(tmp_path / "wrong", config(), Watched(), wrong)


class Turning(Objective):
    """Has the first rows of latents and images decoded and compared, and a pass of its own for the last rows."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def to_decode(self, latents, positions, seed):
        return latents[:, :, :2]

    def to_compare(self, images, positions, seed):
        return images[:, :, :16]

    def forward(self, inputs):
        decoded = inputs.decode(inputs.latents[:, :, 2:])
        own = inputs.distance(decoded, inputs.images[:, :, 16:])
        self.steps.append((inputs, decoded.detach()))
        return ObjectiveOutput(own, logs={"own": own.detach()})


class Turned(Watched):
    def objective(self, latent_channels, latent_grid, teacher, generator):
        self.made = Turning()
        return self.made


def test_an_objective_changes_what_is_compared_and_measures_as_training_does(tmp_path):
    method = Turned()
    gan = GAN.model_copy(update={"discriminator_start": 0, "layers": 1})
    settings = config(steps=3, reconstruction="mse", reduction="sum", reconstruction_weight=2.0, gan=gan)
    train(tmp_path, settings, method)
    seeds = []
    for row, (inputs, decoded) in zip(rows(tmp_path), method.made.steps, strict=True):
        seeds.append(inputs.seed)
        assert inputs.images.shape == (4, 3, 32, 32)
        error = (inputs.reconstruction - inputs.images[:, :, :16]).square().sum((1, 2, 3)).mean().item()
        assert row["loss_reconstruction"] == pytest.approx(error, rel=1e-5)
        assert inputs.reconstruction_loss.item() == pytest.approx(2 * error, rel=1e-5)
        own = 2 * (decoded - inputs.images[:, :, 16:]).square().sum((1, 2, 3)).mean().item()
        assert row["own"] == pytest.approx(own, rel=1e-5)
    assert len(set(seeds)) == 3
    train(tmp_path / "plain", settings)
    # The discriminator, too, is shown what the reconstruction is compared with.
    assert rows(tmp_path)[0]["logits_real"] != rows(tmp_path / "plain")[0]["logits_real"]


def test_a_deterministic_tokenizer_has_no_kl_and_draws_no_noise(tmp_path, monkeypatch):
    method, data = Plain(), Photographs()
    tokenizer = method.build("nano", torch_generator(1, "weights"))
    tokenizer.deterministic = True
    encode = tokenizer.network.encode

    def without_spread(images):
        mean = encode(images).mean
        return Posterior(mean, torch.zeros_like(mean))

    tokenizer.network.encode = without_spread
    monkeypatch.delattr(tokenizer_training, "sample_normal")
    train_tokenizer(method, tokenizer, data, None, None, config(kl_weight=1.0), tmp_path, make_accelerator("cpu"))
    assert all(np.isfinite(row["loss"]) and "loss_kl" not in row for row in rows(tmp_path))


def test_bad_requests_say_why(tmp_path):
    data, tokenizer = Photographs(), Aligned().build("nano", torch_generator(0))
    accelerator = make_accelerator("cpu")
    with pytest.raises(ConfigError, match="teacher"):
        train_tokenizer(Aligned(), tokenizer, data, None, None, config(), tmp_path, accelerator)
    with pytest.raises(ConfigError, match="unmirrored"):
        train(tmp_path, config(flip=True), Aligned())
    with pytest.raises(ConfigError, match="does not divide"):
        train(tmp_path, config(batch_size=5, accumulation=2))
    with pytest.raises(DataError, match="36 x 36"):
        train(tmp_path, data=Photographs(size=36))
    with pytest.raises(DataError, match="no images"):
        empty = Photographs()
        empty.pixels = empty.pixels[:0]
        train(tmp_path, data=empty)
    with pytest.raises(ConfigError, match="fp16"):
        make_accelerator("cpu", "fp16")


def test_adaptive_weights_refuse_fp16_and_fixed_ones_do_not(tmp_path):
    data, accelerator = Photographs(), make_accelerator("cpu")
    accelerator.scaler = torch.amp.GradScaler("cpu")  # as under fp16, which itself needs a GPU

    def run(method, gan, name):
        tokenizer = method.build("nano", torch_generator(1, "weights"))
        settings = config(steps=6, gan=gan)
        train_tokenizer(method, tokenizer, data, data.features, TEACHER, settings, tmp_path / name, accelerator)

    with pytest.raises(ConfigError, match=r"adaptive=true does not go with mixed_precision=fp16.*bf16"):
        run(Plain(), GAN, "gan")
    with pytest.raises(ConfigError, match=r"objective with an adaptive weight.*bf16"):
        run(Aligned(), GanConfig(), "objective")
    run(Plain(), GAN.model_copy(update={"adaptive": False}), "fixed")
    assert len(rows(tmp_path / "fixed")) == 6


PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
import test_tokenizer_training as t
from vaebench.core.processes import leave_group
torch.set_num_threads(1)
t.train(Path({folder!r}), t.config(**{settings}), t.{method}(), t.Photographs(size={size}))
leave_group()
"""


def launch(folder, settings, method, processes=1, size=32):
    """Train in processes of their own, which find each other through the environment as under torchrun."""
    code = PROCESS.format(
        here=str(Path(__file__).parent), folder=str(folder), settings=settings, method=method, size=size
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(processes):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
        if processes > 1:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "ACCELERATE_USE_CPU": "true",
            }
        running.append(subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE))
    return running


def finish(running):
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_equal_one(tmp_path, accumulation):
    gan = {"weight": 0.5, "discriminator_start": 2, "start": 4, "channels": 8, "layers": 2, "norm": "none"}
    gan["adaptive"] = accumulation == 1
    method = "Aligned" if accumulation == 1 else "Plain"
    settings = {"gan": gan, "accumulation": accumulation, "checkpoint_seconds": 0.0}
    finish(launch(tmp_path / "one", settings | {"accumulation": 1}, method))
    finish(launch(tmp_path / "two", settings, method, processes=2))
    expected, found = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(expected) == len(found) == 10
    for one, two in zip(expected, found, strict=True):
        assert two == pytest.approx(one, rel=2e-3, abs=1e-4)


@pytest.mark.slow
def test_two_thousand_steps_survive_three_kills_bit_for_bit(tmp_path):
    settings = {"steps": 2000, "log_every": 50, "checkpoint_every": 300, "batch_size": 2}
    finish(launch(tmp_path / "one", settings, "Plain", size=8))
    for when in (450, 1100, 1700):
        [process] = launch(tmp_path / "pieces", settings, "Plain", size=8)
        metrics = tmp_path / "pieces" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and f'"step": {when},' in metrics.read_text()):
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        assert process.poll() is None, process.stderr.read().decode()
        process.kill()
        process.communicate()
    finish(launch(tmp_path / "pieces", settings, "Plain", size=8))
    expected, found = weights(tmp_path / "one", 2000), weights(tmp_path / "pieces", 2000)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (tmp_path / "one" / "metrics.jsonl").read_bytes() == (tmp_path / "pieces" / "metrics.jsonl").read_bytes()


def test_an_objective_that_gives_a_plain_loss_is_told_what_to_give(tmp_path):
    class Loss(Objective):
        def forward(self, inputs):
            return inputs.latents.square().mean()

    class Careless(Plain):
        name = "careless"

        def objective(self, latent_channels, latent_grid, teacher, generator):
            return Loss()

    with pytest.raises(PluginError, match=r"method 'careless' gives a Tensor\. Return ObjectiveOutput\(loss"):
        train(tmp_path, method=Careless())
