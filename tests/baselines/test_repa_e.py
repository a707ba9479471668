import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from baselines.repa_e import REPAE
from vaebench.core.errors import ConfigError, DataError, MismatchError, UnknownName
from vaebench.core.seeds import sample_normal, sample_uniform
from vaebench.tokenizers import load_method
from vaebench.tokenizers.autoencoder import DiffusersTokenizer

SMALL = {"network": {"width": 32, "depth": 3, "heads": 2}, "hidden": 24, "num_classes": 3}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def objective(teacher, **config):
    """An objective away from its initial point, where the gates of the SiT are zero."""
    made = REPAE({**SMALL, **config}).objective(8, (4, 4), teacher, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made.train()


def cosine_loss(projected, features):
    """-mean cosine of tokens (N, T, D) and patches (N, D, h, w), the long way."""
    total = 0.0
    for tokens, patches in zip(projected, features.flatten(2).transpose(1, 2), strict=True):
        for token, patch in zip(tokens, patches, strict=True):
            total = total - token @ patch / token.norm() / patch.norm()
    return total / (projected.shape[0] * projected.shape[1])


def two_passes(made, latents, features, labels, seed):
    """The published two passes, one after the other, each with its own graph: gradients of the latents (and of nothing
    else) from the first, of SiT and projector from the second, and the losses."""
    config = made.config
    sit, projector = copy.deepcopy(made.sit), copy.deepcopy(made.projector)
    norm = nn.BatchNorm2d(8, eps=1e-4, momentum=0.1, affine=False)
    norm.running_mean.copy_(latents.mean((0, 2, 3)))
    norm.running_var.copy_(latents.var((0, 2, 3), correction=0))
    positions = np.arange(len(latents))
    t = sample_uniform(positions, (), seed, "time")
    at = t.view(-1, 1, 1, 1)
    noise = sample_normal(positions, (8, 4, 4), seed, "interpolant noise")

    z = latents.clone().requires_grad_()
    x = at * norm.eval()(z) + (1 - at) * noise
    first = cosine_loss(projector(sit(x, t, labels).tokens), features)
    (config.tokenizer_weight * first).backward()

    sit.zero_grad(), projector.zero_grad()
    data = norm.train()(latents.detach())
    drop = sample_uniform(positions, (), seed, "label dropout") < config.label_dropout
    velocity, tokens = sit(at * data + (1 - at) * noise, t, torch.where(drop, 3, labels))
    flow = functional.mse_loss(velocity, data - noise)
    second = cosine_loss(projector(tokens), features)
    (flow + config.sit_weight * second).backward()
    return z.grad, [p.grad for p in (*sit.parameters(), *projector.parameters())], (first, flow, second), norm


@pytest.mark.parametrize("weights", [(1.5, 0.5), (0.7, 2.0)])
def test_one_loss_has_the_gradients_of_two_passes(teacher, make_inputs, weights):
    made = objective(teacher, tokenizer_weight=weights[0], sit_weight=weights[1], label_dropout=0.4)
    latents, features = 2 + 3 * random(6, 8, 4, 4), random(6, 20, 4, 4, seed=1)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    tokenizer_gradient, gradients, losses, norm = two_passes(made, latents, features, labels, seed=4)
    z = latents.clone().requires_grad_()
    found = made(make_inputs(z, features, labels=labels, seed=4))
    assert found.weight == 1.0
    found.loss.backward()
    torch.testing.assert_close(z.grad, tokenizer_gradient, rtol=1e-3, atol=1e-7)
    parameters = [*made.sit.parameters(), *made.projector.parameters()]
    assert all(parameter.requires_grad for parameter in parameters)
    for parameter, expected in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)
    names = ("loss_repa_tokenizer", "loss_velocity", "loss_repa_sit")
    for name, expected in zip(names, losses, strict=True):
        torch.testing.assert_close(found.logs[name], expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.batch_norm.mean, norm.running_mean)
    torch.testing.assert_close(made.batch_norm.variance, norm.running_var)


def test_each_part_stops_where_it_must(teacher, make_inputs):
    latents, features = random(4, 8, 4, 4), random(4, 20, 4, 4, seed=1)
    for tokenizer_weight in (0.0, 1.5):
        made = objective(teacher, tokenizer_weight=tokenizer_weight)
        z = latents.clone().requires_grad_()
        made(make_inputs(z, features)).loss.backward()
        reached = [p.grad.clone() for p in made.parameters()]
        assert (z.grad.abs().sum() > 0) == (tokenizer_weight > 0)
        if tokenizer_weight == 0:
            without = reached
    # The tokenizer's alignment changes nothing for the SiT, to the last bit.
    assert all(torch.equal(a, b) for a, b in zip(without, reached, strict=True))


def test_the_first_part_reads_running_statistics_and_the_second_the_batch(teacher, make_inputs):
    known = {"shift": (1.0,) * 8, "scale": (0.5,) * 8, "source": "known"}
    made = objective(teacher, initial_statistics=known)
    features = random(4, 20, 4, 4, seed=1)
    seen = []
    patchify = made.sit.patchify
    made.sit.patchify = lambda x: patchify(seen.append(x.detach()) or x)
    latents = 4 + random(4, 8, 4, 4)
    made(make_inputs(latents, features))
    t = sample_uniform(np.arange(4), (), 0, "time").view(-1, 1, 1, 1)
    noise = sample_normal(np.arange(4), (8, 4, 4), 0, "interpolant noise")
    for inputs, data in zip(seen, ((latents - 1) / (4 + 1e-4) ** 0.5, made.batch_norm(latents)), strict=True):
        expected = t * data + (1 - t) * noise
        torch.testing.assert_close(inputs, expected, rtol=1e-4, atol=1e-5)


def test_draws_belong_to_rows(teacher, make_inputs):
    made, seen = objective(teacher), []
    made.sit.time.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    latents, features, positions = random(6, 8, 4, 4), random(6, 20, 4, 4), np.arange(6) + 12
    made(make_inputs(latents, features, positions=positions))
    made(make_inputs(latents[2:4], features[2:4], positions=positions[2:4]))
    made(make_inputs(latents, features, positions=positions, seed=1))
    first, again, part, _, other, _ = seen
    assert torch.equal(first, again)
    assert torch.equal(first[2:4], part)
    assert not torch.equal(first, other)


def test_training_publishes_the_averaged_normalisation(bench, tmp_path, monkeypatch):
    one = bench.train(REPAE(SMALL), tmp_path / "one")
    pieces = bench.train_in_two_pieces(lambda: REPAE(SMALL), tmp_path / "pieces", monkeypatch)
    assert one.spec == pieces.spec
    assert (tmp_path / "one" / "metrics.jsonl").read_bytes() == (tmp_path / "pieces" / "metrics.jsonl").read_bytes()
    rows = bench.rows(tmp_path / "one")
    for row in rows:
        total = 1.5 * row["loss_repa_tokenizer"] + row["loss_velocity"] + 0.5 * row["loss_repa_sit"]
        assert row["loss_objective"] == pytest.approx(total, rel=1e-5)
    published = one.spec.normalisation
    assert "REPA-E" in published.source
    images = torch.from_numpy(bench.data.pixels).float() / 127.5 - 1
    with torch.no_grad():
        posterior = one.encode(images)
    std = (posterior.mean.var((0, 2, 3)) + posterior.std.square().mean((0, 2, 3))).sqrt()
    np.testing.assert_allclose(published.scale, 1 / std, rtol=0.3)
    one.save(tmp_path / "saved")
    assert DiffusersTokenizer.from_folder(tmp_path / "saved").spec == one.spec


def test_accumulation_keeps_the_draws(bench, tmp_path):
    for parts in (1, 2):
        bench.train(REPAE(SMALL), tmp_path / str(parts), accumulation=parts, steps=1)
    (whole,), (parts,) = bench.rows(tmp_path / "1"), bench.rows(tmp_path / "2")
    assert parts["loss_reconstruction"] == pytest.approx(whole["loss_reconstruction"], rel=1e-4)
    # The untrained SiT's velocity is 0, so its loss is the mean of (BN(z) - eps)^2, of statistics part by part.
    assert parts["loss_velocity"] == pytest.approx(whole["loss_velocity"], rel=0.05)


def test_unlabelled_images_and_half_precision(bench, tmp_path):
    bench.data.labels = None
    bench.train(REPAE(SMALL), tmp_path, steps=2, mixed_precision="bf16")
    assert all(np.isfinite(list(row.values())).all() for row in bench.rows(tmp_path))


def test_block_of_the_alignment(teacher):
    def tap(sit, **config):
        made = REPAE({"sit": sit, "hidden": 8, **config})
        with torch.device("meta"):
            return made.objective(8, (4, 4), teacher, None).sit.config.tap

    assert tap("nano") == 4
    assert tap("nano", block=2) == 2
    assert tap("SiT-B/1", network={"width": 32, "heads": 2}) == 8
    assert tap("SiT-XL/1", network={"width": 32, "heads": 2}) == 8


def test_bad_settings_say_why(teacher, make_inputs, bench, tmp_path):
    with pytest.raises(ConfigError, match="none is given"):
        REPAE().objective(8, (4, 4), None, torch.Generator())
    with pytest.raises(UnknownName, match="nano"):
        objective(teacher, sit="nanno")
    with pytest.raises(ConfigError, match="beyond the last"):
        objective(teacher, block=9)
    with pytest.raises(ConfigError, match="'tap' follows from the block"):
        objective(teacher, network={"tap": 2})
    with pytest.raises(ConfigError, match="does not divide"):
        objective(teacher, network={"patch": 3})
    with pytest.raises(ConfigError, match="num_classes"):
        REPAE({"num_classes": 0})
    with pytest.raises(ConfigError, match="2 channels; the latents have 8"):
        objective(teacher, initial_statistics={"shift": (0, 0), "scale": (1, 1), "source": "wrong"})
    with pytest.raises(MismatchError, match="Pass a teacher"):
        objective(teacher)(make_inputs(random(2, 8, 4, 4)))
    with pytest.raises(DataError, match="knows 2 classes"):
        bench.train(REPAE({**SMALL, "num_classes": 2}), tmp_path)


def test_defaults_are_the_papers():
    config = load_method("baselines.repa_e:REPAE").config
    assert (config.tokenizer_weight, config.sit_weight, config.eps, config.momentum) == (1.5, 0.5, 1e-4, 0.1)
    assert (config.num_classes, config.label_dropout, config.hidden) == (1000, 0.1, 2048)
