"""Stage ``reconstruct``: what a tokenizer loses by itself, and the reconstructions that gFID is also compared to."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import NumericalError
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator, sample_normal
from vaebench.data import open_data
from vaebench.data.base import ImageSplit
from vaebench.metrics.intervals import bootstrap_mean
from vaebench.metrics.reconstruction.quality import psnr, ssim
from vaebench.stages.arrays import load_array, save_array, save_grid
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.fidelity import COMPANIONS, Reference, fidelity_scores, references
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.checked import Checked
from vaebench.vision.base import FrozenNetwork
from vaebench.vision.transforms import ROUNDING, rounded, to_signed, to_unit


class ReconstructConfig(Config):
    """How reconstructions are made and scored.

    Attributes:
        latent: decode the posterior's mean, or a sample of it.
        batch_size: images at a time.
        bootstrap: resamples behind every interval.
        grid: images in the picture grids.
        seed: of posterior samples and resampling.
    """

    latent: Literal["mean", "sample"] = "mean"
    batch_size: int = Field(64, gt=0)
    bootstrap: int = Field(1000, gt=0)
    grid: int = Field(32, gt=0)
    seed: int = 0


class ReconstructStage(Stage[ReconstructConfig]):
    """Leaves features of reconstructed test and training images (``<split>.npy``; those of companion networks in
    ``companions/<name>``) and two picture grids.

    Inputs: ``tokenizer``, ``data``, ``reference``.
    """

    kind = "reconstruct"
    Config = ReconstructConfig
    parallel = True

    def run(self, config: ReconstructConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        dataset = open_data(require_kind(inputs["data"], ["data"], "data") / "data.h5")
        reference = require_kind(inputs["reference"], ["reference"], "reference")
        device = context.torch_device()
        tokenizer = Checked(load_tokenizer(inputs["tokenizer"], device=device))
        protocol = {
            "data": dataset.info.fingerprint,
            "image_size": dataset.info.image_size,
            "latent": config.latent,
            "rounding": ROUNDING,
        }
        processes = context.processes()
        real = list(references(reference))
        networks = [one.network(device) for one in real]
        scores: list[Score] = []
        for name in ("train", "test"):
            split, rows = dataset.split(name), load_array(reference / f"{name}_rows.npy")
            mine = processes.rows(len(rows), config.batch_size)
            features = [np.empty((len(mine), *network.sizes["pooled"]), np.float32) for network in networks]
            # Of training images only features are kept: all of ImageNet's would not fit into memory.
            size = dataset.info.image_size
            own = np.empty((len(mine) if name == "test" else 0, 3, size, size), np.uint8)
            for places, images in reconstruct(tokenizer, split, rows[mine], config, device, f"reconstruct, {name}"):
                for network, found in zip(networks, features, strict=True):
                    found[places] = _pooled(network, images, device)
                if name == "test":
                    own[places] = images
            distances = []
            for one, found in zip(real, features, strict=True):
                title = f"features of reconstructions, {name}" + (f", {one.label}" if one.label else "")
                joined = processes.join(folder, title, mine, len(rows), pooled=found)
                if processes.main:
                    place = folder / COMPANIONS / one.folder.name if one.label else folder
                    save_array(place / f"{name}.npy", joined["pooled"])
                    distances += _rfid(one, name, joined["pooled"], protocol, config)
            if name == "train":
                continue
            whole = processes.join(folder, name, mine, len(rows), images=own)
            if processes.main:
                images = whole["images"]
                scores += _pixel_scores(split, rows, images, {**protocol, "split": name}, config)
                scores += distances
                save_grid(folder / "originals.png", split.images(rows[: config.grid]), columns=8)
                save_grid(folder / "reconstructions.png", images[: config.grid], columns=8)
        return scores

    def estimate(self, config: ReconstructConfig, facts: Mapping[str, Any]) -> Estimate:
        images = facts["reference_images"]
        return Estimate(flops=images * facts["coding_flops"], seconds=images / 500, disk_bytes=images * 1280 * 4)


def _rfid(
    real: Reference, split: str, features: np.ndarray, protocol: dict[str, Any], config: ReconstructConfig
) -> list[Score]:
    """Fréchet distance of reconstructed test images; those of training images serve gFID alone."""
    moments = real.moments(split) if split == "test" else None
    if moments is None:
        return []
    against = {
        **protocol,
        "network": real.record,
        "reference": real.said(split, "the same test images, not reconstructed", moments=True),
    }
    return fidelity_scores(
        ("fid",), features, moments, against, config.bootstrap, config.seed, {"fid": real.name("rfid")},
        paired=split not in real.source,
    )  # fmt: skip


def reconstruct(
    tokenizer: Checked, split: ImageSplit, rows: np.ndarray, config: ReconstructConfig, device: str, title: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encode and decode the images of these rows, a batch at a time: places among the rows, and uint8 (n, 3, H, W)."""
    with progress(title, len(rows), "images") as bar:
        for start in range(0, len(rows), config.batch_size):
            places = np.arange(start, min(start + config.batch_size, len(rows)))
            yield places, _reconstructed(tokenizer, split, rows[places], config, device)
            bar.update(len(places))


@torch.inference_mode()
def _reconstructed(
    tokenizer: Checked, split: ImageSplit, rows: np.ndarray, config: ReconstructConfig, device: str
) -> np.ndarray:
    # Decoding looks whether what is decoded is finite.
    posterior = tokenizer.encode(to_signed(torch.from_numpy(split.images(rows)).to(device)), finite=False)
    latents = posterior.mean
    if config.latent == "sample":
        shape = tuple(latents.shape[1:])
        latents = posterior.sample(sample_normal(split.ids[rows], shape, config.seed, "reconstruction"))
    return rounded(tokenizer.decode(latents)).cpu().numpy()


@torch.inference_mode()
def _pooled(network: FrozenNetwork, images: np.ndarray, device: str) -> np.ndarray:
    """Features (n, P) of uint8 images.

    Raises:
        NumericalError: a feature is NaN or infinite.
    """
    values = network(to_unit(torch.from_numpy(images).to(device))).pooled.cpu().numpy()
    if not np.isfinite(values).all():
        raise NumericalError(f"{network.name} gives features of reconstructions that are not finite.")
    return values


def _pixel_scores(
    split: ImageSplit, rows: np.ndarray, images: np.ndarray, protocol: dict[str, Any], config: ReconstructConfig
) -> list[Score]:
    """PSNR and SSIM of the images that were made of these rows."""
    scores = []
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        blocks = [slice(start, start + config.batch_size) for start in range(0, len(rows), config.batch_size)]
        per_image = torch.cat(
            [measure(torch.from_numpy(split.images(rows[b])), torch.from_numpy(images[b])) for b in blocks]
        ).numpy()
        generator = numpy_generator(config.seed, "bootstrap", name)
        low, high = bootstrap_mean(per_image, generator, resamples=config.bootstrap)
        scores.append(
            Score(
                metric=name,
                value=float(per_image.mean()),
                low=float(low),
                high=float(high),
                interval="95% bootstrap over images",
                n=len(images),
                seed=config.seed,
                direction="higher",
                protocol=protocol,
            )
        )
    return scores
