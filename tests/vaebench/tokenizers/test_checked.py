"""What a tokenizer gives is refused where it breaks the contract, and is left as it is where it keeps it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from vaebench.core.errors import DataError, MismatchError, NumericalError
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec
from vaebench.tokenizers.checked import Checked
from vaebench.vision.transforms import rounded, to_uint8

IMAGES = torch.rand(3, 3, 8, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
LATENTS = functional.pixel_unshuffle(IMAGES, 4)
NAN = torch.full_like(LATENTS, torch.nan)


class Told(Tokenizer):
    """Gives what it is told to."""

    asked = 0

    def __init__(self, posterior=None, images=None):
        self.posterior, self.images = posterior, images

    @property
    def spec(self):
        self.asked += 1
        return TokenizerSpec(name="told", method="test", f=4, d=48)

    def encode(self, images):
        return self.posterior

    def decode(self, latents):
        return self.images


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_keeps_the_contract_passes_untouched(dtype):
    posterior, images = Posterior(LATENTS.to(dtype), torch.zeros_like(LATENTS)), IMAGES.to(dtype)
    tokenizer = Told(posterior, images)
    checked = Checked(tokenizer)
    assert checked.encode(IMAGES) is posterior
    assert checked.decode(LATENTS) is images
    assert torch.equal(rounded(images), to_uint8(images))
    assert tokenizer.asked == 1, "a spec hashes the weights"


@pytest.mark.parametrize(
    ("posterior", "error", "said"),
    [
        (LATENTS, DataError, "encodes to a Tensor, no Posterior"),
        ((LATENTS, LATENTS), DataError, "encodes to a tuple, no Posterior"),
        (Posterior(LATENTS, 0.0), DataError, "gives as posterior std a float, no tensor"),
        (Posterior(LATENTS.numpy(), LATENTS), DataError, "gives as posterior mean a ndarray, no tensor"),
        (Posterior(LATENTS.long(), LATENTS), DataError, "gives posterior mean of torch.int64, no floats"),
        (Posterior(LATENTS[:, :4], LATENTS), MismatchError, r"says f4d48.*\(3, 48, 2, 4\).*mean \(3, 4, 2, 4\)"),
        (Posterior(LATENTS.flatten(1), LATENTS), MismatchError, r"says.*mean \(3, 384\)"),
        (Posterior(LATENTS, torch.zeros(())), MismatchError, r"says.*std \(\)"),
        (Posterior(NAN, LATENTS), NumericalError, "encodes images to NaN or infinity"),
        (Posterior(LATENTS, LATENTS / 0), NumericalError, "encodes images to NaN or infinity"),
    ],
)
def test_encode(posterior, error, said):
    with pytest.raises(error, match=f"'told' {said}.*vaebench tokenizers check"):
        Checked(Told(posterior)).encode(IMAGES)


def test_whoever_looks_for_nan_anyway_may_leave_it_out():
    assert Checked(Told(Posterior(NAN, NAN))).encode(IMAGES, finite=False).mean is NAN


@pytest.mark.parametrize(
    ("images", "error", "said"),
    [
        (np.zeros((3, 3, 8, 16), np.float32), DataError, "gives as decoded images a ndarray, no tensor"),
        (to_uint8(IMAGES), DataError, "gives decoded images of torch.uint8, no floats"),
        (IMAGES[..., :8, :8], DataError, r"says f4.*\(3, 3, 8, 16\).*\(3, 3, 8, 8\)"),
        (IMAGES[:1], DataError, r"says f4.*gave \(1, 3, 8, 16\)"),
        (IMAGES / 0, NumericalError, "decodes latents to NaN or infinity"),
    ],
)
def test_decode(images, error, said):
    with pytest.raises(error, match=f"'told' {said}.*vaebench tokenizers check"):
        Checked(Told(images=images)).decode(LATENTS)


def test_a_decoder_that_hides_what_is_wrong_with_its_latents():
    with pytest.raises(NumericalError, match=r"Latents of tokenizer 'told' hold NaN.*vaebench tokenizers check"):
        Checked(Told(images=IMAGES)).decode(NAN)
