"""The contract test for tokenizers: what the rest of the bench takes for granted, tried on a few images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from vaebench.core.errors import DataError
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec

T = TypeVar("T")

# Agreement asked of two passes that ought to be equal: one batch against another may round differently.
TOLERANCE = 1e-3
# Reconstructions on the [-1, 1] scale overshoot a little; those on [0, 255] are far outside.
LARGEST_VALUE = 5.0


def check_tokenizer(tokenizer: Tokenizer, image_size: int, device: str = "cpu") -> list[str]:
    """Try the Tokenizer contract on four square images of side `image_size` on `device`, where the tokenizer is.

    Returns the problems, none if the contract holds.

    Checked: spec and its stability; posterior's shape (d, f), type, finiteness and std >= 0; determinism; that no
    image's result depends on its batch; images left as they were; decoded shape, type, finiteness, range; the scale
    of reconstructions where they resemble the images; refusal of an image size that f does not divide.
    """
    with torch.inference_mode():
        return _Check(tokenizer, image_size, device).run()


def smooth_images(n: int, size: int) -> Tensor:
    """n random images N x 3 x size x size over all of [-1, 1], smooth so that any tokenizer can follow them."""
    coarse = torch.rand((n, 3, 4, 4), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)


class _Check:
    def __init__(self, tokenizer: Tokenizer, image_size: int, device: str) -> None:
        self.tokenizer = tokenizer
        self.images = smooth_images(4, image_size).to(device)
        self.problems: list[str] = []

    def run(self) -> list[str]:
        spec = self._try("spec", lambda: self.tokenizer.spec)
        if spec is None or not self._spec_holds(spec):
            return self.problems
        posterior = self._encoding(spec)
        if posterior is not None:
            self._decoding(spec, posterior.mean)
        self._refusal(spec)
        return self.problems

    def _try(self, what: str, call: Callable[[], T]) -> T | None:
        # A stranger's code may raise anything; whatever it is, it is the finding.
        try:
            return call()
        except Exception as error:
            self.problems.append(f"{what} raises {type(error).__name__}: {error}")
            return None

    def _expect(self, holds: bool, problem: str) -> bool:
        if not holds:
            self.problems.append(problem)
        return holds

    def _spec_holds(self, spec: TokenizerSpec) -> bool:
        if not self._expect(isinstance(spec, TokenizerSpec), f"spec is a {type(spec).__name__}, not a TokenizerSpec"):
            return False
        self._expect(bool(spec.name), "spec.name is empty")
        self._expect(bool(spec.checkpoint_hash), "spec.checkpoint_hash is empty: see base.weights_hash")
        self._expect(spec == self.tokenizer.spec, "spec changes from one call to the next")
        self._expect(spec.image_range == (-1.0, 1.0), f"spec.image_range is {spec.image_range}, not (-1, 1)")
        if spec.normalisation is not None:
            channels = len(spec.normalisation.shift)
            self._expect(channels == spec.d, f"spec.normalisation has {channels} channels for d={spec.d}")
        size = self.images.shape[-1]
        fits = self._expect(spec.f >= 1 and spec.d >= 1, f"f={spec.f} and d={spec.d} must be positive")
        return fits and self._expect(size % spec.f == 0, f"image size {size} is not divisible by f={spec.f}")

    def _encoding(self, spec: TokenizerSpec) -> Posterior | None:
        before = self.images.clone()
        posterior = self._try("encode", lambda: self.tokenizer.encode(self.images))
        if posterior is None:
            return None
        self._expect(torch.equal(before, self.images), "encode changes the images it is given")
        if not self._expect(
            isinstance(posterior, Posterior), f"encode gives a {type(posterior).__name__}, no Posterior"
        ):
            return None
        side = self.images.shape[-1] // spec.f
        shape = (len(self.images), spec.d, side, side)
        sound = [self._sound(f"posterior {name}", getattr(posterior, name), shape) for name in ("mean", "std")]
        if not all(sound):
            return None
        self._expect(bool((posterior.std >= 0).all()), "posterior std is negative somewhere")
        self._independent("encode", self.images, lambda images: self.tokenizer.encode(images).mean, posterior.mean)
        return posterior

    def _decoding(self, spec: TokenizerSpec, latents: Tensor) -> None:
        decoded = self._try("decode", lambda: self.tokenizer.decode(latents))
        if decoded is None or not self._sound("decoded images", decoded, tuple(self.images.shape)):
            return
        self._independent("decode", latents, self.tokenizer.decode, decoded)
        largest = float(decoded.abs().max())
        if not self._expect(
            largest <= LARGEST_VALUE,
            f"decoded values reach {largest:.3g}: the scale is not that of the images, [-1, 1]",
        ):
            return
        x, y = self.images.flatten(), decoded.flatten()
        if y.std() > 0 and float(torch.corrcoef(torch.stack([x, y]))[0, 1]) > 0.9:
            # It reconstructs; then the best line through (image, reconstruction) must be near the diagonal.
            slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0))
            offset = float(y.mean() - slope * x.mean())
            self._expect(
                abs(slope - 1) < 0.3 and abs(offset) < 0.3,
                f"reconstructions are {slope:.2f} * image {offset:+.2f}: the scale is not that of the images, [-1, 1]",
            )

    def _sound(self, what: str, tensor: Tensor, shape: tuple[int, ...]) -> bool:
        if not self._expect(isinstance(tensor, Tensor), f"{what} is a {type(tensor).__name__}, not a tensor"):
            return False
        fits = self._expect(tuple(tensor.shape) == shape, f"{what} has shape {tuple(tensor.shape)} instead of {shape}")
        typed = self._expect(tensor.dtype == torch.float32, f"{what} is {tensor.dtype} instead of torch.float32")
        return self._expect(bool(tensor.isfinite().all()), f"{what} holds NaN or infinity") and fits and typed

    def _independent(self, what: str, inputs: Tensor, call: Callable[[Tensor], Tensor], first: Tensor) -> None:
        again = self._try(f"a second {what}", lambda: call(inputs))
        if again is None or not self._expect(
            _close(first, again), f"{what} is not deterministic: a second pass differs (dropout or sampling left on?)"
        ):
            return
        alone = self._try(f"{what} of a single image", lambda: call(inputs[1:2]))
        if alone is not None:
            self._expect(
                _close(first[1:2], alone), f"{what} of an image depends on its batch (batch statistics left on?)"
            )

    def _refusal(self, spec: TokenizerSpec) -> None:
        if spec.f == 1:
            return
        size = self.images.shape[-1] + 1
        try:
            self.tokenizer.encode(smooth_images(1, size).to(self.images))
        except DataError:
            return
        except Exception as error:
            outcome = f"raises {type(error).__name__}"
        else:
            outcome = "succeeds"
        self.problems.append(
            f"encode of {size} x {size} images, which f={spec.f} does not divide, {outcome} instead of raising "
            "DataError: call vaebench.tokenizers.base.check_images first"
        )


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return bool((a - b).abs().max() <= TOLERANCE * (1 + a.abs().max()))
