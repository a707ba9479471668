"""Stages that do next to nothing, for what the engines do with them."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from vaebench.core.config import Config
from vaebench.core.errors import DataError
from vaebench.core.progress import progress
from vaebench.core.scores import Score
from vaebench.stages.base import Stage


class StubConfig(Config):
    name: str
    seconds: float = 0.0
    fail: str = ""
    fail_until: int = 0
    steps: int = 1
    walk: int = 0
    curve: int = 0


class Stub(Stage[StubConfig]):
    """Counts the attempts, notes when it ran and with what, and fails as told; the result follows from its inputs."""

    kind = "stub"
    Config = StubConfig
    version = 1

    def run(self, config, inputs, folder, context):
        import torch

        attempts = folder / "attempts"
        attempt = (int(attempts.read_text()) if attempts.exists() else 0) + 1
        attempts.write_text(str(attempt))
        began = time.monotonic()
        print(f"{config.name} speaks", file=sys.stderr)
        if attempt <= self.until(config):
            self.break_down(config)
        with progress(config.name, config.steps, "steps") as bar:
            for _ in range(config.steps):
                time.sleep(config.seconds / config.steps)
                bar.update(1, loss=0.5)
        if config.curve:
            rows = [{"step": step, "loss": 1 / step} for step in range(1, config.curve + 1)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        walked = self.walk(config.walk, folder) if config.walk else 0
        total = 1 + walked + sum(json.loads((Path(i) / "made.json").read_text())["value"] for i in inputs.values())
        made = {
            "value": total,
            "pid": os.getpid(),
            "threads": torch.get_num_threads(),
            "began": began,
            "ended": time.monotonic(),
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }
        (folder / "made.json").write_text(json.dumps(made))
        return [Score(metric="value", value=total, n=1, direction="none", protocol={})]

    def walk(self, steps, folder):
        """A sum that takes a while and is saved after each step, as training is."""
        state = folder / "state"
        step, value = state.read_text().split() if state.exists() else ("0", "0.0")
        step, value = int(step), float.fromhex(value) if state.exists() else 0.0
        while step < steps:
            time.sleep(0.05)
            step, value = step + 1, value * 0.9 + 1 / (step + 3)
            with (folder / "steps").open("a") as handle:
                handle.write(f"{step}\n")
            temporary = folder / ".state.tmp"
            temporary.write_text(f"{step} {value.hex()}")
            temporary.replace(state)
        return value

    def until(self, config):
        return config.fail_until or (10**9 if config.fail else 0)

    def break_down(self, config):
        if config.fail == "user":
            raise DataError("The data are upside down.", "Turn them.")
        if config.fail == "long":
            raise DataError("first " + "\N{GRINNING FACE}" * 300_000 + " last")
        if config.fail == "fault":
            raise ZeroDivisionError("a fault of ours")
        if config.fail == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


class Light(Stub):
    accelerated = False


class Shared(Stub):
    """The sum of what each process found, with a walk of the first that can be killed."""

    parallel = True

    def run(self, config, inputs, folder, context):
        import numpy as np

        processes = context.processes()
        rows = processes.rows(100, 3)
        joined = processes.join(folder, "squares", rows, 100, squares=rows.astype(float) ** 2)
        processes.wait()
        if not processes.main:
            return []
        walked = self.walk(config.walk, folder) if config.walk else 0
        total = float(np.sum(joined["squares"])) + walked
        (folder / "made.json").write_text(json.dumps({"value": total, "processes": processes.count}))
        return [Score(metric="value", value=total, n=1, direction="none", protocol={})]
