import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from baselines.factor_vae import CodeDiscriminator, FactorVAE, discriminator_loss, permuted
from vaebench.core.seeds import torch_generator
from vaebench.tokenizers import load_method
from vaebench.tokenizers.base import Posterior

ELEMENTS = 3 * 32 * 32
SMALL = {"width": 24, "layers": 2}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_dimension_is_permuted_in_its_own_way() -> None:
    codes = torch.arange(300.0).view(100, 3)
    found = permuted(codes, torch.Generator().manual_seed(0))
    assert torch.equal(found.sort(0).values, codes)
    together = [(found[:, i] - found[:, j] == i - j).float().mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert max(together) < 0.1
    assert (found[:, 0] == codes[:, 0]).float().mean() < 0.1


def test_the_network_of_the_paper() -> None:
    made = FactorVAE().objective(8, (4, 4), None, torch.Generator().manual_seed(0)).discriminator
    shapes = [(m.in_features, m.out_features) for m in made if isinstance(m, nn.Linear)]
    assert shapes == [(8, 1000), *[(1000, 1000)] * 5, (1000, 1)]
    assert [m.negative_slope for m in made if isinstance(m, nn.LeakyReLU)] == [0.2] * 6
    assert isinstance(made[-1], nn.Linear)


def test_discriminator_loss_is_the_cross_entropy() -> None:
    joint, shuffled = random(6, 1), random(6, 1, seed=1)
    two_classes = functional.binary_cross_entropy_with_logits(
        torch.cat([joint, shuffled]), torch.cat([torch.ones(6, 1), torch.zeros(6, 1)])
    )
    torch.testing.assert_close(discriminator_loss(joint, shuffled), two_classes)


def two_passes(made, posterior, latents, gamma, seed):
    """The published two passes, each with its own graph: the gradients of the posterior (and nothing else) from the
    first, of the discriminator from the second."""
    discriminator = copy.deepcopy(made.discriminator)
    mean, std = (x.detach().clone().requires_grad_() for x in (posterior.mean, posterior.std))
    noise = (latents.detach() - posterior.mean.detach()) / posterior.std.detach()
    z = (mean + std * noise).sum((2, 3)) / 4
    probability = torch.sigmoid(discriminator(z))
    correlation = (probability / (1 - probability)).log().mean()
    kl = 0.5 * (mean.square() + std.square() - 1 - std.square().log()).sum((1, 2, 3)).mean()
    ((kl + gamma * correlation) / ELEMENTS).backward()

    discriminator.zero_grad()
    z = z.detach()
    mixed = permuted(z, torch_generator(seed, "code permutation"))
    loss = -0.5 * (torch.sigmoid(discriminator(z)).log().mean() + torch.sigmoid(-discriminator(mixed)).log().mean())
    loss.backward()
    return (mean.grad, std.grad), [p.grad for p in discriminator.parameters()], (correlation, loss)


@pytest.mark.parametrize("gamma", [0.0, 35.0])
def test_one_loss_has_the_gradients_of_two_passes(make_inputs, gamma: float) -> None:
    made = FactorVAE({"gamma": gamma, **SMALL}).objective(3, (4, 4), None, torch.Generator().manual_seed(0))
    posterior = Posterior(random(6, 3, 4, 4).requires_grad_(), (0.1 + random(6, 3, 4, 4).abs()).requires_grad_())
    latents = posterior.sample(torch.Generator().manual_seed(1))
    ours, theirs, (correlation, loss) = two_passes(made, posterior, latents, gamma, seed=7)
    found = made(make_inputs(latents, posterior=posterior, seed=7))
    assert found.weight == 1.0
    found.loss.backward()
    for parameter, expected in zip((posterior.mean, posterior.std), ours, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-7)
    for parameter, expected in zip(made.parameters(), theirs, strict=True):
        assert parameter.requires_grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.logs["total_correlation"], correlation.detach(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.logs["loss_code_discriminator"], loss.detach())


def test_weights_and_codes_of_the_loss(make_inputs) -> None:
    posterior = Posterior(random(6, 3, 4, 4), 0.1 + random(6, 3, 4, 4).abs())
    for config, cells, weight in (({}, 1, 1 / ELEMENTS), ({"codes": "positions", "reduction": "sum"}, 16, 1.0)):
        made = FactorVAE({**config, **SMALL}).objective(3, (4, 4), None, torch.Generator().manual_seed(0))
        found = made(make_inputs(random(6, 3, 4, 4), posterior=posterior))
        nats = posterior.kl().mean() + 35 * cells * found.logs["total_correlation"]
        torch.testing.assert_close(found.loss.detach(), weight * nats + found.logs["loss_code_discriminator"])


def test_the_discriminator_learns_the_total_correlation(make_inputs) -> None:
    """Of a Gaussian pair with correlation 0.8: -log(1 - 0.64) / 2 nats."""
    made = FactorVAE({"width": 64, "layers": 2}).objective(2, (1, 1), None, torch.Generator().manual_seed(0))
    optimizer, estimates = torch.optim.Adam(made.parameters(), 3e-3), []
    for step in range(500):
        z = random(512, 2, seed=step) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
        latents = z[:, :, None, None]
        posterior = Posterior(latents, torch.ones_like(latents))
        found = made(make_inputs(latents, posterior=posterior, seed=step, positions=np.arange(512)))
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
        estimates.append(found.logs["total_correlation"].item())
    assert np.mean(estimates[-100:]) == pytest.approx(-math.log(1 - 0.64) / 2, rel=0.15)


def test_permutations_belong_to_the_step(make_inputs) -> None:
    made = FactorVAE(SMALL).objective(3, (4, 4), None, torch.Generator().manual_seed(0))
    posterior = Posterior(random(6, 3, 4, 4), torch.ones(6, 3, 4, 4))

    def learning(seed: int) -> float:
        found = made(make_inputs(random(6, 3, 4, 4), posterior=posterior, seed=seed))
        return found.logs["loss_code_discriminator"].item()

    assert learning(1) == learning(1) != learning(2)


def test_defaults_and_initial_weights() -> None:
    config = load_method("factor-vae").config
    assert (config.gamma, config.codes, config.width, config.layers) == (35.0, "pooled", 1000, 6)

    def weights(seed: int) -> torch.Tensor:
        made = FactorVAE(SMALL).objective(3, (4, 4), None, torch.Generator().manual_seed(seed))
        assert isinstance(made.discriminator, CodeDiscriminator)
        return made.discriminator[0].weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
