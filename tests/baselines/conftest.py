"""What the tests of rival methods share: images with labels and features, a step's inputs, a few steps of training."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vaebench.core.seeds import torch_generator
from vaebench.tokenizers.base import Posterior, TrainableTokenizer
from vaebench.tokenizers.check import smooth_images
from vaebench.tokenizers.method import Method, StepInputs, TeacherSpec, initialised_by
from vaebench.training import tokenizer_training
from vaebench.training.losses import reconstruction_loss
from vaebench.training.step import make_accelerator
from vaebench.training.tokenizer_training import TokenizerTrainingConfig, train_tokenizer

TEACHER = TeacherSpec("stand-in", 20, (4, 4))


class Pictures:
    """24 smooth images of 32 x 32 in three classes, and teacher features of 4 x 4 patches."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (24, 3, 4, 4), np.uint8).repeat(8, 2).repeat(8, 3)
        self.patches = rng.standard_normal((24, 20, 4, 4)).astype(np.float32)
        self.labels = np.arange(24) % 3

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


class Bench:
    """Trains a method on `Pictures` for a few steps."""

    def __init__(self) -> None:
        self.data = Pictures()

    def train(self, method: Method, folder: Path, **settings: Any) -> TrainableTokenizer:
        defaults = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "log_every": 1, "tensorboard": False}
        config = TokenizerTrainingConfig(**{**defaults, **settings})
        tokenizer = method.build("nano", torch_generator(1, "weights"))
        accelerator = make_accelerator("cpu", config.mixed_precision)
        features, teacher = (lambda rows: self.data.patches[rows], TEACHER) if method.needs_teacher else (None, None)
        return train_tokenizer(method, tokenizer, self.data, features, teacher, config, folder, accelerator)

    def train_in_two_pieces(
        self, make: Callable[[], Method], folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
    ) -> TrainableTokenizer:
        """As `train`, killed after the second step and resumed."""
        run_loop = tokenizer_training.run_loop

        def cut(*arguments: Any) -> Any:
            def on_step(step: int) -> None:
                if step == 2:
                    raise InterruptedError

            return run_loop(*arguments, on_step=on_step)

        monkeypatch.setattr(tokenizer_training, "run_loop", cut)
        with pytest.raises(InterruptedError):
            self.train(make(), folder, checkpoint_every=1, **settings)
        monkeypatch.undo()
        return self.train(make(), folder, checkpoint_every=1, **settings)

    @staticmethod
    def rows(folder: Path) -> list[dict[str, float]]:
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def teacher() -> TeacherSpec:
    return TEACHER


@pytest.fixture
def make_inputs() -> Callable[..., StepInputs]:
    """make_inputs(latents, features, **changes) -> StepInputs; everything not given is zero or absent."""

    def make(latents: torch.Tensor, features: torch.Tensor | None = None, **changes: Any) -> StepInputs:
        n = len(latents)
        images = smooth_images(n, 32)
        inputs = StepInputs(
            images=images,
            posterior=Posterior(latents, torch.zeros_like(latents)),
            latents=latents,
            reconstruction=images,
            features=features,
            labels=None,
            reconstruction_loss=latents.sum(),
            encoder_last_weight=torch.nn.Parameter(torch.zeros(1)),
            decode=lambda latents: images,
            step=0,
            positions=np.arange(n),
            seed=0,
            generator=torch.Generator().manual_seed(0),
        )
        return dataclasses.replace(inputs, **changes)

    return make


class SmallAutoencoder(nn.Module):
    """Patches of 2 x 2 pixels, linearly, to 6 latent channels with a learned spread; learns in a second."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, channels, 2, 2)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2)
        )
        self.log_std = nn.Parameter(torch.full((channels, 1, 1), -2.0))

    def encode(self, images: torch.Tensor) -> Posterior:
        mean = self.encoder(images)
        return Posterior(mean, self.log_std.exp().expand_as(mean))


@pytest.fixture
def fit() -> Callable[..., tuple[SmallAutoencoder, torch.Tensor]]:
    """fit(method, steps) -> (autoencoder, images): full batches, squared error and the method's objective."""

    def run(method: Method, steps: int = 200, reduction: str = "mean") -> tuple[SmallAutoencoder, torch.Tensor]:
        images, generator = smooth_images(64, 16), torch.Generator().manual_seed(0)
        with initialised_by(generator):
            autoencoder = SmallAutoencoder()
        objective = method.objective(6, (8, 8), None, generator)
        learning = [*autoencoder.parameters(), *(objective.parameters() if objective is not None else ())]
        optimizer, positions = torch.optim.Adam(learning, 1e-2), np.arange(len(images))
        for step in range(steps):
            posterior = autoencoder.encode(images)
            latents = posterior.sample(generator)
            seen, wanted = latents, images
            if objective is not None:
                seen, wanted = (
                    objective.to_decode(latents, positions, step),
                    objective.to_compare(images, positions, step),
                )
            reconstruction = autoencoder.decoder(seen)
            total = reconstruction_loss(reconstruction, wanted, "mse", reduction)
            if objective is not None:
                output = objective(
                    StepInputs(
                        images=images,
                        posterior=posterior,
                        latents=latents,
                        reconstruction=reconstruction,
                        features=None,
                        labels=None,
                        reconstruction_loss=total,
                        encoder_last_weight=autoencoder.encoder.weight,
                        decode=autoencoder.decoder,
                        step=step,
                        positions=positions,
                        seed=step,
                        generator=generator,
                    )
                )
                total = total if output is None else total + output.weight * output.loss
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        return autoencoder.requires_grad_(False), images

    return run
