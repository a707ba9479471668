"""What the start from frequencies is worth: the `tiny` tokenizer with and without it, after the same steps.

    python tests/benchmarks/tokenizer_start.py [--steps 350,1050,3000]

Trains a plain KL-VAE on the quickstart's data as the quickstart trains, once to each number of steps (the rate falls
over all of them), and prints PSNR, mean absolute error and SSIM of the test images (clamped to [-1, 1]), beside those
of principal components of patches, which have as many numbers an image.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

import vaebench
from vaebench.data import open_data
from vaebench.study.spec import load_study
from vaebench.tokenizers.architecture import PRESETS
from vaebench.vision.transforms import to_signed


def quality(folder: Path, images: torch.Tensor) -> str:
    tokenizer = vaebench.load_tokenizer(folder)
    with torch.inference_mode():
        made = torch.cat([tokenizer.decode(tokenizer.encode(part).mean) for part in images.split(256)]).clamp(-1, 1)
    psnr = -10 * ((made - images) / 2).square().flatten(1).mean(1).log10().mean()
    error, similar = (made - images).abs().mean(), ssim(made, images, data_range=2.0)
    return f"PSNR {psnr:6.2f} dB, error {error:.4f}, SSIM {similar:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default="350,1050,3000")
    steps = [int(part) for part in parser.parse_args().steps.split(",")]
    spec, plain = load_study("quickstart"), PRESETS["tiny"].model_copy(update={"frequency_start": False})
    starts = {"random weights": plain.model_dump(), "frequencies": "tiny"}
    with tempfile.TemporaryDirectory() as root:
        data = vaebench.prepare_data("avatars", options=spec.data["options"])
        test = open_data(data / "data.h5").splits["test"]
        images = to_signed(torch.from_numpy(test.images(range(len(test)))))
        linear = vaebench.train("pca-patches", data, Path(root) / "pca")
        print(f"{'principal components':24s} {quality(linear / 'tokenizer', images)}", flush=True)
        for count in steps:
            for name, network in starts.items():
                began = time.perf_counter()
                training = {**spec.training, "steps": count}
                folder = vaebench.train(
                    "kl-vae", data, Path(root) / f"{name}-{count}", network=network, training=training
                )
                took = time.perf_counter() - began
                print(
                    f"{name + ',':16s}{count:6d}   {quality(folder / 'tokenizer', images)}, {took:4.0f} s", flush=True
                )


if __name__ == "__main__":
    main()
