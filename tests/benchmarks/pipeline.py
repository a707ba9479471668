"""Where a study's time goes: each of its real stages against a straightforward version, in one run.

    python tests/benchmarks/pipeline.py [--study avatars-claim] [--repeats 5]

The networks, batch sizes and image sizes are those of the study. Straightforward means: the same networks of diffusers
and timm in the usual memory format, one optimiser operation per tensor (AdamW's and EMA's loops), the SiT block written
plainly (`sit_step.py`), batch norm not folded, images of a batch read one after another, and, as the published scripts
of aligned tokenizers do, the teacher run anew on every training batch instead of once. Losses are the same.

Straightforward work has all threads to itself, stage after stage. Ours is timed so too (in turns, the best of each
counts), and as `vaebench study run --jobs N` does it: as many stages side by side as there are cores, one thread each,
where the time of a step is divided by their number. Convolutions and matrix products are the same in all of them; a
study gains by not doing work again, and by threads that need not wait for each other. The last lines multiply the times
by how often the study does each.
"""

import argparse
import copy
import multiprocessing
import os
import time
from collections.abc import Callable
from itertools import count
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported

import numpy as np
import torch
import torch.nn.functional as F
from sit_step import PlainSiT, our_step, plain_step
from torch import Tensor

from vaebench.core.memory import keep_freed_memory
from vaebench.generation.sit import SiT, sit_config
from vaebench.study.spec import StudySpec, load_study
from vaebench.tokenizers import load_method
from vaebench.tokenizers.autoencoder import AutoencoderConfig, build_autoencoder
from vaebench.training.step import make_accelerator
from vaebench.training.tokenizer_training import TokenizerTrainingConfig, _TokenizerTraining
from vaebench.vision import load_network

Step = Callable[[], object]
PER_IMAGE = 64


class Pixels:
    """Uniform noise in place of a data set: what is timed does not depend on the content."""

    def __init__(self, n: int, size: int) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (n, 3, size, size), np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]


def tokenizer_steps(spec: StudySpec, data: Pixels, teacher: Any | None) -> tuple[Step, Step]:
    """One training step of a plain tokenizer, straightforward and ours; with a teacher, of VA-VAE's kind of work."""
    network = _network(spec)
    config = TokenizerTrainingConfig.model_validate({**spec.training, "seed": 0, "tensorboard": False})
    training = _TokenizerTraining(
        load_method("kl-vae", {}), build_autoencoder(network, torch.Generator().manual_seed(0)), data, None, None,
        config, make_accelerator("cpu"),
    )  # fmt: skip
    steps = count()
    average = copy.deepcopy(training.modules["tokenizer"]).eval()

    def ours() -> None:
        step = next(steps)
        training.train_step(step, 0)
        pairs = zip(average.state_dict().values(), training.modules["tokenizer"].state_dict().values(), strict=True)
        held, new = zip(*((a, b) for a, b in pairs if a.is_floating_point()), strict=True)
        torch._foreach_lerp_(list(held), list(new), 0.005)

    tokenizer = build_autoencoder(network, torch.Generator().manual_seed(0)).network
    plain, patch = tokenizer.autoencoder.to(memory_format=torch.contiguous_format).train(), tokenizer.patch_size
    ema = copy.deepcopy(plain)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=config.learning_rate, foreach=False)
    generator = torch.Generator().manual_seed(0)

    def straightforward() -> None:
        rows = torch.randint(len(data), (config.batch_size,), generator=generator).tolist()
        images = torch.stack([torch.from_numpy(data.pixels[row]).float() / 127.5 - 1 for row in rows])
        if teacher is not None:
            with torch.no_grad():
                teacher((images + 1) / 2)
        posterior = plain.encode(F.pixel_unshuffle(images, patch)).latent_dist
        decoded = F.pixel_shuffle(plain.decode(posterior.sample(generator=generator)).sample, patch)
        loss = (decoded - images).abs().mean() + config.kl_weight * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0, foreach=False)
        optimizer.step()
        with torch.no_grad():
            for held, new in zip(ema.parameters(), plain.parameters(), strict=True):
                held.mul_(0.995).add_(new, alpha=0.005)

    return straightforward, ours


def feature_steps(settings: dict[str, Any], size: int) -> tuple[Step, Step, Callable[[Tensor], Tensor]]:
    """Features of `PER_IMAGE` images, straightforward and ours, and the straightforward network."""
    network = load_network(settings["name"], **settings.get("options", {}))
    fresh: Any = _timm(network)
    side, mean, std = network.input_size, *(torch.tensor(v).view(1, 3, 1, 1) for v in (network.mean, network.std))
    pixels = Pixels(PER_IMAGE, size).pixels

    def features(images: Tensor) -> Tensor:
        resized = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        return fresh.forward_features((resized - mean) / std)

    def straightforward() -> None:
        with torch.no_grad():
            features(torch.stack([torch.from_numpy(image).float() / 255 for image in pixels]))

    def ours() -> None:
        with torch.inference_mode():
            network(torch.from_numpy(pixels).float().div_(255))

    return straightforward, ours, features


def _timm(network: Any) -> Any:
    import timm

    return timm.create_model(network.architecture, pretrained=False, num_classes=network.classes).eval()


def sit_steps(spec: StudySpec, d: int, grid: int) -> tuple[Step, Step]:
    """One SiT training step, plain and ours."""
    batch, generator = int(spec.sit["batch_size"]), torch.Generator().manual_seed(0)
    config = sit_config(spec.sit["preset"], d, (grid, grid), 10)
    x, target = (torch.randn(batch, d, grid, grid, generator=generator) for _ in range(2))
    t, labels = torch.rand(batch, generator=generator), torch.randint(10, (batch,), generator=generator)
    ours = our_step(SiT(config, generator))
    plain = plain_step(PlainSiT(config.width, config.depth, config.heads, config.patch, d, grid, 10))
    return lambda: plain(x, t, labels, target), lambda: ours(x, t, labels, target)


def pieces(study: str) -> dict[str, tuple[Step, Step]]:
    """Name -> straightforward and our version of one step of every kind of work."""
    spec = load_study(study)
    size = int(spec.data["options"]["image_size"])
    latents, data = build_autoencoder(_network(spec), torch.Generator().manual_seed(0)).spec, Pixels(512, size)
    *teacher, network = feature_steps(spec.features["network"], size)
    fid = feature_steps(spec.reference["network"], size)[:2]
    plain, ours = tokenizer_steps(spec, data, None)
    return {
        "tokenizer step": (plain, ours),
        "aligned tokenizer step": (tokenizer_steps(spec, data, network)[0], ours),
        "SiT step": sit_steps(spec, latents.d, size // latents.f),
        "teacher features": (teacher[0], teacher[1]),
        "FID features": (fid[0], fid[1]),
    }


def in_turns(steps: tuple[Step, Step], repeats: int) -> tuple[float, float]:
    """Best seconds of both, after a round that warms up."""
    best = [np.inf, np.inf]
    for repeat in range(repeats + 1):
        for index, step in enumerate(steps):
            began = time.perf_counter()
            step()
            if repeat:
                best[index] = min(best[index], time.perf_counter() - began)
    return best[0], best[1]


def _work_alone(study: str, repeats: int, barrier: Any, queue: Any) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    for name, (_, ours) in pieces(study).items():
        ours()
        barrier.wait()
        began = time.perf_counter()
        for _ in range(repeats):
            ours()
        queue.put((name, (time.perf_counter() - began) / repeats))
        barrier.wait()


def side_by_side(study: str, processes: int, repeats: int) -> dict[str, float]:
    """Seconds of our steps when so many processes work at a time, divided by their number."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    running = [context.Process(target=_work_alone, args=(study, repeats, barrier, queue)) for _ in range(processes)]
    for process in running:
        process.start()
    slowest: dict[str, float] = {}
    for _ in range(5 * processes):
        name, seconds = queue.get()
        slowest[name] = max(slowest.get(name, 0.0), seconds)
    for process in running:
        process.join()
    return {name: seconds / processes for name, seconds in slowest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="avatars-claim")
    parser.add_argument("--repeats", type=int, default=8)
    args = parser.parse_args()
    keep_freed_memory()
    spec, threads = load_study(args.study), torch.get_num_threads()
    print(f"{args.study}: seconds on {threads} cores; a tokenizer's batch is {spec.training['batch_size']}, "
          f"a SiT's {spec.sit['batch_size']}, features are of {PER_IMAGE} images")  # fmt: skip
    turns = {name: in_turns(steps, args.repeats) for name, steps in pieces(args.study).items()}
    together = side_by_side(args.study, threads, args.repeats)
    print(f"{'':24}{'straightforward':>16}{'ours alone':>12}{'ratio':>7}{'side by side':>14}{'ratio':>7}")
    for name, (plain, ours) in turns.items():
        beside = together[name]
        print(f"{name:24}{plain:16.3f}{ours:12.3f}{plain / ours:7.2f}{beside:14.3f}{plain / beside:7.2f}")

    generated = spec.generate
    images = generated.settings["samples"] * max(1, len(generated.seeds)) * len(generated.cfg)
    times = {"SiT step": max(generated.steps), "FID features": images / PER_IMAGE}
    for kind in ("tokenizer step", "aligned tokenizer step"):
        counts = {kind: spec.training["steps"], **times}
        plain = sum(turns[name][0] * number for name, number in counts.items())
        ours = sum(together[name] * number for name, number in counts.items())
        print(f"one {kind.removesuffix(' step')}, its SiT and its FID features: {plain:.0f} s, "
              f"side by side {ours:.0f} s, ratio {plain / ours:.2f}")  # fmt: skip


def _network(spec: StudySpec) -> str | AutoencoderConfig:
    return spec.network if isinstance(spec.network, str) else AutoencoderConfig.model_validate(spec.network)


if __name__ == "__main__":
    main()
