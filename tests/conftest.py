"""What tests of several rooms share: a study small enough to run whole in half a minute on a CPU."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# As the command line does, and before anything loads torch: tests often share their cores with something.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A suite that a shell started in the background ignores Ctrl-C, and so would all it starts; some of its tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import yaml

SMOKE = {
    "study": "smoke",
    "title": "Smoke",
    "data": {
        "name": "avatars",
        "options": {"image_size": 32, "train": 192, "validation": 96, "test": 96},
    },
    "features": {"network": {"name": "efficientnet-lite0", "options": {"input_size": 64}}},
    "reference": {"train": 64, "test": 64},
    "network": "nano",
    "training": {"steps": 6, "batch_size": 16, "log_every": 2, "tensorboard": False},
    "tokenizers": [
        {"name": "kl-vae", "method": "kl-vae"},
        {"name": "va-vae", "method": "va-vae", "init": "kl-vae", "training": {"steps": 3}},
        {
            "name": "send-vae",
            "method": "send-vae",
            "init": "kl-vae",
            "training": {"steps": 3},
            "options": {"width": 64, "projector_hidden": 64},
        },
    ],
    "reconstruct": {"bootstrap": 10, "grid": 8},
    "probe": {"probes": [{"vectorisation": kind, "resamples": 20} for kind in ("flattened", "pooled")]},
    "sit": {
        "network": {"width": 32, "depth": 1, "heads": 2},
        "batch_size": 16,
        "log_every": 2,
        "tensorboard": False,
    },
    "generate": {"steps": [4, 6], "cfg": [1.0], "nfe": [4], "settings": {"samples": 48, "bootstrap": 10}},
}


@pytest.fixture(scope="session")
def smoke_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke study as a file."""
    path = tmp_path_factory.mktemp("studies") / "smoke.yaml"
    path.write_text(yaml.safe_dump(SMOKE, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def smoke_run(smoke_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished smoke study. Tests must not change it."""
    import vaebench

    root = tmp_path_factory.mktemp("smoke") / "run"
    vaebench.run_study(smoke_file, root, context=vaebench.Context(device="cpu"))
    return root


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared data of the tests go to a folder of their own, not to the user's cache."""
    os.environ["VAEBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The registries, which forget after the test what it brings in from outside: it would mark others' results."""
    from vaebench.core import plugins, registry
    from vaebench.data import DATASETS
    from vaebench.generation import SAMPLERS
    from vaebench.metrics import METRICS
    from vaebench.tokenizers import TOKENIZERS
    from vaebench.vision import NETWORKS

    registries = [TOKENIZERS, DATASETS, METRICS, NETWORKS, SAMPLERS]
    for kind in registries:
        kind.names()  # what ships is read before, so that it stays
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))
        monkeypatch.setattr(kind, "_entry_points_read", True)
    monkeypatch.setattr(registry, "_PENDING", {})
    monkeypatch.setattr(plugins, "_FILES", [])
    modules = set(sys.modules)
    yield registries
    for name in set(sys.modules) - modules:
        if name.startswith(("vaebench_example", "plugin_", "mine_")):
            del sys.modules[name]


@pytest.fixture(params=[False, True], ids=["mkl", "onednn"])
def product_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products of CPUs by either library, whichever suits this processor."""
    import torch

    from vaebench.core import products

    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "prefer_onednn", lambda: request.param)
