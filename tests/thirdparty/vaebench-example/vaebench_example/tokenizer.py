"""A tokenizer without weights: one level of the orthonormal Haar wavelet, f2d12."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from vaebench.core.files import write_json
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec, check_images, weights_hash

# Rows: mean, horizontal, vertical and diagonal detail of a 2 x 2 block, orthonormal, so the inverse is the transpose.
HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2.0


class Haar(Tokenizer):
    """Every 2 x 2 block of a colour becomes four coefficients; decoding is exact."""

    summary = "Haar wavelet, f2d12, no training"
    deterministic = True
    spec = TokenizerSpec(
        name="example-haar",
        method="example-haar",
        f=2,
        d=12,
        source="vaebench-example",
        checkpoint_hash=weights_hash({"haar": HAAR}),
    )

    def encode(self, images: Tensor) -> Posterior:
        check_images(images, 2)
        blocks = functional.pixel_unshuffle(images, 2).unflatten(1, (3, 4))
        mean = torch.einsum("kb,ncbhw->nckhw", HAAR.to(images), blocks).flatten(1, 2)
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents: Tensor) -> Tensor:
        blocks = torch.einsum("kb,nckhw->ncbhw", HAAR.to(latents), latents.unflatten(1, (3, 4)))
        return functional.pixel_shuffle(blocks.flatten(1, 2), 2)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "tokenizer.json", self.spec.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls()
