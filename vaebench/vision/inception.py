"""The Inception-v3 by which FID, sFID and the Inception Score are usually reported, through torch-fidelity."""

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.errors import MissingWeights, import_optional
from vaebench.core.files import sha256_file
from vaebench.core.offline import offline
from vaebench.vision.base import Features, FrozenNetwork, load_state

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"
SPATIAL_CHANNELS = 7


class InceptionConfig(Config):
    """Options of :class:`Inception`.

    Attributes:
        weights: the file that torch-fidelity publishes; None looks for it in torch's hub cache.
        download: fetch that file into the cache where it is not there (unless downloads are forbidden).
    """

    weights: Path | None = None
    # Not dumped while it is off, so that results made before it existed keep their identity.
    download: bool = Field(default=False, exclude_if=lambda value: not value)


class Inception(FrozenNetwork):
    """TensorFlow's 2015 Inception-v3 as ADM's evaluation suite uses it, resized bilinearly as TensorFlow 1 did.

    One pass gives ``pool_3`` as the pooled vector (2048, of FID, KID, precision and recall); the first 7 channels of
    ``mixed_6/conv``, 17 x 17 x 7 with channels last, as the spatial features (2023, of sFID); and the logits of 1008
    classes without the classifier's bias (of the Inception Score). The patch grid is the pooled vector as 1 x 1.

    ``mixed_6/conv`` is in PyTorch's names the 1 x 1 branch of Mixed_6d after its batch normalisation and ReLU. Images
    are 8-bit first, as in every published FID.

    Sources: Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017); Nash et al., Generating Images with
    Sparse Representations (2021), sFID; Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis (2021),
    evaluation suite; port: Obukhov et al., torch-fidelity.

    Raises:
        MissingDependency: torch-fidelity is not installed.
        MissingWeights: no weights given and none to be had, or the file is foreign. Weights are never made up.
    """

    Config = InceptionConfig
    name = "inception"
    input_size = 299

    def __init__(self, config: InceptionConfig) -> None:
        super().__init__()
        fidelity = import_optional("torch_fidelity.feature_extractor_inceptionv3", "inception")
        path = _weights(config)
        load_state(path)  # torch-fidelity unpickles without restriction; this proves that only tensors are in the file
        try:
            self.network = fidelity.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))
        except RuntimeError as error:
            raise MissingWeights(f"'{path}' holds the weights of another network: {error}", f"Use {URL}.") from error
        self.weights_hash = sha256_file(path)
        self.settle()

    def features(self, images: Tensor) -> Features:
        seen: list[Tensor] = []
        hook = self.network.Mixed_6d.branch1x1.register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            pooled, logits = self.network(images.mul(255).round().clamp(0, 255).to(torch.uint8))
        finally:
            hook.remove()
        # Rows of positions with channels last, as TensorFlow lays them: stored moments (mu_s) have that order.
        spatial = seen[0][:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1).float()
        return Features(pooled[:, :, None, None], pooled, spatial, logits)


def _weights(config: InceptionConfig) -> Path:
    path = config.weights or Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if path.is_file():
        return path
    why = ""
    if config.download and config.weights is None and not offline():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)
            return path
        except (OSError, RuntimeError) as error:
            why = f", and could not be downloaded: {error}"
    elif config.download and config.weights is None:
        why = ", and downloads are forbidden (offline)"
    raise MissingWeights(
        f"The weights of Inception-v3 are not at '{path}'{why}.",
        f"Download {URL} and give its path with the option weights=PATH, or put it there, or set download=true.",
    )
