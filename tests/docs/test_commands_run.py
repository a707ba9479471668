"""Every command that a page shows is run, in the order of the page, as its reader would run it.

The reader's files are small stand-ins in a folder of their own, where absolute paths of the pages lead too. What makes
a command short is added to it (images of 32 pixels, a few steps); a study that takes hours at its full size is given
--dry-run.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from PIL import Image
from typer.testing import CliRunner

from vaebench.cli.app import app
from vaebench.metrics.fidelity.batches import write_batch
from vaebench.tokenizers.autoencoder import build_autoencoder

sys.path.insert(0, str(Path(__file__).parent))
from pages import HOW_TO, PAGES, ROOT, blocks, commands

TESTS = ROOT / "tests"
SMOKE = runpy.run_path(str(TESTS / "conftest.py"))["SMOKE"]
standins = SimpleNamespace(**runpy.run_path(str(TESTS / "vaebench" / "study" / "standins.py")))

pytestmark = pytest.mark.slow

# Run elsewhere, in a real shell (tests/vaebench/cli/test_completion.py), or by test_pages.py.
ELSEWHERE = {"vaebench --install-completion"}
START = ROOT / "docs" / "getting-started.md"
# What the first steps make, the other pages take up.
SHOWN = [START, *(page for page in PAGES if page != START)]
# These make their folder anew on every page; the others need to be seen once.
MAKES = {"train", "extract", "probe", "reconstruct", "generate", "card", "convert", "new", "prepare"}


def made(line: str) -> str:
    return next((word for word in line.split()[1:3] if word in MAKES), "")


LINES = list(dict.fromkeys(
    (page.relative_to(ROOT).as_posix() if made(line) else "", line)
    for page in SHOWN for line in commands(page) if line not in ELSEWHERE
))  # fmt: skip

IMAGES = {"image_size": 32, "train": 96, "validation": 48, "test": 48}
QUICK = {key: value for key, value in SMOKE.items() if key not in {"study", "title", "data"}} | {"gallery.images": 8}
TRAINING = {"steps": 2, "batch_size": 8, "tensorboard": False}
NETWORK = {"width": 32, "depth": 1, "heads": 2}
GENERATION = {
    "sit.network": NETWORK, "sit.batch_size": 8, "sit.tensorboard": False,
    "sampling.samples": 48, "sampling.bootstrap": 5, "reference.train": 64, "reference.test": 48,
}  # fmt: skip
FULL_SIZE = {"paper-table1", "avatars-claim", "budgets-claim", "fashion-claim"}
MAPPER = {"options.width": 32, "options.projector_hidden": 32}


def pictures(folder: Path, names: list[str], side: int = 48) -> list[str]:
    rng = np.random.default_rng(len(names))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(rng.integers(0, 255, (4, 4, 3), np.uint8), np.ones((side // 4, side // 4, 1), np.uint8))
        Image.fromarray(pixels).save(folder / name)
    return names


def small_study() -> str:
    """The study file of the guide, of fewer and smaller images, networks, seeds and steps."""
    text = blocks(HOW_TO / "studies.md", "yaml")[0]
    shorter = {
        "[0, 1, 2]": "[0]", "image_size: 64": "image_size: 32", "steps: 5000": "steps: 4", "steps: 2000": "steps: 2",
        "[2000, 5000]": "[2]", "cfg: [1.0, 2.0]": "cfg: [1.0]", "nfe: [50]}": "nfe: [2], settings: {samples: 64}}",
    }  # fmt: skip
    for long, short in shorter.items():
        assert long in text
        text = text.replace(long, short)
    return text + yaml.safe_dump({key: SMOKE[key] for key in ("features", "reference", "network", "training", "sit")})


def published_checkpoints(root: Path) -> None:
    """Autoencoders of latent diffusion's layout, drawn at random, and latent statistics, as their authors keep them."""
    network = runpy.run_path(str(TESTS / "vaebench" / "tokenizers" / "conftest.py"))["LDMAutoencoder"]
    state, statistics = network().state_dict(), {"mean": torch.zeros(1, 6, 1, 1), "std": torch.ones(1, 6, 1, 1)}
    names = {name for page in SHOWN for line in commands(page) for name in re.findall(r"\S+\.(?:pt|ckpt)\b", line)}
    for name in names:
        torch.save(statistics if "stats" in name else state, root / name)


def inception(path: Path) -> None:
    """torch-fidelity's Inception, drawn at random, where its weights are looked for."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    extractor = module.FeatureExtractorInceptionV3
    path.parent.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(extractor, "load_state_dict", lambda self, state: None)
        torch.save(extractor("stand-in", ["2048"]).state_dict(), path)


def hub_cache(root: Path) -> None:
    """The autoencoder that the pages name, in a cache laid out as the hub's library lays it."""
    folder = root / "models--stabilityai--sd-vae-ft-mse"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    build_autoencoder("nano", torch.Generator().manual_seed(0)).save(folder / "snapshots" / ("a" * 40))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder in which the reader works."""
    root = tmp_path_factory.mktemp("reader")
    before = Path.cwd()
    os.chdir(root)
    hub_cache(root / "hub")
    published_checkpoints(root)
    standins.make_data(root / "data")
    standins.make_weights(root / "weights")
    for kind in ("cats", "dogs"):
        pictures(root / "photos", [f"{part}/{kind}/{i}.png" for part in ("train", "test") for i in range(64)])
    shutil.copytree(root / "photos", root / "path" / "to" / "images")
    names = pictures(root, [f"faces/{i}.png" for i in range(192)])
    parts = ["train"] * 96 + ["validation"] * 48 + ["test"] * 48
    people = [f"{('anna', 'ben')[i % 2]},{part},{i % 2},{i // 2 % 2}" for i, part in enumerate(parts)]
    rows = [f"{name},{person}" for name, person in zip(names, people, strict=True)]
    (root / "table.csv").write_text("\n".join(["path,label,split,smiling,hat", *rows, ""]))
    nano = build_autoencoder("nano", torch.Generator().manual_seed(0))
    for place in ("path/to/diffusers-vae", "path/to/sd-vae"):
        nano.save(root / place)
    for page in HOW_TO.glob("*.md"):
        for block in blocks(page, "python"):
            if name := re.match(r"# (\w+\.py)\n", block):
                (root / name[1]).write_text(block)
    with (root / "mine.py").open("a") as mine:
        mine.write("\n\nMyTokenizer = Blur\n" + (root / "method.py").read_text() + "\n\nMyMethod = Align\n")
    (root / "mine.yaml").write_text(small_study())
    (root / "training.yaml").write_text("steps: 3\n")
    (root / "refs").mkdir()
    for name in ("VIRTUAL_imagenet256_labeled.npz", "imagenet-val.npz"):
        write_batch(root / "refs" / name, np.random.default_rng(0).integers(0, 255, (64, 3, 32, 32), np.uint8))
    inception(root / "torch" / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth")
    patch = pytest.MonkeyPatch()
    patch.setenv("TORCH_HOME", str(root / "torch"))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setattr(constants, "HF_HUB_CACHE", str(root / "hub"))
    yield root
    patch.undo()
    os.chdir(before)


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield made.address
    made.shutdown()


@pytest.fixture(scope="module")
def site(world):
    """Where what the pages install with pip is installed."""
    source = world / "source"
    shutil.copytree(ROOT / "tests" / "thirdparty" / "vaebench-example", source)
    CliRunner().invoke(app, ["tokenizers", "new", "my-tokenizer", "--output-dir", str(world / "own")])
    for package in (source, world / "own"):
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
                   "--disable-pip-version-check", "--target", str(world / "site"), str(package)]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True)
    return world / "site"


def options(values: dict[str, object]) -> list[str]:
    return [word for key, value in values.items() for word in ("-o", f"{key}={json.dumps(value)}")]


def shortened(words: list[str], root: Path) -> list[str]:
    """What is added to a command to make it short; what the reader set himself is left as it is."""
    kind = " ".join(words[:2]) if words[0] in {"study", "data", "tokenizers"} else words[0]
    add: dict[str, object] = {}
    of_data = kind.startswith("data")
    avatars, prefix = "avatars" in words or not (of_data or "--data" in words), "" if of_data else "data."
    if kind in {"train", "extract", "reconstruct", "card", "data show", "data prepare"}:
        if avatars:
            add |= {f"{prefix}{key}": value for key, value in IMAGES.items()}
        elif {"photos/", "path/to/images", "table.csv"} & set(words):
            add |= {f"{prefix}image_size": 32}
    if kind == "train":
        add |= TRAINING | (MAPPER if "send-vae" in words else {})
    if kind == "card":
        add |= {"reconstruct.bootstrap": 5, "score.metrics": ["spectrum"]}
    if kind == "reconstruct":
        add |= {"bootstrap": 5, "reference.test": 48}
    if kind == "generate":
        add |= GENERATION
    if kind == "quickstart" or (kind.startswith("study") and "quickstart" in words):
        add |= QUICK | (
            {f"data.options.{key}": value for key, value in IMAGES.items()} if "photos/" not in words else {}
        )
    if "smoke/paper-table1" in words:
        add |= paper_standins(root)
    given = {word.partition("=")[0] for word in words}
    more = options({key: value for key, value in add.items() if key not in given})
    if kind == "train":
        more += ["--network", "nano"] if "--init" not in words and "--network" not in words else []
    if kind == "study run" and FULL_SIZE & set(words):
        more += ["--dry-run"]
    return more


def paper_standins(root: Path) -> dict[str, object]:
    tiny = {"model": standins.TINY_TEACHER, "input_size": 64}
    reference = {"name": "timm", "options": tiny | {"checkpoint": str(root / "weights" / "reference.safetensors")}}
    return {
        **{f"features.network.options.{key}": value for key, value in tiny.items()}, "reference.network": reference,
        "training.batch_size": 2, "training.steps": 1, "training.perceptual_weight": 0,
    }  # fmt: skip


def as_here(line: str, root: Path, address: str) -> str:
    """The command with the reader's places in place of the writer's."""
    line = line.partition(" > ")[0].partition(" ...")[0]
    line = line.replace('"$head:6379"', address).replace("HEAD:6379", address).replace("--threads 8", "--threads 1")
    line = line.replace("processes=8,threads=8,gpus=1,memory=64", "processes=2,threads=1,gpus=0,memory=1")
    line = line.replace("threads=16", "threads=1")
    line = re.sub(r"(?<=[ =])/(data|weights|shared|refs|runs)\b", rf"{root}/\1", line)
    line = line.replace("TOKENIZER", "runs/kl-vae").replace("STUDY/stages", "runs/generation/stages")
    line = re.sub(r"(\S+stages/(?:generate|reference)-)\S+", lambda match: stage(match[1]), line)
    # The study of the evidence takes hours; copying works alike for every study.
    return line.replace("study slim avatars-claim evidence/ --output-dir runs/avatars-claim",
                        "study slim quickstart evidence/ --output-dir runs/quickstart")  # fmt: skip


def stage(prefix: str) -> str:
    return str(next(Path(prefix).parent.glob(f"{Path(prefix).name}*")))


@pytest.mark.parametrize("line", [line for _, line in LINES])
def test_every_command_of_the_pages_runs(line, request, world, forgetful):
    address = request.getfixturevalue("cluster") if "--address" in line else ""
    words = shlex.split(as_here(line, world, address))[1:]
    words += shortened(words, world)
    folder = words[words.index("--output-dir") + 1] if "--output-dir" in words else None
    if made(line) and (folder or "new" in words):
        shutil.rmtree(folder or words[2], ignore_errors=True)
    if re.search(r"example-|my-tokenizer", line) and "new" not in words:
        code = "import sys; from vaebench.cli import main; sys.exit(main())"
        environment = {**os.environ, "PYTHONPATH": str(request.getfixturevalue("site"))}
        run = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    else:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"
    if words[:1] == ["extract"] and not Path("runs/latents").exists():
        shutil.copytree(folder, "runs/latents")


def test_the_commands_were_enough(world):
    assert len(LINES) > 80
    assert (world / "runs" / "quickstart" / "report" / "report.html").is_file()
    assert (world / "runs" / "send-vae-card" / "card.html").is_file()
