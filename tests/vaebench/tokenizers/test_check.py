import re
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor
from torch.nn import functional

from vaebench.tokenizers.autoencoder import build_autoencoder
from vaebench.tokenizers.base import LatentNormalisation, Posterior, Tokenizer, TokenizerSpec, check_images
from vaebench.tokenizers.check import check_tokenizer, inspect_tokenizer, smooth_images
from vaebench.tokenizers.check_keeping import psnr


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
    ("deterministic", True, "called deterministic and its posterior std is not 0"),
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


def lines(tokenizer: Tokenizer, **options: object) -> dict[str, tuple[str, str]]:
    return {f.line: (f.status, f.problem) for f in inspect_tokenizer(tokenizer, 32, **options)}


def test_every_line_is_told_in_order() -> None:
    found = lines(Sound(), load=Sound)
    assert list(found) == [
        "spec", "shapes", "posterior", "range", "determinism", "batch size", "inputs", "other sizes", "round trip",
        "normalisation", "save and reload", "second load", "devices",
    ]  # fmt: skip
    assert {line for line, (status, _) in found.items() if status != "pass"} == {"save and reload"}
    assert found["spec"][1] == "f4d48, with a posterior"
    assert found["shapes"][1] == "images 3 x 32 x 32, latents 48 x 8 x 8"
    assert found["devices"][1] == "cpu only; no other was tried"


def test_every_problem_of_a_line_says_how_to_mend_it() -> None:
    broken = type("Broken", (Sound,), {"mean": lambda self, z: z - z.mean(0)})()
    found = lines(broken)
    assert found["batch size"][0] == "fail"
    assert "call eval() on the network" in found["batch size"][1]
    assert found["round trip"] == found["devices"] == ("note", "not tried, because of what is wrong above")
    crashed = lines(type("Crashed", (Sound,), {"decode": crash})())
    assert crashed["shapes"][0] == "fail"
    assert crashed["range"] == ("note", "not tried, because of what is wrong above")


def test_psnr_is_that_of_scikit_image() -> None:
    images = smooth_images(3, 32)
    noisy = (images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))) * 1.05
    each = [
        peak_signal_noise_ratio(a, b, data_range=2)
        for a, b in zip(images.numpy(), np.clip(noisy.numpy(), -1, 1), strict=True)
    ]
    assert psnr(images, noisy) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_round_trip_below_the_mean_colour_is_noted() -> None:
    assert "126.02 dB" in lines(Sound())["round trip"][1]
    status, told = lines(build_autoencoder("nano", torch.Generator().manual_seed(0)))["round trip"]
    assert status == "note"
    assert "untrained weights" in told


# Latents are pixels here, of mean -0.3 and standard deviation 0.1 in every channel.
NORMALISATIONS = {
    "right": ((-0.3, 1 / 0.1), "pass", "std 1.0"),
    "inverted": ((-0.3, 0.1), "fail", "scale looks inverted"),
    "without the shift": ((0.0, 1 / 0.1), "fail", "shift is the mean"),
    "of another tokenizer": ((-0.3, 1.0), "fail", "scale 1 / std of this tokenizer"),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisation_is_tried_on_real_images(name: str) -> None:
    (shift, scale), status, told = NORMALISATIONS[name]
    published = LatentNormalisation(shift=(shift,) * 48, scale=(scale,) * 48, source="a file")
    tokenizer = type("Published", (Sound,), {"normalisation": published})()
    images = -0.3 + 0.1 * torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = lines(tokenizer, images=images.clamp(-1, 1))["normalisation"]
    assert found[0] == status
    assert told in found[1]
    drawn = lines(tokenizer)["normalisation"]
    assert drawn[0] != "fail"
    assert "--data NAME" in drawn[1] or drawn[0] == "pass"


class Kept(Sound):
    """A tokenizer with one weight, which says how it is saved and loaded."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = torch.tensor(weight)
        self.checkpoint_hash = str(weight)

    def mean(self, latents: Tensor) -> Tensor:
        return latents * self.weight

    def decode(self, latents: Tensor) -> Tensor:
        return functional.pixel_shuffle(latents / self.weight, 4)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        torch.save(self.weight, folder / "weight.pt")

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(float(torch.load(folder / "weight.pt", weights_only=True)))


def forgets(self: Kept, folder: Path) -> None:
    folder.mkdir()
    torch.save(torch.tensor(0.5), folder / "weight.pt")


def stays(self: Kept, device: str) -> Kept:
    self.weight = self.weight * 1.1
    return self


def test_saving_loading_and_moving() -> None:
    assert {status for status, _ in lines(Kept(1.5), load=lambda: Kept(1.5)).values()} == {"pass"}
    unnamed = lines(type("Unnamed", (Kept,), {"load": Tokenizer.load})())["save and reload"]
    assert unnamed[0] == "fail"
    assert "write the classmethod load(folder)" in unnamed[1]
    lost = lines(type("Forgets", (Kept,), {"save": forgets})())["save and reload"]
    assert lost[0] == "fail"
    assert "checkpoint_hash '1.0' -> '0.5'" in lost[1]
    assert lines(Kept(), load=lambda: Kept(2.0))["second load"][0] == "fail"
    moved = lines(type("Stays", (Kept,), {"to": stays})())["devices"]
    assert moved[0] == "fail"
    assert "differ from those on cpu" in moved[1]
    nothing = lines(type("Nothing", (Kept,), {"to": lambda self, device: None})())["devices"]
    assert "gives a NoneType" in nothing[1]
    assert lines(build_autoencoder("nano", torch.Generator().manual_seed(0)))["save and reload"][0] == "pass"
