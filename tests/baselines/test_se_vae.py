import numpy as np
import pytest
import torch

from baselines.se_vae import SEVAE, downsized
from vaebench.core.errors import ConfigError
from vaebench.tokenizers import load_method


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def blocks(planes: torch.Tensor, factor: int) -> np.ndarray:
    """Planes cut into factor x factor blocks: N x c x H' x W' x factor x factor."""
    n, c, h, w = planes.shape
    return planes.numpy().reshape(n, c, h // factor, factor, w // factor, factor).transpose(0, 1, 2, 4, 3, 5)


def objective(grid: tuple[int, int] = (8, 8), **config: object):
    return SEVAE(config).objective(8, grid, None, torch.Generator())


def test_downsizing_is_a_mean_over_blocks() -> None:
    planes = random(2, 3, 8, 8)
    np.testing.assert_allclose(downsized(planes, 2), blocks(planes, 2).mean((4, 5)), atol=1e-6)
    inner = blocks(planes, 4)[..., 1:3, 1:3].mean((4, 5))
    np.testing.assert_allclose(downsized(planes, 4), inner, atol=1e-6)
    assert (downsized(planes, 4, antialias=True) - downsized(planes, 4)).abs().max() > 0.1
    constant = torch.full((1, 1, 8, 8), 3.0)
    torch.testing.assert_close(downsized(constant, 4, antialias=True), torch.full((1, 1, 2, 2), 3.0))


def test_loss_against_numpy(make_inputs) -> None:
    latents = random(2, 3, 8, 8)

    def decode(z: torch.Tensor) -> torch.Tensor:
        return 2 * z.repeat_interleave(4, 2).repeat_interleave(4, 3)

    inputs = make_inputs(latents, decode=decode)
    expected = {}
    for factor, trim in ((2, slice(None)), (4, slice(1, 3))):
        image = blocks(inputs.images, factor)[..., trim, trim].mean((4, 5))
        small = blocks(latents, factor)[..., trim, trim].mean((4, 5))
        expected[factor] = np.abs(2 * small.repeat(4, 2).repeat(4, 3) - image).mean()
    found = objective()(inputs)
    assert found.weight == 0.25
    assert {name: value.item() for name, value in found.logs.items()} == pytest.approx(
        {"loss_scale_2": expected[2], "loss_scale_4": expected[4]}, rel=1e-5
    )
    assert found.loss.item() == pytest.approx((expected[2] + expected[4]) / 2, rel=1e-5)
    squared = make_inputs(latents, decode=decode, distance=lambda a, b: (a - b).square().mean())
    assert objective(factors=(2,))(squared).loss != found.logs["loss_scale_2"]


def test_gradient_reaches_decoder_and_latents(make_inputs) -> None:
    latents, gain = random(2, 3, 8, 8).requires_grad_(), torch.tensor(2.0, requires_grad=True)
    inputs = make_inputs(latents, decode=lambda z: gain * z.repeat_interleave(4, 2).repeat_interleave(4, 3))
    objective(factors=(4,))(inputs).loss.backward()
    assert gain.grad.abs() > 0
    reached = blocks(latents.grad, 4)[0, 0, 0, 0] != 0
    assert reached.tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]


def test_factors_that_the_grid_does_not_allow() -> None:
    assert objective((16, 8)).factors == (2, 4)
    assert objective((4, 4)).factors == (2,)
    assert objective((8, 6)).factors == (2,)
    assert objective((9, 9), factors=(3, 2)).factors == (3,)
    with pytest.raises(ConfigError, match="divides latents of 5 x 5"):
        objective((5, 5))


def test_training(bench, tmp_path, monkeypatch) -> None:
    one = bench.train(SEVAE(), tmp_path / "one")
    assert one.spec == bench.train_in_two_pieces(SEVAE, tmp_path / "pieces", monkeypatch).spec
    bench.train(SEVAE(), tmp_path / "parts", accumulation=2)
    for whole, part in zip(bench.rows(tmp_path / "one"), bench.rows(tmp_path / "parts"), strict=True):
        assert part == pytest.approx(whole, rel=5e-3, abs=1e-5)
        assert whole["loss"] == pytest.approx(
            whole["loss_reconstruction"] + 1e-6 * whole["loss_kl"] + 0.25 * whole["loss_objective"], rel=1e-5
        )


def test_error_of_downsized_latents_falls(fit) -> None:
    errors = []
    for method in (load_method("kl-vae"), SEVAE({"weight": 1.0})):
        autoencoder, images = fit(method)
        decoded = autoencoder.decoder(downsized(autoencoder.encode(images).mean, 2))
        errors.append(float((decoded - downsized(images, 2)).square().mean()))
    assert errors[1] < 0.75 * errors[0]


def test_bad_settings_and_defaults() -> None:
    for wrong in ({"weight": -1}, {"factors": ()}, {"factors": (1,)}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SEVAE(wrong)
    config = load_method("se-vae").config
    assert (config.weight, config.factors, config.antialias) == (0.25, (2, 4), False)
