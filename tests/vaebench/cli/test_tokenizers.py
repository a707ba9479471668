"""`vaebench tokenizers` as a user meets it."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import Result
from huggingface_hub import constants
from typer.testing import CliRunner

from vaebench.cli.app import app
from vaebench.stages.base import input_hash
from vaebench.tokenizers import TOKENIZERS, load_tokenizer, means_path
from vaebench.tokenizers.autoencoder import build_autoencoder
from vaebench.tokenizers.base import LatentNormalisation
from vaebench.tokenizers.ldm import ldm_name


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def told(result: Result) -> dict[str, str]:
    """Status of each line of a check."""
    words = [line.split("  ") for line in result.output.splitlines()]
    return {parts[1].strip(): parts[0] for parts in words if parts[0] in {"pass", "FAIL", "note"}}


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    build_autoencoder("nano", torch.Generator().manual_seed(0)).save(tmp_path / "nano")
    return tmp_path / "nano"


def test_bare_it_lists(tmp_path: Path) -> None:
    result = run("tokenizers")
    assert result.exit_code == 0
    assert {"kl-vae", "dct"} <= {line.split()[0] for line in result.output.splitlines()}


def test_check_prints_the_spec_and_every_line(nano: Path) -> None:
    result = run("tokenizers", "check", nano, "--device", "cpu")
    assert result.exit_code == 0, result.output
    spec = yaml.safe_load(result.output.partition("pass  ")[0])
    assert (spec["f"], spec["d"]) == (8, 8)
    lines = told(result)
    assert len(lines) == 13
    assert "FAIL" not in lines.values()
    assert lines["save and reload"] == lines["second load"] == "pass"
    assert result.output.endswith("keeps the contract\n")


def test_check_says_what_is_wrong_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec\n"
        "class Mine(Tokenizer):\n"
        "    spec = TokenizerSpec(name='mine', method='', f=8, d=3, checkpoint_hash='0')\n"
        "    def encode(self, images):\n"
        "        mean = images[..., ::8, ::8].contiguous()\n"
        "        return Posterior(mean, torch.zeros_like(mean))\n"
        "    def decode(self, latents):\n"
        "        return latents.repeat_interleave(8, 2).repeat_interleave(8, 3) * 127.5 + 127.5\n"
    )
    result = run("tokenizers", "check", f"{tmp_path / 'mine.py'}:Mine", "--device", "cpu")
    assert result.exit_code == 2
    lines = told(result)
    assert (lines["range"], lines["other sizes"], lines["shapes"]) == ("FAIL", "FAIL", "pass")
    assert "-> convert to [-1, 1] at the end of decode" in result.output
    assert "2 problems above" in " ".join(result.output.split())


def test_check_measures_on_a_data_set(nano: Path, tmp_path: Path) -> None:
    tokenizer = build_autoencoder("nano", torch.Generator().manual_seed(0))
    wrong = LatentNormalisation(shift=(9.0,) * 8, scale=(1.0,) * 8, source="a guess")
    tokenizer.with_identity("off", "", "", normalisation=wrong).save(tmp_path / "off")
    sizes = ("-o", "image_size=32", "-o", "train=16", "-o", "validation=8", "-o", "test=24")
    result = run("tokenizers", "check", tmp_path / "off", "--data", "shapes3d", *sizes, "--device", "cpu")
    assert result.exit_code == 2
    assert "over 24 images" in result.output
    assert told(result)["normalisation"] == "FAIL"
    assert "from a guess" in result.output


def test_offline_is_strict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for arguments in (
        ("tokenizers", "check", "some/vae@v1", "--offline"),
        ("--offline", "tokenizers", "check", "some/vae@v1"),
    ):
        constants.HF_HUB_OFFLINE = False
        result = run(*arguments)
        assert result.exit_code == 2
        assert "HF_HUB_OFFLINE is set" in result.output
        assert "hf download some/vae --revision v1" in " ".join(result.output.split())


def test_convert_writes_a_folder_that_loads(tmp_path: Path) -> None:
    checkpoint, stats, out = tmp_path / "vae.ckpt", tmp_path / "stats.pt", tmp_path / "out"
    original = build_autoencoder("nano", torch.Generator().manual_seed(0))
    state = {ldm_name(key, levels=2): tensor for key, tensor in original.network.autoencoder.state_dict().items()}
    torch.save({"state_dict": state | {"loss.logvar": torch.zeros(())}}, checkpoint)
    torch.save({"mean": torch.zeros(1, 8, 1, 1), "std": torch.full((1, 8, 1, 1), 2.0)}, stats)
    convert = ("tokenizers", "convert", checkpoint, "--output-dir", out, "--norm-groups", 8)
    result = run(*convert, "--stats", stats, "--name", "small")
    assert result.exit_code == 0, result.output
    assert "1 tensors are no part of it, such as loss.logvar" in result.output
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "tokenizer.json",
    ]
    checked = run("tokenizers", "check", out, "--device", "cpu")
    assert checked.exit_code == 0, checked.output
    assert "name: small" in checked.output
    assert original.spec.checkpoint_hash in checked.output
    assert "- 0.5" in checked.output
    torch.save({"state_dict": state | {"teacher.head": torch.zeros(())}}, checkpoint)
    foreign = ("tokenizers", "convert", checkpoint, "--output-dir", tmp_path / "c", "--norm-groups", 8)
    assert "unexpected  teacher.head" in run(*foreign).output
    assert run(*foreign, "--leave-out", "teacher.").exit_code == 0
    again = run(*convert)
    assert again.exit_code == 2
    assert "exists already" in again.output
    torch.save({"mean": torch.zeros(16), "std": torch.ones(16)}, stats)
    other = run(*convert[:4], tmp_path / "b", *convert[5:], "--stats", stats)
    assert other.exit_code == 2
    assert "16 channels" in other.output
    assert not (tmp_path / "b").exists()


def test_new_writes_a_package_that_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, folder, site = "quarter-means", tmp_path / "package", tmp_path / "site"
    result = run("tokenizers", "new", name, "--output-dir", folder)
    assert result.exit_code == 0, result.output
    from_file = run("tokenizers", "check", f"{folder / 'quarter_means' / 'tokenizer.py'}:QuarterMeans")
    assert from_file.exit_code == 0, from_file.output
    assert set(told(from_file).values()) == {"pass"}

    # Installed, unchanged, it is found by its entry point and by what it saved.
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", site, folder]
    subprocess.run([sys.executable, "-m", "pip", *map(str, install)], check=True)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(TOKENIZERS, "_entries", {entry.name: entry for entry in TOKENIZERS.entries()})
    monkeypatch.setattr(TOKENIZERS, "_entry_points_read", False)
    installed = run("tokenizers", "check", name)
    assert installed.exit_code == 0, installed.output
    assert set(told(installed).values()) == {"pass"}
    identity = input_hash("tokenizer", name)
    # Where the package was written, its folder bears the tokenizer's name and is not meant by it.
    shutil.copytree(folder, tmp_path / "here" / name)
    monkeypatch.chdir(tmp_path / "here")
    assert run("tokenizers", "check", name).exit_code == 0
    assert not means_path(name)
    assert input_hash("tokenizer", name) == identity
    load_tokenizer(name).save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").spec == load_tokenizer(name).spec
    tests = [
        test for key, test in runpy.run_path(folder / "tests/test_tokenizer.py").items() if key.startswith("test_")
    ]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.parametrize(
    ("name", "message"),
    [("Blur", "cannot name"), ("a b", "cannot name"), ("class", "cannot name"), ("kl-vae", "registered already")],
)
def test_names_that_cannot_be(name: str, message: str, tmp_path: Path) -> None:
    result = run("tokenizers", "new", name, "--output-dir", tmp_path / "x")
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "x").exists()


def test_new_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    result = run("tokenizers", "new", "mine", "--output-dir", tmp_path)
    assert result.exit_code == 2
    assert "not empty" in result.output
