import copy
import json

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

import vaebench
from baselines import rae
from baselines.rae import RAE, ConvDecoder, RAETokenizer, ViTDecoder
from vaebench.core.errors import ConfigError, DataError, MismatchError, MissingPath, UnknownName
from vaebench.tokenizers import load_method
from vaebench.tokenizers.autoencoder import build_autoencoder
from vaebench.tokenizers.check import check_tokenizer, smooth_images
from vaebench.vision import load_network

VIT = {"decoder": "vit", "width": 32, "depth": 2, "heads": 4}


def build(config=None, network="nano"):
    return RAE(config or {}).build(network, torch.Generator().manual_seed(0))


def noised(latents, positions, seed=0, **config):
    return RAE(config).objective(5, (2, 2), None, torch.Generator()).to_decode(latents, positions, seed)


@pytest.fixture(scope="module")
def network():
    return load_network("efficientnet-lite0")


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Networks are frozen, so that tests can share them; loading one takes longer than most tests."""
    kept = {}

    def load(name, **options):
        key = (name, *sorted(options.items()))
        if key not in kept:
            kept[key] = load_network(name, **options)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rae, "load_network", load)
        yield


@pytest.mark.parametrize("config", [{}, VIT])
def test_contract(config):
    tokenizer = build(config)
    assert check_tokenizer(tokenizer, 32) == []
    assert (tokenizer.spec.f, tokenizer.spec.d, tokenizer.spec.method) == (8, 1280, "rae")


def test_latents_are_the_normed_patches_of_the_network(network):
    images = smooth_images(3, 32)
    patches = network((images + 1) / 2).patches
    posterior = build().encode(images)
    mean, spread = patches.mean(1, keepdim=True), patches.var(1, correction=0, keepdim=True)
    torch.testing.assert_close(posterior.mean, (patches - mean) / (spread + 1e-6).sqrt(), rtol=1e-4, atol=1e-4)
    assert not posterior.std.any()
    torch.testing.assert_close(build({"layer_norm": False}).encode(images).mean, patches)
    with torch.autocast("cpu", torch.bfloat16):
        half = build().network.encode(images)
    torch.testing.assert_close(half.mean, posterior.mean)


def test_options_of_the_network_reach_it_and_the_hash():
    deeper = build({"encoder_options": {"layer": "blocks.6"}})
    assert deeper.spec.d == 320
    assert build().spec.checkpoint_hash != build({"layer_norm": False}).spec.checkpoint_hash
    assert build().spec == build().spec


def test_vit_decoder_against_a_loop():
    torch.manual_seed(0)
    decoder = ViTDecoder(RAE(VIT).config, 5, (2, 3), 4).eval()
    latents = torch.randn(2, 5, 2, 3)
    tokens = torch.stack([latents[:, :, i, j] for i in range(2) for j in range(3)], 1)
    x = functional.linear(tokens, decoder.embedding.weight, decoder.embedding.bias) + decoder.positions
    for layer in decoder.layers:
        x = layer(x)
    pixels = decoder.output(decoder.norm(x)).view(2, 2, 3, 3, 4, 4)
    expected = torch.zeros(2, 3, 8, 12)
    for i in range(2):
        for j in range(3):
            expected[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = pixels[:, i, j]
    torch.testing.assert_close(decoder(latents), expected, rtol=1e-4, atol=1e-5)


def test_conv_decoder_is_that_of_the_autoencoder():
    tokenizer = build_autoencoder("nano", torch.Generator().manual_seed(3))
    decoder = ConvDecoder(RAE().build("nano", torch.Generator()).architecture, 8, torch.Generator().manual_seed(3))
    latents = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = tokenizer.network.autoencoder
    whole.post_quant_conv = None
    torch.testing.assert_close(decoder(latents), tokenizer.network.decode(latents))


@pytest.mark.parametrize("law", ["half-normal", "uniform"])
def test_law_of_the_noise(law):
    found = noised(torch.zeros(4000, 5, 2, 2), np.arange(4000), noise_law=law)
    # E[sigma^2] = tau^2 for |N(0, tau^2)|, tau^2 / 3 for tau U(0, 1).
    assert found.square().mean().item() == pytest.approx(0.64 if law == "half-normal" else 0.64 / 3, rel=0.06)
    sigma = found.flatten(1).square().mean(1).sqrt() / 0.8
    expected = stats.halfnorm.cdf if law == "half-normal" else stats.uniform.cdf
    assert stats.kstest(sigma.numpy(), expected).statistic < 0.06  # of 20 values: near sigma, not equal
    clean = torch.randn(4, 5, 2, 2)
    assert torch.equal(noised(clean, np.arange(4), noise=0.0), clean)


def test_noise_belongs_to_rows():
    latents, positions = torch.ones(6, 5, 2, 2), np.arange(6) + 18
    whole = noised(latents, positions)
    assert torch.equal(noised(latents[1:3], positions[1:3]), whole[1:3])
    assert not torch.equal(noised(latents, positions, seed=1), whole)


@pytest.mark.parametrize("config", [{}, VIT])
def test_training_saving_and_loading(bench, tmp_path, monkeypatch, config):
    one = bench.train(RAE(config), tmp_path / "one", kl_weight=1.0, gan={"weight": 0.1, "channels": 8, "layers": 2})
    rows = bench.rows(tmp_path / "one")
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert not {"loss_kl", "loss_objective"} & rows[0].keys()
    bench.train(RAE(config), tmp_path / "plain")
    bench.train_in_two_pieces(lambda: RAE(config), tmp_path / "pieces", monkeypatch)
    assert (tmp_path / "plain" / "metrics.jsonl").read_bytes() == (tmp_path / "pieces" / "metrics.jsonl").read_bytes()
    bench.train(RAE(config), tmp_path / "parts", accumulation=2)
    for whole, part in zip(bench.rows(tmp_path / "plain"), bench.rows(tmp_path / "parts"), strict=True):
        assert part == pytest.approx(whole, rel=2e-3, abs=1e-5)
    # Checkpoints hold the decoder alone.
    [size] = [f.stat().st_size for f in sorted((tmp_path / "one" / "checkpoints").glob("*4/tokenizer.safetensors"))]
    assert size < 2_000_000

    one.save(tmp_path / "saved")
    loaded = RAE.load(tmp_path / "saved")
    assert loaded.spec == one.spec
    images = smooth_images(2, 32)
    with torch.no_grad():
        latents = loaded.encode(images).mean
        torch.testing.assert_close(loaded.decode(latents), one.decode(latents))


def test_training_leaves_the_encoder_as_it_was(bench, tmp_path, network):
    tokenizer = bench.train(RAE(), tmp_path, steps=2)
    trained = tokenizer.network.encoder.network
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), network.parameters(), strict=True))
    copied = copy.deepcopy(tokenizer.network)
    assert copied.encoder is tokenizer.network.encoder
    assert not any(name.startswith("encoder") for name in copied.state_dict())
    assert all(p.requires_grad for p in build().network.parameters())


def test_damage_and_strange_encoders_are_named(tmp_path):
    tokenizer = build(VIT)
    tokenizer.save(tmp_path)
    settings = json.loads((tmp_path / "rae.json").read_text())
    (tmp_path / "rae.json").write_text(json.dumps({**settings, "encoder_hash": "0" * 64}))
    with pytest.raises(MismatchError, match="weights 000000000000"):
        RAETokenizer.from_folder(tmp_path)
    (tmp_path / "rae.json").write_text(json.dumps(settings))
    other = build({**VIT, "depth": 1})
    other.save(tmp_path / "other")
    weights = (tmp_path / "decoder.safetensors").read_bytes()
    (tmp_path / "decoder.safetensors").write_bytes((tmp_path / "other" / "decoder.safetensors").read_bytes())
    with pytest.raises(DataError, match="do not load"):
        RAETokenizer.from_folder(tmp_path)
    (tmp_path / "decoder.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        RAETokenizer.from_folder(tmp_path)
    (tmp_path / "decoder.safetensors").unlink()
    with pytest.raises(MissingPath, match=r"decoder\.safetensors"):
        RAETokenizer.from_folder(tmp_path)


def test_bad_settings_say_why(bench, tmp_path):
    with pytest.raises(UnknownName, match="efficientnet-lite0"):
        build({"encoder": "efficientnet-lite"})
    with pytest.raises(ConfigError, match=r"f=8.*8 x 8 patches.*f=4"):
        build({"encoder_options": {"input_size": 256}})
    with pytest.raises(ConfigError, match="do not divide into"):
        build({"encoder_options": {"input_size": 96}})
    with pytest.raises(ConfigError, match="3 heads"):
        build({**VIT, "heads": 3})
    with pytest.raises(ConfigError, match="noise"):
        RAE({"noise": -1})
    with pytest.raises(DataError, match="32 x 32, not 64 x 64"):
        build().encode(smooth_images(1, 64))
    with pytest.raises(DataError, match="N x 1280 x 4 x 4"):
        build().decode(torch.zeros(1, 1280, 2, 2))


def test_a_method_that_could_not_load_what_it_trains_is_refused_before(tmp_path):
    build(VIT).save(tmp_path / "rae")
    data = {"image_size": 32, "train": 8, "validation": 4, "test": 4}
    training = {"steps": 1, "batch_size": 4, "tensorboard": False}
    with pytest.raises(ConfigError, match=r"'eq-vae' saves .*'rae-efficientnet-lite0' is a RAETokenizer"):
        vaebench.train(
            "eq-vae", "avatars", tmp_path / "out", init=tmp_path / "rae", data_options=data, training=training,
            context=vaebench.Context(device="cpu"),
        )  # fmt: skip


def test_another_tokenizer_as_start_is_refused(make_inputs):
    latents = torch.zeros(2, 5, 2, 2)
    inputs = make_inputs(latents)
    objective = RAE().objective(5, (2, 2), None, torch.Generator())
    assert objective(inputs) is None
    inputs.posterior.std.add_(1)
    with pytest.raises(ConfigError, match="frozen encoder"):
        objective(inputs)


def test_defaults_are_the_papers():
    config = load_method("baselines.rae:RAE").config
    assert (config.noise, config.noise_law, config.layer_norm) == (0.8, "half-normal", True)
