"""Two processes train the methods that look beyond a row, or draw for every row, as one does.

Send-VAE draws noise for its mapper and normalises by the batch; REPA-E draws time, noise and dropped labels.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vaebench.tokenizers import load_method

SMALL = {"width": 16, "layers": 2}
SETTINGS: dict[str, tuple[str, dict[str, object]]] = {
    "va-vae": ("va-vae", {}),
    "send-vae": ("send-vae", {"width": 16, "projector_hidden": 16}),
    "e2e-vae": (
        "e2e-vae",
        {"network": {"width": 32, "depth": 2, "heads": 2}, "block": 1, "hidden": 16, "num_classes": 3},
    ),
    "l-detok": ("l-detok", {}),
    "eq-vae": ("eq-vae", {}),
    "se-vae": ("se-vae", {}),
    "beta-vae": ("beta-vae", {"beta": 50.0, "capacity": 20.0, "capacity_steps": 2}),
    "beta-tcvae": ("beta-tcvae", {"beta": 500.0}),
    "stratified": ("beta-tcvae", {"beta": 500.0, "sampling": "stratified", "dataset_size": 24, "codes": "positions"}),
    "factor-vae": ("factor-vae", {"gamma": 500.0, **SMALL}),
}
PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
from conftest import Bench
from vaebench.core.processes import leave_group
from vaebench.tokenizers import TOKENIZERS
for folder, (name, config) in {settings!r}.items():
    Bench().train(TOKENIZERS.get(name)(config), Path({folder!r}) / folder, checkpoint_every=None)
leave_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(bench, tmp_path) -> None:
    code = PROCESS.format(here=str(Path(__file__).parent), settings=SETTINGS, folder=str(tmp_path / "two"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        environment = os.environ | place | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
        running.append(subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE))
    for name, (method, config) in SETTINGS.items():
        bench.train(type(load_method(method))(config), tmp_path / "one" / name, checkpoint_every=None)
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    for name in SETTINGS:
        expected, found = (
            [json.loads(line) for line in (tmp_path / where / name / "metrics.jsonl").read_text().splitlines()]
            for where in ("one", "two")
        )
        assert len(expected) == len(found) == 4
        for one, two in zip(expected, found, strict=True):
            assert two == pytest.approx(one, rel=5e-3, abs=1e-4), name
        # Before the optimiser has amplified the rounding, losses and the norm of all gradients agree closely.
        assert found[0] == pytest.approx(expected[0], rel=2e-5, abs=1e-6), name
