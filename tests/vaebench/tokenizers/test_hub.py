"""Hub ids against a cache laid out as the hub's library lays it, without a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from vaebench.core.errors import MissingWeights
from vaebench.core.offline import go_offline
from vaebench.tokenizers import load_tokenizer
from vaebench.tokenizers.autoencoder import DiffusersTokenizer, build_autoencoder

ID = "someone/some-vae"
COMMITS = {"main": "a" * 40, "v2": "b" * 40}


def nano(seed: int) -> DiffusersTokenizer:
    return build_autoencoder("nano", torch.Generator().manual_seed(seed))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, offline."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def cached(cache: Path) -> Path:
    """Two revisions of one id in the cache; the second is a pipeline's folder with `vae/`."""
    root = cache / f"models--{ID.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    for seed, (revision, commit) in enumerate(COMMITS.items()):
        (root / "refs" / revision).write_text(commit)
        folder = root / "snapshots" / commit / ("vae" if revision == "v2" else "")
        nano(seed).save(folder)
        (folder / "tokenizer.json").unlink()
    return root


def test_an_id_loads_from_the_cache_and_names_its_commit(cached: Path) -> None:
    spec = load_tokenizer(ID).spec
    assert (spec.name, spec.source) == (ID, f"Hugging Face {ID}@{'a' * 40}")
    assert spec.checkpoint_hash == nano(0).spec.checkpoint_hash


@pytest.mark.parametrize("revision", ["v2", "b" * 40])
def test_a_pinned_revision_is_that_revision(cached: Path, revision: str) -> None:
    spec = load_tokenizer(f"{ID}@{revision}").spec
    assert (spec.name, spec.source) == (ID, f"Hugging Face {ID}@{'b' * 40}")
    assert spec.checkpoint_hash == nano(1).spec.checkpoint_hash != nano(0).spec.checkpoint_hash


def test_what_is_not_cached_is_never_replaced(cached: Path) -> None:
    with pytest.raises(MissingWeights, match=r"HF_HUB_OFFLINE is set.*hf download someone/some-vae --revision v3"):
        load_tokenizer(f"{ID}@v3")
    (cached / "snapshots" / COMMITS["main"] / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"the copy in the cache is not whole.*hf download someone/some-vae"):
        load_tokenizer(ID)


@pytest.mark.usefixtures("cache")
def test_offline_says_what_to_do() -> None:
    with pytest.raises(MissingWeights, match=r"HF_HUB_OFFLINE is set.*hf download stabilityai/sd-vae-ft-mse"):
        load_tokenizer("stabilityai/sd-vae-ft-mse")


def test_only_what_is_needed_and_safe_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nano(0).save(tmp_path)
    asked = {}

    def snapshot(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("vaebench.tokenizers.hub.snapshot_download", snapshot)
    assert load_tokenizer(f"{ID}@v1.0").spec.source == f"Hugging Face {ID}@v1.0"
    assert (asked["name"], asked["revision"]) == (ID, "v1.0")
    assert all(pattern.endswith((".json", ".safetensors", ".safetensors*")) for pattern in asked["patterns"])


def test_go_offline_holds_before_and_after_the_library_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    go_offline()
    assert constants.HF_HUB_OFFLINE
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    code = (
        "from vaebench.core.offline import go_offline; go_offline();"
        "from huggingface_hub import constants; assert constants.is_offline_mode()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"HF_HUB_OFFLINE": "0"})
