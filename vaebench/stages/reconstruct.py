"""Stage ``reconstruct``: what a tokenizer loses by itself, and the reconstructions that gFID is also compared to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vaebench.core.config import Config
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator, sample_normal
from vaebench.data import open_data
from vaebench.data.base import ImageSplit
from vaebench.metrics.intervals import bootstrap_mean
from vaebench.metrics.reconstruction.quality import psnr, ssim
from vaebench.stages.arrays import load_array, save_array, save_grid
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.fidelity import COMPANIONS, Reference, fidelity_scores, references, shared_features
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.base import Tokenizer
from vaebench.vision.transforms import ROUNDING, to_signed, to_uint8


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
    batch_size: int = 64
    bootstrap: int = 1000
    grid: int = 32
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
        tokenizer = load_tokenizer(inputs["tokenizer"], device=device)
        protocol = {
            "data": dataset.info.fingerprint,
            "image_size": dataset.info.image_size,
            "latent": config.latent,
            "rounding": ROUNDING,
        }
        processes = context.processes()
        scores: list[Score] = []
        for name in ("train", "test"):
            split, rows = dataset.split(name), load_array(reference / f"{name}_rows.npy")
            mine = processes.rows(len(rows), config.batch_size)
            own = reconstruct(tokenizer, split, rows[mine], config, device, f"reconstruct, {name}")
            distances = []
            for real in references(reference):
                title = f"features of reconstructions, {name}" + (f", {real.label}" if real.label else "")
                found = shared_features(
                    real.network(device), own.__getitem__, mine, len(rows), ("pooled",), config.batch_size, title,
                    folder, processes,
                )  # fmt: skip
                if processes.main:
                    place = folder / COMPANIONS / real.folder.name if real.label else folder
                    save_array(place / f"{name}.npy", found["pooled"])
                    distances += _rfid(real, name, found["pooled"], protocol, config)
            images = processes.join(folder, name, mine, len(rows), images=own)
            if not processes.main or name != "test":
                continue
            originals = split.images(rows)
            scores += _pixel_scores(originals, images["images"], {**protocol, "split": name}, config)
            scores += distances
            save_grid(folder / "originals.png", originals[: config.grid], columns=8)
            save_grid(folder / "reconstructions.png", images["images"][: config.grid], columns=8)
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
    options = config.bootstrap, config.seed
    return fidelity_scores(("fid",), features, moments, against, *options, {"fid": real.name("rfid")})


@torch.inference_mode()
def reconstruct(
    tokenizer: Tokenizer, split: ImageSplit, rows: np.ndarray, config: ReconstructConfig, device: str, title: str
) -> np.ndarray:
    """Encode and decode the images of these rows; uint8 (n, 3, H, W)."""
    parts = []
    with progress(title, len(rows), "images") as bar:
        for start in range(0, len(rows), config.batch_size):
            part = rows[start : start + config.batch_size]
            posterior = tokenizer.encode(to_signed(torch.from_numpy(split.images(part)).to(device)))
            latents = posterior.mean
            if config.latent == "sample":
                shape = tuple(latents.shape[1:])
                latents = posterior.sample(sample_normal(split.ids[part], shape, config.seed, "reconstruction"))
            parts.append(to_uint8(tokenizer.decode(latents)).cpu().numpy())
            bar.update(len(part))
    return np.concatenate(parts) if parts else split.images(slice(0, 0))


def _pixel_scores(
    originals: np.ndarray, images: np.ndarray, protocol: dict[str, Any], config: ReconstructConfig
) -> list[Score]:
    scores = []
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        pairs = zip(_blocks(originals, config.batch_size), _blocks(images, config.batch_size), strict=True)
        per_image = torch.cat([measure(*pair) for pair in pairs]).numpy()
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


def _blocks(images: np.ndarray, size: int) -> tuple[torch.Tensor, ...]:
    return torch.from_numpy(images).split(size)
