"""A real kill -9, and two real processes under accelerate (gloo)."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vaebench.latents import LatentFile, extract_latents, verify

SCRIPT = """
import os, runpy, signal, sys
from accelerate import Accelerator
from vaebench.core.processes import leave_group
from vaebench.latents import extract_latents

conftest, path, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
kit = runpy.run_path(conftest)
tokenizer = kit["BlockTokenizer"]()
encode = tokenizer.encode

def encode_or_die(images):
    if tokenizer.calls == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(images)

tokenizer.encode = encode_or_die
extract_latents(
    tokenizer, kit["ArraySplit"](50), path, data_info=kit["info"](), batch_size=8, flip="both", shard_rows=16,
    processes=Accelerator(cpu=True),
)
print("encoded", tokenizer.calls)
leave_group()
"""


def run(path: Path, world: int = 1, kill_at: int = -1) -> list[subprocess.CompletedProcess[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conftest = Path(__file__).with_name("conftest.py")
    children = []
    for rank in range(world):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if world > 1:
            environment |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{world}"}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        command = [sys.executable, "-c", SCRIPT, str(conftest), str(path), str(kill_at)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen(command, env=environment, **pipes))
    finished = []
    for child in children:
        out, err = child.communicate(timeout=120)
        finished.append(subprocess.CompletedProcess(child.args, child.returncode, out, err))
    return finished


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_by_the_system_then_finished_by_two_processes(kit, split, tmp_path):
    path = tmp_path / "cut.h5"
    (killed,) = run(path, kill_at=5)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(list((tmp_path / "cut.h5.partial").glob("shard-*"))) == 2
    finished = run(path, world=2)
    assert [child.returncode for child in finished] == [0, 0], finished
    # Five shards were left: three for one process, two for the other, ten calls in all.
    counts = sorted(int(child.stdout.split("encoded")[1]) for child in finished)
    assert sum(counts) == 10
    assert counts[0] >= 4
    whole = extract_latents(
        kit.Tokenizer(), split, tmp_path / "whole.h5", data_info=kit.info(), batch_size=8, flip="both", shard_rows=16
    )
    assert LatentFile(path).id == whole.id
    assert verify(path) == []
    assert not (tmp_path / "cut.h5.partial").exists()
