import numpy as np
import pytest
import torch
from scipy import stats

from baselines.l_detok import LDeTok, corrupt
from vaebench.core.errors import ConfigError
from vaebench.tokenizers import load_method
from vaebench.tokenizers.autoencoder import DiffusersTokenizer


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def objective(**config: object):
    return LDeTok(config).objective(2, (3, 4), None, torch.Generator())


@pytest.mark.parametrize("form", ["interpolative", "additive"])
def test_corruption_against_a_loop(form: str) -> None:
    z, e = random(5, 2, 3, 4), random(5, 2, 3, 4, seed=1)
    tau = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])
    expected = [
        (b if form == "additive" else (1 - t) * b) + t * 3.0 * n
        for t, b, n in zip(tau.tolist(), z.numpy(), e.numpy(), strict=True)
    ]
    found = corrupt(z, e, tau, 3.0, form)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)
    assert torch.equal(found[0], z[0])


def test_the_law_of_the_noise() -> None:
    decoded = objective().to_decode(torch.zeros(4000, 2, 3, 4), np.arange(4000), 3)
    # For z = 0 an image's values are N(0, (3 tau)^2) with tau ~ U(0, 1): variance 9 / 3.
    assert decoded.square().mean().item() == pytest.approx(3, rel=0.05)
    level = decoded.flatten(1).std(1) / 3
    assert stats.kstest(level.numpy(), "uniform").statistic < 0.05  # std of 24 values: near tau, not equal
    assert objective(gamma=0.0).to_decode(torch.ones(4000, 2, 3, 4), np.arange(4000), 3).mean() == pytest.approx(
        0.5, abs=0.02
    )
    clean = random(3, 2, 3, 4)
    assert torch.equal(objective(gamma=0.0, form="additive").to_decode(clean, np.arange(3), 3), clean)


def test_draws_belong_to_rows() -> None:
    latents, positions = random(6, 2, 3, 4), np.arange(6) + 30
    whole = objective().to_decode(latents, positions, 5)
    assert torch.equal(whole[2:4], objective().to_decode(latents[2:4], positions[2:4], 5))
    assert not torch.equal(whole, objective().to_decode(latents, positions, 6))
    assert not torch.equal(whole, objective().to_decode(latents, positions + 6, 5))


def test_gradient_reaches_the_encoder_less_the_noisier_it_is() -> None:
    latents = random(6, 2, 3, 4).requires_grad_()
    objective().to_decode(latents, np.arange(6), 0).sum().backward()
    kept = latents.grad[:, 0, 0, 0]
    torch.testing.assert_close(latents.grad, kept.view(-1, 1, 1, 1).expand_as(latents))
    assert ((kept > 0) & (kept < 1)).all()


def test_adds_no_loss(make_inputs) -> None:
    assert objective()(make_inputs(random(2, 2, 3, 4))) is None
    assert not objective().state_dict()


def test_training(bench, tmp_path, monkeypatch) -> None:
    one = bench.train(LDeTok(), tmp_path / "one")
    pieces = bench.train_in_two_pieces(LDeTok, tmp_path / "pieces", monkeypatch)
    assert one.spec == pieces.spec
    rows = bench.rows(tmp_path / "one")
    assert "loss_objective" not in rows[0]
    bench.train(LDeTok(), tmp_path / "parts", accumulation=2)
    for whole, part in zip(rows, bench.rows(tmp_path / "parts"), strict=True):
        assert part == pytest.approx(whole, rel=1e-3, abs=1e-5)
    plain = bench.train(load_method("kl-vae"), tmp_path / "plain")
    assert plain.spec.checkpoint_hash != one.spec.checkpoint_hash
    assert bench.rows(tmp_path / "plain")[0]["loss_reconstruction"] != rows[0]["loss_reconstruction"]
    one.save(tmp_path / "saved")
    loaded = DiffusersTokenizer.from_folder(tmp_path / "saved")
    assert loaded.spec == one.spec
    assert one.spec.method == "l-detok"


def test_bad_settings_and_defaults() -> None:
    with pytest.raises(ConfigError, match="gamma"):
        LDeTok({"gamma": -1})
    with pytest.raises(ConfigError, match="form"):
        LDeTok({"form": "multiplicative"})
    config = load_method("baselines.l_detok:LDeTok").config
    assert (config.gamma, config.form) == (3.0, "interpolative")
