"""Floating-point operations, counted on the networks themselves by running them without numbers (torch's meta device).

A multiply-add counts as two. Only convolutions and matrix products are counted, as torch's counter does: the rest is
bound by memory, and belongs to what a utilisation below one stands for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vaebench.core.errors import VaebenchError
from vaebench.stages.features import NetworkConfig
from vaebench.tokenizers.architecture import AutoencoderConfig
from vaebench.tokenizers.autoencoder import build_autoencoder
from vaebench.tokenizers.base import Posterior, Tokenizer, TrainableTokenizer
from vaebench.tokenizers.method import Method, StepInputs, TeacherSpec
from vaebench.training.discriminator import PatchDiscriminator
from vaebench.training.losses import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    reconstruction_loss,
)
from vaebench.training.tokenizer_training import TokenizerTrainingConfig
from vaebench.vision import load_network

META = torch.device("meta")
# Two images, since batch normalisation and similarities within a batch want more than one.
BATCH = 2


@dataclass(frozen=True)
class Work:
    """Operations by the precision in which a GPU does them.

    Attributes:
        half: in bfloat16 or float16, on tensor cores.
        convolutions: of float32, for which cuDNN takes TF32 unless told otherwise.
        products: matrix products of float32, for which PyTorch does not take TF32 unless told to.
    """

    half: float = 0.0
    convolutions: float = 0.0
    products: float = 0.0

    @property
    def total(self) -> float:
        """All operations."""
        return self.half + self.convolutions + self.products

    def __add__(self, other: Work) -> Work:
        return Work(self.half + other.half, self.convolutions + other.convolutions, self.products + other.products)

    def __mul__(self, times: float) -> Work:
        return Work(self.half * times, self.convolutions * times, self.products * times)

    def in_half(self) -> Work:
        """The same operations under mixed precision."""
        return Work(half=self.total)


@dataclass(frozen=True)
class NetworkCount:
    """Work of a frozen network for one image, and the shape (D, h, w) of its patches."""

    work: Work
    patches: tuple[int, int, int]


@dataclass(frozen=True)
class CodingCount:
    """Work of encoding and of decoding one image, and the shape (d, h, w) of its latents."""

    encode: Work
    decode: Work
    latent_shape: tuple[int, int, int]


def count(run: Callable[[], object]) -> Work:
    """The operations of what ``run`` does, in float32."""
    with FlopCounterMode(display=False) as counter:
        run()
    counts: Mapping[Any, int] = counter.get_flop_counts().get("Global", {})
    convolutions = sum(flops for op, flops in counts.items() if "convolution" in str(op))
    return Work(convolutions=convolutions, products=counter.get_total_flops() - convolutions)


def count_network(config: NetworkConfig) -> NetworkCount | None:
    """A frozen network by its configuration, without its weights where timm or torchvision builds it; None where it
    cannot be counted, as its weights are not here."""
    if config.name == "timm":
        return _count_timm(config.options)
    if config.name == "inception":
        from torchvision.models import inception_v3

        with META, torch.no_grad():
            network = inception_v3(weights=None, aux_logits=False, init_weights=False).eval()
            return NetworkCount(count(lambda: network(torch.empty(1, 3, 299, 299))), (2048, 1, 1))
    try:
        frozen = load_network(config.name, **config.options)
    except VaebenchError:
        return None
    images = torch.zeros(1, 3, frozen.input_size, frozen.input_size)
    return NetworkCount(count(lambda: frozen(images)), (frozen.patch_channels, *frozen.patch_grid))


def _count_timm(options: Mapping[str, Any]) -> NetworkCount:
    from vaebench.vision.library import timm

    model, size = options["model"], options.get("input_size")
    known = timm.get_pretrained_cfg(model, allow_unregistered=True)
    sized = {"img_size": size} if size is not None and known is not None and known.fixed_input_size else {}
    with META, torch.no_grad():
        network: Any = timm.create_model(model, pretrained=False, num_classes=0, **sized).eval().requires_grad_(False)
        side = size or network.pretrained_cfg["input_size"][-1]
        images = torch.empty(1, 3, side, side)
        (patches,) = network.forward_intermediates(images, indices=1, output_fmt="NCHW", intermediates_only=True)
        work = count(lambda: network(images))
    return NetworkCount(work, tuple(patches.shape[1:]))


def without_weights(method: Method | None, network: AutoencoderConfig, image_size: int) -> TrainableTokenizer:
    """A tokenizer of this architecture, as the method builds it; on the meta device if it can be there."""

    def build() -> TrainableTokenizer:
        generator = torch.Generator()
        return method.build(network, generator) if method is not None else build_autoencoder(network, generator)

    try:
        with META, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pretrained parts, which load nothing here
            tokenizer = build()
        if goes_without_numbers(tokenizer, image_size):
            return tokenizer
    except (RuntimeError, NotImplementedError):  # parts that must have numbers while they are built
        pass
    return build()


def goes_without_numbers(tokenizer: TrainableTokenizer, image_size: int) -> bool:
    """Move a tokenizer to the meta device; whether it can encode there (or is of no more use)."""
    try:
        tokenizer.network.to(META)
        with torch.no_grad():
            tokenizer.network.encode(torch.empty(1, 3, image_size, image_size, device=META))
    except (RuntimeError, NotImplementedError):
        return False
    return True


def count_coding(tokenizer: Tokenizer, image_size: int) -> CodingCount:
    """Encoding and decoding one image; a tokenizer on the meta device is counted there."""
    coder: Any = tokenizer.network if isinstance(tokenizer, TrainableTokenizer) else tokenizer
    device = next(coder.parameters()).device if isinstance(coder, nn.Module) else torch.device("cpu")
    images = torch.zeros(1, 3, image_size, image_size, device=device)
    with torch.no_grad():
        latents = coder.encode(images).mean
        encode, decode = count(lambda: coder.encode(images)), count(lambda: coder.decode(latents))
    return CodingCount(encode, decode, tuple(latents.shape[1:]))


def count_training_step(
    method: Method,
    tokenizer: TrainableTokenizer,
    image_size: int,
    config: TokenizerTrainingConfig,
    teacher: TeacherSpec | None,
) -> tuple[Work, bool]:
    """Work of one image in one step of `vaebench.training.tokenizer_training`: tokenizer, LPIPS, discriminator and the
    method's objective, forward and backward, with every pass that adaptive weights take.

    Under mixed precision the tokenizer alone is in half precision, as the training loop has it; an objective that puts
    a part of itself there too is counted as float32, which is too much rather than too little.

    Args:
        method: whose objective is added.
        tokenizer: with its network on the meta device if it can be there; elsewhere it really runs.
        image_size: side of the images.
        config: of the training.
        teacher: what the objective aligns with, if it does.

    Returns:
        the work, and whether it is all: an objective that looks at numbers cannot be run without them, and then the
        tokenizer's own passes alone are counted.
    """
    step = _Step(method, tokenizer, image_size, config, teacher)
    everything = None
    try:
        everything = count(step.run) * (1 / BATCH)
    except (RuntimeError, NotImplementedError):
        if step.device != META:  # there it has numbers, and something else is wrong
            raise
    if everything is not None and config.mixed_precision == "no":
        return everything, True
    coding = count(step.coding_alone) * (1 / BATCH)
    if everything is None:
        return (coding if config.mixed_precision == "no" else coding.in_half()), False
    rest = Work(
        convolutions=max(everything.convolutions - coding.convolutions, 0.0),
        products=max(everything.products - coding.products, 0.0),
    )
    return coding.in_half() + rest, True


class _Step:
    """The passes of a training step."""

    def __init__(
        self,
        method: Method,
        tokenizer: TrainableTokenizer,
        image_size: int,
        config: TokenizerTrainingConfig,
        teacher: TeacherSpec | None,
    ) -> None:
        self.tokenizer, self.config, self.teacher = tokenizer, config, teacher
        self.device = next(tokenizer.network.parameters()).device
        self.images = torch.zeros(BATCH, 3, image_size, image_size, device=self.device)
        shape = tokenizer.network.encode(self.images).mean.shape
        with self.device:
            self.objective = method.objective(
                shape[1], (shape[2], shape[3]), teacher if method.needs_teacher else None, torch.Generator()
            )
            gan = config.gan
            self.discriminator = PatchDiscriminator(gan.channels, gan.layers, gan.norm) if gan.weight > 0 else None
            self.perceptual = _perceptual(config.perceptual_network) if config.perceptual_weight > 0 else None
        if self.objective is not None:
            self.objective.train()

    def coding_alone(self) -> None:
        network = self.tokenizer.network
        posterior = network.encode(self.images)
        network.decode(posterior.sample(torch.empty_like(posterior.mean))).sum().backward()

    def run(self) -> None:
        network, cfg, objective = self.tokenizer.network, self.config, self.objective
        posterior = network.encode(self.images)
        latents = posterior.sample(torch.empty_like(posterior.mean))
        positions, seen, wanted = np.arange(BATCH), latents, self.images
        if objective is not None:
            seen = objective.to_decode(latents, positions, 0)
            wanted = objective.to_compare(self.images, positions, 0)
        reconstruction = network.decode(seen)
        reference = self._distance(reconstruction, wanted)
        total = reference if self.tokenizer.deterministic else reference + posterior.kl().mean()
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            adversarial = hinge_generator_loss(self.discriminator(reconstruction))
            self.discriminator.requires_grad_(True)
            if cfg.gan.adaptive:
                last = self.tokenizer.decoder_last_weight
                adversarial = adversarial * adaptive_weight(
                    reference, adversarial, last, cfg.gan.weight, cfg.gan.maximum
                )
            total = total + adversarial
        if objective is not None:
            output = objective(self._inputs(posterior, latents, reconstruction, reference, positions))
            if output is not None:
                total = total + output.weight * output.loss
        total.backward()
        if self.discriminator is not None:
            real, fake = self.discriminator(wanted), self.discriminator(reconstruction.detach())
            hinge_discriminator_loss(real, fake).backward()

    def _inputs(
        self, posterior: Posterior, latents: Tensor, reconstruction: Tensor, reference: Tensor, positions: np.ndarray
    ) -> StepInputs:
        teacher = self.teacher
        features = None if teacher is None else torch.zeros(BATCH, teacher.channels, *teacher.grid, device=self.device)
        return StepInputs(
            images=self.images,
            posterior=posterior,
            latents=latents,
            reconstruction=reconstruction,
            features=features,
            labels=torch.zeros(BATCH, dtype=torch.int64, device=self.device),
            reconstruction_loss=reference,
            encoder_last_weight=self.tokenizer.encoder_last_weight,
            decode=self.tokenizer.network.decode,
            step=0,
            positions=positions,
            seed=0,
            generator=torch.Generator(),
            distance=self._distance,
        )

    def _distance(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        error = reconstruction_loss(reconstruction, images, self.config.reconstruction, self.config.reduction)
        if self.perceptual is None:
            return error
        return error + (self.perceptual(reconstruction) - self.perceptual(images)).square().mean()


def _perceptual(network: str) -> nn.Module:
    """LPIPS's backbone, up to the last features that it compares."""
    from torchvision import models

    builds = {"vgg": (models.vgg16, 30), "alex": (models.alexnet, 12), "squeeze": (models.squeezenet1_1, 13)}
    build, layers = builds[network]
    features: nn.Module = build(weights=None).features[:layers]
    return features.requires_grad_(False)
