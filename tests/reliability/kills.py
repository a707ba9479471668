"""Kills a study again and again and compares what it ends with to the same study left alone.

Run: ``python tests/reliability/kills.py --kills 100``. Each time the study's process group gets SIGKILL at a random
moment of its run, is started again and is killed again, until it gets through; then a fresh folder. Prints one line per
finished study and the sum, and ends with 1 unless every table, every artefact and every file name is that of the run
that was left alone, and nothing is left lying about after ``vaebench study clean``.

Studies are forked from this process, which has loaded everything: then the kills fall into the work and not into the
seconds in which Python imports torch. ``--fresh`` starts an interpreter for each.
"""

import argparse
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TINY = {
    "study": "tiny",
    "data": {"name": "avatars", "options": {"image_size": 32, "train": 96, "validation": 48, "test": 48}},
    "reference": {"train": 48, "test": 48},
    "network": "nano",
    "training": {"steps": 12, "batch_size": 8, "log_every": 2, "checkpoint_every": 2},
    "tokenizers": [{"name": "kl-vae", "method": "kl-vae"}],
    "reconstruct": {"bootstrap": 5, "grid": 8},
    "probe": {"probes": [{"vectorisation": "pooled", "resamples": 20}]},
    "sit": {"network": {"width": 32, "depth": 1, "heads": 2}, "batch_size": 8, "log_every": 2, "checkpoint_every": 2},
    "generate": {"steps": [8], "cfg": [1.0], "nfe": [4], "settings": {"samples": 48, "bootstrap": 5}},
}
METHODS = ("baselines.kl_vae", "baselines.va_vae", "sendvae.method")
# What tells of the run and not of the result: times, hosts, versions.
TOLD = frozenset({"stage.json", "cost.csv"})


@dataclass
class Tally:
    """What came of the kills."""

    kills: int = 0
    studies: int = 0
    problems: list[str] = field(default_factory=list)


class Forked:
    """``vaebench WORDS`` in a child of this process, in a session of its own; what is asked of it is as in Popen."""

    def __init__(self, words: list[str]) -> None:
        self.pid = os.fork()
        self.returncode: int | None = None
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                nowhere = os.open(os.devnull, os.O_RDWR)
                for descriptor in range(3):
                    os.dup2(nowhere, descriptor)
                sys.argv = ["vaebench", *words]
                from vaebench.cli import main as run

                run()
                code = 0
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
            finally:
                os._exit(code)

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            found, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("vaebench", timeout or 0)
            else:
                time.sleep(0.005)
        return self.returncode


def load_everything() -> None:
    """Import what a study needs, so that a forked one starts at once."""
    from vaebench.stages import STAGES

    for name in ("vaebench.api", "vaebench.cli.app", "vaebench.study.graph", "reports", *METHODS):
        importlib.import_module(name)
    for kind in STAGES.names():
        STAGES.get(kind)


def command(study: Path, root: Path, *words: str, action: str = "run") -> list[str]:
    """The command line of a study."""
    return [sys.executable, "-m", "vaebench", "study", action, str(study), "--output-dir", str(root), *words]


def artefacts(root: Path) -> dict[str, bytes]:
    """Every file of every stage and every table of the report that the result fixes to the last byte."""
    files = [*(root / "stages").rglob("*"), *(root / "report").rglob("*.csv")]
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in files
        if path.is_file() and path.name not in TOLD and "tb" not in path.parts
    }


def left_over(root: Path) -> list[str]:
    """Hidden files and folders, and stage folders without their record."""
    stages = root / "stages"
    stray = [path.relative_to(root).as_posix() for path in root.rglob(".*")]
    return stray + [path.name for path in stages.iterdir() if not (path / "stage.json").is_file()]


def differences(root: Path, expected: dict[str, bytes]) -> list[str]:
    """Names of artefacts that are missing, surplus or other than expected."""
    found = artefacts(root)
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def run_whole(study: Path, root: Path, words: list[str]) -> float:
    """Run the study to its end; returns the seconds."""
    began = time.monotonic()
    done = subprocess.run(command(study, root, *words), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The study ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return time.monotonic() - began


def start(study: Path, root: Path, words: list[str], forked: bool) -> Any:
    """A process that runs the study."""
    line = command(study, root, *words)
    if forked:
        return Forked(line[3:])
    return subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def run_killed(
    study: Path, root: Path, words: list[str], within: float, draw: random.Random, kills: int, forked: bool = False
) -> int:
    """Run the study, killing it ``within`` seconds of each start; returns how many kills it took until it got through.

    A kill counts only when it found the process at work. The last start, after ``kills`` of them, is left alone.
    """
    struck = 0
    while struck < kills:
        process = start(study, root, words, forked)
        try:
            if process.wait(draw.uniform(0.0 if forked else 0.25, 1.0) * within) != 0:
                raise RuntimeError("The study failed by itself.")
            return struck
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            struck += 1
    run_whole(study, root, words)
    return struck


def campaign(
    study: Path, folder: Path, kills: int, seed: int, words: list[str], forked: bool = True, within: float | None = None
) -> Tally:
    """Kill studies in ``folder`` until so many kills are counted, and compare each finished one.

    Kills come ``within`` so many seconds of a start; by default within four fifths of the whole study's time.
    """
    draw, tally = random.Random(seed), Tally()
    seconds = run_whole(study, folder / "alone", words)
    if forked:
        load_everything()
    if forked and within is None:
        began = time.monotonic()
        if start(study, folder / "timed", words, forked).wait() != 0:
            raise RuntimeError("The study failed by itself.")
        seconds = time.monotonic() - began
    print(f"left alone: {seconds:.1f} s", flush=True)
    expected = artefacts(folder / "alone")
    while tally.kills < kills:
        root = folder / f"killed-{tally.studies}"
        struck = run_killed(study, root, words, within or 0.8 * seconds, draw, kills - tally.kills, forked)
        subprocess.run(command(study, root, action="clean"), check=True, capture_output=True)
        problems = [f"{root.name}: {name} differs" for name in differences(root, expected)]
        problems += [f"{root.name}: {name} is left over" for name in left_over(root)]
        tally.kills, tally.studies = tally.kills + struck, tally.studies + 1
        tally.problems += problems
        print(f"study {tally.studies}: {struck} kills, {len(problems)} problems", flush=True)
    return tally


def write_tiny(path: Path) -> Path:
    """The study that is killed unless another is given."""
    path.write_text(yaml.safe_dump(TINY, sort_keys=False))
    return path


def main() -> int:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="a new interpreter each time, not a fork")
    parser.add_argument("--study", type=Path, help="study file; default: one of a few seconds")
    parser.add_argument(
        "--within", type=float, help="seconds of a start; default: four fifths of the whole study's time"
    )
    parser.add_argument(
        "--run", nargs=argparse.REMAINDER, default=[], help="options of study run (--jobs 2 --threads 1)"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = given.study or write_tiny(folder / "tiny.yaml")
        began = time.monotonic()
        tally = campaign(
            study, folder, given.kills, given.seed, ["--device", "cpu", *given.run], not given.fresh, given.within
        )
    print(json.dumps({"kills": tally.kills, "studies": tally.studies, "problems": len(tally.problems),
                      "seconds": round(time.monotonic() - began)}))  # fmt: skip
    print("\n".join(tally.problems))
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
