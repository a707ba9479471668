"""Training a tokenizer: reconstruction, KL, perceptual and adversarial losses and the method's own objective.

Minimised is, with losses as in `vaebench.training.losses`,

    R + kl_weight * KL + g(step) * w_gan * G + w_objective * objective,
    R = reconstruction_weight * reconstruction + perceptual_weight * LPIPS

where g ramps the adversarial loss in and w_gan and, for some methods, w_objective adapt to the gradients of R.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, DataError, PluginError
from vaebench.core.seeds import batch_indices, numpy_generator, sample_normal, seed_of, torch_generator
from vaebench.tokenizers.base import Posterior, TrainableTokenizer
from vaebench.tokenizers.method import (
    Images,
    Method,
    Objective,
    ObjectiveOutput,
    StepInputs,
    TeacherSpec,
    initialised_by,
)
from vaebench.training.discriminator import Norm, PatchDiscriminator
from vaebench.training.loop import LoopConfig, run_loop
from vaebench.training.losses import (
    ReconstructionLoss,
    Reduction,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    ramp,
    reconstruction_loss,
)
from vaebench.training.perceptual import PerceptualLoss, PerceptualNetwork
from vaebench.training.prefetch import Prefetch
from vaebench.training.step import check_batch, micro_batches, to_device, update
from vaebench.vision.transforms import to_signed

Features = Callable[[np.ndarray], np.ndarray]


class GanConfig(Config):
    """The adversarial loss; off while ``weight`` is 0.

    Attributes:
        weight: factor of the generator's loss (0.5 in VA-VAE with adaptive weight, 0.1 in REPA-E without).
        discriminator_start: step at which the discriminator begins to learn.
        start, ramp: step at which its verdict begins to count, and over how many steps it rises to full weight. The
            discriminator learning first, and the ramp, are what keeps reconstruction from collapsing there.
        adaptive: scale by the ratio of gradient norms of R and G at the decoder's last convolution, up to ``maximum``.
        learning_rate, betas: of the discriminator's AdamW.
        channels, layers, norm: see `PatchDiscriminator`.
    """

    weight: float = Field(default=0.0, ge=0)
    discriminator_start: int = Field(default=0, ge=0)
    start: int = Field(default=0, ge=0)
    ramp: int = Field(default=0, ge=0)
    adaptive: bool = True
    maximum: float = Field(default=1e4, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.9)
    channels: int = Field(default=64, gt=0)
    layers: int = Field(default=3, gt=0)
    norm: Norm = "batch"


class TokenizerTrainingConfig(LoopConfig):
    """Settings of tokenizer training, beside those of the loop. Nothing scales a learning rate behind one's back.

    Attributes:
        batch_size: the global one, whatever the number of processes and accumulation steps.
        accumulation: parts that a process cuts its share of the batch into, to save memory. Adaptive weights and batch
            norm then see one part at a time.
        learning_rate, betas, weight_decay: of AdamW for the tokenizer and the objective's mapper.
        reconstruction, reduction, reconstruction_weight: see `reconstruction_loss`.
        kl_weight: factor of KL, summed per image and averaged over the batch. A deterministic tokenizer has none.
        perceptual_weight, perceptual_network, perceptual_weights: LPIPS, off at 0, its backbone and a file with the
            backbone's weights (else torchvision's cache). Under reduction "sum" it is multiplied by the elements of an
            image, as VA-VAE does.
        gan: the adversarial loss.
        flip: mirror images at random. Not possible with a teacher, whose features are of the unmirrored images.
    """

    steps: int = Field(default=2500, gt=0)
    batch_size: int = Field(default=64, gt=0)
    accumulation: int = Field(default=1, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    reconstruction: ReconstructionLoss = "l1"
    reduction: Reduction = "mean"
    reconstruction_weight: float = Field(default=1.0, ge=0)
    kl_weight: float = Field(default=1e-6, ge=0)
    perceptual_weight: float = Field(default=0.0, ge=0)
    perceptual_network: PerceptualNetwork = "vgg"
    perceptual_weights: str | None = None
    gan: GanConfig = GanConfig()
    flip: bool = False


@dataclass(frozen=True)
class _Batch:
    images: np.ndarray
    features: np.ndarray | None
    labels: np.ndarray | None
    positions: np.ndarray
    noise: Tensor | None


def train_tokenizer(
    method: Method,
    tokenizer: TrainableTokenizer,
    images: Images,
    features: Features | None,
    teacher: TeacherSpec | None,
    config: TokenizerTrainingConfig,
    folder: Path | str,
    accelerator: Accelerator,
) -> TrainableTokenizer:
    """Train a tokenizer, or go on where an interrupted run in ``folder`` stopped.

    Args:
        method: whose objective is added.
        tokenizer: the initial one; its network is trained in place.
        images: the training split.
        features: the teacher's patch features of rows of that split, (n, D, h, w), any float type; None if the method
            needs none.
        teacher: what those features are.
        config: settings.
        folder: for checkpoints and logs (`vaebench.training.loop`).
        accelerator: from `make_accelerator`.

    Returns:
        The tokenizer with the averaged (EMA) weights, in evaluation mode.

    Raises:
        ConfigError: a teacher is needed and not there, the batch does not divide, or a weight is adaptive under fp16.
        DataError: no images, of a size that f does not divide, or with labels that the objective does not know.
        MissingWeights: LPIPS is asked for and its backbone is not on the disk.
        NumericalError: see `run_loop`.
        PluginError: the objective gives something else than `ObjectiveOutput`.
    """
    check_batch(config.batch_size, accelerator.num_processes, config.accumulation)
    training = _TokenizerTraining(method, tokenizer, images, features, teacher, config, accelerator)
    try:
        averaged = run_loop(training, config, folder, accelerator, f"train {method.name}")
    finally:
        training.batches.close()
    tokenizer.network.load_state_dict(averaged["tokenizer"].state_dict())
    source = f"{config.steps} steps of {method.name}, seed {config.seed}"
    objective = averaged.get("objective", training.objective)
    published = objective.normalisation() if isinstance(objective, Objective) else None
    trained = tokenizer.with_identity(method.name, method.name, source, retrained=True, normalisation=published)
    trained.network.eval()
    return trained


class _TokenizerTraining:
    def __init__(
        self,
        method: Method,
        tokenizer: TrainableTokenizer,
        images: Images,
        features: Features | None,
        teacher: TeacherSpec | None,
        config: TokenizerTrainingConfig,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.accelerator, self.tokenizer = config, accelerator, tokenizer
        self.method = method.name
        self.data = images
        self.features = features if method.needs_teacher else None
        if method.needs_teacher and (features is None or teacher is None):
            raise ConfigError(f"{method.name} needs a teacher's features.", "Choose one by features.network.name.")
        if config.flip and self.features is not None:
            raise ConfigError(f"flip=true does not go with {method.name}, whose teacher saw unmirrored images.")
        if len(images) == 0:
            raise DataError("The training split holds no images.")
        spec, size = tokenizer.spec, images.images(np.zeros(1, np.int64)).shape[-1]
        if size % spec.f:
            raise DataError(f"Images of {size} x {size} do not divide by the tokenizer's f={spec.f}.")
        self.latent_shape = (spec.d, size // spec.f, size // spec.f)
        self.parts = micro_batches(config.batch_size, accelerator, config.accumulation)

        generator = torch_generator(config.seed, "objective")
        objective = method.objective(spec.d, self.latent_shape[1:], teacher, generator)
        device = accelerator.device
        self.network = tokenizer.network.to(device).train()
        self.objective = objective.to(device).train() if objective is not None else None
        self.labels = _labels(images, None if objective is None else objective.classes)
        self.discriminator: PatchDiscriminator | None = None
        if config.gan.weight > 0:
            if config.gan.adaptive:
                _require_range(accelerator, "gan.adaptive=true")
            with initialised_by(torch_generator(config.seed, "discriminator")):
                discriminator = PatchDiscriminator(config.gan.channels, config.gan.layers, config.gan.norm)
            self.discriminator = discriminator.to(device).to(memory_format=torch.channels_last)
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual_weight > 0:
            self.perceptual = PerceptualLoss(config.perceptual_network, config.perceptual_weights).to(device)

        self.modules: dict[str, nn.Module] = {"tokenizer": self.network}
        self.ema_of = ["tokenizer"]
        if self.objective is not None and self.objective.state_dict():
            self.modules["objective"] = self.objective
            self.ema_of += ["objective"] if self.objective.averaged else []
        self.parameters = [p for module in self.modules.values() for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {"tokenizer": self.optimizer}
        if self.discriminator is not None:
            self.modules["discriminator"] = self.discriminator
            self.optimizers["discriminator"] = torch.optim.AdamW(
                self.discriminator.parameters(), lr=config.gan.learning_rate, betas=config.gan.betas, weight_decay=0.0
            )
        self.batches = Prefetch(self._load, config.steps)

    def _load(self, step: int, salt: int) -> list[_Batch]:
        """This process's parts of the batch. Every draw belongs to a row of the global batch, so that the result
        depends on neither the number of processes nor the accumulation."""
        cfg = self.config
        rows = batch_indices(len(self.data), cfg.batch_size, step, cfg.seed, "batches", salt)
        flips = numpy_generator(cfg.seed, "flips", step, salt).random(cfg.batch_size) < 0.5
        positions = step * cfg.batch_size + np.arange(cfg.batch_size)
        batches = []
        for part in self.parts:
            images = self.data.images(rows[part])
            if cfg.flip:
                images = np.where(flips[part, None, None, None], images[..., ::-1], images)
            features = self.features(rows[part]) if self.features is not None else None
            noise = None
            if not self.tokenizer.deterministic:
                noise = sample_normal(positions[part], self.latent_shape, cfg.seed, "posterior noise", salt)
            labels = None if self.labels is None else self.labels[rows[part]]
            batches.append(_Batch(images, features, labels, positions[part], noise))
        return batches

    def train_step(self, step: int, salt: int) -> Mapping[str, Tensor]:
        cfg = self.config
        logs: list[dict[str, Tensor]] = []
        for part, batch in zip(self.parts, self.batches.get(step, salt), strict=True):
            generator = torch_generator(cfg.seed, "objective noise", step, salt, part.start)
            logs.append(self._accumulate(batch, step, seed_of(cfg.seed, "objective", step, salt), generator))
        values = {name: torch.stack([log[name] for log in logs]).mean() for name in logs[0]}
        clip = cfg.gradient_clip
        values["gradient_norm"] = update(self.accelerator, self.optimizer, self.parameters, clip)
        if self._discriminator_learns(step) and self.discriminator is not None:
            values["gradient_norm_discriminator"] = update(
                self.accelerator, self.optimizers["discriminator"], self.discriminator.parameters(), clip
            )
        return values

    def _discriminator_learns(self, step: int) -> bool:
        return self.discriminator is not None and step >= self.config.gan.discriminator_start

    def _accumulate(self, batch: _Batch, step: int, seed: int, generator: torch.Generator) -> dict[str, Tensor]:
        cfg, device, objective = self.config, self.accelerator.device, self.objective
        images = to_signed(to_device(batch.images, device)).contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            posterior = self.network.encode(images)
        # Everything outside the network is float32: losses and gradient norms lose too much in half precision.
        posterior = Posterior(posterior.mean.float(), posterior.std.float())
        latents = posterior.mean if batch.noise is None else posterior.sample(to_device(batch.noise, device))
        seen, wanted = latents, images
        if objective is not None:
            seen = objective.to_decode(latents, batch.positions, seed)
            wanted = objective.to_compare(images, batch.positions, seed)
        reconstruction = self._decode(seen)

        reference, logs = self._distance(reconstruction, wanted)
        total = reference
        if not self.tokenizer.deterministic:
            logs["loss_kl"] = posterior.kl().mean()
            total = total + cfg.kl_weight * logs["loss_kl"]
        if self.discriminator is not None and (share := ramp(step, cfg.gan.start, cfg.gan.ramp)) > 0:
            total = total + share * self._adversarial(reconstruction, reference, logs)
        output: ObjectiveOutput | None = None
        if objective is not None:
            output = objective(
                StepInputs(
                    images=images,
                    posterior=posterior,
                    latents=latents,
                    reconstruction=reconstruction,
                    features=to_device(batch.features, device).float() if batch.features is not None else None,
                    labels=to_device(batch.labels, device) if batch.labels is not None else None,
                    reconstruction_loss=reference,
                    encoder_last_weight=self.tokenizer.encoder_last_weight,
                    decode=self._decode,
                    step=step,
                    positions=batch.positions,
                    seed=seed,
                    generator=generator,
                    autocast=self.accelerator.autocast,
                    distance=lambda decoded, images: self._distance(decoded, images)[0],
                )
            )
        if output is not None:
            if not isinstance(output, ObjectiveOutput):
                raise PluginError(
                    f"The objective of method '{self.method}' gives a {type(output).__name__}.",
                    "Return ObjectiveOutput(loss, weight, logs).",
                )
            total = total + output.weight * output.loss
            logs["loss_objective"] = output.loss
            weight = output.weight
            if isinstance(weight, Tensor):
                _require_range(self.accelerator, "An objective with an adaptive weight")
            else:
                weight = torch.full((), weight, dtype=torch.float32, device=device)
            logs["weight_objective"] = weight
            logs |= output.logs
        self.accelerator.backward(total / cfg.accumulation)
        if self._discriminator_learns(step):
            self._accumulate_discriminator(wanted, reconstruction.detach(), logs)
        return {"loss": total.detach(), **{name: value.detach().float() for name, value in logs.items()}}

    def _distance(self, reconstruction: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """R of the module's docstring, and its terms."""
        cfg = self.config
        error = reconstruction_loss(reconstruction, images, cfg.reconstruction, cfg.reduction)
        logs, distance = {"loss_reconstruction": error}, cfg.reconstruction_weight * error
        if self.perceptual is not None:
            logs["loss_perceptual"] = self.perceptual(reconstruction, images).mean()
            elements = images[0].numel() if cfg.reduction == "sum" else 1
            distance = distance + cfg.perceptual_weight * elements * logs["loss_perceptual"]
        return distance, logs

    def _decode(self, latents: Tensor) -> Tensor:
        with self.accelerator.autocast():
            return self.network.decode(latents).float()

    def _adversarial(self, reconstruction: Tensor, reference: Tensor, logs: dict[str, Tensor]) -> Tensor:
        gan, discriminator = self.config.gan, self.discriminator
        assert discriminator is not None
        discriminator.requires_grad_(False)  # the generator's loss must leave no gradients there
        loss = hinge_generator_loss(discriminator(reconstruction))
        discriminator.requires_grad_(True)
        if gan.adaptive:
            last = self.tokenizer.decoder_last_weight
            weight = adaptive_weight(reference, loss, last, gan.weight, gan.maximum)
        else:
            weight = torch.full((), gan.weight, dtype=torch.float32, device=loss.device)
        logs["loss_gan"], logs["weight_gan"] = loss, weight
        return weight * loss

    def _accumulate_discriminator(self, images: Tensor, reconstruction: Tensor, logs: dict[str, Tensor]) -> None:
        discriminator = self.discriminator
        assert discriminator is not None
        real, fake = discriminator(images), discriminator(reconstruction)
        loss = hinge_discriminator_loss(real, fake)
        self.accelerator.backward(loss / self.config.accumulation)
        logs["loss_discriminator"], logs["logits_real"], logs["logits_fake"] = loss, real.mean(), fake.mean()


def _require_range(accelerator: Accelerator, what: str) -> None:
    """Raise ConfigError under fp16: the gradients of an adaptive weight are unscaled, and underflow there to 0."""
    if accelerator.scaler is not None:
        raise ConfigError(
            f"{what} does not go with mixed_precision=fp16.",
            "Use bf16, which has the range of float32, or a fixed weight.",
        )


def _labels(images: Images, classes: int | None) -> np.ndarray | None:
    """The split's class labels as int64, None without.

    Raises:
        DataError: labels outside [0, classes).
    """
    labels = getattr(images, "labels", None)
    if labels is None:
        return None
    labels = np.asarray(labels, np.int64)
    if classes is not None and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"Labels run from {labels.min()} to {labels.max()}; the objective knows {classes} classes.",
            "Set its number of classes.",
        )
    return labels
