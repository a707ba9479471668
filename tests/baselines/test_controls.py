"""Controls against SciPy and scikit-learn, and through the doors that users take."""

import numpy as np
import pytest
import torch
from scipy import fft
from sklearn.decomposition import PCA

import vaebench
from baselines.controls import DCT, PCAPatches, Pixels, RandomNetwork, RandomProjection
from vaebench.core.errors import ConfigError, DataError, TooFewSamples
from vaebench.tokenizers import load_method, load_tokenizer
from vaebench.tokenizers.check import check_tokenizer, smooth_images
from vaebench.vision.transforms import to_signed


class Pictures:
    def __init__(self, count: int = 60, size: int = 16):
        smooth = smooth_images(count, size).numpy()
        self.pixels = np.clip(np.rint(127.5 * smooth + 127.5), 0, 255).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]


def fitted(d: int = 6, f: int = 4):
    return PCAPatches({"f": f, "d": d}).fit(Pictures(), 0)


@pytest.mark.parametrize(
    "make",
    [lambda: Pixels(4), lambda: DCT(4, 10), lambda: RandomProjection(4, 10), lambda: RandomNetwork("nano"), fitted],
    ids=["pixels", "dct", "random-projection", "random", "pca-patches"],
)
def test_controls_keep_the_contract(make):
    tokenizer = make()
    problems = check_tokenizer(tokenizer, 8 * tokenizer.spec.f)
    assert not problems, problems


def test_pixels_lose_nothing():
    images = smooth_images(3, 32)
    tokenizer = Pixels(16)
    assert tokenizer.spec.d == 768
    posterior = tokenizer.encode(images)
    assert not posterior.std.any()
    assert torch.equal(tokenizer.decode(posterior.mean), images)


def test_dct_is_scipys_lowest_frequencies():
    images = smooth_images(2, 8)
    latents = DCT(8, 4).encode(images).mean[:, :, 0, 0].numpy()
    grey = images.sum(1).numpy() / np.sqrt(3)
    waves = fft.dctn(grey, axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(latents[:, 0], waves[:, 0, 0], rtol=1e-4)  # u + v = 0: grey, blue, red
    np.testing.assert_allclose(latents[:, 3], waves[:, 0, 1], atol=1e-4)  # then u + v = 1
    complete = DCT(8, 192)
    torch.testing.assert_close(complete.decode(complete.encode(images).mean), images, atol=1e-4, rtol=0)


def test_principal_components_are_scikit_learns_and_the_best_linear_map():
    pictures = Pictures()
    tokenizer = fitted(d=6)
    signed = to_signed(torch.from_numpy(pictures.pixels))
    patches = torch.nn.functional.pixel_unshuffle(signed, 4).permute(0, 2, 3, 1).reshape(-1, 48).numpy()
    reference = PCA(6).fit(patches.astype(np.float64))
    restored = reference.inverse_transform(reference.transform(patches.astype(np.float64)))
    ours = tokenizer.decode(tokenizer.encode(signed).mean)
    error = float(torch.mean((ours - signed) ** 2))
    assert error == pytest.approx(np.mean((restored - patches) ** 2), rel=1e-3)
    others = (DCT(4, 6), RandomProjection(4, 6))
    assert all(error < float(torch.mean((t.decode(t.encode(signed).mean) - signed) ** 2)) for t in others)


def test_seeds_and_options_make_the_tokenizer():
    first, second = (
        load_tokenizer("random-projection?f=4&d=5&seed=1"),
        load_tokenizer("random-projection", f=4, d=5, seed=1),
    )
    assert first.spec == second.spec
    assert first.spec.checkpoint_hash != load_tokenizer("random-projection?f=4&d=5&seed=2").spec.checkpoint_hash
    assert load_tokenizer("random?preset=nano").spec.name == "random"
    noise = load_tokenizer("random?preset=tiny").encode(torch.zeros(1, 3, 64, 64)).std
    assert noise.std() > 0  # drawn, and not the constant of a start from frequencies
    with pytest.raises(ConfigError, match="is no option"):
        load_tokenizer("dct?f")
    with pytest.raises(ConfigError, match="unexpected keyword"):
        load_tokenizer("dct?g=4")
    with pytest.raises(ConfigError, match="whole numbers, not 'x' and 32"):
        load_tokenizer("dct?f=x")
    with pytest.raises(ConfigError, match="between 1 and 48"):
        load_tokenizer("dct?f=4&d=99")
    with pytest.raises(DataError, match="decodes latents"):
        Pixels(4).decode(torch.zeros(1, 3, 2, 2))


def test_too_few_patches_for_the_components():
    with pytest.raises(TooFewSamples, match="1 patches do not give 6"):
        PCAPatches({"f": 16, "d": 6}).fit(Pictures(1, 16), 0)


def test_a_fitted_control_goes_the_way_of_a_trained_tokenizer(tmp_path):
    assert not load_method("pca-patches").trainable
    options = {"image_size": 32, "train": 96, "validation": 32, "test": 32}
    context = vaebench.Context(device="cpu")
    folder = vaebench.train(
        "pca-patches",
        data="avatars",
        data_options=options,
        options={"f": 8, "d": 12},
        output_dir=tmp_path / "pca",
        context=context,
    )
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.spec.f, tokenizer.spec.d, tokenizer.spec.method) == (8, 12, "pca-patches")
    for name, reference in (("pca-latents", str(folder)), ("dct-latents", "dct?f=8&d=12")):
        latents = vaebench.extract(
            reference, data="avatars", data_options=options, output_dir=tmp_path / name, context=context
        )
        scores = vaebench.score(latents, metrics=["spectrum", "effective-rank", "active-units"], context=context)
        assert {"sec", "effective_rank"} <= {score.metric for score in scores}
        assert "kl_per_unit" not in {score.metric for score in scores}  # deterministic: there is no posterior
