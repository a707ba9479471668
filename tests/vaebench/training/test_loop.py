import json
import os
import signal
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vaebench.core.config import build, with_overrides
from vaebench.core.errors import ConfigError, DataError, MismatchError, NumericalError
from vaebench.core.seeds import torch_generator
from vaebench.generation.sample import SamplerConfig
from vaebench.training.checkpoint import checkpoint_path, checkpoint_steps, load_checkpoint, load_latest
from vaebench.training.ema import ema_decay
from vaebench.training.guard import Guard
from vaebench.training.loop import LoopConfig, run_loop, snapshot_path
from vaebench.training.schedule import learning_rate_factor
from vaebench.training.step import update


def config(**values):
    defaults = {"steps": 20, "log_every": 3, "checkpoint_every": 4, "checkpoint_seconds": None, "tensorboard": False}
    return LoopConfig(**{**defaults, **values})


@pytest.mark.parametrize("kind", [LoopConfig, SamplerConfig])
def test_the_word_no_may_be_written_bare(kind):
    """As in ``-o mixed_precision=no`` and in YAML files, where that is False."""
    steps = {"steps": 1} if kind is LoopConfig else {}
    written = with_overrides(steps, ["mixed_precision=no"])
    assert written["mixed_precision"] is False
    assert build(kind, written).model_dump() == build(kind, steps).model_dump()
    assert build(kind, steps | {"mixed_precision": "bf16"}).mixed_precision == "bf16"
    for wrong in (True, 0, "off"):
        with pytest.raises(ConfigError, match="mixed_precision"):
            build(kind, steps | {"mixed_precision": wrong})


class Killed(BaseException):
    pass


def kill_at(when):
    def on_step(step):
        if step == when:
            raise Killed

    return on_step


def everything(folder, steps=20):
    """Weights, EMA, optimiser state and metrics, flattened into names and tensors or texts."""
    checkpoint = load_checkpoint(checkpoint_path(folder / "checkpoints", steps))
    values = {f"{m}.{n}": t for m, ts in checkpoint.weights.items() for n, t in ts.items()}
    for name, optimizer in checkpoint.state["optimizers"].items():
        for index, state in optimizer["state"].items():
            values |= {f"{name}.{index}.{key}": value for key, value in state.items()}
    return values, (folder / "metrics.jsonl").read_text()


def assert_same(first, second, steps=20):
    (a, metrics_a), (b, metrics_b) = everything(first, steps), everything(second, steps)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert metrics_a == metrics_b


@pytest.fixture
def reference(toy, accelerator, tmp_path):
    folder = tmp_path / "reference"
    run_loop(toy(accelerator), config(), folder, accelerator, "one go")
    return folder


@pytest.mark.parametrize(
    "cadence",
    [{"checkpoint_every": 3}, {"checkpoint_every": None, "checkpoint_seconds": 0.0}, {"checkpoint_every": 100}],
    ids=["steps", "seconds", "never"],
)
def test_three_pieces_equal_one_go_whatever_the_checkpoints(toy, accelerator, tmp_path, reference, cadence):
    pieces = tmp_path / "pieces"
    for when in (7, 14):
        with pytest.raises(Killed):
            run_loop(toy(accelerator), config(**cadence), pieces, accelerator, "piece", on_step=kill_at(when))
    run_loop(toy(accelerator), config(**cadence), pieces, accelerator, "piece")
    assert_same(reference, pieces)


def test_run_that_is_complete_does_nothing(toy, accelerator, reference):
    trainable = toy(accelerator)
    averaged = run_loop(trainable, config(), reference, accelerator, "again")
    assert trainable.rates == []
    expected = load_file(checkpoint_path(reference / "checkpoints", 20) / "net-ema.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in averaged["net"].state_dict().items())


def test_a_training_of_more_steps_is_not_taken_for_one_of_fewer(toy, accelerator, reference):
    with pytest.raises(MismatchError, match="a training of 20 steps; 19 are asked for"):
        run_loop(toy(accelerator), config(steps=19), reference, accelerator, "fewer")


def test_metrics_have_every_logged_step_once(reference):
    rows = [json.loads(line) for line in (reference / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15, 18, 20]
    assert set(rows[0]) == {"step", "loss", "gradient_norm", "learning_rate"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_step_saves_and_interrupts(toy, accelerator, tmp_path, reference, number):
    folder = tmp_path / "signalled"
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]

    def on_step(step):
        if step == 6:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt, match="after step 7 is saved"):
        run_loop(toy(accelerator), config(checkpoint_every=None), folder, accelerator, "signal", on_step=on_step)
    assert checkpoint_steps(folder / "checkpoints")[-1] == 7
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    run_loop(toy(accelerator), config(), folder, accelerator, "signal")
    assert_same(reference, folder)


def test_a_signal_during_the_last_step_is_not_lost(toy, accelerator, tmp_path, reference):
    folder = tmp_path / "late"

    def on_step(step):
        if step == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="its last step is saved"):
        run_loop(toy(accelerator), config(), folder, accelerator, "late", on_step=on_step)
    run_loop(toy(accelerator), config(), folder, accelerator, "late")
    assert_same(reference, folder)


INTERRUPTED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from conftest import Toy
import vaebench.training.loop as loop
from vaebench.training.step import make_accelerator

class Slow(Toy):
    def train_step(self, step, salt):
        time.sleep(0.01)
        return super().train_step(step, salt)

def on_step(step):
    if step == 40 and rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)

def counted(self, *flags):
    looks.append(self.step)
    return agree(self, *flags)

accelerator, looks, folder = make_accelerator("cpu"), [], Path({folder!r})
rank, agree = accelerator.process_index, loop._Loop._agree
loop._Loop._agree, loop._SECONDS_BETWEEN_LOOKS = counted, 0.5
config = loop.LoopConfig(steps=500, log_every=500, checkpoint_every=None, checkpoint_seconds=None, tensorboard=False)
try:
    loop.run_loop(Slow(accelerator), config, folder, accelerator, "together", on_step=on_step)
except KeyboardInterrupt:
    (folder / f"looks-{{rank}}").write_text(" ".join(map(str, looks)))
"""


def test_what_is_asked_of_one_of_two_processes_soon_interrupts_both(tmp_path, in_two_processes):
    in_two_processes(INTERRUPTED.format(here=str(Path(__file__).parent), folder=str(tmp_path)), grouped=False)
    looks, others = ([int(step) for step in (tmp_path / f"looks-{rank}").read_text().split()] for rank in range(2))
    assert looks == others
    assert 40 <= looks[-1] < 200
    assert len(looks) < looks[-1] / 2
    assert checkpoint_steps(tmp_path / "checkpoints")[-1] == looks[-1]


def test_kill_while_a_checkpoint_is_written_leaves_the_former(toy, accelerator, tmp_path, reference, monkeypatch):
    folder = tmp_path / "killed"
    save, calls = torch.save, []

    def killed_save(*arguments, **keywords):
        calls.append(None)
        if len(calls) == 3:  # after those of steps 0 and 4
            raise Killed
        return save(*arguments, **keywords)

    monkeypatch.setattr(torch, "save", killed_save)
    with pytest.raises(Killed):
        run_loop(toy(accelerator), config(), folder, accelerator, "killed")
    monkeypatch.undo()
    leftovers = [path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]
    assert len(leftovers) == 1
    assert load_latest(folder / "checkpoints").step == 4
    run_loop(toy(accelerator), config(), folder, accelerator, "killed")
    assert_same(reference, folder)
    assert [path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["net.safetensors", "state.pt", "manifest.json"])
@pytest.mark.parametrize("how", ["truncate", "remove", "flip"])
def test_damaged_newest_checkpoint_falls_back(toy, accelerator, tmp_path, reference, name, how):
    folder = tmp_path / "damaged"
    with pytest.raises(Killed):
        run_loop(toy(accelerator), config(), folder, accelerator, "damaged", on_step=kill_at(14))
    file = checkpoint_path(folder / "checkpoints", 12) / name
    data = bytearray(file.read_bytes())
    if how == "truncate":
        file.write_bytes(data[: len(data) // 2])
    elif how == "remove":
        file.unlink()
    else:
        data[-1 if name != "manifest.json" else 0] ^= 0xFF
        file.write_bytes(data)
    with pytest.warns(UserWarning, match="step_00000012"):
        run_loop(toy(accelerator), config(), folder, accelerator, "damaged")
    assert_same(reference, folder)


def test_every_checkpoint_damaged_is_an_error(toy, accelerator, reference):
    for step in checkpoint_steps(reference / "checkpoints"):
        (checkpoint_path(reference / "checkpoints", step) / "state.pt").write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(DataError, match="Every checkpoint"):
        run_loop(toy(accelerator), config(), reference, accelerator, "damaged")


def test_only_the_newest_checkpoints_stay(reference):
    assert checkpoint_steps(reference / "checkpoints") == [16, 20]


@pytest.mark.parametrize("cadence", [1, 4, 50])
def test_nan_goes_back_and_takes_another_batch(toy, accelerator, tmp_path, cadence):
    folder = tmp_path / f"nan{cadence}"

    def fault(step, salt):
        return step == 9 and salt == 0

    with pytest.warns(UserWarning, match="in step 10; going on from step"):
        run_loop(toy(accelerator, fault), config(checkpoint_every=cadence), folder, accelerator, "nan")
    values, metrics = everything(folder)
    assert all(torch.isfinite(value).all() for value in values.values())
    rows = [json.loads(line) for line in metrics.splitlines()]
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15, 18, 20]
    assert [row.get("rollbacks", 0) for row in rows] == [0, 0, 0, 1, 1, 1, 1]
    other = tmp_path / "other"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_loop(toy(accelerator, fault), config(checkpoint_every=7), other, accelerator, "nan")
    assert_same(folder, other)


def test_nan_gives_up_after_the_allowed_rollbacks(toy, accelerator, tmp_path):
    tries = []

    def fault(step, salt):
        if step == 9:
            tries.append(salt)
        return step == 9

    gave_up = r"loss.*step 10.*2 rollbacks.*learning rate"
    with pytest.warns(UserWarning, match="another batch"), pytest.raises(NumericalError, match=gave_up):
        run_loop(toy(accelerator, fault), config(max_rollbacks=2), tmp_path, accelerator, "nan")
    assert tries == [0, 1, 2]
    assert load_latest(tmp_path / "checkpoints").step == 8


def test_guard_remembers_the_first_bad_step():
    guard = Guard(torch.device("cpu"), fp16=False)
    for step, value in enumerate([1.0, 2.0, float("inf"), 3.0, float("nan")]):
        guard.observe(step, {"a": torch.tensor(1.0), "b": torch.tensor(value)})
    assert guard.first_bad() == 2
    guard.reset()
    assert guard.first_bad() is None


def test_guard_leaves_overflowing_gradients_to_the_loss_scaler():
    guard = Guard(torch.device("cpu"), fp16=True)
    guard.observe(0, {"loss": torch.tensor(1.0), "gradient_norm": torch.tensor(float("inf"))})
    assert guard.first_bad() is None
    guard.observe(1, {"loss": torch.tensor(float("nan")), "gradient_norm": torch.tensor(1.0)})
    assert guard.first_bad() == 1


class Rivals:
    """Two networks with an optimiser each."""

    ema_of = ()

    def __init__(self, accelerator):
        self.accelerator = accelerator
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.modules = {name: nn.Linear(4, 1) for name in ("first", "second")}
        self.optimizers = {name: torch.optim.SGD(net.parameters(), lr=0.1) for name, net in self.modules.items()}

    def train_step(self, step, salt):
        inputs = torch.randn(8, 4, generator=torch_generator(0, "inputs", step, salt))
        losses = {f"loss_{name}": net(inputs).square().mean() for name, net in self.modules.items()}
        for loss in losses.values():
            self.accelerator.backward(loss)
        for name, net in self.modules.items():
            update(self.accelerator, self.optimizers[name], net.parameters(), None)
        return {name: loss.detach() for name, loss in losses.items()}


def test_the_loss_scale_changes_once_a_step_for_all_optimisers(accelerator, tmp_path):
    plain = Rivals(accelerator)
    run_loop(plain, config(), tmp_path / "plain", accelerator, "plain")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    scaled = Rivals(accelerator)
    run_loop(scaled, config(), tmp_path / "scaled", accelerator, "scaled")
    assert accelerator.scaler.get_scale() == 4.0 * 2**20
    for name, net in plain.modules.items():  # powers of two round nothing
        assert torch.equal(net.weight, scaled.modules[name].weight)


def test_learning_rate_follows_the_schedule_across_an_interruption(toy, accelerator, tmp_path):
    settings = config(schedule="cosine", warmup_steps=5, final_learning_rate=0.1)
    first, second = toy(accelerator), toy(accelerator)
    with pytest.raises(Killed):
        run_loop(first, settings, tmp_path, accelerator, "rate", on_step=kill_at(8))
    run_loop(second, settings, tmp_path, accelerator, "rate")
    expected = [1e-2 * learning_rate_factor(step, 20, "cosine", 5, 0.1) for step in range(20)]
    assert first.rates[:8] + second.rates == pytest.approx(expected)


def test_checkpoint_of_another_network_is_a_mismatch(toy, accelerator, reference):
    other = toy(accelerator)
    other.net.append(torch.nn.Linear(1, 1))
    with pytest.raises(MismatchError, match="does not fit"):
        run_loop(other, config(), reference, accelerator, "other")


def test_snapshots_are_the_average_at_that_step(toy, accelerator, tmp_path):
    run_loop(toy(accelerator), config(), tmp_path / "long", accelerator, "long", snapshots=(5, 20))
    run_loop(toy(accelerator), config(steps=5), tmp_path / "short", accelerator, "short")
    snapshot = load_file(snapshot_path(tmp_path / "long", 5, "net"))
    expected = load_file(checkpoint_path(tmp_path / "short" / "checkpoints", 5) / "net-ema.safetensors")
    assert all(torch.equal(snapshot[name], expected[name]) for name in expected)
    assert snapshot_path(tmp_path / "long", 20, "net").is_file()


def test_average_covers_weights_and_buffers(toy, accelerator, tmp_path):
    trainable = toy(accelerator)
    start = {name: value.clone().double() for name, value in trainable.net.state_dict().items()}
    history = []
    run_loop(
        trainable,
        config(ema_decay=0.9),
        tmp_path,
        accelerator,
        "ema",
        on_step=lambda step: history.append({n: v.clone().double() for n, v in trainable.net.state_dict().items()}),
    )
    for step, weights in enumerate(history):
        decay = ema_decay(step, 0.9)
        start = {name: decay * start[name] + (1 - decay) * weights[name] for name in start}
    averaged = load_file(checkpoint_path(tmp_path / "checkpoints", 20) / "net-ema.safetensors")
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(averaged[name].double(), start[name], rtol=1e-5, atol=1e-6)
    assert averaged["1.num_batches_tracked"].item() == 20


def test_global_generator_is_neither_used_nor_moved(toy, accelerator, tmp_path, reference):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    run_loop(toy(accelerator), config(), tmp_path / "seeded", accelerator, "seeded")
    assert torch.equal(before, torch.get_rng_state())
    assert_same(reference, tmp_path / "seeded")


def test_tensorboard_holds_the_curve_once(toy, accelerator, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Killed):
        run_loop(toy(accelerator), config(tensorboard=True), tmp_path, accelerator, "tb", on_step=kill_at(14))
    run_loop(toy(accelerator), config(tensorboard=True), tmp_path, accelerator, "tb")
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert sorted({event.step for event in events.Scalars("loss")}) == [3, 6, 9, 12, 15, 18, 20]
