"""A plug-in file: one of everything in one file, as short as it can be. `vaebench --help` knows none of it; with
`--plugin plugin.py` every command does."""

import numpy as np
import torch
from torch.nn import functional

import vaebench
from vaebench.core.config import Config
from vaebench.data.base import DataInfo
from vaebench.data.source import Drawn, ImageSource, Plan
from vaebench.generation.samplers import Sampler, Solution
from vaebench.metrics.base import Metric
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec, check_images, weights_hash
from vaebench.tokenizers.method import Method
from vaebench.vision.base import Features, FrozenNetwork


@vaebench.register("tokenizers", "file-blur")
class Blur(Tokenizer):
    """The image at an eighth of its size."""

    deterministic = True
    spec = TokenizerSpec(name="file-blur", method="file-blur", f=8, d=3, checkpoint_hash=weights_hash({}))

    def encode(self, images):
        check_images(images, 8)
        mean = functional.avg_pool2d(images, 8)
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents):
        return functional.interpolate(latents, scale_factor=8, mode="bilinear")


@vaebench.register("tokenizers", "file-plain")
class Plain(Method):
    """Reconstruction and KL alone."""

    name = "file-plain"
    summary = "reconstruction and KL alone"

    def objective(self, latent_channels, latent_grid, teacher, generator):
        return None


@vaebench.register("datasets", "file-grey")
class Grey(ImageSource):
    """Grey images, one level each."""

    def plan(self):
        parts = {"train": range(32), "validation": range(32, 48), "test": range(48, 64)}
        return {name: Plan(np.array(ids), labels=np.array(ids) % 2) for name, ids in parts.items()}

    def describe(self):
        return DataInfo(name="file-grey", image_size=self.config.image_size, classes=("even", "odd"))

    def draw(self, split, start, stop):
        first = {"train": 0, "validation": 32, "test": 48}[split]
        levels = 4 * np.arange(first + start, first + stop, dtype=np.uint8)
        size = self.config.image_size
        return Drawn(np.broadcast_to(levels[:, None, None, None], (stop - start, 3, size, size)).copy())

    def version(self):
        return "1"


@vaebench.register("metrics", "file-energy")
class Energy(Metric):
    """Mean square of normalised latents."""

    name = "file-energy"
    summary = "mean square of normalised latents"

    def run(self, inputs, seed):
        energy = np.square(inputs.normalised(inputs.test)).mean((1, 2, 3))
        return [self.mean_score("file_energy", energy, "none", seed=seed)]


@vaebench.register("networks", "file-pixels")
class Pixels(FrozenNetwork):
    """Images at 4 x 4 pixels."""

    Config = Config

    def __init__(self, config):
        super().__init__()
        self.name, self.input_size, self.weights_hash = "file-pixels", 4, "none"
        self.settle()

    def features(self, images):
        small = functional.adaptive_avg_pool2d(images, 4)
        return Features(small, small.flatten(1))


@vaebench.register("samplers", "file-leap")
class Leap(Sampler):
    """One step from noise to data."""

    def solve(self, problem):
        return Solution(problem.noise + problem.velocity(problem.noise, 0.0), 1)
