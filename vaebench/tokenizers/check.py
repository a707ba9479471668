"""The contract test for tokenizers: what the rest of the bench takes for granted, tried on a few images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from vaebench.core.errors import DataError
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec
from vaebench.tokenizers.check_keeping import device_moves, normalisation, round_trip, saving, second_load
from vaebench.tokenizers.findings import Finding, Findings

T = TypeVar("T")

# Agreement asked of two passes that ought to be equal: one batch against another may round differently.
TOLERANCE = 1e-3
# Reconstructions on the [-1, 1] scale overshoot a little; those on [0, 255] are far outside.
LARGEST_VALUE = 5.0
LATER = ("round trip", "normalisation", "save and reload", "second load", "devices")
LINES = ("spec", "shapes", "posterior", "range", "determinism", "batch size", "inputs", "other sizes")


def check_tokenizer(tokenizer: Tokenizer, image_size: int, device: str = "cpu") -> list[str]:
    """The problems that `inspect_tokenizer` finds, none if the contract holds."""
    findings = inspect_tokenizer(tokenizer, image_size, device)
    return [finding.problem for finding in findings if finding.status == "fail"]


def inspect_tokenizer(
    tokenizer: Tokenizer,
    image_size: int,
    device: str = "cpu",
    images: Tensor | None = None,
    load: Callable[[], Tokenizer] | None = None,
) -> list[Finding]:
    """Try the Tokenizer contract on four smooth square images of side `image_size` on `device`, where the tokenizer is.

    Checked: spec and its stability; posterior's shape (d, f), type, finiteness and std >= 0; determinism; that no
    image's result depends on its batch; images left as they were; decoded shape, type, finiteness, range; the scale of
    reconstructions where they resemble the images; refusal of an image size that f does not divide; PSNR of the round
    trip; the published normalisation on latents; save and reload; moves between devices.

    Args:
        images: real images N x 3 x H x W in [-1, 1] for PSNR and normalisation, instead of the smooth ones, on which
            the statistics of latents say little.
        load: loads the tokenizer afresh, to see whether a second load gives the same one.
    """
    few = smooth_images(4, image_size).to(device)
    with torch.inference_mode():
        findings = _Contract(tokenizer, few).run()
    if any(finding.status == "fail" for finding in findings):
        untried = [line for line in LATER if load is not None or line != "second load"]
        return findings + [Finding(line, "note", "not tried, because of what is wrong above") for line in untried]
    shown = few if images is None else images.to(device)
    with torch.no_grad():  # weights that are moved in inference mode could not be trained afterwards
        findings.append(round_trip(tokenizer, shown))
        findings.append(normalisation(tokenizer, shown, real=images is not None))
        findings.append(saving(tokenizer, few))
        if load is not None:
            findings.append(second_load(tokenizer, few, load))
        findings.append(device_moves(tokenizer, few, device))
    return findings


def smooth_images(n: int, size: int) -> Tensor:
    """n random images N x 3 x size x size over all of [-1, 1], smooth so that any tokenizer can follow them."""
    coarse = torch.rand((n, 3, 4, 4), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)


class _Contract:
    def __init__(self, tokenizer: Tokenizer, images: Tensor) -> None:
        self.tokenizer, self.images = tokenizer, images
        self.findings = Findings(LINES)
        self.expect = self.findings.expect

    def run(self) -> list[Finding]:
        spec = self._try("spec", "spec", lambda: self.tokenizer.spec)
        if spec is not None and self._spec_holds(spec):
            posterior = self._encoding(spec)
            if posterior is not None:
                self._decoding(spec, posterior.mean)
            self._refusal(spec)
        return self.findings.all()

    def _try(self, line: str, what: str, call: Callable[[], T]) -> T | None:
        # A stranger's code may raise anything; whatever it is, it is the finding.
        try:
            return call()
        except Exception as error:
            self.expect(line, False, f"{what} raises {type(error).__name__}: {error}")
            return None

    def _spec_holds(self, spec: TokenizerSpec) -> bool:
        if not self.expect(
            "spec", isinstance(spec, TokenizerSpec), f"spec is a {type(spec).__name__}, not a TokenizerSpec"
        ):
            return False
        self.expect("spec", bool(spec.name), "spec.name is empty", "name it")
        self.expect("spec", bool(spec.checkpoint_hash), "spec.checkpoint_hash is empty", "see base.weights_hash")
        self.expect(
            "spec", spec == self.tokenizer.spec, "spec changes from one call to the next", "compute it from the weights"
        )
        self.expect(
            "spec",
            spec.image_range == (-1.0, 1.0),
            f"spec.image_range is {spec.image_range}, not (-1, 1)",
            "convert to the range of your network inside encode and decode",
        )
        if spec.normalisation is not None:
            channels = len(spec.normalisation.shift)
            self.expect(
                "spec",
                channels == spec.d,
                f"spec.normalisation has {channels} channels for d={spec.d}",
                "give one shift and scale per latent channel",
            )
        size = self.images.shape[-1]
        fits = self.expect("spec", spec.f >= 1 and spec.d >= 1, f"f={spec.f} and d={spec.d} must be positive")
        kind = "deterministic" if self.tokenizer.deterministic else "with a posterior"
        self.findings.tell("spec", f"f{spec.f}d{spec.d}, {kind}")
        return fits and self.expect(
            "spec",
            size % spec.f == 0,
            f"image size {size} is not divisible by f={spec.f}",
            "correct f in the spec, or check with images of another size",
        )

    def _encoding(self, spec: TokenizerSpec) -> Posterior | None:
        before = self.images.clone()
        posterior = self._try("shapes", "encode", lambda: self.tokenizer.encode(self.images))
        if posterior is None:
            return None
        self.expect(
            "inputs",
            torch.equal(before, self.images),
            "encode changes the images it is given",
            "write no result into its argument (x.add_, x.clamp_)",
        )
        if not self.expect(
            "shapes",
            isinstance(posterior, Posterior),
            f"encode gives a {type(posterior).__name__}, no Posterior",
            "return Posterior(mean, std)",
        ):
            return None
        side = self.images.shape[-1] // spec.f
        shape = (len(self.images), spec.d, side, side)
        remedy = "spec.f and spec.d say what encode gives: N x d x H/f x W/f, in float32"
        sound = [
            self._sound("posterior", f"posterior {name}", getattr(posterior, name), shape, remedy)
            for name in ("mean", "std")
        ]
        if not all(sound):
            return None
        self.expect(
            "posterior",
            bool((posterior.std >= 0).all()),
            "posterior std is negative somewhere",
            "give the standard deviation, exp(logvar / 2)",
        )
        if self.tokenizer.deterministic:
            self.expect(
                "posterior", not posterior.std.any(), "it is called deterministic and its posterior std is not 0"
            )
        mean, std = posterior.mean, posterior.std
        self.findings.tell("posterior", f"mean {mean.mean():.3g} +- {mean.std():.3g}, std {std.mean():.3g} on average")
        self._independent("encode", self.images, lambda images: self.tokenizer.encode(images).mean, posterior.mean)
        return posterior

    def _decoding(self, spec: TokenizerSpec, latents: Tensor) -> None:
        decoded = self._try("shapes", "decode", lambda: self.tokenizer.decode(latents))
        shape = tuple(self.images.shape)
        remedy = "decode gives images N x 3 x h*f x w*f, in float32"
        if decoded is None or not self._sound("range", "decoded images", decoded, shape, remedy):
            return
        sides = [str(s) for s in (shape[-1], latents.shape[1], latents.shape[-1])]
        self.findings.tell(
            "shapes", f"images 3 x {sides[0]} x {sides[0]}, latents {' x '.join([*sides[1:], sides[2]])}"
        )
        self._independent("decode", latents, self.tokenizer.decode, decoded)
        self._scale(decoded)

    def _scale(self, decoded: Tensor) -> None:
        remedy = "convert to [-1, 1] at the end of decode"
        largest = float(decoded.abs().max())
        if not self.expect(
            "range",
            largest <= LARGEST_VALUE,
            f"decoded values reach {largest:.3g}, so the scale is not that of the images, [-1, 1]",
            remedy,
        ):
            return
        self.findings.tell("range", f"decoded values from {decoded.min():.3g} to {decoded.max():.3g}")
        x, y = self.images.flatten(), decoded.flatten()
        if y.std() > 0 and float(torch.corrcoef(torch.stack([x, y]))[0, 1]) > 0.9:
            # It reconstructs; then the best line through (image, reconstruction) must be near the diagonal.
            slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0))
            offset = float(y.mean() - slope * x.mean())
            self.expect(
                "range",
                abs(slope - 1) < 0.3 and abs(offset) < 0.3,
                f"reconstructions are {slope:.2f} * image {offset:+.2f}, so the scale is not that of the images",
                remedy,
            )

    def _sound(self, line: str, what: str, tensor: Tensor, shape: tuple[int, ...], remedy: str) -> bool:
        """Whether it is a finite float32 tensor of this shape; `line` is where NaN is told, the rest under shapes."""
        if not self.expect(
            "shapes", isinstance(tensor, Tensor), f"{what} is a {type(tensor).__name__}, not a tensor", remedy
        ):
            return False
        given = tuple(tensor.shape)
        fits = self.expect("shapes", given == shape, f"{what} has shape {given} instead of {shape}", remedy)
        single = tensor.dtype == torch.float32
        typed = self.expect("shapes", single, f"{what} is {tensor.dtype} instead of torch.float32", remedy)
        finite = bool(tensor.isfinite().all())
        return (
            self.expect(line, finite, f"{what} holds NaN or infinity", "run the network in float32") and fits and typed
        )

    def _independent(self, what: str, inputs: Tensor, call: Callable[[Tensor], Tensor], first: Tensor) -> None:
        again = self._try("determinism", f"a second {what}", lambda: call(inputs))
        if again is None or not self.expect(
            "determinism",
            _close(first, again),
            f"{what} is not deterministic, a second pass differs",
            "call eval() on the network, and give the posterior's mean and std instead of a sample",
        ):
            return
        alone = self._try("batch size", f"{what} of a single image", lambda: call(inputs[1:2]))
        if alone is not None:
            self.expect(
                "batch size",
                _close(first[1:2], alone),
                f"{what} of an image depends on its batch",
                "call eval() on the network (batch statistics left on?) and normalise no batch",
            )

    def _refusal(self, spec: TokenizerSpec) -> None:
        if spec.f == 1:
            self.findings.tell("other sizes", "f=1 divides every size")
            return
        size = self.images.shape[-1] + 1
        try:
            self.tokenizer.encode(smooth_images(1, size).to(self.images))
        except DataError:
            self.findings.tell("other sizes", f"{size} x {size} is refused")
            return
        except Exception as error:
            outcome = f"raises {type(error).__name__}"
        else:
            outcome = "succeeds"
        self.expect(
            "other sizes",
            False,
            f"encode of {size} x {size} images, which f={spec.f} does not divide, {outcome} instead of raising "
            "DataError",
            "call vaebench.tokenizers.base.check_images first",
        )


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return bool((a - b).abs().max() <= TOLERANCE * (1 + a.abs().max()))
