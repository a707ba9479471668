import numpy as np
import pytest
import torch

from baselines.va_vae import (
    VAVAE,
    marginal_cosine_loss,
    marginal_distance_matrix_loss,
    patch_similarities,
)
from vaebench.core.errors import ConfigError
from vaebench.tokenizers.autoencoder import build_autoencoder
from vaebench.tokenizers.check import smooth_images
from vaebench.tokenizers.features import resample_features
from vaebench.tokenizers.method import StepInputs, TeacherSpec

TEACHER = TeacherSpec("stand-in", 20, (4, 4))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def tokens(x: torch.Tensor) -> np.ndarray:
    return x.numpy().astype(float).reshape(*x.shape[:2], -1).transpose(0, 2, 1)


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_marginal_cosine_against_a_loop(margin: float) -> None:
    z, f = random(3, 7, 2, 3), random(3, 7, 2, 3, seed=1)
    values = [
        max(0.0, 1 - margin - cosine(a, b)) for n in range(3) for a, b in zip(tokens(z)[n], tokens(f)[n], strict=True)
    ]
    assert marginal_cosine_loss(z, f, margin).item() == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_marginal_distance_matrix_against_a_loop(margin: float) -> None:
    z, f = random(3, 5, 2, 3), random(3, 7, 2, 3, seed=1)
    values = [
        max(0.0, abs(cosine(tokens(z)[n, i], tokens(z)[n, j]) - cosine(tokens(f)[n, i], tokens(f)[n, j])) - margin)
        for n in range(3)
        for i in range(6)
        for j in range(6)
    ]
    assert marginal_distance_matrix_loss(z, f, margin).item() == pytest.approx(np.mean(values), rel=1e-5)


def test_losses_vanish_on_alignment_and_ignore_scale() -> None:
    f = random(2, 7, 3, 3)
    assert marginal_cosine_loss(2 * f, f, 0.0).item() == pytest.approx(0, abs=1e-6)
    assert marginal_distance_matrix_loss(2 * f, f, 0.0).item() == pytest.approx(0, abs=1e-6)
    rotation = torch.linalg.qr(random(7, 7, seed=3))[0]
    rotated = torch.einsum("ndhw,de->nehw", f, rotation)
    # Relative distances survive a rotation of the channels; directions do not.
    assert marginal_distance_matrix_loss(rotated, f, 0.0).item() == pytest.approx(0, abs=1e-5)
    assert marginal_cosine_loss(rotated, f, 0.0).item() > 0.1


def test_patch_similarities_have_unit_diagonals() -> None:
    matrix = patch_similarities(random(2, 7, 3, 3))
    torch.testing.assert_close(matrix.diagonal(dim1=1, dim2=2), torch.ones(2, 9))
    torch.testing.assert_close(matrix, matrix.transpose(1, 2))


def step(features: torch.Tensor) -> StepInputs:
    tokenizer = build_autoencoder("nano", torch.Generator().manual_seed(0))
    images = smooth_images(3, 32)
    posterior = tokenizer.network.encode(images)
    latents = posterior.sample(random(3, 8, 4, 4, seed=5))
    reconstruction = tokenizer.network.decode(latents)
    return StepInputs(
        images=images,
        posterior=posterior,
        latents=latents,
        reconstruction=reconstruction,
        features=features,
        labels=None,
        reconstruction_loss=(reconstruction - images).abs().mean(),
        encoder_last_weight=tokenizer.encoder_last_weight,
        decode=tokenizer.network.decode,
        step=0,
        positions=np.arange(3),
        seed=0,
        generator=torch.Generator().manual_seed(0),
    )


def test_objective_and_adaptive_weight_against_finite_sums() -> None:
    inputs = step(random(3, 20, 4, 4))
    objective = VAVAE().objective(8, (4, 4), TEACHER, torch.Generator().manual_seed(0))
    found = objective(inputs)
    projected = torch.einsum("ndhw,ed->nehw", inputs.latents, objective.projection.weight[:, :, 0, 0])
    losses = {
        "cosine": torch.relu(0.5 - torch.cosine_similarity(projected, inputs.features)).mean(),
        "distance": marginal_distance_matrix_loss(projected, inputs.features, 0.25),
    }
    torch.testing.assert_close(found.loss, sum(losses.values()))
    for name, value in losses.items():
        torch.testing.assert_close(found.logs[name], value.detach())
    norms = [
        torch.autograd.grad(loss, inputs.encoder_last_weight, retain_graph=True)[0].norm()
        for loss in (inputs.reconstruction_loss, sum(losses.values()))
    ]
    torch.testing.assert_close(found.weight, 0.1 * norms[0] / (norms[1] + 1e-4))
    assert not found.weight.requires_grad
    # The graph is still there for the loop's own backward pass.
    (inputs.reconstruction_loss + found.weight * found.loss).backward()
    assert objective.projection.weight.grad is not None
    assert objective.projection.bias is None


def test_fixed_weight_and_clamp() -> None:
    features = random(3, 20, 4, 4)

    def weight(**config: object) -> float:
        objective = VAVAE(config).objective(8, (4, 4), TEACHER, torch.Generator().manual_seed(0))
        return float(objective(step(features)).weight)

    assert weight(adaptive=False, weight=0.5) == 0.5
    assert weight(weight=0.5) == pytest.approx(5 * weight(), rel=1e-4)
    assert weight(adaptive_maximum=1e-6) == pytest.approx(1e-7)


def test_defaults_are_the_papers() -> None:
    config = VAVAE().config
    assert (config.weight, config.cosine_margin, config.distance_margin) == (0.1, 0.5, 0.25)
    assert (config.cosine_weight, config.distance_weight, config.adaptive_maximum) == (1.0, 1.0, 1e8)


def test_no_teacher() -> None:
    with pytest.raises(ConfigError, match="none is given"):
        VAVAE().objective(8, (4, 4), None, torch.Generator())


def test_resampling_rules() -> None:
    features = random(2, 5, 4, 4)
    assert resample_features(features, (4, 4)) is features
    blocks = features.numpy().reshape(2, 5, 2, 2, 2, 2).mean((3, 5))
    np.testing.assert_allclose(resample_features(features, (2, 2), "average"), blocks, atol=1e-6)
    constant = torch.full((1, 5, 7, 7), 3.0)
    for rule in ("average", "bilinear"):
        for grid in ((4, 4), (16, 16)):
            torch.testing.assert_close(resample_features(constant, grid, rule), torch.full((1, 5, *grid), 3.0))
    # A ramp stays a ramp under bilinear interpolation, away from the borders.
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    torch.testing.assert_close(resample_features(ramp, (4, 8))[0, 0, 0, 1:-1], torch.arange(6) * 0.5 + 0.25)
