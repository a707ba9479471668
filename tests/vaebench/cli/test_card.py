"""``vaebench card`` for a class in a file and for a plain diffusers folder, and that it goes on where it was."""

import json

import pytest
import torch
from typer.testing import CliRunner

from vaebench.cli.app import app
from vaebench.tokenizers.autoencoder import build_autoencoder

runner = CliRunner()
BLUR = """
import torch
from torch.nn import functional
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec, check_images, weights_hash

class Blur(Tokenizer):
    spec = TokenizerSpec(name="blur <b>", method="none", f=8, d=3, checkpoint_hash=weights_hash({}))

    def encode(self, images):
        check_images(images, 8)
        mean = functional.avg_pool2d(images, 8)
        return Posterior(mean, torch.zeros_like(mean))

    def decode(self, latents):
        return functional.interpolate(latents, scale_factor=8, mode="bilinear")
"""
SETTINGS = [
    "data.image_size=32", "data.train=96", "data.validation=48", "data.test=48", "reference.train=32",
    "reference.test=32", "reconstruct.bootstrap=5", "score.metrics=[effective-rank,srss]",
    "probe.probes=[{vectorisation: pooled, resamples: 20}]",
]  # fmt: skip


def card(tokenizer, folder, *more):
    words = ["card", str(tokenizer), "--output-dir", str(folder), "--device", "cpu", *map(str, more)]
    return runner.invoke(app, [*words, *(word for setting in SETTINGS for word in ("-o", setting))])


def test_cards_of_a_class_and_of_a_diffusers_folder(tmp_path):
    (tmp_path / "mine.py").write_text(BLUR)
    first = card(f"{tmp_path / 'mine.py'}:Blur", tmp_path / "blur")
    assert first.exit_code == 0, first.output
    for text in ("blur <b>", "f8d3", "PSNR", "rFID", "Probe macro-F1 (pooled)", "Effective rank", "SRSS"):
        assert text in first.output
    page = (tmp_path / "blur" / "card.html").read_text()
    assert "blur &lt;b&gt;" in page
    assert page.count("data:image/png") == 2

    build_autoencoder("nano", torch.Generator().manual_seed(0)).save(tmp_path / "vae")
    (tmp_path / "vae" / "tokenizer.json").unlink()  # a plain diffusers folder, as from anywhere
    second = card(tmp_path / "vae", tmp_path / "vae-card", "--among", tmp_path / "blur")
    assert second.exit_code == 0, second.output
    assert "2 of 2" in second.output  # untrained weights reconstruct worse than a blur
    assert "blur" in (tmp_path / "vae-card" / "card.md").read_text()

    again = card(tmp_path / "vae", tmp_path / "vae-card", "--among", tmp_path / "blur")
    assert again.exit_code == 0
    assert "== " not in again.output  # no stage was carried out
    stage = next((tmp_path / "vae-card" / "stages").glob("score-*"))
    record = json.loads((stage / "stage.json").read_text())
    for file in stage.iterdir():
        file.unlink()
    stage.rmdir()
    resumed = card(tmp_path / "vae", tmp_path / "vae-card")
    assert resumed.output.count("== ") == 1
    assert json.loads((stage / "stage.json").read_text())["hash"] == record["hash"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "prob.seed=1"), "Did you mean 'probe'"),
        (("--among", "nowhere"), "Study folder 'nowhere' does not exist"),
    ],
)
def test_mistakes(arguments, message, tmp_path):
    (tmp_path / "mine.py").write_text(BLUR)
    result = runner.invoke(
        app, ["card", f"{tmp_path / 'mine.py'}:Blur", "--output-dir", str(tmp_path / "c"), *arguments]
    )
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "c").exists()  # told before any work
