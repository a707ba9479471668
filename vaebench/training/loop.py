"""A training loop that can be killed at any moment and goes on as if nothing had happened.

How to use it: write a class with the four members of `Trainable` and call `run_loop`.

**Randomness.** Every batch and every draw is a function of ``(seed, step, salt)``, so there is no sampler position or
random state to save, and a resumed run on CPU is bit-equal to an uninterrupted one whenever its checkpoints were
written. Draw with `vaebench.core.seeds` (``batch_indices(n, batch_size, step, seed, "data", salt)``,
``torch_generator(seed, "noise", step, salt)``). ``salt`` is 0 except for a step that is repeated with another batch
after a rollback. What draws from torch's global generator (dropout) is covered too: the loop seeds it before each step
from ``(seed, step, salt, process)`` and gives the caller's state back at the end.

**Checkpoints** (`vaebench.training.checkpoint`) are written after ``checkpoint_every`` steps, after
``checkpoint_seconds`` seconds (more rarely if writing takes over 5% of the time), at the end, and on SIGINT or SIGTERM,
which finish the step, save, and raise KeyboardInterrupt. ``metrics.jsonl`` is cut back to the checkpoint on resuming.
Several processes ask each other for signals when something is due anyway, and every few seconds between.

**NaN guard.** When a logged value or gradient norm is not finite, the loop goes back to the last checkpoint, which was
verified before it was written, repeats the steps as they were and gives the offending step another batch. On CPU this
is checked in every step; on other devices the first bad step is remembered on the device and looked up when values are
logged or a checkpoint is due, so that no step waits for it. (Under fp16 a gradient overflow is the loss scaler's
business and no fault.)

**Folder.** ``checkpoints/``, ``metrics.jsonl``, ``tb/`` (TensorBoard), ``snapshots/step_00000500/<module>.safetensors``
(EMA weights at the steps asked for).
"""

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from pydantic import Field, field_validator
from torch import Tensor, nn

from vaebench.core.config import Config
from vaebench.core.errors import MismatchError, NumericalError
from vaebench.core.progress import Bar, progress
from vaebench.core.seeds import seed_of
from vaebench.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    load_latest,
    remove_unfinished,
    save_checkpoint,
    save_weights,
)
from vaebench.training.ema import Ema
from vaebench.training.guard import Guard
from vaebench.training.metrics_log import MetricsLog
from vaebench.training.schedule import Schedule, learning_rate_factor
from vaebench.training.step import Precision, mean_over_processes

_LARGEST_SHARE_OF_TIME_SAVING = 0.05
# Between looks of several processes at what was asked of any of them: torchrun kills 30 s after it asked.
_SECONDS_BETWEEN_LOOKS = 5.0


class LoopConfig(Config):
    """Settings of the loop; the configurations of tokenizer and SiT training extend it.

    Attributes:
        steps: optimiser steps in all.
        seed: training seed.
        schedule, warmup_steps, final_learning_rate: see `learning_rate_factor`; the last is a ratio to the base rate.
        gradient_clip: largest norm of the gradients, None for no clipping (done by the trainable through `update`).
        mixed_precision: what the accelerator is to be made with (`make_accelerator`).
        ema_decay, ema_warmup: see `ema_decay`.
        log_every: steps between logged values, and between looks at the guard on a GPU.
        checkpoint_every, checkpoint_seconds: steps and seconds between checkpoints; None for none of that kind.
        keep_checkpoints: how many of the newest stay.
        max_rollbacks: how often in one run the guard goes back before it gives up.
        tensorboard: also write event files.
    """

    steps: int = Field(gt=0)
    seed: int = 0
    schedule: Schedule = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    final_learning_rate: float = Field(default=0.0, ge=0, le=1)
    gradient_clip: float | None = Field(default=1.0, gt=0)
    mixed_precision: Precision = "no"
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    ema_warmup: bool = True
    log_every: int = Field(default=20, gt=0)
    checkpoint_every: int | None = Field(default=1000, gt=0)
    checkpoint_seconds: float | None = Field(default=30.0, ge=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    max_rollbacks: int = Field(default=3, ge=0)
    tensorboard: bool = True

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_a_word(cls, value: Any) -> Any:
        return "no" if value is False else value  # YAML reads a bare no as False


class Trainable(Protocol):
    """What the loop trains.

    Attributes:
        modules: every module with weights to save, by a name that can be a file name.
        optimizers: every optimiser, by name. The learning rates they have when the loop starts are the base rates; the
            loop multiplies them by the schedule before each step.
        ema_of: names of the modules to average.
    """

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...
    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]: ...
    @property
    def ema_of(self) -> Collection[str]: ...

    def train_step(self, step: int, salt: int) -> Mapping[str, Tensor]:
        """Do step ``step`` (from 0): forward, `accelerator.backward`, `update` of every optimiser that learns.

        Returns:
            Detached scalars on one device, by name: losses, and gradient norms under names starting "gradient_norm".
            With several processes, each returns its own share; logged is the mean. Nothing here may call ``item()``.
        """


def run_loop(
    trainable: Trainable,
    config: LoopConfig,
    folder: Path | str,
    accelerator: Accelerator,
    title: str,
    on_step: Callable[[int], None] | None = None,
    snapshots: Collection[int] = (),
) -> dict[str, nn.Module]:
    """Train to ``config.steps``, resuming from the newest undamaged checkpoint in ``folder`` if there is one.

    Args:
        trainable: modules, optimisers and the step; modules must already be on the accelerator's device.
        config: settings of the loop.
        folder: where checkpoints and logs go; with several processes, one that all of them see.
        accelerator: device, precision, processes.
        title: what the progress bar calls it.
        on_step: called after every finished step with the number of finished steps.
        snapshots: numbers of finished steps at which to keep the EMA weights.

    Returns:
        The averaged module for every name in ``ema_of``, in evaluation mode. The trainable's modules hold the raw
        weights of the last step.

    Raises:
        NumericalError: more than ``max_rollbacks`` non-finite steps.
        MismatchError: the checkpoint belongs to other modules, or lies beyond ``config.steps``.
        KeyboardInterrupt: SIGINT or SIGTERM; the state has been saved.
    """
    return _Loop(trainable, config, Path(folder), accelerator, title, on_step, frozenset(snapshots)).run()


def snapshot_path(folder: Path | str, step: int, module: str) -> Path:
    """Where `run_loop` keeps the EMA weights of a module at a step of ``snapshots``."""
    return Path(folder) / "snapshots" / f"step_{step:08d}" / f"{module}.safetensors"


class _Loop:
    def __init__(
        self,
        trainable: Trainable,
        config: LoopConfig,
        folder: Path,
        accelerator: Accelerator,
        title: str,
        on_step: Callable[[int], None] | None,
        snapshots: frozenset[int],
    ) -> None:
        self.trainable, self.config, self.folder = trainable, config, folder
        self.accelerator, self.title, self.on_step, self.snapshots = accelerator, title, on_step, snapshots
        self.checkpoints = folder / "checkpoints"
        self.step = 0
        self.salts: dict[int, int] = {}
        self.base_rates = {name: [g["lr"] for g in opt.param_groups] for name, opt in trainable.optimizers.items()}
        self.emas = {
            name: Ema(trainable.modules[name], config.ema_decay, config.ema_warmup) for name in trainable.ema_of
        }
        self.log = MetricsLog(folder, config.tensorboard) if accelerator.is_main_process else None
        self.guard = Guard(accelerator.device, fp16=accelerator.scaler is not None)
        self.next_save = math.inf
        self.steps_to_look, self.steps_since_look = 1, 0
        self.looked_at, self.seconds_a_step = time.monotonic(), math.inf

    def run(self) -> dict[str, nn.Module]:
        cfg, alone = self.config, self.accelerator.num_processes == 1
        eager = alone and self.accelerator.device.type == "cpu"
        self._start()
        bars = progress(self.title, cfg.steps, "steps") if self.log is not None else contextlib.nullcontext()
        try:
            with _global_generator_kept(self.accelerator.device), _Interruption() as interruption, bars as bar:
                if bar is not None:
                    bar.start_at(self.step)
                while self.step < cfg.steps:
                    values = self._one_step()
                    done = self.step
                    log = done % cfg.log_every == 0 or done == cfg.steps
                    save = done == cfg.steps or (cfg.checkpoint_every is not None and done % cfg.checkpoint_every == 0)
                    due = log or save or done in self.snapshots
                    stop = False
                    if alone or due or self.steps_to_look <= 0:
                        stop, timed = self._agree(interruption.asked, time.monotonic() >= self.next_save)
                        save = save or stop or timed
                    if (eager or due or save) and (bad := self.guard.first_bad()) is not None:
                        self._roll_back(bad, values, bar)
                        continue
                    row = self._log(values) if log else {}
                    if bar is not None:
                        bar.update(1, **{name: value for name, value in row.items() if "loss" in name})
                    if done in self.snapshots:
                        self._snapshot()
                    if save:
                        self._save()
                    if self.on_step is not None:
                        self.on_step(done)
                    if stop:
                        raise KeyboardInterrupt(f"{self.title} was interrupted; its state after step {done} is saved.")
                # Asked while the last step was being saved: what comes after training must not go on either.
                if self._agree(interruption.asked)[0]:
                    raise KeyboardInterrupt(f"{self.title} was interrupted; its last step is saved.")
        finally:
            if self.log is not None:
                self.log.close()
        return {name: ema.averaged for name, ema in self.emas.items()}

    def _start(self) -> None:
        if self.accelerator.is_main_process:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.checkpoints)
        if not self._restore():
            if self.log is not None:
                self.log.rewind(0)
            self._save()  # the guard needs somewhere to go back to
        self._plan_next_save(0.0)

    def _one_step(self) -> Mapping[str, Tensor]:
        step, salt, cfg = self.step, self.salts.get(self.step, 0), self.config
        factor = learning_rate_factor(step, cfg.steps, cfg.schedule, cfg.warmup_steps, cfg.final_learning_rate)
        for name, optimizer in self.trainable.optimizers.items():
            for group, base in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = base * factor
        torch.manual_seed(seed_of(cfg.seed, "global generator", step, salt, self.accelerator.process_index))
        values = self.trainable.train_step(step, salt)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()
        self.guard.observe(step, values)
        for name, ema in self.emas.items():
            ema.update(self.trainable.modules[name], step)
        self.step = step + 1
        self.steps_to_look -= 1
        self.steps_since_look += 1
        return values

    def _agree(self, *flags: bool) -> tuple[bool, ...]:
        """Flags that are raised in any process, equal in all of them, as is the number of steps to the next look."""
        if self.accelerator.num_processes == 1:
            return flags
        # One clock decides when to look: the other processes say 0.
        steps = int(_SECONDS_BETWEEN_LOOKS / self.seconds_a_step) if self.accelerator.is_main_process else 0
        told = torch.tensor(
            [*flags, min(steps, self.config.log_every)], dtype=torch.float32, device=self.accelerator.device
        )
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        *raised, steps_to_look = told.tolist()
        # From answer to answer, since before it a GPU may be many steps behind.
        now = time.monotonic()
        self.seconds_a_step = (now - self.looked_at) / max(self.steps_since_look, 1)
        self.looked_at, self.steps_since_look = now, 0
        self.steps_to_look = max(int(steps_to_look), 1)
        return tuple(bool(flag) for flag in raised)

    def _log(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        stacked = torch.stack([v.detach().float() for v in values.values()])
        mean_over_processes([stacked])
        row = dict(zip(values, stacked.tolist(), strict=True))
        row["learning_rate"] = next(iter(self.trainable.optimizers.values())).param_groups[0]["lr"]
        if repeated := sum(n for step, n in self.salts.items() if step < self.step):
            row["rollbacks"] = repeated
        if self.log is not None:
            self.log.append(self.step, row)
        return row

    def _snapshot(self) -> None:
        if self.accelerator.is_main_process:
            for name, ema in self.emas.items():
                path = snapshot_path(self.folder, self.step, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_suffix(".tmp")
                save_weights(temporary, ema.averaged.state_dict())
                temporary.replace(path)

    def _save(self) -> None:
        began = time.monotonic()
        if self.log is not None:
            self.log.flush()
            weights = {name: module.state_dict() for name, module in self.trainable.modules.items()}
            weights |= {f"{name}-ema": ema.averaged.state_dict() for name, ema in self.emas.items()}
            state: dict[str, Any] = {
                "step": self.step,
                "salts": dict(self.salts),
                "optimizers": {name: opt.state_dict() for name, opt in self.trainable.optimizers.items()},
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            }
            save_checkpoint(self.checkpoints, self.step, weights, state, self.config.keep_checkpoints)
        self.accelerator.wait_for_everyone()
        self._plan_next_save(time.monotonic() - began)

    def _plan_next_save(self, seconds_taken: float) -> None:
        # One clock decides, for all processes, so that none waits in a collective that another does not enter.
        if self.config.checkpoint_seconds is not None and self.accelerator.is_main_process:
            wait = max(self.config.checkpoint_seconds, seconds_taken / _LARGEST_SHARE_OF_TIME_SAVING)
            self.next_save = time.monotonic() + wait

    def _load_latest(self) -> Checkpoint | None:
        if self.accelerator.num_processes == 1:
            return load_latest(self.checkpoints)
        found = load_latest(self.checkpoints) if self.accelerator.is_main_process else None
        step = [found.step if found is not None else None]
        broadcast_object_list(step)
        if found is None and step[0] is not None:
            found = load_checkpoint(checkpoint_path(self.checkpoints, step[0]))
        return found

    def _restore(self) -> bool:
        checkpoint = self._load_latest()
        if checkpoint is None:
            return False
        if checkpoint.step > self.config.steps:
            raise MismatchError(
                f"'{self.folder}' holds a training of {checkpoint.step} steps; {self.config.steps} are asked for.",
                "Ask for at least as many, or choose another output folder.",
            )
        targets = dict(self.trainable.modules) | {f"{name}-ema": ema.averaged for name, ema in self.emas.items()}
        try:
            for name, module in targets.items():
                module.load_state_dict(checkpoint.weights[name])
            for name, optimizer in self.trainable.optimizers.items():
                optimizer.load_state_dict(checkpoint.state["optimizers"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise MismatchError(
                f"The checkpoint of step {checkpoint.step} in {self.checkpoints} does not fit '{self.title}': {error}",
                "It was written with another configuration; choose another output folder or delete this one.",
            ) from error
        if self.accelerator.scaler is not None and checkpoint.state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
        self.step = checkpoint.step
        for step, salt in checkpoint.state["salts"].items():
            self.salts[step] = max(salt, self.salts.get(step, 0))
        if self.log is not None:
            self.log.rewind(self.step)
        return True

    def _roll_back(self, bad: int, values: Mapping[str, Tensor], bar: Bar | None) -> None:
        names = [name for name, value in values.items() if not bool(torch.isfinite(value))]
        what = f"{self.title}: {', '.join(names) or 'a value'} stopped being finite in step {bad + 1}"
        if sum(self.salts.values()) >= self.config.max_rollbacks:
            raise NumericalError(
                f"{what}, after {self.config.max_rollbacks} rollbacks.",
                "Lower the learning rate or the loss weights, add warm-up, clip gradients (gradient_clip), or use "
                f"mixed_precision=no; what led there is in {self.folder / 'metrics.jsonl'}.",
            )
        self.salts[bad] = self.salts.get(bad, 0) + 1
        self.guard.reset()
        self._restore()
        if bar is not None:
            bar.start_at(self.step)
        warnings.warn(f"{what}; going on from step {self.step} with another batch there.", stacklevel=2)


class _Interruption:
    """Turns the first SIGINT or SIGTERM into a flag; the second acts as usual."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._put_back()
        if self.asked and kind is None:  # in the moment after the last look
            raise KeyboardInterrupt


@contextlib.contextmanager
def _global_generator_kept(device: torch.device) -> Iterator[None]:
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
