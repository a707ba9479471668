"""A tokenizer that breaks the contract while a stage runs ends in an error that names it, never in a number."""

import numpy as np
import pytest
import torch

from vaebench.core.errors import DataError, MismatchError, NumericalError
from vaebench.core.files import read_json
from vaebench.stages import STAGES, gallery, generate, reconstruct, score
from vaebench.stages.base import Context, execute
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.base import Posterior, Tokenizer

CPU = Context(device="cpu")
SMALL = {"attributes": 1, "images": 8, "points": 0, "components": 8}
FAULTS = {
    "nan image": (NumericalError, "decodes latents to NaN or infinity"),
    "half the size": (DataError, r"says f\d+.*32, 32\).*16, 16\)"),
    "no tensor": (DataError, "gives as decoded images a ndarray"),
    "nan latents": (NumericalError, "NaN or infinity"),
    "plain latents": (DataError, "encodes to a Tensor, no Posterior"),
    "one channel": (MismatchError, r"says f\d+d\d+.*latents"),
}
OF_DECODER = ("nan image", "half the size", "no tensor")


class Broken(Tokenizer):
    """A trained tokenizer with one fault."""

    def __init__(self, sound, fault):
        self.sound, self.fault = sound, fault

    @property
    def spec(self):
        return self.sound.spec

    def encode(self, images):
        posterior = self.sound.encode(images)
        if self.fault == "plain latents":
            return posterior.mean
        if self.fault == "one channel":
            return Posterior(posterior.mean[:, :1], posterior.std[:, :1])
        if self.fault == "nan latents":
            posterior.mean[0, 0, 0, 0] = torch.nan
        return posterior

    def decode(self, latents):
        # As one that quantises: it hides what is wrong with latents.
        images = self.sound.decode(latents.nan_to_num())
        if self.fault == "nan image":
            images[0, 0, 0, 0] = torch.nan
        if self.fault == "half the size":
            return images[..., ::2, ::2]
        return images.numpy() if self.fault == "no tensor" else images


@pytest.fixture
def run(smoke_run, tmp_path, monkeypatch):
    """Run a stage of the smoke study's first tokenizer with this fault: run(module, inputs, config, fault)."""

    def folder(pattern):
        return next(p for p in (smoke_run / "stages").glob(pattern) if (p / "stage.json").is_file())

    def execute_broken(module, config, fault):
        kind = module.__name__.rsplit(".")[-1]
        inputs = {
            "tokenizer": folder("train-kl-vae-*"), "data": folder("data-*"), "reference": folder("reference-*"),
            "latents": folder("extract-kl-vae-*"), "sit": folder("sit-kl-vae-*"),
            "reconstruct": folder("reconstruct-kl-vae-*"),
        }  # fmt: skip
        needed = {
            "reconstruct": ("tokenizer", "data", "reference"), "score": ("latents", "data", "tokenizer"),
            "generate": ("sit", "tokenizer", "reference", "reconstruct"),
            "gallery": ("tokenizer", "latents", "data", "reference"),
        }[kind]  # fmt: skip
        monkeypatch.setattr(module, "load_tokenizer", lambda ref, device: Broken(load_tokenizer(ref, device), fault))
        given = {role: str(inputs[role]) for role in needed}
        return execute(STAGES.get(kind)(), config, given, tmp_path / "out", CPU)

    return execute_broken


@pytest.mark.parametrize("fault", FAULTS)
def test_reconstruct(run, fault):
    error, said = FAULTS[fault]
    with pytest.raises(error, match=f"kl-vae' {said}|kl-vae' hold {said}") as raised:
        run(reconstruct, {"bootstrap": 10, "grid": 8}, fault)
    assert "vaebench tokenizers check" in raised.value.remedy


@pytest.mark.parametrize("fault", OF_DECODER)
@pytest.mark.parametrize(
    ("module", "config"), [(generate, {"steps": 6, "nfe": 4, "samples": 8, "bootstrap": 10}), (gallery, SMALL)]
)
def test_stages_that_decode(run, module, config, fault):
    error, said = FAULTS[fault]
    with pytest.raises(error, match=f"kl-vae' {said}") as raised:
        run(module, config, fault)
    assert "vaebench tokenizers check" in raised.value.remedy


@pytest.mark.parametrize("fault", FAULTS)
def test_no_score_is_made_of_it_and_the_others_are_made(run, fault):
    options = {"ifid": {"queries": 16, "bank": 32, "resamples": 20}, "equivariance": {"images": 8, "resamples": 20}}
    made = run(score, {"metrics": ["ifid", "equivariance", "lnc"], "options": options}, fault)
    broken = {"ifid", "equivariance"} if fault in OF_DECODER else {"equivariance"}
    missing = read_json(made.folder / "notes.json")["not_available"]
    assert set(missing) == broken
    for why in missing.values():
        assert "kl-vae' " in why
        assert "vaebench tokenizers check" in why
    scored = {found.metric for found in made.scores}
    assert any("lnc" in name for name in scored)
    assert ("ifid" in scored) == ("ifid" not in broken)
    assert all(np.isfinite(found.value) for found in made.scores)
