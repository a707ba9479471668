"""A tokenizer whose results are looked at, batch by batch: one from outside may give anything.

`vaebench.tokenizers.check` tries the whole contract; this is as much of it as can be afforded for every batch.
"""

from typing import Any

from torch import Tensor

from vaebench.core.errors import DataError, MismatchError, NumericalError
from vaebench.tokenizers.base import Posterior, Tokenizer

REMEDY = "See what is wrong with it: vaebench tokenizers check REF"


class Checked:
    """`encode` and `decode` of a tokenizer, values untouched, of what keeps the contract; half precision may pass.

    Attributes:
        spec: of the tokenizer as it was when this was made; asking for it anew is not free.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.spec = tokenizer, tokenizer.spec
        self._said = f"Tokenizer '{self.spec.name}'"

    def encode(self, images: Tensor, finite: bool = True) -> Posterior:
        """The posterior of images (n, 3, H, W), mean and std of shape (n, d, H/f, W/f).

        Args:
            finite: look for NaN and infinity, for which a GPU is waited for; False where somebody else does.

        Raises:
            DataError: no `Posterior` of float tensors.
            MismatchError: not of the shape that the spec promises.
            NumericalError: NaN or infinity.
        """
        posterior = self.tokenizer.encode(images)
        if not isinstance(posterior, Posterior):
            raise DataError(
                f"{self._said} encodes to a {type(posterior).__name__}, no Posterior.",
                f"Return Posterior(mean, std). {REMEDY}",
            )
        n, f, d = len(images), self.spec.f, self.spec.d
        shape = (n, d, images.shape[2] // f, images.shape[3] // f)
        for name, values in (("mean", posterior.mean), ("std", posterior.std)):
            self._require_floats(f"posterior {name}", values)
            if values.shape != shape:
                raise MismatchError(
                    f"{self._said} says f{f}d{d}, so {n} images have latents {shape}; "
                    f"it gave a {name} {tuple(values.shape)}.",
                    f"Correct its spec. {REMEDY}",
                )
        if finite and not (posterior.mean.isfinite().all() & posterior.std.isfinite().all()):
            raise NumericalError(f"{self._said} encodes images to NaN or infinity.", REMEDY)
        return posterior

    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, 3, f h, f w) of latents (n, d, h, w), all of them finite, which a GPU is waited for once to tell.

        Raises:
            DataError: no float tensor, or one of another shape.
            NumericalError: NaN or infinity, in these or already in the latents.
        """
        images = self.tokenizer.decode(latents)
        self._require_floats("decoded images", images)
        f, (n, _, height, width) = self.spec.f, latents.shape
        shape = (n, 3, f * height, f * width)
        if images.shape != shape:
            raise DataError(
                f"{self._said} says f{f}, so latents {tuple(latents.shape)} decode to images {shape}; "
                f"it gave {tuple(images.shape)}.",
                REMEDY,
            )
        # A decoder that quantises or clamps would hide what is wrong with its latents.
        if not (images.isfinite().all() & latents.isfinite().all()):
            if latents.isfinite().all():
                raise NumericalError(f"{self._said} decodes latents to NaN or infinity.", REMEDY)
            raise NumericalError(f"Latents of tokenizer '{self.spec.name}' hold NaN or infinity.", REMEDY)
        return images

    def _require_floats(self, what: str, values: Any) -> None:
        if not isinstance(values, Tensor):
            raise DataError(f"{self._said} gives as {what} a {type(values).__name__}, no tensor.", REMEDY)
        if not values.is_floating_point():
            raise DataError(f"{self._said} gives {what} of {values.dtype}, no floats.", REMEDY)
