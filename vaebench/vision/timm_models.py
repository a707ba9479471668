"""Any timm model as a frozen network: DINOv2, DINOv3, SigLIP, CLIP, MAE, I-JEPA, and convolutional networks."""

import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import try_to_load_from_cache
from pydantic import Field, create_model
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, MissingWeights, suggest
from vaebench.core.files import sha256_file
from vaebench.core.offline import offline
from vaebench.vision.base import (
    HALF,
    IMAGENET,
    Features,
    Filter,
    FrozenNetwork,
    Preprocessing,
    hash_state,
    load_state,
)
from vaebench.vision.library import timm
from vaebench.vision.teachers import TEACHERS

Triple = tuple[float, float, float]
Normalise = Literal["model", "imagenet", "half", "none"]
NORMALISATIONS: dict[str, tuple[Triple, Triple]] = {
    "imagenet": IMAGENET,
    "half": HALF,
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
# The files of weights that timm looks for in a folder of the hub.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmConfig(Config):
    """Options of :class:`TimmNetwork`.

    Attributes:
        model: timm's name, such as "vit_base_patch14_dinov2.lvd142m", or "hf-hub:owner/model@revision".
        checkpoint: a local file of weights (safetensors or torch) in timm's or in the original authors' layout where
            timm knows how to convert it. Without it the weights come from the Hugging Face hub or its local cache.
        revision: commit, branch or tag of the hub's weights; give a commit, since a branch moves.
        input_size: side in pixels; None takes the model's own. Position embeddings are resampled where needed.
        normalise: "model" (what the model was trained with), "imagenet", "half" (to [-1, 1]; reproduces VA-VAE, which
            fed DINOv2 so), or "none" (left in [0, 1]).
        resample: the filter of the resize.
        antialias: of that filter; VA-VAE's and REPA's scripts have none.
        layer: block whose output gives the patches, counted from 0, negative from the end; None is the last.
        norm: apply the model's final normalisation to the patches, as DINOv2's ``x_norm_patchtokens`` do. Convolutional
            networks ignore it.
    """

    model: str
    checkpoint: Path | None = None
    input_size: int | None = Field(default=None, ge=1)
    normalise: Normalise = "model"
    resample: Filter = "bicubic"
    layer: int | None = None
    norm: bool = True
    # These two are not dumped at their defaults, so that features made before they existed keep their identity.
    revision: str | None = Field(default=None, exclude_if=lambda value: value is None)
    antialias: bool = Field(default=True, exclude_if=lambda value: value is True)


class TimmNetwork(FrozenNetwork):
    """A timm model: the patch grid of one block, and the model's own pooled vector (class token, average or attention).

    Class tokens and registers are no patches. Patches have the grid of the input; where a method wants another, it
    resamples them by :func:`vaebench.tokenizers.features.resample_features`.

    Raises:
        ConfigError: unknown model, layer out of range, a size that patches do not divide, or a revision of weights
            that are not on the hub.
        MissingWeights: no checkpoint given and none to be had from the hub, or a checkpoint of another model.
    """

    Config = TimmConfig

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        model = _create(config)
        if config.checkpoint is not None:
            _load(model, config.checkpoint)
            self.weights_hash = sha256_file(config.checkpoint)
        else:
            self.weights_hash = hash_state(model)
        own = model.pretrained_cfg
        self.name = config.model
        self.input_size = config.input_size or own["input_size"][-1]
        patch = model.feature_info[-1]["reduction"] if own.get("fixed_input_size") else 1
        if self.input_size % patch:
            raise ConfigError(f"{config.model} has patches of {patch} pixels, which do not divide {self.input_size}.")
        depth = len(model.feature_info)
        self.layer = depth - 1 if config.layer is None else config.layer
        if not -depth <= self.layer < depth:
            raise ConfigError(f"{config.model} has {depth} layers, {config.layer} is not one of them.")
        mean, std = NORMALISATIONS.get(config.normalise, (own["mean"], own["std"]))
        self.preprocess = Preprocessing(self.input_size, config.resample, tuple(mean), tuple(std), config.antialias)
        self.norm = config.norm
        self.network = model
        self.settle()

    def features(self, images: Tensor) -> Features:
        network: Any = self.network
        last, maps = network.forward_intermediates(
            self.preprocess(images), indices=[self.layer], norm=self.norm, output_fmt="NCHW"
        )
        return Features(maps[0].float(), network.forward_head(last, pre_logits=True).float())


def _create(config: TimmConfig) -> Any:
    if not config.model.startswith("hf-hub:") and not timm.is_model(config.model):
        raise ConfigError(f"timm has no model '{config.model}'.", suggest(config.model, timm.list_models()))
    size: dict[str, Any] = (
        {"img_size": config.input_size} if config.input_size is not None and _has_fixed_size(config.model) else {}
    )
    from_hub = config.checkpoint is None
    source = _hub_source(config) if from_hub else {}
    try:
        return timm.create_model(config.model, pretrained=from_hub, num_classes=0, **size, **source).eval()
    except (OSError, RuntimeError) as error:  # the hub's errors (offline, no such file, refused) derive from OSError
        if not from_hub:
            raise
        raise _missing(config, str(error)) from error


def _missing(config: TimmConfig, why: str, url: str = "") -> MissingWeights:
    pinned = f" --revision {config.revision}" if config.revision else ""
    fetch = f"download {url}" if url else f"run 'hf download timm/{config.model}{pinned}'"
    return MissingWeights(
        f"The weights of '{config.model}' are neither cached nor to be had from {url or 'the Hugging Face hub'}: {why}",
        f"Where there is a network, {fetch}; copy its cache (HF_HOME), or give a local file with the option "
        "checkpoint=PATH. HF_HUB_OFFLINE=1 makes this answer immediate.",
    )


def _hub_source(config: TimmConfig) -> dict[str, Any]:
    """Arguments for timm that pin the revision; offline, a model that is not cached is refused before it is built."""
    if config.model.startswith("hf-hub:"):
        if config.revision is not None:
            raise ConfigError("A hub id carries its revision itself.", f"Write {config.model}@{config.revision}.")
        return {}
    known = timm.get_pretrained_cfg(config.model, allow_unregistered=True)
    hub_id, url = getattr(known, "hf_hub_id", None), getattr(known, "url", None)
    if config.revision is not None and not hub_id:
        raise ConfigError(f"The weights of '{config.model}' are not on the hub, so they have no revision.")
    if offline() and hub_id and not _cached(hub_id, config.revision):
        raise _missing(config, "downloads are forbidden (offline).")
    if offline() and not hub_id and url and not (Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name).is_file():
        raise _missing(config, "downloads are forbidden (offline).", url)
    return {} if config.revision is None else {"pretrained_cfg_overlay": {"hf_hub_id": f"{hub_id}@{config.revision}"}}


def _cached(hub_id: str, revision: str | None) -> bool:
    return any(isinstance(try_to_load_from_cache(hub_id, name, revision=revision), str) for name in HUB_FILES)


def _has_fixed_size(model: str) -> bool:
    if model.startswith("hf-hub:"):
        return False
    known = timm.get_pretrained_cfg(model, allow_unregistered=True)
    return bool(known is not None and known.fixed_input_size)


def _load(model: Any, path: Path) -> None:
    state = load_state(path)
    # By timm's convention a model's module converts its authors' layouts and resamples position embeddings.
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    remedy = "Check that model and checkpoint belong together."
    if convert is not None:
        try:
            state = convert(state, model)
        except (
            RuntimeError,
            ValueError,
            KeyError,
            AttributeError,
        ) as error:  # positions of another shape, and the like
            raise MissingWeights(f"'{path}' holds the weights of another model: {error}", remedy) from error
    classifiers = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{name}." for name in ((classifiers,) if isinstance(classifiers, str) else classifiers))
    state = {key: value for key, value in state.items() if not (heads and key.startswith(heads))}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        expected = model.state_dict()
        absent = [key for key in expected if key not in state]
        foreign = [key for key in state if key not in expected]
        raise MissingWeights(
            f"'{path}' holds the weights of another model: {len(absent)} of {len(expected)} tensors are absent "
            f"{absent[:3]}, {len(foreign)} are foreign {foreign[:3]}.",
            remedy,
        ) from error


@cache
def teacher_class(name: str) -> type[TimmNetwork]:
    """What a short name of `TEACHERS` stands for: a `TimmNetwork` whose options have that row's defaults."""
    row = TEACHERS[name]
    own = TimmConfig.model_fields
    fields: dict[str, Any] = {
        "model": (str, row.model),
        "input_size": (int | None, Field(default=row.input_size, ge=1)),
        "normalise": (own["normalise"].annotation, row.normalise),
        "resample": (own["resample"].annotation, row.resample),
        "antialias": (bool, row.antialias),
    }
    config = create_model(f"TimmConfig[{name}]", __base__=TimmConfig, **fields)
    return type(f"TimmNetwork[{name}]", (TimmNetwork,), {"Config": config})


def __getattr__(name: str) -> Any:
    # The registry looks teachers up as attributes of this module, by their short names.
    if name in TEACHERS:
        return teacher_class(name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
