"""Frozen networks with their own preprocessing, and the one crop-and-resize function.

>>> from vaebench.vision import load_network
>>> teacher = load_network("efficientnet-lite0", input_size=128)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from vaebench.core.config import build
from vaebench.core.registry import Registry
from vaebench.vision.teachers import TEACHERS

if TYPE_CHECKING:
    import torch

    from vaebench.vision.base import FrozenNetwork
    from vaebench.vision.extraction import extract

__all__ = ["NETWORKS", "extract", "load_network"]

NETWORKS = Registry("network", "vaebench.networks", "vaebench.vision.base:FrozenNetwork", ["Config"])
NETWORKS.register(
    "efficientnet-lite0",
    "vaebench.vision.embedded:EfficientNetLite0",
    summary="embedded teacher: EfficientNet-Lite0, ImageNet, 128 x 128 input, patches 1280 x 4 x 4",
)
NETWORKS.register(
    "mobilenetv2",
    "vaebench.vision.embedded:MobileNetV2",
    summary="embedded feature extractor for FID: MobileNetV2, ImageNet, 96 x 96 input, pooled 1280",
)
NETWORKS.register(
    "inception",
    "vaebench.vision.inception:Inception",
    summary="the Inception-v3 of FID, sFID and Inception Score, through torch-fidelity; needs its weights file",
)
NETWORKS.register(
    "timm",
    "vaebench.vision.timm_models:TimmNetwork",
    summary="any timm model (DINOv2, DINOv3, SigLIP, CLIP, MAE ...) from a checkpoint or the Hugging Face hub",
)
for _name, _teacher in TEACHERS.items():
    NETWORKS.register(
        _name, f"vaebench.vision.timm_models:{_name}", summary=f"{_teacher.summary}, {_teacher.input_size} px, by timm"
    )


def load_network(name: str, device: "str | torch.device" = "cpu", **options: Any) -> "FrozenNetwork":
    """Load a frozen network by its registered name.

    Args:
        name: one of ``NETWORKS.names()``.
        device: where it runs.
        options: fields of the network's ``Config``, such as ``input_size``, ``layer`` or ``checkpoint``.

    Raises:
        UnknownName: no such network.
        ConfigError: unknown or ill-typed option.
        MissingWeights: the weights are not at hand; the remedy says how to get them.
    """
    kind = NETWORKS.get(name)
    network: FrozenNetwork = kind(build(kind.Config, options, where=f"network '{name}'"))
    return network.to(device)


def __getattr__(name: str) -> Any:
    # `extract` brings torch; importing this package must stay cheap.
    if name == "extract":
        from vaebench.vision.extraction import extract

        return extract
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
