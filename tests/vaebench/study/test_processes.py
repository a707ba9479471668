"""A study whose stages two processes of `accelerate launch` share (gloo on the CPU), against the same stages in one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vaebench.core.scores import read_scores
from vaebench.latents import LatentFile
from vaebench.stages.features import load_patches

REMADE = ("features", "reference", "extract", "reconstruct", "generate", "probe", "score")
REMADE += tuple(f"{kind}-{name}" for kind in ("train", "sit") for name in ("va-vae", "send-vae"))


def launch(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One process, or several by `accelerate launch`, whose --multi_gpu means several processes, on the CPU as well."""
    several = ["accelerate.commands.launch", "--multi_gpu", f"--num_processes={count}", "--num_machines=1"]
    several += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m"]
    command = [sys.executable, "-m", *(several if count > 1 else []), "vaebench", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=500)


def stage(root: Path, name: str) -> Path:
    return next(path for path in (root / "stages").iterdir() if path.name.startswith(name))


@pytest.fixture(scope="module")
def runs(smoke_file, tmp_path_factory) -> dict[int, Path]:
    """The study by one process and by two, the second from the plain tokenizer and SiT of the first."""
    root = tmp_path_factory.mktemp("processes")
    folders = {}
    for count in (1, 2):
        folder = folders[count] = root / f"by-{count}"
        if count == 2:
            shutil.copytree(folders[1], folder)
            for path in (folder / "stages").iterdir():
                if path.name.startswith(REMADE):
                    shutil.rmtree(path)
        done = launch(count, "study", "run", str(smoke_file), "--output-dir", str(folder), "--device", "cpu")
        assert done.returncode == 0, done.stderr[:6000]
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("train-va-vae", 1e-5),  # gradients are summed in another order
        ("train-send-vae", 1e-5),  # its noise belongs to rows, and its batch normalisation sees those of all processes
        ("sit-va-vae", 1e-4),  # on latents of the tokenizer that two processes trained
    ],
)
def test_training_agrees_with_one_process(runs, name, tolerance):
    losses = {
        count: [json.loads(line)["loss"] for line in (stage(root, name) / "metrics.jsonl").open()]
        for count, root in runs.items()
    }
    assert len(losses[1]) > 0
    np.testing.assert_allclose(losses[2], losses[1], rtol=tolerance)


@pytest.mark.slow
def test_latents_samples_and_features_are_the_same_to_the_last_bit(runs):
    for name in ("train", "test"):
        one, two = (LatentFile(stage(root, "extract-kl-vae") / f"{name}.h5") for root in runs.values())
        assert one.id == two.id
    for kind, name in (
        ("generate-kl-vae-s0-steps4", "samples"),
        ("generate-kl-vae-s0-steps6", "samples"),
        ("reference", "train"),
        ("reconstruct-kl-vae", "train"),
        ("reconstruct-kl-vae", "test"),
    ):
        one, two = (np.load(stage(root, kind) / f"{name}.npy") for root in runs.values())
        np.testing.assert_array_equal(one, two, err_msg=f"{kind} {name}")
    np.testing.assert_array_equal(*(load_patches(stage(root, "features")) for root in runs.values()))


@pytest.mark.slow
def test_scores_are_equal(runs):
    for kind in ("reconstruct-kl-vae", "generate-kl-vae-s0-steps4", "generate-kl-vae-s0-steps6", "probe-kl-vae"):
        one, two = ({s.metric + str(s.detail): s.value for s in read_scores(stage(root, kind) / "scores.json")}
                    for root in runs.values())  # fmt: skip
        assert one.keys() == two.keys()
        np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-9, err_msg=kind)


@pytest.mark.slow
def test_nothing_is_left_over_and_only_the_first_process_speaks(runs):
    assert not [path for path in (runs[2] / "stages").rglob(".*") if path.name != ".lock"]
    assert (runs[2] / "report" / "report.html").is_file()
    again = launch(2, "study", "run", "nowhere.yaml", "--output-dir", str(runs[2]))
    assert again.returncode != 0
    assert "Traceback" not in again.stdout
