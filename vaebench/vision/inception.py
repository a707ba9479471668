"""The Inception-v3 by which FID is usually reported, through torch-fidelity."""

from pathlib import Path

import torch
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.errors import MissingWeights, import_optional
from vaebench.core.files import sha256_file
from vaebench.vision.base import Features, FrozenNetwork, load_state

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"


class InceptionConfig(Config):
    """Options of :class:`Inception`.

    Attributes:
        weights: the file that torch-fidelity publishes; None looks for it in torch's hub cache. It is never downloaded.
    """

    weights: Path | None = None


class Inception(FrozenNetwork):
    """TensorFlow's 2015 Inception-v3, ``pool_3`` with 2048 values, resized bilinearly as TensorFlow 1 did.

    Images are rounded to 8 bits first, as every published FID does. The patch grid is the pooled vector as 1 x 1.
    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017); port: Obukhov et al., torch-fidelity.

    Raises:
        MissingDependency: torch-fidelity is not installed.
        MissingWeights: no weights given and none cached, or the file is foreign.
    """

    Config = InceptionConfig
    name = "inception"
    input_size = 299

    def __init__(self, config: InceptionConfig) -> None:
        super().__init__()
        fidelity = import_optional("torch_fidelity.feature_extractor_inceptionv3", "inception")
        path = config.weights or Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
        if not path.is_file():
            raise MissingWeights(
                f"The weights of Inception-v3 are not at '{path}'.",
                f"Download {URL} and give its path with the option weights=PATH, or put it there.",
            )
        load_state(path)  # torch-fidelity unpickles without restriction; this proves that only tensors are in the file
        try:
            self.network = fidelity.FeatureExtractorInceptionV3("inception", ["2048"], str(path))
        except RuntimeError as error:
            raise MissingWeights(f"'{path}' holds the weights of another network: {error}", f"Use {URL}.") from error
        self.weights_hash = sha256_file(path)
        self.settle()

    def features(self, images: Tensor) -> Features:
        (pooled,) = self.network(images.mul(255).round().clamp(0, 255).to(torch.uint8))
        return Features(pooled[:, :, None, None], pooled)
