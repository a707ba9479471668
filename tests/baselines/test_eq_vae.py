import math

import numpy as np
import pytest
import torch

from baselines.eq_vae import EQVAE, EQVAEConfig, Transformation, draw, transform
from vaebench.core.errors import ConfigError
from vaebench.core.seeds import numpy_generator
from vaebench.tokenizers import load_method


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bilinear(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Values at the centres of the new pixels, from the four nearest centres of old ones."""
    height, width = plane.shape
    found = np.empty((rows, columns))
    for i in range(rows):
        for j in range(columns):
            y = max((i + 0.5) * height / rows - 0.5, 0)
            x = max((j + 0.5) * width / columns - 0.5, 0)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = (1 - x + left) * plane[top, left] + (x - left) * plane[top, right]
            lower = (1 - x + left) * plane[bottom, left] + (x - left) * plane[bottom, right]
            found[i, j] = (1 - y + top) * upper + (y - top) * lower
    return found


@pytest.mark.parametrize(("factor", "tau"), [(1, Transformation(3, 5, 1)), (2, Transformation(2, 3, 3))])
def test_transformation_against_loops(factor: int, tau: Transformation) -> None:
    planes = random(2, 3, 8, 8)
    found = transform(planes, tau, factor).numpy()
    for image, expected in zip(found, planes.numpy(), strict=True):
        for plane, source in zip(image, expected, strict=True):
            turned = np.rot90(bilinear(source, factor * tau.rows, factor * tau.columns), tau.quarters)
            np.testing.assert_allclose(plane, turned, atol=1e-5)


def test_antialiasing_takes_the_mean_of_what_it_skips() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(16).expand(1, 1, 32, 32)
    tau = Transformation(8, 8, 0)
    assert transform(stripes, tau, antialias=True)[..., 1:-1].abs().max() < 0.1
    spikes = torch.zeros(1, 1, 32, 32)
    spikes[..., ::4] = 1  # what lies between the samples of factor 4 is not seen without
    assert transform(spikes, tau).abs().max() == 0


def draws(n: int, grid: tuple[int, int] = (32, 32), **config: object) -> list[Transformation | None]:
    return [draw(EQVAEConfig(**config), grid, numpy_generator(seed, "test")) for seed in range(n)]


def test_law_of_the_transformations() -> None:
    found = draws(4000)
    taus = [tau for tau in found if tau is not None]
    assert len(taus) / len(found) == pytest.approx(0.5, abs=0.03)
    for sizes in ([tau.rows for tau in taus], [tau.columns for tau in taus]):
        assert set(sizes) == set(range(8, 32))  # the source's 8/32 ... 31/32
        assert np.mean(sizes) == pytest.approx(19.5, abs=0.7)
    counts = np.bincount([tau.quarters for tau in taus], minlength=4)
    assert counts[0] == 0
    assert counts[1:] / len(taus) == pytest.approx(np.full(3, 1 / 3), abs=0.05)
    assert abs(np.corrcoef([tau.rows for tau in taus], [tau.columns for tau in taus])[0, 1]) < 0.1


def test_settings_of_the_law() -> None:
    assert all(tau is None for tau in draws(50, probability=0))
    assert all(tau.rows == tau.columns for tau in draws(50, probability=1, anisotropic=False))
    assert {tau.quarters for tau in draws(50, probability=1, rotate=False)} == {0}
    assert {tau.rows for tau in draws(50, probability=1, minimum_scale=1)} == {32}
    assert {tau.rows for tau in draws(200, (4, 4), probability=1)} == {2, 3}
    assert {(tau.rows, tau.columns) for tau in draws(200, (1, 3), probability=1)} == {(1, 2)}


def objective(grid: tuple[int, int] = (4, 4), **config: object):
    return EQVAE(config).objective(8, grid, None, torch.Generator())


def test_latents_and_images_are_transformed_alike() -> None:
    # A decoder that repeats latents commutes with rotations, one that does nothing with every transformation.
    made = objective((8, 8), probability=1)
    planes = random(3, 2, 8, 8)
    for seed in range(5):
        decoded = made.to_decode(planes, np.arange(3), seed)
        assert torch.equal(decoded, made.to_compare(planes, np.arange(3), seed))
    turning = objective((8, 8), probability=1, minimum_scale=1)

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return latents.repeat_interleave(4, 2).repeat_interleave(4, 3)

    for seed in range(5):
        wanted = turning.to_compare(decode(planes), np.arange(3), seed)
        assert torch.equal(decode(turning.to_decode(planes, np.arange(3), seed)), wanted)


def test_one_transformation_for_all_rows_of_a_step() -> None:
    made, latents = objective(probability=1), random(6, 8, 4, 4)
    whole = made.to_decode(latents, np.arange(6), 5)
    assert torch.equal(whole[2:4], made.to_decode(latents[2:4], np.arange(2, 4), 5))
    shapes = {made.to_decode(latents, np.arange(6), seed).shape[2:] for seed in range(20)}
    assert len(shapes) > 3


def test_gradient_reaches_the_latents_through_the_transformation() -> None:
    latents = random(2, 8, 4, 4).requires_grad_()
    decoded = objective(probability=1, minimum_scale=1).to_decode(latents, np.arange(2), 0)
    weights = random(*decoded.shape, seed=1)
    (decoded * weights).sum().backward()
    quarters = draw(EQVAEConfig(probability=1, minimum_scale=1), (4, 4), numpy_generator(0, "eq-vae transformation"))
    torch.testing.assert_close(latents.grad, torch.rot90(weights, -quarters.quarters, (2, 3)))


def test_training(bench, tmp_path, monkeypatch) -> None:
    one = bench.train(EQVAE(), tmp_path / "one", steps=8)
    pieces = bench.train_in_two_pieces(EQVAE, tmp_path / "pieces", monkeypatch, steps=8)
    assert one.spec == pieces.spec
    bench.train(EQVAE(), tmp_path / "parts", steps=8, accumulation=2)
    for whole, part in zip(bench.rows(tmp_path / "one"), bench.rows(tmp_path / "parts"), strict=True):
        assert part == pytest.approx(whole, rel=5e-3, abs=1e-5)
    off = bench.train(EQVAE({"probability": 0}), tmp_path / "off")
    plain = bench.train(load_method("kl-vae"), tmp_path / "plain")
    assert off.spec.checkpoint_hash == plain.spec.checkpoint_hash
    first, second = (bench.rows(tmp_path / name) for name in ("one", "plain"))
    assert any(a["loss_reconstruction"] != b["loss_reconstruction"] for a, b in zip(first, second, strict=False))


@pytest.mark.parametrize(
    ("config", "taus"),
    [
        ({"rotate": False}, [(4, 4, 0), (3, 6, 0), (6, 5, 0)]),
        ({"minimum_scale": 1, "probability": 0.8}, [(8, 8, 1), (8, 8, 2), (8, 8, 3)]),
    ],
)
def test_equivariance_error_falls(fit, config: dict[str, float], taus: list[tuple[int, int, int]]) -> None:
    errors = []
    for method in (load_method("kl-vae"), EQVAE(config)):
        autoencoder, images = fit(method, 300)
        latents = autoencoder.encode(images).mean
        gaps = [
            autoencoder.decoder(transform(latents, tau)) - transform(images, tau, 2)
            for tau in (Transformation(*numbers) for numbers in taus)
        ]
        errors.append(float(torch.stack([gap.square().mean() for gap in gaps]).mean()))
    assert errors[1] < 0.75 * errors[0]


def test_bad_settings_and_defaults() -> None:
    for wrong in ({"probability": 1.2}, {"minimum_scale": 0}, {"minimum_scale": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            EQVAE(wrong)
    config = load_method("eq-vae").config
    assert (config.probability, config.minimum_scale, config.anisotropic, config.rotate) == (0.5, 0.25, True, True)
    assert config.antialias is False
