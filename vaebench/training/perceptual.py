"""LPIPS (Zhang et al., arXiv 1801.03924) with the calibration of the ``lpips`` package and backbones found on the disk.

The package itself would download the backbone in silence; here a backbone that is not on the disk is an error.
"""

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vaebench.core.errors import DataError, MissingWeights, import_optional
from vaebench.vision.base import load_state

PerceptualNetwork = Literal["vgg", "alex", "squeeze"]

# Names under which torchvision caches the ImageNet weights that LPIPS was calibrated on.
BACKBONE_FILES: dict[str, str] = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
_SMALLEST_SQUARED_NORM = 1e-20


def backbone_file(network: PerceptualNetwork, weights: Path | str | None = None) -> Path:
    """The backbone's weights: the file given, else the one in torchvision's cache.

    Raises:
        MissingWeights: it is not there.
    """
    name = BACKBONE_FILES[network]
    path = Path(weights) if weights is not None else Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise MissingWeights(
            f"LPIPS needs torchvision's ImageNet weights of its backbone '{network}', and {path} does not exist.",
            f"Fetch https://download.pytorch.org/models/{name} where there is a network and put it there, or name the "
            "file with perceptual_weights=PATH, or set perceptual_weight=0.",
        )
    return path


class PerceptualLoss(nn.Module):
    """LPIPS 0.1 between images, frozen.

    Images come on the [-1, 1] scale that LPIPS was calibrated on and are passed on as they are. (REPA-E's code applies
    2x - 1 to such images once more, so that its LPIPS sees [-3, 1]. That is not reproduced.) The norm of the features
    is kept from zero inside the square root, whose gradient is otherwise NaN where all features of a pixel vanish.
    """

    def __init__(self, network: PerceptualNetwork = "vgg", weights: Path | str | None = None) -> None:
        super().__init__()
        lpips = import_optional("lpips", "perceptual")
        path = backbone_file(network, weights)
        with warnings.catch_warnings():  # the package calls torchvision by arguments that are deprecated there
            warnings.simplefilter("ignore")
            model = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
        tensors = load_state(path)
        try:
            # The package cuts torchvision's `features` into slices that keep the numbers of their layers.
            model.net.load_state_dict(
                {name: tensors[f"features.{name.partition('.')[2]}"] for name in model.net.state_dict()}
            )
        except (KeyError, RuntimeError) as error:
            raise DataError(f"{path} does not hold torchvision's weights of '{network}': {error}") from error
        self.model = model.requires_grad_(False).eval()

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Distance of each image, (N,), for inputs N x 3 x H x W on the [-1, 1] scale; float32."""
        scale = self.model.scaling_layer
        features = [self.model.net(scale(batch.float())) for batch in (reconstruction, images)]
        distance = torch.zeros(len(images), device=images.device)
        for linear, first, second in zip(self.model.lins, *features, strict=True):
            difference = (_unit(first) - _unit(second)).square()
            distance = distance + linear(difference).mean(dim=(1, 2, 3))
        return distance


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + _SMALLEST_SQUARED_NORM).sqrt()
