"""Codes of spatial latents, and what beta-TCVAE and FactorVAE do to a toy whose total correlation is known."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from baselines.beta_tcvae import BetaTCVAE
from baselines.disentangling import codes_of, weight_of_nats
from baselines.factor_vae import FactorVAE
from vaebench.core.errors import ConfigError
from vaebench.tokenizers import load_method
from vaebench.tokenizers.base import Posterior
from vaebench.tokenizers.method import Method


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_pooled_code_has_the_posterior_it_says() -> None:
    posterior = Posterior(random(1, 3, 2, 5), 0.1 + random(1, 3, 2, 5, seed=1).abs())
    many = Posterior(posterior.mean.expand(20_000, -1, -1, -1), posterior.std.expand(20_000, -1, -1, -1))
    latents = many.sample(torch.Generator().manual_seed(2))
    codes = codes_of("pooled", latents, many, 1, np.random.default_rng(0))
    assert codes.per_image == 1
    np.testing.assert_allclose(codes.sample[0], latents[0].numpy().sum((1, 2)) / math.sqrt(10), rtol=1e-5)
    torch.testing.assert_close(codes.sample.mean(0), codes.mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(codes.sample.std(0), codes.std[0], rtol=0.03, atol=0)
    standard = Posterior(torch.zeros(1, 3, 2, 5), torch.ones(1, 3, 2, 5))
    prior = codes_of("pooled", latents[:1], standard, 1, np.random.default_rng(0))
    torch.testing.assert_close((prior.mean, prior.std), (torch.zeros(1, 3), torch.ones(1, 3)))


def test_codes_at_positions() -> None:
    latents, posterior = random(4, 3, 2, 5), Posterior(random(4, 3, 2, 5, seed=1), random(4, 3, 2, 5, seed=2).abs())
    codes = codes_of("positions", latents, posterior, 4, np.random.default_rng(0))
    assert codes.sample.shape == (16, 3)
    assert codes.per_image == 10
    for found, source in zip((codes.sample, codes.mean, codes.std), (latents, *vars(posterior).values()), strict=True):
        cells = source.flatten(2)
        used = [p for p in range(10) if (cells[0, :, p] == found[:4]).all(1).any()]
        assert len(used) == 4
        expected = torch.stack([cells[image, :, p] for image in range(4) for p in used])
        assert torch.equal(found, expected)
    everything = codes_of("positions", latents, posterior, 99, np.random.default_rng(0))
    assert everything.sample.shape == (40, 3)


def test_weight_of_nats() -> None:
    images = torch.zeros(2, 3, 4, 6)
    assert weight_of_nats("sum", images) == 1.0
    assert weight_of_nats("mean", images) == 1 / 72


def total_correlation(covariance: torch.Tensor) -> float:
    """Of a Gaussian: half of sum log variances - log det covariance."""
    return float(covariance.diagonal().log().sum() - covariance.logdet()) / 2


METHODS: list[tuple[Method, Method]] = [
    (BetaTCVAE({"beta": 1.0, "reduction": "sum"}), BetaTCVAE({"beta": 10.0, "reduction": "sum"})),
    (
        FactorVAE({"gamma": 0.0, "reduction": "sum", "width": 64, "layers": 2}),
        FactorVAE({"gamma": 10.0, "reduction": "sum", "width": 64, "layers": 2}),
    ),
]


@pytest.mark.parametrize(("plain", "strong"), METHODS, ids=lambda method: method.name)
def test_total_correlation_falls(make_inputs, plain: Method, strong: Method) -> None:
    """A linear code, started correlated, of Gaussian data that it must reconstruct: a rotation would do."""
    data = random(256, 2) * torch.tensor([2.0, 1.0])
    given = make_inputs(data[:, :, None, None])

    def learn(method: Method) -> float:
        encoder = torch.nn.Parameter(torch.tensor([[0.6, 0.6], [0.6, -0.6]]))
        decoder = torch.nn.Parameter(torch.linalg.inv(encoder.detach()))
        log_std = torch.nn.Parameter(torch.full((2,), -1.0))
        objective = method.objective(2, (1, 1), None, torch.Generator().manual_seed(0))
        optimizer = torch.optim.Adam([encoder, decoder, log_std, *objective.parameters()], 1e-2)
        for step in range(250):
            mean = (data @ encoder.T)[:, :, None, None]
            posterior = Posterior(mean, log_std.exp()[:, None, None].expand_as(mean))
            latents = posterior.sample(torch.Generator().manual_seed(step))
            output = objective(dataclasses.replace(given, latents=latents, posterior=posterior, seed=step))
            error = 5 * (latents[:, :, 0, 0] @ decoder.T - data).square().sum(1).mean()
            optimizer.zero_grad()
            (error + output.weight * output.loss).backward()
            optimizer.step()
        with torch.no_grad():
            codes = data @ encoder.T
            return total_correlation(torch.cov(codes.T, correction=0) + log_std.exp().square().diag())

    assert learn(strong) < 0.3 * learn(plain)


@pytest.mark.parametrize("name", ["beta-tcvae", "factor-vae"])
@pytest.mark.parametrize("codes", ["pooled", "positions"])
def test_training(bench, tmp_path, monkeypatch, name: str, codes: str) -> None:
    def make() -> Method:
        small = {"width": 32, "layers": 2} if name == "factor-vae" else {}
        return type(load_method(name))({"codes": codes, **small})

    one = bench.train(make(), tmp_path / "one")
    assert one.spec == bench.train_in_two_pieces(make, tmp_path / "pieces", monkeypatch).spec
    assert (tmp_path / "one" / "metrics.jsonl").read_bytes() == (tmp_path / "pieces" / "metrics.jsonl").read_bytes()
    for row in bench.rows(tmp_path / "one"):
        reconstruction, kl = row["loss_reconstruction"], 1e-6 * row["loss_kl"]
        own = row["weight_objective"] * row["loss_objective"]
        assert row["loss"] == pytest.approx(reconstruction + kl + own, rel=1e-5)


@pytest.mark.parametrize("name", ["beta-tcvae", "factor-vae"])
def test_bad_settings(name: str) -> None:
    for wrong in ({"beta": -1}, {"gamma": -1}, {"codes": "all"}, {"positions": 0}, {"reduction": "none"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            type(load_method(name))(wrong)
