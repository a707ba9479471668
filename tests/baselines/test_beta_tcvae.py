import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from baselines.beta_tcvae import BetaTCVAE, decompose, log_normal, log_weights
from baselines.disentangling import Codes
from vaebench.core.errors import ConfigError
from vaebench.tokenizers import load_method
from vaebench.tokenizers.base import Posterior

ELEMENTS = 3 * 32 * 32


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes(n: int, d: int) -> Codes:
    mean, std = random(n, d), 0.3 + random(n, d, seed=1).abs()
    return Codes(mean + std * random(n, d, seed=2), mean, std)


def slow(own: Codes, batch: Codes, weights: np.ndarray) -> tuple[float, float, float]:
    """The three parts, one density after the other."""
    parts = []
    for i, z in enumerate(own.sample.numpy()):
        conditional = math.prod(norm.pdf(z, own.mean[i], own.std[i]))
        every = [norm.pdf(z, batch.mean[m], batch.std[m]) for m in range(len(batch.mean))]
        aggregate = sum(w * math.prod(q) for w, q in zip(weights[i], every, strict=True))
        marginals = [sum(w * q[j] for w, q in zip(weights[i], every, strict=True)) for j in range(len(z))]
        parts.append(
            (
                math.log(conditional / aggregate),
                math.log(aggregate / math.prod(marginals)),
                math.log(math.prod(marginals) / math.prod(norm.pdf(z))),
            )
        )
    return tuple(np.mean(parts, 0))


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_against_a_plain_slow_computation(sampling: str) -> None:
    batch = codes(7, 3)
    own = Codes(batch.sample[2:5], batch.mean[2:5], batch.std[2:5])
    weights = log_weights(sampling, 3, 7, 2, 50)
    found = decompose(own, batch, weights)
    np.testing.assert_allclose(found, slow(own, batch, weights.exp().numpy()), rtol=1e-4, atol=1e-5)
    exact = log_normal(own.sample, own.mean, own.std) - log_normal(own.sample, torch.zeros(()), torch.ones(()))
    assert sum(found).item() == pytest.approx(exact.sum(1).mean().item(), rel=1e-4)


@pytest.mark.parametrize(("sampling", "n"), [("stratified", 1500), ("weighted", 1500)])
def test_against_the_analytic_gaussian(sampling: str, n: int) -> None:
    """Means drawn from N(0, S) and one spread s make the aggregate posterior N(0, S + s^2)."""
    root = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.5, 0.0], [-0.5, 0.3, 1.2]])
    std = 0.5
    mean = random(n, 3) @ root.T
    batch = Codes(mean + std * random(n, 3, seed=1), mean, torch.full((n, 3), std))
    covariance = root @ root.T + std**2 * torch.eye(3)
    variances = covariance.diagonal()
    expected = (
        0.5 * (covariance.logdet() - 3 * math.log(std**2)),
        0.5 * (variances.log().sum() - covariance.logdet()),
        0.5 * (variances - 1 - variances.log()).sum(),
    )
    found = decompose(batch, batch, log_weights(sampling, n, n, 0, n))
    assert [f.item() for f in found] == pytest.approx([e.item() for e in expected], abs=0.06)


def test_independent_codes_have_no_total_correlation() -> None:
    mean = random(1500, 2)
    batch = Codes(mean + 0.5 * random(1500, 2, seed=1), mean, torch.full((1500, 2), 0.5))
    assert abs(decompose(batch, batch, log_weights("weighted", 1500, 1500, 0, 0))[1]) < 0.02


def test_stratified_weights_are_those_of_the_paper_and_unbiased() -> None:
    population, size = 6, 4
    weights = log_weights("stratified", size, size, 0, population).exp()
    others = size - 1
    assert weights.sum(1).tolist() == pytest.approx([1.0] * size, rel=1e-6)
    for i in range(size):
        assert weights[i, i].item() == pytest.approx(1 / population)
        rest = sorted(weights[i, m].item() for m in range(size) if m != i)
        special = (population - others) / (population * others)
        assert rest == pytest.approx(sorted([special] + [1 / others] * (others - 1)))
    # Over all batches that hold the own code, the estimate of the aggregate density has the right mean.
    densities = np.array([0.1, 0.4, 2.0, 0.05, 0.7, 1.3])
    estimates = [
        weights[0].numpy() @ densities[[0, *others_drawn]]
        for others_drawn in itertools.permutations(range(1, population), others)
    ]
    assert np.mean(estimates) == pytest.approx(densities.mean(), rel=1e-6)


def test_weights_of_a_part_of_the_batch() -> None:
    whole = log_weights("stratified", 6, 6, 0, 100)
    assert torch.equal(whole[3:], log_weights("stratified", 3, 6, 3, 100))
    assert log_weights("weighted", 2, 8, 3, 0).exp().tolist() == [pytest.approx([1 / 8] * 8)] * 2
    with pytest.raises(ConfigError, match="Stratified sampling of 1"):
        log_weights("stratified", 1, 1, 0, 100)
    with pytest.raises(ConfigError, match="dataset_size"):
        log_weights("stratified", 8, 8, 0, 5)


def step(make_inputs, **config):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 3, 4, 4, generator=generator).requires_grad_()
    std = (0.2 + torch.rand(5, 3, 4, 4, generator=generator)).requires_grad_()
    posterior = Posterior(mean, std)
    inputs = make_inputs(posterior.sample(generator), posterior=posterior)
    return BetaTCVAE(config).objective(3, (4, 4), None, generator)(inputs), posterior


@pytest.mark.parametrize("kind", [{}, {"codes": "positions", "positions": 3}])
@pytest.mark.parametrize("sampling", [{}, {"sampling": "stratified", "dataset_size": 40}])
def test_the_loss_is_a_vaes_plus_what_is_weighted(make_inputs, kind, sampling) -> None:
    plain, q = step(make_inputs, beta=1.0, **kind, **sampling)
    torch.testing.assert_close(plain.loss, q.kl().mean())
    assert plain.weight == 1 / ELEMENTS
    assert step(make_inputs, reduction="sum")[0].weight == 1
    found, _ = step(make_inputs, alpha=0.0, beta=3.0, gamma=0.5, **kind, **sampling)
    logs = {name: value.item() for name, value in found.logs.items()}
    extra = 2 * logs["total_correlation"] - logs["mutual_information"] - 0.5 * logs["dimension_wise_kl"]
    cells = 16 if kind else 1
    assert found.loss.item() == pytest.approx(q.kl().mean().item() + cells * extra, rel=1e-4)
    found.loss.backward()
    _, again = step(make_inputs)
    assert again.mean.grad is None


def test_gradient_reaches_mean_and_spread(make_inputs) -> None:
    found, q = step(make_inputs)
    gradients = torch.autograd.grad(found.loss - q.kl().mean(), (q.mean, q.std))
    assert all(gradient.abs().min() > 0 for gradient in gradients)


def test_defaults_and_the_size_of_the_data() -> None:
    config = load_method("beta-tcvae").config
    assert (config.alpha, config.beta, config.gamma, config.codes) == (1.0, 6.0, 1.0, "pooled")
    assert config.sampling == "weighted"
    with pytest.raises(ConfigError, match="dataset_size"):
        BetaTCVAE({"sampling": "stratified"})
