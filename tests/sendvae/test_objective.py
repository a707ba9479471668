import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from sendvae.method import SendVAE
from sendvae.noise import draw_noise
from sendvae.objective import AlignmentObjective, alignment_loss
from vaebench.core.errors import ConfigError, MismatchError
from vaebench.tokenizers.base import Posterior
from vaebench.tokenizers.method import StepInputs, TeacherSpec

TEACHER = TeacherSpec("stand-in", 20, (4, 4))
SMALL = {"width": 32, "projector_hidden": 24}


def objective(grid: tuple[int, int] = (4, 4), **config: object) -> AlignmentObjective:
    return SendVAE({**SMALL, **config}).objective(8, grid, TEACHER, torch.Generator().manual_seed(0))


def inputs(latents: torch.Tensor, features: torch.Tensor | None, seed: int = 0) -> StepInputs:
    images = torch.zeros(len(latents), 3, 32, 32)
    return StepInputs(
        images=images,
        posterior=Posterior(latents, torch.ones_like(latents)),
        latents=latents,
        reconstruction=images,
        features=features,
        labels=None,
        reconstruction_loss=latents.sum(),
        encoder_last_weight=nn.Parameter(torch.zeros(1)),
        decode=lambda latents: images,
        step=0,
        positions=np.arange(len(latents)),
        seed=seed,
        generator=torch.Generator().manual_seed(seed),
    )


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_alignment_loss_against_a_loop() -> None:
    predicted, features = random(3, 5, 2, 4), random(3, 5, 2, 4, seed=1)
    p, f = predicted.numpy().astype(float), features.numpy().astype(float)
    values = [
        1 - p[n, :, i, j] @ f[n, :, i, j] / np.linalg.norm(p[n, :, i, j]) / np.linalg.norm(f[n, :, i, j])
        for n in range(3)
        for i in range(2)
        for j in range(4)
    ]
    assert alignment_loss(predicted, features).item() == pytest.approx(np.mean(values), rel=1e-5)
    assert alignment_loss(predicted, 3 * predicted).item() == pytest.approx(0, abs=1e-6)
    assert alignment_loss(predicted, -predicted).item() == pytest.approx(2, abs=1e-6)


def test_noise_on_is_a_function_of_the_seed_and_off_of_nothing() -> None:
    latents, features = random(6, 8, 4, 4), random(6, 20, 4, 4, seed=1)

    def losses(noise: bool) -> list[float]:
        aligned = objective(noise=noise)
        return [aligned(inputs(latents, features, seed)).loss.item() for seed in (0, 0, 1)]

    first, same, other = losses(noise=True)
    assert first == same != other
    assert len(set(losses(noise=False))) == 1
    assert losses(noise=False)[0] != first


def test_loss_composes_normalise_inject_map_compare() -> None:
    latents, features = 5 + 3 * random(6, 8, 4, 4), random(6, 20, 4, 4, seed=1)
    aligned = objective()
    found = aligned(inputs(latents, features, seed=3))
    normalised = (latents - latents.mean((0, 2, 3), keepdim=True)) / (
        latents.var((0, 2, 3), keepdim=True, correction=0) + 1e-4
    ).sqrt()
    noise, alpha = draw_noise(latents, np.arange(6), 3)
    alpha = alpha[:, None, None, None]
    cosine = torch.cosine_similarity(aligned.mapper((1 - alpha) * noise + alpha * normalised), features)
    torch.testing.assert_close(found.loss, (1 - cosine).mean())
    torch.testing.assert_close(found.logs["cosine"], cosine.mean().detach())
    assert found.weight == 1.0
    assert not found.logs["cosine"].requires_grad


def test_normalisation_rules() -> None:
    latents = 5 + 3 * random(64, 8, 4, 4)
    assert torch.equal(objective(normalisation="none").normalise(latents), latents)
    batch = objective()
    assert batch.normalise(latents).mean().item() == pytest.approx(0, abs=1e-5)
    assert batch.normalise(latents).std().item() == pytest.approx(1, abs=1e-2)
    # Running statistics take over in evaluation: they have moved from (0, 1) towards (5, 9) twice by a tenth.
    shifted = batch.eval().normalise(torch.full((1, 8, 4, 4), 5.0))
    assert shifted.mean().item() == pytest.approx((5 - 0.95) / (0.81 + 0.19 * 9) ** 0.5, rel=0.05)
    fixed = objective(normalisation={"shift": (5.0,) * 8, "scale": (0.5,) * 8, "source": "test"})
    torch.testing.assert_close(fixed.normalise(latents), (latents - 5) / 2)
    assert not list(batch.batch_norm.parameters())


def test_batch_normalisation_makes_the_loss_blind_to_scale() -> None:
    latents, features = random(32, 8, 4, 4), random(32, 20, 4, 4, seed=1)
    small, large = (objective()(inputs(c * latents, features)).loss for c in (1.0, 100.0))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rule", ["bilinear", "average"])
@pytest.mark.parametrize("grid", [(2, 2), (8, 8), (4, 6)])
def test_other_grids_are_resampled_by_rule(rule: str, grid: tuple[int, int]) -> None:
    found = objective(grid, resample=rule)(inputs(random(2, 8, *grid), random(2, 20, 4, 4)))
    assert found.loss.isfinite()


def test_other_grids_are_refused_on_request() -> None:
    with pytest.raises(MismatchError, match="features are 4 x 4 and the latents 8 x 8"):
        objective((8, 8), resample="refuse")(inputs(random(2, 8, 8, 8), random(2, 20, 4, 4)))


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(ConfigError, match="none is given"):
        SendVAE().objective(8, (4, 4), None, torch.Generator())
    with pytest.raises(ConfigError, match="width 32 with 5 heads"):
        objective(heads=5)
    with pytest.raises(ConfigError, match="patch_size 3 does not divide"):
        objective(patch_size=3)
    with pytest.raises(ConfigError, match="2 channels; the latents have 8"):
        objective(normalisation={"shift": (0, 0), "scale": (1, 1), "source": "test"})
    with pytest.raises(ConfigError, match="depth"):
        SendVAE({"depth": -1})
    with pytest.raises(MismatchError, match="Pass a teacher"):
        objective()(inputs(random(2, 8, 4, 4), None))


def test_defaults_are_the_papers() -> None:
    config = SendVAE().config
    assert (config.weight, config.depth, config.noise, config.patch_size) == (1.0, 1, True, 1)
    mapper = SendVAE().objective(8, (2, 2), dataclasses.replace(TEACHER, channels=768), torch.Generator()).mapper
    assert mapper.layers[0].self_attn.num_heads == 12
    assert [layer.out_features for layer in mapper.projector if isinstance(layer, nn.Linear)] == [2048, 2048, 768]


def test_training_the_objective_learns_a_mapping() -> None:
    latents = random(64, 8, 4, 4)
    features = torch.einsum("ndhw,de->nehw", latents, random(8, 20, seed=2))
    aligned = objective(noise=False)
    optimiser = torch.optim.AdamW(aligned.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = aligned(inputs(latents, features)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
