"""Controls: latents that nobody trained, to compare every score with.

Each cuts the image into f x f patches and describes a patch by d numbers, a linear map with orthonormal columns and its
transpose as decoder. There is no posterior: std = 0.

    pixels             all 3 f^2 values of the patch, without loss
    dct                the d lowest frequencies of the patch's DCT-II along three orthonormal colour axes: grey, and a
                       blue and a red one across it
    random-projection  d random orthonormal directions
    pca-patches        the d leading principal components of patches of the training images: the best linear map
    random             a convolutional encoder and decoder with random weights

`pixels`, `dct`, `random-projection` and `random` are ready-made: name them with their options, as in
"dct?f=16&d=32". `pca-patches` is a method: it is fitted to training images, without gradient steps.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from scipy import fft
from torch import Tensor
from torch.nn import functional

from vaebench.core.config import Config, build
from vaebench.core.errors import ConfigError, DataError, TooFewSamples
from vaebench.core.files import read_json, write_json
from vaebench.core.seeds import numpy_generator, torch_generator
from vaebench.metrics.fidelity.statistics import RunningStatistics
from vaebench.tokenizers.autoencoder import SPEC_FILE, DiffusersTokenizer, build_autoencoder, resolve_preset
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec, check_images, weights_hash
from vaebench.tokenizers.method import FittedMethod, Images
from vaebench.vision.transforms import to_signed

WEIGHTS_FILE = "patches.safetensors"
# Orthonormal RGB -> luma-like, blue-like, red-like: the grey axis, and two axes across it.
COLOURS = np.array([[1, 1, 1], [-1, -1, 2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])


class PatchTokenizer(Tokenizer):
    """z = B^T (patch - mean) and patch = B z + mean, for patches of 3 f^2 values and B (3 f^2, d) with B^T B = 1."""

    deterministic = True

    def __init__(self, name: str, f: int, basis: np.ndarray, mean: np.ndarray | None = None, source: str = "") -> None:
        if basis.shape[0] != 3 * f**2:
            raise DataError(f"A basis of {basis.shape[0]} values is not one of patches of {f} x {f}.")
        self.name, self.f, self.source = name, f, source
        self.basis = torch.from_numpy(np.ascontiguousarray(basis, np.float32))
        self.mean = torch.zeros(3 * f**2) if mean is None else torch.from_numpy(np.asarray(mean, np.float32))

    @property
    def spec(self) -> TokenizerSpec:
        tensors = {"basis": self.basis.cpu(), "mean": self.mean.cpu()}
        return TokenizerSpec(
            name=self.name, method=self.name, f=self.f, d=self.basis.shape[1], source=self.source,
            checkpoint_hash=weights_hash(tensors),
        )  # fmt: skip

    def encode(self, images: Tensor) -> Posterior:
        check_images(images, self.f)
        patches = functional.pixel_unshuffle(images.float(), self.f) - self.mean[:, None, None]
        mean = torch.einsum("nphw,pd->ndhw", patches, self.basis).contiguous()
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents: Tensor) -> Tensor:
        if latents.ndim != 4 or latents.shape[1] != self.basis.shape[1]:
            raise DataError(
                f"{self.name} decodes latents N x {self.basis.shape[1]} x h x w, not {tuple(latents.shape)}."
            )
        patches = torch.einsum("ndhw,pd->nphw", latents.float(), self.basis) + self.mean[:, None, None]
        return functional.pixel_shuffle(patches, self.f)

    def to(self, device: str | torch.device) -> Self:
        self.basis, self.mean = self.basis.to(device), self.mean.to(device)
        return self

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"basis": self.basis.cpu().contiguous(), "mean": self.mean.cpu()}, folder / WEIGHTS_FILE)
        write_json(folder / SPEC_FILE, self.spec.model_dump(mode="json"))

    @classmethod
    def from_folder(cls, folder: Path) -> "PatchTokenizer":
        """The tokenizer that `save` wrote.

        Raises:
            DataError: the weights are not those of the spec.
        """
        spec = build(TokenizerSpec, read_json(folder / SPEC_FILE), str(folder / SPEC_FILE))
        tensors = load_file(folder / WEIGHTS_FILE)
        found = PatchTokenizer(spec.name, spec.f, tensors["basis"].numpy(), tensors["mean"].numpy(), spec.source)
        if found.spec != spec:
            raise DataError(f"The weights in {folder} are not those that its {SPEC_FILE} was written for.")
        return found

    @classmethod
    def load(cls, folder: Path) -> "PatchTokenizer":
        return PatchTokenizer.from_folder(folder)


def _check(f: int, d: int) -> None:
    if not (isinstance(f, int) and isinstance(d, int)):
        raise ConfigError(f"f and d are whole numbers, not {f!r} and {d!r}.")
    if f < 1 or not 1 <= d <= 3 * f**2:
        raise ConfigError(f"Patches of {f} x {f} have between 1 and {3 * f**2} numbers, not {d}.")


class Pixels(PatchTokenizer):
    """The patch itself: d = 3 f^2, no loss."""

    def __init__(self, f: int = 16) -> None:
        _check(f, 1)
        super().__init__("pixels", f, np.eye(3 * f**2), source=f"space to depth by {f}")


class DCT(PatchTokenizer):
    """The d lowest frequencies of a patch: ordered by u + v, then by colour axis (grey first), then by u."""

    def __init__(self, f: int = 16, d: int = 32) -> None:
        _check(f, d)
        waves = fft.idctn(np.eye(f * f).reshape(f * f, f, f), axes=(1, 2), norm="ortho")
        order = sorted((u + v, c, u, v) for u in range(f) for v in range(f) for c in range(3))[:d]
        # pixel_unshuffle puts the colours first, then rows and columns within the patch
        columns = [np.einsum("c,yx->cyx", COLOURS[c], waves[u * f + v]).ravel() for _, c, u, v in order]
        super().__init__("dct", f, np.stack(columns, 1), source=f"{d} lowest frequencies of {f} x {f} patches")


class RandomProjection(PatchTokenizer):
    """d random orthonormal directions of a patch."""

    def __init__(self, f: int = 16, d: int = 32, seed: int = 0) -> None:
        _check(f, d)
        basis, _ = np.linalg.qr(numpy_generator(seed, "random projection").standard_normal((3 * f**2, d)))
        super().__init__("random-projection", f, basis, source=f"random orthonormal projection, seed {seed}")


class RandomNetwork(DiffusersTokenizer):
    """A convolutional autoencoder whose weights are random: nothing was learned."""

    def __init__(self, preset: str = "tiny", seed: int = 0) -> None:
        drawn = resolve_preset(preset).model_copy(update={"frequency_start": False})
        made = build_autoencoder(drawn, torch_generator(seed, "random encoder"))
        super().__init__(made.network.autoencoder, "random", source=f"random weights of '{preset}', seed {seed}")
        self.network.eval()


class PCAConfig(Config):
    """Settings of `PCAPatches`: patch side ``f``, components ``d``, and ``images`` to fit on at most."""

    f: int = Field(16, ge=1)
    d: int = Field(32, ge=1)
    images: int = Field(20_000, ge=1)


class PCAPatches(FittedMethod):
    """Principal components of patches."""

    name = "pca-patches"
    summary = "principal components of image patches, fitted without gradient steps (a control)"
    Config = PCAConfig
    config: Any

    def fit(self, images: Images, seed: int) -> PatchTokenizer:
        """The d directions in which patches of the training images vary most; ``seed`` draws the images if not all."""
        f, d = self.config.f, self.config.d
        _check(f, d)
        count = min(len(images), self.config.images)
        rows = np.sort(numpy_generator(seed, "pca patches").permutation(len(images))[:count])
        running = RunningStatistics(3 * f**2)
        for part in np.array_split(rows, count // 256 + 1):
            signed = to_signed(torch.from_numpy(images.images(part)))
            check_images(signed, f)
            patches = functional.pixel_unshuffle(signed, f)
            running.update(patches.permute(0, 2, 3, 1).reshape(-1, 3 * f**2).numpy())
        if running.n <= d:
            raise TooFewSamples(f"{running.n} patches do not give {d} components.")
        moments = running.result()
        values, vectors = np.linalg.eigh(moments.covariance)
        basis = vectors[:, ::-1][:, :d]
        basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(d)])
        share = values[::-1][:d].sum() / values.sum()
        source = f"{d} components of {running.n} patches, {100 * share:.1f}% of their variance"
        return PatchTokenizer(self.name, f, basis, moments.mean, source)

    @classmethod
    def load(cls, folder: Path) -> PatchTokenizer:  # type: ignore[override]
        return PatchTokenizer.from_folder(folder)
