"""Training a SiT on the latents of a tokenizer: velocity matching (Ma et al. 2024), with REPA if asked.

At each step: draw rows, sample their posteriors, normalise, draw noise and time, drop some labels, and minimise

    mean |v(x_t, t, y) - (alpha'(t) x + sigma'(t) eps)|^2 + repa.weight * (-mean cosine(projector(tokens), teacher))

and, for LightningDiT's recipe, cosine_weight * mean(1 - cosine(v, velocity)) over positions.

Every draw is a function of (seed, step, row of the batch): a run can be cut anywhere and does not depend on the number
of processes or accumulation steps.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, DataError, MissingDependency
from vaebench.core.seeds import batch_indices, numpy_generator, sample_normal, torch_generator
from vaebench.generation.checkpoint import SiTCard, TrainedSiT, write_card
from vaebench.generation.interpolants import INTERPOLANTS, InterpolantName
from vaebench.generation.repa import Projector, alignment_loss, features_as_tokens
from vaebench.generation.sit import Overrides, SiT, SiTConfig, drop_labels, sit_config
from vaebench.tokenizers.base import LatentNormalisation, Posterior, TokenizerSpec
from vaebench.training.loop import LoopConfig, run_loop
from vaebench.training.prefetch import Prefetch
from vaebench.training.step import check_batch, micro_batches, to_device, update

Features = Callable[[np.ndarray], np.ndarray]
Normalised = Literal["file", "tokenizer"]


class RepaConfig(Config):
    """The REPA loss; off while ``weight`` is 0.

    Attributes:
        weight: factor of the alignment loss; 0.5 as published.
        block: the tokens after this many blocks are projected; 8 as published.
        hidden: width of the projector.
    """

    weight: float = Field(default=0.0, ge=0)
    block: int = Field(default=8, ge=1)
    hidden: int = Field(default=2048, gt=0)


class SiTTrainingConfig(LoopConfig):
    """Settings of SiT training, beside those of the loop.

    Defaults are those of SiT but for steps, preset, gradient_clip (1.0; SiT clips nothing), ema_warmup (on; SiT's
    decay is the same from the first step) and normalisation (by statistics; SiT scales by Stable Diffusion's 0.18215).

    Attributes:
        preset, network: name in `PRESETS`, and values of `SiTConfig` that replace its own (width, depth, heads, patch).
        batch_size: the global one, whatever the number of processes and accumulation steps.
        accumulation: parts that a process cuts its share of the batch into, to save memory.
        learning_rate, betas, weight_decay: of AdamW.
        interpolant: linear or gvp.
        time: uniform, or logit-normal, t = sigmoid(time_mean + time_std n).
        label_dropout: share of labels replaced by the null label.
        normalisation: by the latent file's own statistics, or as the tokenizer publishes it.
        sample_posterior: draw z = mean + std eps at every step; else take the means.
        cosine_weight: factor of LightningDiT's second loss, mean(1 - cos(v, target)) over the channels of a position.
        repa: alignment with a teacher.
        compile: have torch.compile fuse the network's forward and backward; equal up to rounding. It needs a C++
            compiler, on a GPU Triton, and half a minute at first: `tests/benchmarks/compiled.py` tells from how many
            steps on it pays.
    """

    steps: int = Field(default=1000, gt=0)
    preset: str = "nano"
    network: Overrides = {}
    batch_size: int = Field(default=256, gt=0)
    accumulation: int = Field(default=1, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    interpolant: InterpolantName = "linear"
    time: Literal["uniform", "logit-normal"] = "uniform"
    time_mean: float = 0.0
    time_std: float = Field(default=1.0, gt=0)
    label_dropout: float = Field(default=0.1, ge=0, le=1)
    normalisation: Normalised = "file"
    sample_posterior: bool = True
    cosine_weight: float = Field(default=0.0, ge=0)
    repa: RepaConfig = RepaConfig()
    # Not dumped at its default, so that SiTs from before it existed keep their identity.
    compile: bool = Field(default=False, exclude_if=lambda value: value is False)

    def shape(self, in_channels: int, grid: tuple[int, int], num_classes: int) -> SiTConfig:
        """The network for such latents and classes, tapped where REPA aligns it.

        Raises:
            UnknownName: no such preset. ConfigError: the shape does not fit together, or has no such block.
        """
        shape, block = sit_config(self.preset, in_channels, grid, num_classes, **self.network), self.repa.block
        if self.repa.weight == 0:
            return shape
        if block > shape.depth:
            raise ConfigError(
                f"sit.repa.block {block} lies beyond the {shape.depth} blocks of this SiT ('{self.preset}').",
                f"Set sit.repa.block to {shape.depth} or less; two thirds of the depth is SiT-B's share.",
            )
        return shape.model_copy(update={"tap": block})


class Latents(Protocol):
    """What training asks of latents; a `LatentFile` has it all, `ArrayLatents` makes it of arrays."""

    @property
    def id(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def labels(self) -> np.ndarray | None: ...
    def __len__(self) -> int: ...
    def mean(self, indices: np.ndarray) -> np.ndarray: ...
    def std(self, indices: np.ndarray) -> np.ndarray: ...
    def normalisation(self, which: Normalised) -> LatentNormalisation: ...


@dataclass(frozen=True)
class ArrayLatents:
    """Latents in arrays: posterior means and standard deviations (N, d, h, w), and class labels (N,) or None."""

    means: np.ndarray
    stds: np.ndarray
    labels: np.ndarray | None = None
    id: str = "arrays"

    def __len__(self) -> int:
        return len(self.means)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(d, h, w) of one row."""
        d, h, w = self.means.shape[1:]
        return d, h, w

    def mean(self, indices: np.ndarray) -> np.ndarray:
        """Means of these rows."""
        return self.means[indices]

    def std(self, indices: np.ndarray) -> np.ndarray:
        """Standard deviations of these rows."""
        return self.stds[indices]

    def normalisation(self, which: Normalised = "file") -> LatentNormalisation:
        """That of the posterior samples' own statistics: variance = var(mean) + E[std^2], per channel."""
        if which != "file":
            raise ConfigError("Latents in arrays have no published normalisation.", 'Use normalisation "file".')
        return self._statistics

    @cached_property
    def _statistics(self) -> LatentNormalisation:
        axes = (0, 2, 3)
        mean = self.means.mean(axes, dtype=np.float64)
        variance = self.means.var(axes, dtype=np.float64) + np.square(self.stds, dtype=np.float64).mean(axes)
        return LatentNormalisation.from_statistics(mean, np.sqrt(variance), f"statistics of latents {self.id}")


def make_optimizer(
    parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW, fused where torch has it: one pass over weights, gradients and moments."""
    parameters = list(parameters)
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=fused)


def require_compiler(device: str) -> None:
    """Check that torch.compile has what it needs here, before it fails in the midst of the first step.

    Raises:
        MissingDependency: it has not.
    """
    if device == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise MissingDependency("torch.compile needs Triton on a GPU.", "pip install triton, or set compile=false.")
    elif not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise MissingDependency(
            "torch.compile needs a C++ compiler.", "Install g++ (Debian: apt-get install g++), or set compile=false."
        )


def train_sit(
    latents: Latents,
    tokenizer: TokenizerSpec,
    config: SiTTrainingConfig,
    folder: Path | str,
    accelerator: Accelerator,
    *,
    num_classes: int | None = None,
    features: Features | None = None,
    snapshots: Collection[int] = (),
    on_step: Callable[[int], None] | None = None,
) -> TrainedSiT:
    """Train a SiT, or go on where an interrupted run in ``folder`` stopped.

    Args:
        latents: a `LatentFile` (of the training split; call its `load` to have it in memory) or `ArrayLatents`.
        tokenizer: which tokenizer made them (``latents.info.tokenizer`` of a file); its hash goes into the checkpoint.
        config: settings.
        folder: for checkpoints, logs, the card and ``snapshots/``; read it with `load_sit`.
        accelerator: from `make_accelerator`.
        num_classes: by default one more than the largest label; 1 without labels.
        features: the teacher's patch features of rows of the latents, (n, D, h, w), for REPA.
        snapshots: steps at which to keep the averaged weights; the last is always kept.
        on_step: called after every step with the number of finished ones.

    Returns:
        The averaged (EMA) network of the last step.

    Raises:
        ConfigError: shapes or batch do not fit, snapshots beyond the last step, REPA without features.
        DataError: no latents, labels out of range, or latents that cannot be normalised.
        MismatchError: the folder holds the training of another SiT, or one of more steps.
        NumericalError: see `run_loop`.
    """
    check_batch(config.batch_size, accelerator.num_processes, config.accumulation)
    if late := sorted(step for step in snapshots if not 0 < step <= config.steps):
        raise ConfigError(f"Snapshots at {late} lie outside the {config.steps} training steps.")
    if len(latents) == 0:
        raise DataError("There are no latents to train on.")
    folder = Path(folder)
    training = _SiTTraining(latents, config, accelerator, num_classes, features)
    card = SiTCard(
        network=training.network.config,
        interpolant=config.interpolant,
        normalisation=training.normalisation,
        latents=latents.id,
        tokenizer=tokenizer.name,
        tokenizer_hash=tokenizer.checkpoint_hash,
    )
    if accelerator.is_main_process:
        write_card(folder, card)
    kept = {*snapshots, config.steps}
    try:
        averaged = run_loop(training, config, folder, accelerator, f"train SiT {config.preset}", on_step, kept)["sit"]
    finally:
        training.batches.close()
    assert isinstance(averaged, SiT)
    return TrainedSiT(averaged, card, config.steps)


@dataclass(frozen=True)
class _Batch:
    """A process's part of a batch: data and noise (n, d, h, w), time (n,), labels (n,), teacher features."""

    data: Tensor
    noise: Tensor
    time: Tensor
    labels: Tensor
    features: Tensor | None


class _SiTTraining:
    ema_of = ("sit",)

    def __init__(
        self,
        latents: Latents,
        config: SiTTrainingConfig,
        accelerator: Accelerator,
        num_classes: int | None,
        features: Features | None,
    ) -> None:
        self.latents, self.config, self.accelerator = latents, config, accelerator
        labels = latents.labels
        self.labels = np.zeros(len(latents), np.int64) if labels is None else labels.astype(np.int64)
        num_classes = int(self.labels.max()) + 1 if num_classes is None else num_classes
        if not 0 <= self.labels.min() <= self.labels.max() < num_classes:
            raise DataError(
                f"Labels run from {self.labels.min()} to {self.labels.max()}; there are {num_classes} classes."
            )
        self.normalisation = latents.normalisation(config.normalisation)
        self.interpolant = INTERPOLANTS[config.interpolant]
        self.parts = micro_batches(config.batch_size, accelerator, config.accumulation)

        repa, (channels, *grid) = config.repa, latents.shape
        shape = config.shape(channels, (grid[0], grid[1]), num_classes)
        device = accelerator.device
        self.network = SiT(shape, torch_generator(config.seed, "initial weights")).to(device).train()
        if config.compile:
            require_compiler(device.type)
            self.network.compile()
        self.modules: dict[str, nn.Module] = {"sit": self.network}
        self.features: Features | None = None
        if repa.weight > 0:
            if features is None:
                raise ConfigError("REPA needs a teacher's features.", "Give them, or set repa.weight=0.")
            self.features = features
            teacher_channels = features(np.zeros(1, np.int64)).shape[1]
            generator = torch_generator(config.seed, "projector")
            projector = Projector(shape.width, teacher_channels, repa.hidden, generator)
            self.modules["projector"] = projector.to(device).train()
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self.optimizer = make_optimizer(self.parameters, config.learning_rate, config.betas, config.weight_decay)
        self.optimizers: dict[str, torch.optim.Optimizer] = {"sit": self.optimizer}
        self.batches = Prefetch(self._load, config.steps)

    def _load(self, step: int, salt: int) -> list[_Batch]:
        cfg, null_label = self.config, self.network.config.null_label
        rows = batch_indices(len(self.latents), cfg.batch_size, step, cfg.seed, "batches", salt)
        positions = step * cfg.batch_size + np.arange(cfg.batch_size)
        generator = numpy_generator(cfg.seed, "times and label dropout", step, salt)
        times = torch.from_numpy(self._times(generator)).float()
        uniform = torch.from_numpy(generator.random(cfg.batch_size))
        labels = drop_labels(torch.from_numpy(self.labels[rows]), uniform, cfg.label_dropout, null_label)

        def load(part: slice) -> _Batch:
            mean = torch.from_numpy(self.latents.mean(rows[part])).float()
            data = mean
            if cfg.sample_posterior:
                std = torch.from_numpy(self.latents.std(rows[part])).float()
                data = Posterior(mean, std).sample(self._normal(positions[part], "posterior noise", salt))
            features = None if self.features is None else torch.from_numpy(self.features(rows[part]))
            noise = self._normal(positions[part], "interpolant noise", salt)
            return _Batch(self.normalisation.normalise(data), noise, times[part], labels[part], features)

        return [load(part) for part in self.parts]

    def _times(self, generator: np.random.Generator) -> np.ndarray:
        cfg = self.config
        if cfg.time == "uniform":
            return generator.random(cfg.batch_size)
        return 1 / (1 + np.exp(-generator.normal(cfg.time_mean, cfg.time_std, cfg.batch_size)))

    def _normal(self, positions: np.ndarray, purpose: str, salt: int) -> Tensor:
        return sample_normal(positions, self.latents.shape, self.config.seed, purpose, salt)

    def train_step(self, step: int, salt: int) -> Mapping[str, Tensor]:
        logs = [self._accumulate(batch) for batch in self.batches.get(step, salt)]
        values = {name: torch.stack([log[name] for log in logs]).mean() for name in logs[0]}
        values["gradient_norm"] = update(self.accelerator, self.optimizer, self.parameters, self.config.gradient_clip)
        return values

    def _accumulate(self, batch: _Batch) -> dict[str, Tensor]:
        cfg, device = self.config, self.accelerator.device
        data, noise, t, labels = (
            to_device(x.numpy(), device) for x in (batch.data, batch.noise, batch.time, batch.labels)
        )
        x = self.interpolant.interpolate(data, noise, t)
        with self.accelerator.autocast():
            velocity, tokens = self.network(x, t, labels)
            projected = None if tokens is None else self.modules["projector"](tokens)
        target = self.interpolant.velocity(data, noise, t)
        loss = F.mse_loss(velocity.float(), target)
        logs = {"loss_velocity": loss.detach()}
        if cfg.cosine_weight > 0:
            direction = 1 - F.cosine_similarity(velocity.float(), target, dim=1).mean()
            logs["loss_direction"] = direction.detach()
            loss = loss + cfg.cosine_weight * direction
        if projected is not None and batch.features is not None:
            shape = self.network.config
            grid = (shape.grid[0] // shape.patch, shape.grid[1] // shape.patch)
            teacher = features_as_tokens(to_device(batch.features.numpy(), device).float(), grid)
            alignment = alignment_loss(projected, teacher)
            logs["loss_repa"] = alignment.detach()
            loss = loss + cfg.repa.weight * alignment
        self.accelerator.backward(loss / cfg.accumulation)
        return {"loss": loss.detach(), **logs}
