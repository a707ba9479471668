"""Does to HDF5 files what disks, kills and neighbours do, and counts what is then read.

Run: ``python tests/reliability/torture.py --trials 2000``. For every kind of damage it prints how often the reader
refused with a message that says what to do, how often it read right (the damage hit nothing that is read), and how
often it read something wrong or ended otherwise, which must be never. Everything is done twice: with HDF5's own file
locks, and with ``HDF5_USE_FILE_LOCKING=FALSE`` as on many network disks.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vaebench.core.checksums import require_unchanged, write_sums
from vaebench.core.errors import VaebenchError
from vaebench.data.base import DataInfo, ImageSplit
from vaebench.latents import LatentFile, extract_latents
from vaebench.tokenizers.base import Posterior, Tokenizer, TokenizerSpec

ROWS, SIDE = 5000, 4
SECONDS_PER_TRIAL = 20
WRONG = ("wrong", "other error", "died")


class Plain(Tokenizer):
    """Latents are the pixels; slow where a writer is to be caught at it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    @property
    def spec(self) -> TokenizerSpec:
        return TokenizerSpec(name="plain", method="test", f=1, d=3, source="tests", checkpoint_hash="plain")

    def encode(self, images: Any) -> Posterior:
        time.sleep(self._seconds)
        return Posterior(images, images.abs() + 0.1)

    def decode(self, latents: Any) -> Any:
        return latents


class Noise(ImageSplit):
    """A split of random pixels."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.name, self.ids, self.labels = "train", np.arange(ROWS), draw.integers(0, 3, ROWS)
        self.attributes, self.factors, self.nuisance = None, None, None
        self.pixels = draw.integers(0, 256, (ROWS, 3, SIDE, SIDE)).astype(np.uint8)

    def images(self, indices: Any) -> np.ndarray:
        return self.pixels[indices]

    def masks(self, indices: Any) -> None:
        return None


INFO = DataInfo(name="noise", image_size=SIDE, classes=("a", "b", "c"), fingerprint="noise")


def write(path: Path, seconds: float = 0.0) -> LatentFile:
    """The latent file that is tortured, 3 shards of checksums and 20 of work."""
    return extract_latents(
        Plain(seconds), Noise(), path, data_info=INFO, batch_size=250, shard_rows=250, title="writing"
    )


def content(path: Path) -> dict[str, Any]:
    """All that a reader can get from a latent file."""
    file = LatentFile(path)
    return {
        "info": file.info.model_dump(mode="json"), "mean": file.mean().tobytes(), "std": file.std().tobytes(),
        "ids": file.ids.tobytes(), "flipped": file.flipped.tobytes(),
        "labels": None if file.labels is None else file.labels.tobytes(),
    }  # fmt: skip


def outcome(read: Callable[[], bool]) -> str:
    """What became of a reading that tells whether what it read was right."""
    try:
        return "right" if read() else "wrong"
    except VaebenchError as error:
        return "refused" if error.remedy or "again" in str(error) else "refused, no way out"
    except Exception as error:
        return f"other error: {type(error).__name__}: {str(error)[:100]}"


def in_children(trials: int, one: Callable[[int], str], batch: int = 50) -> Counter[str]:
    """Outcomes of trials, each batch in a forked child, so that a crash or a hang is an outcome too."""
    tally: Counter[str] = Counter()
    for first in range(0, trials, batch):
        numbers = range(first, min(first + batch, trials))
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receiver)
            with os.fdopen(sender, "w", buffering=1) as told:
                for number in numbers:
                    signal.alarm(SECONDS_PER_TRIAL)
                    told.write(json.dumps(one(number)) + "\n")
            os._exit(0)
        os.close(sender)
        with os.fdopen(receiver) as heard:
            found = [json.loads(line) for line in heard]
        os.waitpid(child, 0)
        tally.update(found)
        tally["died"] += len(numbers) - len(found)
    return +tally


def flipped(original: bytes, draw: random.Random) -> bytes:
    """A copy with 1 to 8 changed bits, half of the time in the header, where the least room holds the most meaning."""
    changed = bytearray(original)
    for _ in range(draw.randint(1, 8)):
        where = draw.randrange(min(16384, len(changed)) if draw.random() < 0.5 else len(changed))
        changed[where] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flips(folder: Path, trials: int) -> Counter[str]:
    """Changed bits of a latent file."""
    original, expected = (folder / "good.h5").read_bytes(), content(folder / "good.h5")

    def one(number: int) -> str:
        path = folder / "flipped.h5"
        path.write_bytes(flipped(original, random.Random(number)))
        return outcome(lambda: content(path) == expected)

    return in_children(trials, one)


def truncations(folder: Path, trials: int) -> Counter[str]:
    """Latent files that end too early."""
    original, expected = (folder / "good.h5").read_bytes(), content(folder / "good.h5")

    def one(number: int) -> str:
        path = folder / "short.h5"
        path.write_bytes(original[: random.Random(number).randrange(len(original))])
        return outcome(lambda: content(path) == expected)

    return in_children(trials, one)


def flips_of_stage_files(folder: Path, trials: int) -> Counter[str]:
    """Changed bits of prepared data, teacher features, arrays and weights, as a stage finds them in its inputs."""
    stage = folder / "stage"
    (stage / "inner").mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(1)
    with h5py.File(stage / "data.h5", "w") as file:
        file["images"] = draw.integers(0, 255, (100, 3, 8, 8), dtype=np.uint8)
    np.save(stage / "samples.npy", draw.normal(size=(50, 20)))
    (stage / "inner" / "weights.safetensors").write_bytes(draw.bytes(5000))
    files = [path for path in stage.rglob("*") if path.is_file() and path.name != "checksums.json"]
    write_sums(stage, files)
    originals = {path: path.read_bytes() for path in (*files, stage / "checksums.json")}

    def one(number: int) -> str:
        own = random.Random(number)
        path = own.choice(list(originals))
        changed = flipped(originals[path], own)
        path.write_bytes(changed)
        try:
            # A flipped digit of a checksum is a refusal too; flipped twice it is what it was.
            return outcome(lambda: require_unchanged(stage) is None and (changed == originals[path]))
        finally:
            path.write_bytes(originals[path])

    return in_children(trials, one)


def kills_while_writing(folder: Path, trials: int) -> Counter[str]:
    """A writer killed at a random moment: no file or the right one, and the next writer ends with the same bytes."""
    good, expected, tally = (folder / "good.h5").read_bytes(), content(folder / "good.h5"), Counter[str]()
    for number in range(trials):
        path = folder / f"killed-{number}.h5"
        _killed_writer(path, random.Random(number).uniform(0.0, 0.35))
        if path.exists():
            tally[outcome(lambda path=path: content(path) == expected)] += 1
        write(path)
        tally["right" if path.read_bytes() == good and not _leftovers(path) else "wrong"] += 1
        path.unlink()
    return tally


def _forked(work: Callable[[], Any]) -> int:
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def _killed_writer(path: Path, after: float) -> None:
    child = _forked(lambda: write(path, 0.01))
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _leftovers(path: Path) -> list[Path]:
    return [*path.parent.glob(f".{path.name}*"), *path.parent.glob(f"{path.name}.*")]


def two_writers(folder: Path, trials: int) -> Counter[str]:
    """Two writers of one file at a time, one of which is killed in every other trial: the file is right."""
    good, tally = (folder / "good.h5").read_bytes(), Counter[str]()
    for number in range(trials):
        path = folder / f"both-{number}.h5"
        children = [_forked(partial(write, path, 0.005)) for _ in range(2)]
        if number % 2:
            time.sleep(random.Random(number).uniform(0.02, 0.3))
            os.kill(children[0], signal.SIGKILL)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        fine = ended[1] == 0 and ended[0] in (0, -signal.SIGKILL) and path.read_bytes() == good
        tally["right" if fine and not _leftovers(path) else f"wrong {ended}"] += 1
        path.unlink(missing_ok=True)
    return tally


def reading_while_writing(folder: Path, trials: int) -> Counter[str]:
    """A reader that looks again and again while the file comes to be: it is not there, or it is right."""
    expected, tally = content(folder / "good.h5"), Counter[str]()
    for number in range(trials):
        path = folder / f"live-{number}.h5"
        child = _forked(partial(write, path, 0.005))
        while True:
            over = os.waitpid(child, os.WNOHANG)[0]
            tally[outcome(lambda path=path: content(path) == expected)] += 1
            if over:
                break
        path.unlink()
    return tally


CAMPAIGNS: dict[str, tuple[Callable[[Path, int], Counter[str]], float]] = {
    "bits of latents flipped": (flips, 1.0),
    "bits of other stage files flipped": (flips_of_stage_files, 0.5),
    "latents truncated": (truncations, 0.5),
    "killed while writing": (kills_while_writing, 0.02),
    "two writers": (two_writers, 0.01),
    "reading while writing": (reading_while_writing, 0.005),
}


def run(trials: int) -> dict[str, dict[str, int]]:
    """Every campaign in this process's setting of HDF5's locks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "good.h5")
        found = {}
        for title, (campaign, share) in CAMPAIGNS.items():
            room = folder / title.replace(" ", "-")
            room.mkdir()
            shutil.copy(folder / "good.h5", room)
            found[title] = dict(campaign(room, max(1, int(share * trials))))
        return found


def problems(found: dict[str, dict[str, int]]) -> list[str]:
    """What must never have happened."""
    return [
        f"{title}: {count} x {name}"
        for title, tally in found.items()
        for name, count in tally.items()
        if name.startswith(WRONG) or name == "refused, no way out"
    ]


def main() -> int:
    """Torture with HDF5's locks and without, print, and end with 1 if anything was read wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(run(given.trials)))
        return 0
    bad = []
    for locking in ("BEST_EFFORT", "FALSE"):
        done = subprocess.run(
            [sys.executable, __file__, "--here", "--trials", str(given.trials)],
            env={**os.environ, "HDF5_USE_FILE_LOCKING": locking}, stdout=subprocess.PIPE, text=True, check=True,
            stderr=None if locking == "BEST_EFFORT" else subprocess.DEVNULL,
        )  # fmt: skip
        found = json.loads(done.stdout)
        for title, tally in found.items():
            print(f"locks {locking:<11}  {title:<34}  {json.dumps(tally, sort_keys=True)}")
        bad += problems(found)
    print("\n".join(bad) or "Nothing was read wrong, nothing crashed, every refusal says what to do.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
