"""Stage ``train``: train a tokenizer by a registered method, from scratch or from another tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from vaebench.core.config import Config, flattened
from vaebench.core.errors import ConfigError, DataError, MismatchError
from vaebench.core.files import read_json, sha256_once
from vaebench.core.scores import Score
from vaebench.core.seeds import torch_generator
from vaebench.data import open_data
from vaebench.data.base import ImageSplit
from vaebench.stages.base import Context, Estimate, Stage, require_kind
from vaebench.stages.features import load_patches, named_files
from vaebench.tokenizers import TOKENIZERS, load_method, load_tokenizer
from vaebench.tokenizers.autoencoder import AutoencoderConfig, DiffusersTokenizer, resolve_preset
from vaebench.tokenizers.base import TrainableTokenizer
from vaebench.tokenizers.method import FittedMethod, Method, TeacherSpec
from vaebench.training.tokenizer_training import TokenizerTrainingConfig, train_tokenizer


class TrainConfig(Config):
    """How a tokenizer is trained.

    Attributes:
        method: registered method.
        options: settings of the method.
        network: architecture when trained from scratch; None when there is an initial tokenizer.
        training: settings of the training loop.
        files: filled in, the SHA-256 of the files that options of the method and the training name.
        code: filled in, the hash of a method that comes from outside.
    """

    method: str
    options: dict[str, Any] = {}
    network: str | AutoencoderConfig | None = None
    training: TokenizerTrainingConfig
    files: dict[str, str] = Field(default={}, exclude_if=lambda files: not files)
    code: str = Field(default="", exclude_if=lambda code: not code)


class TrainStage(Stage[TrainConfig]):
    """Leaves ``tokenizer/`` (a diffusers folder, averaged weights), ``metrics.jsonl`` and ``tb/``.

    Inputs: ``data``; ``init``, a tokenizer to start from; ``features`` when the method needs a teacher.
    """

    kind = "train"
    Config = TrainConfig
    parallel = True

    def resolve(self, config: TrainConfig) -> TrainConfig:
        options = load_method(config.method, config.options).config
        network = resolve_preset(config.network) if config.network is not None else None
        files = {f"options.{name}": content for name, content in named_files(options).items()}
        weights = config.training.perceptual_weights
        if weights is not None and Path(weights).is_file():
            files["training.perceptual_weights"] = sha256_once(weights)
        found = {"options": options.model_dump(mode="json"), "network": network, "files": files}
        return config.model_copy(update={**found, "code": TOKENIZERS.code(config.method)})

    def outside(self, config: TrainConfig) -> list[str]:
        flat = flattened(config.model_dump(mode="json"))
        return [str(flat[name]) for name in config.files]

    def run(self, config: TrainConfig, inputs: Mapping[str, str], folder: Path, context: Context) -> list[Score]:
        data = require_kind(inputs["data"], ["data"], "data")
        images = open_data(data / "data.h5").split("train")
        method = load_method(config.method, config.options)
        if isinstance(method, FittedMethod):
            if context.processes().main:
                method.fit(images, config.training.seed).save(folder / "tokenizer")
            return []
        accelerator = context.accelerator(config.training.mixed_precision)
        if "init" in inputs:
            tokenizer = load_tokenizer(inputs["init"])
            if not isinstance(tokenizer, TrainableTokenizer):
                raise DataError(f"Tokenizer '{inputs['init']}' has no network that can be trained.")
            require_readable(method, tokenizer)
        elif config.network is not None:
            tokenizer = method.build(config.network, torch_generator(config.training.seed, "initial weights"))
        else:
            raise DataError("Training needs a network or a tokenizer to start from.", "Give --network or --init.")
        features, teacher = _features(inputs["features"], images) if "features" in inputs else (None, None)
        trained = train_tokenizer(method, tokenizer, images, features, teacher, config.training, folder, accelerator)
        if accelerator.is_main_process:
            trained.save(folder / "tokenizer")
        return []

    def estimate(self, config: TrainConfig, facts: Mapping[str, Any]) -> Estimate:
        if isinstance(load_method(config.method, config.options), FittedMethod):
            return Estimate(seconds=facts["splits"]["train"] / 500)
        network = config.network if isinstance(config.network, AutoencoderConfig) else facts.get("network")
        if network is None:
            return Estimate()
        flops, parameters = autoencoder_cost(network, facts["image_size"])
        training = config.training
        return Estimate(flops=3 * flops * training.batch_size * training.steps, disk_bytes=4 * parameters)


def require_readable(method: Method, tokenizer: TrainableTokenizer) -> None:
    """Raise ConfigError if the method could not load what a training from this tokenizer would save.

    A method that does not say how to `load` reads diffusers folders; one that does is trusted with its own kind.
    """
    own = getattr(method.load, "__func__", None) is not Method.load.__func__  # type: ignore[attr-defined]
    if not own and not isinstance(tokenizer, DiffusersTokenizer):
        raise ConfigError(
            f"'{method.name}' saves and reads diffusers autoencoders, and its start '{tokenizer.spec.name}' is a "
            f"{type(tokenizer).__name__}.",
            "Start from an autoencoder, or go on training by the method that made it.",
        )


def autoencoder_cost(network: AutoencoderConfig, image_size: int) -> tuple[float, int]:
    """Floating-point operations of encoding and decoding one image, and the number of parameters."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = AutoencoderKL(**network.diffusers_config())
        side = image_size // network.patch_size
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3 * network.patch_size**2, side, side))
    return float(counter.get_total_flops()), sum(p.numel() for p in model.parameters())


def _features(reference: str, images: ImageSplit) -> tuple[Any, TeacherSpec]:
    """The cached teacher features as a function of rows, and what the teacher is.

    Raises:
        MismatchError: the features are of another number of images.
    """
    folder = require_kind(reference, ["features"], "features")
    teacher = read_json(folder / "teacher.json")
    patches = load_patches(folder)
    if len(patches) != len(images):
        raise MismatchError(
            f"The teacher features in '{folder}' are of {len(patches)} images, the training split has {len(images)}.",
            "Compute the features of these data.",
        )

    def rows(indices: np.ndarray) -> np.ndarray:
        return patches[indices]

    return rows, TeacherSpec(teacher["name"], teacher["channels"], (teacher["grid"][0], teacher["grid"][1]))
