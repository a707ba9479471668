import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vaebench.tokenizers.autoencoder import build_autoencoder
from vaebench.tokenizers.base import LatentNormalisation, Posterior, Tokenizer, TokenizerSpec, check_images
from vaebench.tokenizers.check import check_tokenizer, smooth_images


class Sound(Tokenizer):
    """Keeps every pixel; each test breaks one thing."""

    f, d = 4, 48
    normalisation: LatentNormalisation | None = None
    checkpoint_hash = "0"

    @property
    def spec(self) -> TokenizerSpec:
        return TokenizerSpec(
            name="sound",
            method="",
            f=self.f,
            d=self.d,
            normalisation=self.normalisation,
            checkpoint_hash=self.checkpoint_hash,
        )

    def encode(self, images: Tensor) -> Posterior:
        check_images(images, 4)
        mean = self.mean(functional.pixel_unshuffle(images, 4))
        return Posterior(mean, self.std(mean))

    def mean(self, latents: Tensor) -> Tensor:
        return latents

    def std(self, mean: Tensor) -> Tensor:
        return torch.full_like(mean, 0.1)

    def decode(self, latents: Tensor) -> Tensor:
        return functional.pixel_shuffle(latents, 4)


def test_a_sound_tokenizer_has_no_problems() -> None:
    assert check_tokenizer(Sound(), 32) == []


def test_an_untrained_autoencoder_keeps_the_contract() -> None:
    assert check_tokenizer(build_autoencoder("nano", torch.Generator().manual_seed(0)), 32) == []


def flatten(self: Sound, images: Tensor) -> Posterior:
    return Posterior(images.flatten(1), images.flatten(1))


def tuple_posterior(self: Sound, images: Tensor) -> tuple[Tensor, Tensor]:
    return images, images


def in_place(self: Sound, images: Tensor) -> Posterior:
    check_images(images, 4)
    mean = functional.pixel_unshuffle(images.clamp_(-0.5, 0.5), 4)
    return Posterior(mean, torch.zeros_like(mean))


def crash(self: Sound, latents: Tensor) -> Tensor:
    raise RuntimeError("out of ideas")


def unchecked(self: Sound, images: Tensor) -> Posterior:
    side = images.shape[-1] // 4 * 4
    mean = functional.pixel_unshuffle(images[..., :side, :side], 4)
    return Posterior(mean, torch.zeros_like(mean))


BROKEN: list[tuple[str, object, str]] = [
    ("f", 8, r"posterior mean has shape \(4, 48, 8, 8\) instead of \(4, 48, 4, 4\)"),
    ("d", 12, "shape"),
    ("f", 5, "image size 32 is not divisible by f=5"),
    ("f", 0, "must be positive"),
    ("checkpoint_hash", "", "checkpoint_hash is empty"),
    ("checkpoint_hash", property(lambda self: str(torch.rand(()).item())), "spec changes"),
    ("spec", property(lambda self: {"f": 4}), "spec is a dict"),
    ("normalisation", LatentNormalisation(shift=(0, 0), scale=(1, 1), source="x"), "2 channels for d=48"),
    ("encode", flatten, "posterior mean has shape"),
    ("encode", tuple_posterior, "encode gives a tuple"),
    ("encode", in_place, "changes the images"),
    ("encode", unchecked, "33 x 33 images, which f=4 does not divide, succeeds"),
    ("mean", lambda self, z: z + torch.randn_like(z), "encode is not deterministic"),
    ("mean", lambda self, z: z - z.mean(0), "encode of an image depends on its batch"),
    ("mean", lambda self, z: z.double(), "torch.float64 instead of torch.float32"),
    ("mean", lambda self, z: z / 0, "NaN or infinity"),
    ("std", lambda self, z: -torch.ones_like(z), "std is negative"),
    ("decode", crash, "decode raises RuntimeError: out of ideas"),
    ("decode", lambda self, z: functional.pixel_shuffle(z, 4)[..., :-1], "decoded images has shape"),
    ("decode", lambda self, z: functional.pixel_shuffle(z - z.mean(0), 4), "decode of an image depends on its batch"),
    ("decode", lambda self, z: functional.pixel_shuffle(z + torch.rand_like(z), 4), "decode is not deterministic"),
    ("decode", lambda self, z: functional.pixel_shuffle(z * 127.5 + 127.5, 4), "reach 25"),
    ("decode", lambda self, z: functional.pixel_shuffle(z / 2 + 0.5, 4), r"0.50 \* image \+0.50"),
]


@pytest.mark.parametrize(("attribute", "value", "problem"), BROKEN, ids=[case[2] for case in BROKEN])
def test_each_breach_is_found(attribute: str, value: object, problem: str) -> None:
    broken = type("Broken", (Sound,), {attribute: value})()
    problems = check_tokenizer(broken, 32)
    assert any(re.search(problem, found) for found in problems), problems


def test_batch_statistics_left_on_are_found() -> None:
    tokenizer = build_autoencoder("nano", torch.Generator().manual_seed(0))
    autoencoder = tokenizer.network.autoencoder
    autoencoder.encoder.conv_norm_out = torch.nn.BatchNorm2d(16)
    assert any("depends on its batch" in problem for problem in check_tokenizer(tokenizer, 32))


def test_smooth_images_fill_the_range() -> None:
    images = smooth_images(8, 64)
    assert images.shape == (8, 3, 64, 64)
    assert -1 <= images.min() < -0.8
    assert 0.8 < images.max() <= 1
