"""Checks beyond single calls: the round trip, the normalisation on latents, save and reload, a second load, devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from vaebench.tokenizers import TOKENIZERS
from vaebench.tokenizers.base import LatentNormalisation, Tokenizer
from vaebench.tokenizers.diffusers_folder import CONFIG_FILE
from vaebench.tokenizers.findings import Finding

BATCH = 16
# Normalised latents of real images: the median channel's mean and std must lie within these.
LARGEST_MEAN, STD_RANGE = 1.0, (1 / 3, 3.0)
# Two devices round differently, and a GPU may multiply in TF32.
DEVICE_TOLERANCE = 1e-2


def psnr(images: Tensor, reconstructions: Tensor) -> float:
    """Mean over images of 10 log10(4 / MSE) in dB, reconstructions clamped to [-1, 1]: the peak is 2."""
    error = (images - reconstructions.clamp(-1, 1)).square().flatten(1).mean(1).clamp(min=1e-12)
    return float((10 * torch.log10(4 / error)).mean())


def round_trip(tokenizer: Tokenizer, images: Tensor) -> Finding:
    """PSNR of decode(encode(images).mean), beside that of each image's mean colour."""
    parts = [tokenizer.decode(tokenizer.encode(part).mean) for part in images.split(BATCH)]
    value = psnr(images, torch.cat(parts))
    flat = psnr(images, images.mean((2, 3), keepdim=True).expand_as(images))
    told = f"PSNR {value:.2f} dB over {len(images)} images"
    if value > flat:
        return Finding("round trip", "pass", told)
    return Finding(
        "round trip",
        "note",
        f"{told}, below the {flat:.2f} dB of each image's mean colour",
        "as expected of untrained weights; else load the right checkpoint, and check the range of its images",
    )


def normalisation(tokenizer: Tokenizer, images: Tensor, real: bool) -> Finding:
    """Mean and standard deviation of every channel of normalised latents (posterior means), which ought to be 0 and 1.

    Only on real images can they be far off: the statistics were taken over a data set.
    """
    line, published = "normalisation", tokenizer.spec.normalisation
    if published is None:
        return Finding(line, "pass", "publishes none; extraction measures it on the training images")
    latents = torch.cat([tokenizer.encode(part).mean for part in images.split(BATCH)])
    channels = published.normalise(latents).transpose(0, 1).flatten(1)
    mean, std = channels.mean(1).abs().median(), channels.std(1).median()
    told = f"normalised latents have |mean| {mean:.2f} and std {std:.2f} (median channel; from {published.source})"
    near = bool(mean <= LARGEST_MEAN) and STD_RANGE[0] <= float(std) <= STD_RANGE[1]
    if near:
        return Finding(line, "pass", told)
    if not real:
        return Finding(line, "note", f"{told}, on drawn images", "check again on real ones: --data NAME")
    return Finding(line, "fail", told, _mend(published, float(std)))


def _mend(published: LatentNormalisation, std: float) -> str:
    inverse = sum(1 / s for s in published.scale) / sum(published.scale)
    if STD_RANGE[0] <= std * inverse <= STD_RANGE[1]:
        return "scale looks inverted, it is 1 / std"
    return "shift is the mean and scale 1 / std of this tokenizer's raw latents, per channel"


def saving(tokenizer: Tokenizer, images: Tensor) -> Finding:
    """Whether `save` and loading that folder give back the same spec and the same latents to the last bit."""
    line = "save and reload"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tokenizer"
        try:
            tokenizer.save(folder)
        except NotImplementedError:
            return Finding(line, "note", "it has no save; results name it by its reference")
        except Exception as error:  # a stranger's code may raise anything
            return Finding(line, "fail", f"save raises {type(error).__name__}: {error}", "save into the folder given")
        try:
            again = _load_saved(tokenizer, folder)
        except Exception as error:
            return Finding(
                line,
                "fail",
                f"what save wrote does not load: {type(error).__name__}: {error}",
                "write the classmethod load(folder), and put the registered name into spec.method",
            )
        return _same(line, tokenizer, again, images, "save every tensor and setting that encode uses")


def second_load(tokenizer: Tokenizer, images: Tensor, load: Callable[[], Tokenizer]) -> Finding:
    """Whether loading it once more gives the same tokenizer."""
    remedy = "draw initial weights from a generator with a fixed seed, or load them from a file"
    return _same("second load", tokenizer, load(), images, remedy)


def device_moves(tokenizer: Tokenizer, images: Tensor, device: str) -> Finding:
    """Whether `to` keeps the latents: to the CPU and back, or on the CPU alone where that is the only device."""
    line = "devices"
    remedy = "keep weights in an nn.Module, move it in `to`, and return self"
    latents = tokenizer.encode(images).mean
    try:
        moved = tokenizer.to("cpu")
        if not isinstance(moved, Tokenizer):
            return Finding(line, "fail", f"`to` gives a {type(moved).__name__} instead of the tokenizer", remedy)
        on_cpu = moved.encode(images.cpu()).mean
        back = moved.to(device).encode(images).mean
    except Exception as error:
        return Finding(line, "fail", f"after a move, encode raises {type(error).__name__}: {error}", remedy)
    for where, found in (("the cpu", on_cpu), (device, back)):
        gap = float((latents.cpu() - found.cpu()).abs().max() / (1 + latents.abs().max()))
        if not gap <= DEVICE_TOLERANCE:
            return Finding(line, "fail", f"latents on {where} differ from those on {device} by {gap:.2g}", remedy)
    alone = torch.device(device).type == "cpu"
    return Finding(line, "pass", "cpu only; no other was tried" if alone else f"{device} and cpu agree")


def _load_saved(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    from vaebench.tokenizers.loading import load_tokenizer, says_how_to_load

    # A class of one's own that is not installed can be found by its type only.
    registered = tokenizer.spec.method in TOKENIZERS
    if not registered and not (folder / CONFIG_FILE).exists() and says_how_to_load(type(tokenizer)):
        return type(tokenizer).load(folder)
    return load_tokenizer(folder)


def _same(line: str, tokenizer: Tokenizer, again: Tokenizer, images: Tensor, remedy: str) -> Finding:
    again.to(images.device)
    if again.spec != tokenizer.spec:
        before, after = tokenizer.spec.model_dump(), again.spec.model_dump()
        differing = ", ".join(f"{key} {before[key]!r} -> {after[key]!r}" for key in before if before[key] != after[key])
        return Finding(line, "fail", f"its spec is another afterwards ({differing[:200]})", remedy)
    if not torch.equal(tokenizer.encode(images).mean, again.encode(images).mean):
        return Finding(line, "fail", "its latents are others afterwards", remedy)
    return Finding(line, "pass", "same spec, same latents")
