"""What a latent file says about itself. Schema version 1.

Root attributes, each a JSON text unless said otherwise: ``format`` (plain text), ``schema_version`` (integer),
``complete`` (boolean), and one per field of `LatentInfo`. Data sets, contiguous and uncompressed, row by row:

===========  =====================  ==========================================================
mean, std    float (N, d, h, w)     posterior of the raw latents, float32 or float16
ids          int64 (N,)             global sample id; a flipped image keeps the id of its source
flipped      uint8 (N,)             1 where the image was mirrored left to right
labels       int64 (N,)             class label, if the data has any
attributes   uint8 (N, A)           binary attributes, if the data has any
factors      int16 (N, K)           ground-truth factors, if the data has any
nuisance     float32 (N, M)         continuous nuisance variables, if the data has any
===========  =====================  ==========================================================

Behind what HDF5 knows of the file stands its seal, see `vaebench.latents.seal`.
"""

from typing import Any, Literal

from vaebench.core.config import Config
from vaebench.tokenizers.base import TokenizerSpec

FORMAT = "vaebench latents"
SCHEMA_VERSION = 1
LATENTS = ("mean", "std")
COLUMNS: dict[str, str] = {
    "ids": "int64",
    "flipped": "uint8",
    "labels": "int64",
    "attributes": "uint8",
    "factors": "int16",
    "nuisance": "float32",
}
REQUIRED_COLUMNS = ("ids", "flipped")
CROP = "vaebench.vision.transforms.centre_crop_resize when the data was prepared"

Flip = Literal["none", "both"]
DType = Literal["float32", "float16"]


class Transform(Config):
    """How images became the encoder's input: the crop was made when the data was prepared, then uint8 x / 127.5 - 1.

    ``flip`` "both" means that every image stands twice: rows 0 .. n-1 as it is, rows n .. 2n-1 mirrored.
    """

    image_size: tuple[int, int]
    flip: Flip = "none"
    crop: str = CROP
    scaling: str = "x / 127.5 - 1"


class Provenance(Config):
    """Where latents come from: known before the first image is encoded.

    Attributes:
        tokenizer: spec with checkpoint hash and the tokenizer's own published normalisation.
        data: the data set's DataInfo as plain values.
        split: name of the split.
        transform: from stored image to encoder input.
        dtype: of the stored means and standard deviations.
        vaebench: version that wrote the file.
    """

    tokenizer: TokenizerSpec
    data: dict[str, Any]
    split: str
    transform: Transform
    dtype: DType = "float32"
    vaebench: str = ""

    def identity(self) -> dict[str, Any]:
        """What determines the stored bytes; the rest (names, licences, versions) is description.

        Weights are known by their hash. A tokenizer without one is known by its name, method and source.
        """
        spec = self.tokenizer
        known_by = {"checkpoint_hash"} if spec.checkpoint_hash else {"name", "method", "source"}
        return {
            "schema_version": SCHEMA_VERSION,
            "tokenizer": spec.model_dump(mode="json", include=known_by | {"f", "d", "image_range"}),
            "normalisation": spec.normalisation
            and spec.normalisation.model_dump(mode="json", include={"shift", "scale"}),
            "data": {"fingerprint": self.data.get("fingerprint"), "split": self.split},
            "transform": self.transform.model_dump(mode="json"),
            "dtype": self.dtype,
        }


class Statistics(Config):
    """Per-channel moments over all rows and positions of z = mean + std * eps with eps ~ N(0, 1).

    By the law of total variance Var z = Var(mean) + E[std^2]. ``std_of_means`` is sqrt(Var(mean)) alone: where it is
    zero the channel says nothing about the image.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    std_of_means: tuple[float, ...]


class Checksums(Config):
    """CRC-32 (hexadecimal) of every shard of the latents, of so many ``rows`` each (fewer in the last).

    So a changed byte is noticed when its rows are first read; everything else is under the file's seal.
    """

    rows: int
    mean: tuple[str, ...]
    std: tuple[str, ...]


class LatentInfo(Provenance):
    """Everything a latent file says about itself.

    Attributes:
        rows: number of rows, flipped ones included.
        shape: (d, h, w) of one row.
        statistics: per-channel moments of the raw latents.
        id: hash of the identity and of every stored byte.
        checksums: of every shard; None in files written before there were any, which only `verify` can check.
    """

    rows: int
    shape: tuple[int, int, int]
    statistics: Statistics
    id: str
    checksums: Checksums | None = None
