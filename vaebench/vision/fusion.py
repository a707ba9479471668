"""Folding batch normalisation into the convolution before it: the same function with half the memory traffic."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every batch normalisation that directly follows a convolution, in place.

    "Follows" is read from the order of definition inside one parent, which is the order of computation in timm's
    EfficientNet family (the tests compare outputs); timm's normalisation carries the activation, which stays.

    Args:
        module: a network in evaluation mode.

    Returns:
        The same module.
    """
    children = list(module.named_children())
    before: tuple[str, nn.Module] | None = None
    for name, child in children:
        if isinstance(child, nn.BatchNorm2d) and before is not None and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            fuse_batch_norm(child)
        before = (name, child)
    return module
