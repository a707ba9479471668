"""From a checkpoint in latent diffusion's layout, and its file of latent statistics, to a tokenizer.

VA-VAE (hustvl/LightningDiT) and REPA-E publish their autoencoders so. The conversion is free of loss: the same weights
under diffusers' names. Files are read as tensors only; a pickle that holds anything else is refused.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vaebench.core.errors import DataError, MismatchError, MissingPath, VaebenchError
from vaebench.core.files import disk_errors_said, sha256_file
from vaebench.core.pickles import refusal
from vaebench.tokenizers.autoencoder import DiffusersTokenizer
from vaebench.tokenizers.base import LatentNormalisation
from vaebench.tokenizers.ldm import autoencoder_tensors, infer_config, to_diffusers

CHECKPOINTS = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
# Under which a training checkpoint keeps the weights of the autoencoder.
CONTAINERS = ("state_dict", "vae", "model")
# (location, spread, how the spread gives the scale): VA-VAE's latents_stats.pt; BatchNorm; REPA-E's *-latents-stats.pt.
STATISTICS = (
    ("mean", "std", lambda std: 1 / std),
    ("mean", "var", lambda var: var.rsqrt()),
    ("running_mean", "running_var", lambda var: var.rsqrt()),
    ("latents_bias", "latents_scale", lambda scale: scale),
    ("bias", "scale", lambda scale: scale),
)


@dataclass(frozen=True)
class Conversion:
    """A converted tokenizer, and the tensors of the checkpoint that are no part of it."""

    tokenizer: DiffusersTokenizer
    left_out: list[str]


def convert_checkpoint(
    path: Path | str,
    stats: Path | str | None = None,
    name: str = "",
    norm_groups: int = 32,
    leave_out: tuple[str, ...] = (),
) -> Conversion:
    """A tokenizer from a .ckpt, .pt or .safetensors in latent diffusion's layout (see `vaebench.tokenizers.ldm`).

    Args:
        stats: its latent statistics, which become the normalisation in its spec; without them it publishes none.
        name: of the tokenizer; default: of the file.
        norm_groups: groups of every GroupNorm, which the shapes do not tell.
        leave_out: beginnings of the names of tensors that are no part of the autoencoder, beside `ldm.TRAINING_ONLY`.

    Raises:
        MissingPath: no such file. DataError: unreadable, unsafe, or of another architecture; the difference is listed.
        MismatchError: the statistics are of another number of channels.
    """
    path = Path(path)
    state, left_out = autoencoder_tensors(_state_dict(read_tensors(path), str(path)), str(path), leave_out)
    autoencoder = to_diffusers(state, infer_config(state, norm_groups), str(path))
    source = f"checkpoint {path.name} (SHA-256 {sha256_file(path)[:16]})"
    d = int(autoencoder.config["latent_channels"])
    normalisation = read_statistics(stats, d, str(path)) if stats is not None else None
    return Conversion(
        DiffusersTokenizer(autoencoder, name or path.stem, source=source, normalisation=normalisation), left_out
    )


def refuse_existing(folder: Path) -> None:
    """Raise VaebenchError if the folder exists, before anything is read."""
    if folder.exists():
        raise VaebenchError(f"'{folder}' exists already.", "Choose another --output-dir, or remove it.")


def save_new(tokenizer: DiffusersTokenizer, folder: Path) -> None:
    """Save into a folder that appears whole or not at all, and read it back to see that it is the same."""
    refuse_existing(folder)
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    with disk_errors_said(folder.parent):
        tokenizer.save(partial)
        DiffusersTokenizer.from_folder(partial)  # compares the weights with the hash in the spec
        partial.rename(folder)


def read_statistics(path: Path | str, d: int, tokenizer: str) -> LatentNormalisation:
    """The normalisation that a file of latent statistics gives to the `d` latent channels of `tokenizer`.

    Known are mean and std or var (VA-VAE), a BatchNorm's running_mean and running_var (z' = (z - mean) / sqrt(var),
    without its eps, as in REPA-E), and REPA-E's latents_bias and latents_scale = 1 / std. Shapes: (d,), (1, d, 1, 1).

    Raises:
        MismatchError: another number of channels. DataError: none of these, or one value per position.
    """
    path = Path(path).expanduser()
    found = read_tensors(path)
    found = found.get("ema", found)  # a training checkpoint of REPA-E: the BatchNorm is the diffusion model's
    values = {
        key.removeprefix("module.").removeprefix("bn."): value for key, value in found.items() if _is_tensor(value)
    }
    known = [form for form in STATISTICS if form[0] in values and form[1] in values]
    if not known:
        raise DataError(
            f"{path} holds no latent statistics; its keys are {', '.join(map(str, list(found)[:6]))}.",
            "Known are mean with std or var, running_mean with running_var, and latents_bias with latents_scale.",
        )
    location, spread, to_scale = known[0]
    shift, scale = values[location].double(), to_scale(values[spread].double())
    for key, value in ((location, shift), (spread, scale)):
        channels = value.shape[1] if value.ndim == 4 else value.shape[0] if value.ndim else 1
        if value.numel() != channels:
            raise DataError(
                f"'{key}' of {path} has shape {tuple(value.shape)}, one value per position; a normalisation has one "
                "per channel.",
                "Average over positions, mean and variance, and save that.",
            )
        if channels != d:
            raise MismatchError(
                f"{path} has latent statistics of {channels} channels ('{key}'), and {tokenizer} has latents of {d}.",
                "Take the statistics that were published with this checkpoint.",
            )
    try:
        return LatentNormalisation(
            shift=tuple(shift.flatten().tolist()), scale=tuple(scale.flatten().tolist()), source=f"{path.name}"
        )
    except ValueError as error:
        raise DataError(f"The latent statistics of {path} cannot be used: {error}.") from error


def read_tensors(path: Path) -> dict[str, Any]:
    """A file's dictionary, read without running anything in it: safetensors, or torch with `weights_only=True`.

    Raises:
        MissingPath, or DataError: not readable, a pickle of more than tensors, or no dictionary.
    """
    if not path.is_file():
        raise MissingPath(f"The file '{path}' does not exist.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(*refusal(path, error)) from error
    except Exception as error:  # torch and safetensors meet damage with errors of many kinds
        raise DataError(
            f"{path} is no readable file of weights: {str(error).partition(chr(10))[0]}", "Download it again."
        ) from error
    if not isinstance(found, Mapping):
        raise DataError(f"{path} holds a {type(found).__name__}, not a dictionary of tensors.")
    return dict(found)


def _state_dict(found: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The dictionary of tensors in what a file holds: itself, or what `CONTAINERS` names in it."""
    for name in CONTAINERS:
        if isinstance(found.get(name), Mapping):
            return _state_dict(found[name], source)
    tensors = {key: value for key, value in found.items() if _is_tensor(value)}
    if not tensors:
        raise DataError(
            f"{source} holds no tensors at its top nor under {', '.join(CONTAINERS)}; it holds "
            f"{', '.join(list(found)[:6])}.",
            "Save the state dictionary of the autoencoder alone.",
        )
    return tensors


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
