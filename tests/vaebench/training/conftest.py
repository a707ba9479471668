"""A small network that uses dropout and batch norm, trained on data drawn per step."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vaebench.core.seeds import torch_generator
from vaebench.training.step import make_accelerator, update


class Toy:
    """Regression on random inputs. `fault(step, salt)` says in which steps the loss is NaN."""

    ema_of = ("net",)

    def __init__(self, accelerator: Accelerator, fault: Callable[[int, int], bool] = lambda step, salt: False) -> None:
        self.accelerator, self.fault = accelerator, fault
        self.rates: list[float] = []
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.modules = {"net": self.net}
        self.optimizers = {"net": torch.optim.AdamW(self.net.parameters(), lr=1e-2)}

    def train_step(self, step: int, salt: int) -> dict[str, Tensor]:
        self.rates.append(self.optimizers["net"].param_groups[0]["lr"])
        inputs = torch.randn(16, 4, generator=torch_generator(0, "inputs", step, salt))
        loss = (self.net(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        if self.fault(step, salt):
            loss = loss * torch.nan
        self.accelerator.backward(loss)
        norm = update(self.accelerator, self.optimizers["net"], self.net.parameters(), 1.0)
        return {"loss": loss.detach(), "gradient_norm": norm}


@pytest.fixture
def accelerator() -> Accelerator:
    return make_accelerator("cpu")


@pytest.fixture
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def in_two_processes() -> Callable[..., None]:
    """Runs a program in two processes of one gloo group, or in two that are still to form it as under torchrun."""

    def run(code: str, grouped: bool = True) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        head = "import torch.distributed as dist\n" + ("dist.init_process_group('gloo')\n" if grouped else "")
        tail = "\nfrom vaebench.core.processes import leave_group\nleave_group()\n"
        running = []
        for rank in range(2):
            place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            place |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
            environment = os.environ | place | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
            command = [sys.executable, "-c", head + code + tail]
            running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
        for process in running:
            _, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors.decode()

    return run
