import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from baselines.beta_vae import BetaVAE, capacity_at
from vaebench.core.errors import ConfigError
from vaebench.tokenizers import load_method
from vaebench.tokenizers.base import Posterior

ELEMENTS = 3 * 32 * 32


def posterior() -> Posterior:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 2, 4, 4, generator=generator)
    return Posterior(mean.requires_grad_(), (0.2 + torch.rand(3, 2, 4, 4, generator=generator)).requires_grad_())


def step(make_inputs, config, **changes):
    inputs = make_inputs(torch.zeros(3, 2, 4, 4), posterior=posterior(), **changes)
    return BetaVAE(config).objective(2, (4, 4), None, torch.Generator())(inputs), inputs.posterior


def nats(q: Posterior) -> torch.Tensor:
    return kl_divergence(Normal(q.mean, q.std), Normal(0.0, 1.0)).sum((1, 2, 3)).mean()


def test_kl_and_its_weight(make_inputs) -> None:
    found, q = step(make_inputs, {"beta": 3.0})
    torch.testing.assert_close(found.loss, nats(q))
    assert found.weight == pytest.approx(3 / ELEMENTS)
    assert step(make_inputs, {"beta": 3.0, "reduction": "sum"})[0].weight == 3.0


@pytest.mark.parametrize(("at", "expected"), [(0, 0.0), (50, 5.0), (100, 10.0), (1000, 10.0)])
def test_capacity_rises(make_inputs, at: int, expected: float) -> None:
    assert capacity_at(at, 10.0, 100) == expected
    found, q = step(make_inputs, {"capacity": 10.0, "capacity_steps": 100}, step=at)
    torch.testing.assert_close(found.loss, (nats(q) - expected).abs())
    assert found.logs["capacity"] == expected


def test_capacity_pulls_from_both_sides(make_inputs) -> None:
    below, q = step(make_inputs, {"capacity": 1e4}, step=10**6)
    (pull,) = torch.autograd.grad(below.loss, q.mean)
    above, other = step(make_inputs, {"capacity": 0.0})
    (push,) = torch.autograd.grad(above.loss, other.mean)
    torch.testing.assert_close(pull, -push)
    torch.testing.assert_close(push, other.mean / 3)


def test_training(bench, tmp_path, monkeypatch) -> None:
    one = bench.train(BetaVAE(), tmp_path / "one")
    assert one.spec == bench.train_in_two_pieces(BetaVAE, tmp_path / "pieces", monkeypatch).spec
    bench.train(BetaVAE(), tmp_path / "parts", accumulation=2)
    for whole, part in zip(bench.rows(tmp_path / "one"), bench.rows(tmp_path / "parts"), strict=True):
        assert part == pytest.approx(whole, rel=5e-3, abs=1e-5)


def test_effect(fit) -> None:
    def kl(**config: float) -> float:
        autoencoder, images = fit(BetaVAE({"reduction": "sum", **config}), 300, "sum")
        return float(autoencoder.encode(images).kl().mean())

    free, strong = kl(beta=0.1), kl(beta=30.0)
    assert strong < 0.5 * free
    assert kl(beta=1000.0, capacity=60.0, capacity_steps=1) == pytest.approx(60, rel=0.1)


def test_bad_settings_and_defaults(make_inputs) -> None:
    for wrong in ({"beta": -1}, {"capacity": -1}, {"capacity_steps": 0}, {"reduction": "none"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            BetaVAE(wrong)
    config = load_method("beta-vae").config
    assert (config.beta, config.reduction, config.capacity) == (4.0, "mean", None)
    for name in ("beta-vae", "beta-tcvae", "factor-vae"):
        objective = load_method(name).objective(8, (4, 4), None, torch.Generator().manual_seed(0))
        with pytest.raises(ConfigError, match="deterministic"):
            objective(make_inputs(torch.zeros(2, 8, 4, 4), positions=np.arange(2)))
