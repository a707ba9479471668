"""Sampling latents from a trained SiT. A sample is a function of its id, its label, the seed and the settings alone."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.errors import DataError, NumericalError, suggest
from vaebench.core.plugins import is_reference
from vaebench.core.progress import progress
from vaebench.core.seeds import numpy_generator, sample_normal
from vaebench.generation import SAMPLERS, SHIPPED
from vaebench.generation.checkpoint import TrainedSiT
from vaebench.generation.guidance import guided_velocity
from vaebench.generation.samplers import (
    Diffusion,
    LastStep,
    Problem,
    Sampler,
    Solution,
    dopri5,
    euler,
    euler_maruyama,
    heun,
    time_grid,
)


class SamplerConfig(Config):
    """How latents are sampled.

    Attributes:
        method: euler or heun (ODE, fixed steps), dopri5 (ODE, adaptive), sde (Euler-Maruyama); or the name of a
            registered `Sampler`, "module:Class" or "path/file.py:Class".
        options: settings of such a sampler; the other settings below, but for guidance, are of those that ship.
        code: filled in, the hash of such a sampler.
        nfe: evaluations of the velocity for a sample; two for each step of heun, not used by dopri5. A guided
            evaluation runs the network on two inputs and counts once.
        cfg, cfg_interval, cfg_channels: scale, interval and channels of guidance, see `guided_velocity`.
        shift: moves the times of the fixed-step ODE samplers, see `time_grid`.
        diffusion, diffusion_norm, last_step, last_step_size: of the SDE, see `euler_maruyama`. Without a last step its
            noisy steps end at t = 1.
        atol, rtol: of dopri5.
        float64_state: accumulate the state in double precision, as REPA does; the network runs in single.
        mixed_precision: run the network under bf16 or fp16 autocasting; state, guidance and decoder stay as they are.
            Faster on a GPU, and moves FID a little where it is low (RAE advises against it).
    """

    method: str = "euler"
    options: dict[str, Any] = Field(default={}, exclude_if=lambda options: not options)
    code: str = Field(default="", exclude_if=lambda code: not code)
    nfe: int = Field(default=50, gt=0)
    cfg: float = Field(default=1.0, ge=0)
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    cfg_channels: int | None = Field(default=None, gt=0)
    shift: float = Field(default=1.0, gt=0)
    diffusion: Diffusion = "sigma"
    diffusion_norm: float = Field(default=1.0, ge=0)
    last_step: LastStep = "mean"
    last_step_size: float = Field(default=0.04, gt=0, lt=1)
    atol: float = Field(default=1e-6, gt=0)
    rtol: float = Field(default=1e-3, gt=0)
    float64_state: bool = False
    # Not dumped while it is off, so that protocols of samples made before it existed keep their hash.
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(default="no", exclude_if=lambda value: value == "no")

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_a_word(cls, value: Any) -> Any:
        return "no" if value is False else value  # YAML reads a bare no as False

    @model_validator(mode="after")
    def _possible(self) -> "SamplerConfig":
        if self.method not in SHIPPED and self.method not in SAMPLERS and not is_reference(self.method):
            raise ValueError(f"unknown sampler '{self.method}'. {suggest(self.method, SAMPLERS.names())}")
        if self.method in SHIPPED and self.options:
            raise ValueError(f"sampler '{self.method}' has no options of its own; its settings stand beside its name")
        if self.method == "heun" and self.nfe % 2:
            raise ValueError(f"heun takes two evaluations a step, so nfe {self.nfe} must be even")
        if self.method == "sde" and self.nfe == 1 and self.last_step != "none":
            raise ValueError("sde needs nfe of at least 2: one step with noise and the last one")
        if self.method == "sde" and self.diffusion == "sbdm":
            raise ValueError("diffusion 'sbdm' is infinite at t = 0, where sampling starts; use 'sigma'")
        if not 0 <= self.cfg_interval[0] <= self.cfg_interval[1] <= 1:
            raise ValueError(f"cfg_interval {self.cfg_interval} must be low <= high within [0, 1]")
        return self

    @property
    def sde_times(self) -> list[float]:
        """Times between which sde takes its noisy steps: up to the last step, or to t = 1 where there is none."""
        if self.last_step == "none":
            return time_grid(self.nfe)
        return time_grid(self.nfe - 1, end=1 - self.last_step_size)

    def resolved(self) -> "SamplerConfig":
        """With the settings of a sampler from outside, and the hash of its code, filled in.

        Raises:
            UnknownName, PluginError, ConfigError: it is not there, is none, or has no such settings.
        """
        if self.method in SHIPPED:
            return self
        options = _outside(self).config.model_dump(mode="json")
        return self.model_copy(update={"options": options, "code": SAMPLERS.code(self.method)})


class Generated(NamedTuple):
    """Raw latents (n, d, h, w), float32 on the CPU, ready for `Tokenizer.decode`, and the largest NFE of a batch."""

    latents: Tensor
    nfe: int


def choose_labels(
    n: int, num_classes: int, how: Literal["balanced", "random"] = "balanced", seed: int = 0
) -> np.ndarray:
    """Labels for n samples, int64 (n,).

    "balanced": sample i has label i mod num_classes, so that counts differ by at most one. "random": drawn uniformly
    and independently, as the published scripts do.
    """
    if how == "balanced":
        return np.arange(n, dtype=np.int64) % num_classes
    return numpy_generator(seed, "sample labels").integers(num_classes, size=n, dtype=np.int64)


@torch.inference_mode()
def generate_latents(
    sit: TrainedSiT,
    ids: np.ndarray,
    labels: np.ndarray,
    config: SamplerConfig,
    seed: int = 0,
    batch_size: int = 64,
    title: str = "sample",
) -> Generated:
    """Sample one latent for every id, and de-normalise it by the normalisation the SiT was trained with.

    All noise of a sample is a function of the seed and its id, so neither the batch size nor the order or split of
    ids over processes changes it. (dopri5 adapts its steps to the batch and agrees within its tolerance only.)

    Args:
        sit: from `load_sit` or `train_sit`.
        ids: global sample ids, (n,) non-negative.
        labels: class labels, (n,).
        config: the sampler.
        seed: sampling seed.
        batch_size: samples at a time (guidance doubles what the network sees).
        title: what the progress bar calls it.

    Raises:
        DataError: ids and labels differ in number, or a label is not one of the SiT's.
        NumericalError: a sample is not finite.
    """
    shape = sit.card.network
    if len(ids) != len(labels) or (len(labels) and not 0 <= labels.min() <= labels.max() < shape.num_classes):
        raise DataError(f"Sampling needs one label in [0, {shape.num_classes}) for each of {len(ids)} ids.")
    out = torch.empty(len(ids), shape.in_channels, *shape.grid)
    nfe = 0
    with progress(title, len(ids), "samples") as bar:
        for start in range(0, len(ids), batch_size):
            rows = slice(start, start + batch_size)
            solution = _solve(sit, ids[rows], torch.from_numpy(labels[rows]), config, seed)
            out[rows] = sit.card.normalisation.denormalise(solution.state.float().cpu())
            nfe = max(nfe, solution.nfe)
            bar.update(len(solution.state))
    if not out.isfinite().all():
        raise NumericalError(
            "The sampler gave values that are not finite.", "Use more steps or less guidance, or train the SiT longer."
        )
    return Generated(out, nfe)


def _solve(sit: TrainedSiT, ids: np.ndarray, labels: Tensor, config: SamplerConfig, seed: int) -> Solution:
    network, device = sit.network, sit.network.positions.device
    shape = (network.config.in_channels, *network.config.grid)
    dtype = torch.float64 if config.float64_state else torch.float32
    half = torch.float16 if config.mixed_precision == "fp16" else torch.bfloat16

    def evaluate(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(device.type, half, enabled=config.mixed_precision != "no"):
            return network(x, t, y).velocity.float()

    guided = guided_velocity(
        evaluate,
        labels.to(device),
        network.config.null_label,
        config.cfg,
        config.cfg_interval,
        config.cfg_channels,
    )

    def velocity(x: Tensor, t: float) -> Tensor:
        return guided(x.float(), t).to(dtype)

    def noise(*key: int | str) -> Tensor:
        return sample_normal(ids, shape, seed, *key).to(device, dtype)

    x = noise("initial noise")
    if config.method == "euler":
        return euler(velocity, x, time_grid(config.nfe, shift=config.shift))
    if config.method == "heun":
        return heun(velocity, x, time_grid(config.nfe // 2, shift=config.shift))
    if config.method == "dopri5":
        return dopri5(velocity, x, atol=config.atol, rtol=config.rtol)
    if config.method not in SHIPPED:
        problem = Problem(velocity, x, config.nfe, sit.interpolant, lambda step: noise("diffusion noise", step))
        return _outside(config).solve(problem)
    return euler_maruyama(
        velocity,
        x,
        config.sde_times,
        sit.interpolant,
        lambda step: noise("diffusion noise", step),
        config.diffusion,
        config.diffusion_norm,
        config.last_step,
    )


def _outside(config: SamplerConfig) -> Sampler:
    sampler: Sampler = SAMPLERS.get(config.method)(config.options)
    return sampler
