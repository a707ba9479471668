"""Any timm model as a frozen network: DINOv2, DINOv3, SigLIP, CLIP, MAE, I-JEPA, and convolutional networks."""

import sys
from pathlib import Path
from typing import Any, Literal

import timm
from pydantic import Field
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, MissingWeights, suggest
from vaebench.core.files import sha256_file
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

Triple = tuple[float, float, float]
NORMALISATIONS: dict[str, tuple[Triple, Triple]] = {
    "imagenet": IMAGENET,
    "half": HALF,
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class TimmConfig(Config):
    """Options of :class:`TimmNetwork`.

    Attributes:
        model: timm's name, such as "vit_base_patch14_dinov2.lvd142m", or "hf-hub:owner/model@revision".
        checkpoint: a local file of weights (safetensors or torch) in timm's or in the original authors' layout where
            timm knows how to convert it. Without it the weights come from the Hugging Face hub or its local cache.
        input_size: side in pixels; None takes the model's own. Position embeddings are resampled where needed.
        normalise: "model" (what the model was trained with), "imagenet", "half" (to [-1, 1]; reproduces VA-VAE, which
            fed DINOv2 so), or "none" (left in [0, 1]).
        resample: the antialiased filter of the resize.
        layer: block whose output gives the patches, counted from 0, negative from the end; None is the last.
        norm: apply the model's final normalisation to the patches, as DINOv2's ``x_norm_patchtokens`` do. Convolutional
            networks ignore it.
    """

    model: str
    checkpoint: Path | None = None
    input_size: int | None = Field(default=None, ge=1)
    normalise: Literal["model", "imagenet", "half", "none"] = "model"
    resample: Filter = "bicubic"
    layer: int | None = None
    norm: bool = True


class TimmNetwork(FrozenNetwork):
    """A timm model: the patch grid of one block, and the model's own pooled vector (class token, average or attention).

    Raises:
        ConfigError: unknown model, layer out of range, or a size that patches do not divide.
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
        self.preprocess = Preprocessing(self.input_size, config.resample, tuple(mean), tuple(std))
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
    try:
        return timm.create_model(config.model, pretrained=from_hub, num_classes=0, **size).eval()
    except (OSError, RuntimeError) as error:  # the hub's errors (offline, no such file, refused) derive from OSError
        if not from_hub:
            raise
        raise MissingWeights(
            f"The weights of '{config.model}' are neither cached nor to be had from the Hugging Face hub: {error}",
            f"Run 'hf download timm/{config.model}' where there is a network and copy its cache (HF_HOME), or give a "
            "local file with the option checkpoint=PATH. HF_HUB_OFFLINE=1 makes this answer immediate.",
        ) from error


def _has_fixed_size(model: str) -> bool:
    if model.startswith("hf-hub:"):
        return False
    known = timm.get_pretrained_cfg(model, allow_unregistered=True)
    return bool(known is not None and known.fixed_input_size)


def _load(model: Any, path: Path) -> None:
    state = load_state(path)
    # By timm's convention a model's module converts its authors' layouts and resamples position embeddings.
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(state, model)
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
            "Check that model and checkpoint belong together.",
        ) from error
