import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from vaebench.core.errors import DataError
from vaebench.tokenizers.base import LatentNormalisation, Posterior, check_images, weights_hash


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kl_matches_numerical_integration() -> None:
    posterior = Posterior(torch.tensor([[[[0.7]], [[-1.2]]]]), torch.tensor([[[[0.4]], [[1.5]]]]))
    expected = 0.0
    for mean, std in ((0.7, 0.4), (-1.2, 1.5)):
        q, p = stats.norm(mean, std), stats.norm()
        expected += integrate.quad(lambda x, q=q, p=p: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), -12, 12)[0]
    assert posterior.kl().tolist() == pytest.approx([expected], rel=1e-5)


def test_kl_of_the_prior_is_zero_and_its_gradient_finite_at_the_clamp() -> None:
    assert Posterior(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)).kl().tolist() == [0.0, 0.0]
    std = torch.full((1, 1, 1, 1), math.exp(-15.0), requires_grad=True)
    Posterior(torch.zeros(1, 1, 1, 1), std).kl().sum().backward()
    assert std.grad is not None
    assert std.grad.isfinite().all()


def test_sample_has_the_posterior_moments_and_takes_noise_or_generator() -> None:
    posterior = Posterior(torch.full((20_000, 1, 1, 1), 3.0), torch.full((20_000, 1, 1, 1), 0.5))
    drawn = posterior.sample(generator())
    assert drawn.mean().item() == pytest.approx(3.0, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.02)
    noise = torch.randn(posterior.mean.shape, generator=generator())
    assert torch.equal(drawn, posterior.sample(noise))


def test_normalisation_whitens_channels_and_inverts() -> None:
    scales, shifts = torch.tensor([0.1, 5.0, 2.0])[:, None, None], torch.tensor([4.0, -1.0, 0.0])[:, None, None]
    latents = torch.randn(500, 3, 4, 4, generator=generator()) * scales + shifts
    array = latents.numpy()
    normalisation = LatentNormalisation.from_statistics(array.mean((0, 2, 3)), array.std((0, 2, 3)), "test")
    normalised = normalisation.normalise(latents)
    np.testing.assert_allclose(normalised.mean((0, 2, 3)), np.zeros(3), atol=1e-4)
    np.testing.assert_allclose(normalised.std((0, 2, 3)), np.ones(3), rtol=1e-3)
    torch.testing.assert_close(normalisation.denormalise(normalised), latents, rtol=1e-5, atol=1e-5)
    assert LatentNormalisation.model_validate_json(normalisation.model_dump_json()) == normalisation


def test_normalisation_refuses_constant_channels_and_foreign_latents() -> None:
    with pytest.raises(DataError, match=r"\[1\] are constant"):
        LatentNormalisation.from_statistics([0.0, 0.0], [1.0, 0.0], "test")
    with pytest.raises(DataError, match="constant or not numbers"):
        LatentNormalisation.from_statistics([0.0], [float("nan")], "test")
    with pytest.raises(DataError, match="do not have the 2 channels"):
        LatentNormalisation(shift=(0, 0), scale=(1, 1), source="test").normalise(torch.zeros(1, 3, 4, 4))
    for shift, scale in (((0.0,), (1.0, 1.0)), ((), ()), ((0.0,), (0.0,)), ((math.inf,), (1.0,))):
        with pytest.raises(ValueError, match=r"channels|finite"):
            LatentNormalisation(shift=shift, scale=scale, source="test")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 65, 64), "65 x 64 is not divisible by the downsampling factor f=16. .*64 x 64 or 80 x 80"),
        (torch.zeros(1, 3, 0, 64), "0 x 64"),
        (torch.zeros(1, 1, 64, 64), "N x 3 x H x W"),
        (torch.zeros(3, 64, 64), "N x 3 x H x W"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 64, 64), 1.02), r"run from 1.02 to 1.02; a tokenizer takes \[-1, 1\]"),
        (torch.full((1, 3, 64, 64), float("nan")), "nan"),
    ],
)
def test_bad_images_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_images(images, 16)


def test_good_images_pass_with_rounding_overshoot() -> None:
    check_images(torch.full((1, 3, 64, 128), 1.005), 16)
    check_images(torch.zeros(0, 3, 64, 64), 16)


def test_weights_hash_is_of_the_content() -> None:
    weight = torch.randn(8, 4, 3, 3, generator=generator())
    tensors = {"b": weight, "a": torch.zeros(2, dtype=torch.bfloat16)}
    reference = weights_hash(tensors)
    reordered = {"a": tensors["a"].clone(), "b": weight.clone().to(memory_format=torch.channels_last)}
    assert weights_hash(reordered) == reference
    changed = weight.clone()
    changed[0, 0, 0, 0] += 1e-6
    others = [
        tensors | {"b": changed},
        tensors | {"b": weight.double()},
        tensors | {"b": weight.reshape(4, 8, 3, 3)},
        {"a": tensors["a"], "c": weight},
    ]
    assert len({reference, *map(weights_hash, others)}) == 5
