"""Feeds readers of files with broken input, and counts what comes of it.

Run: ``python tests/reliability/fuzz.py --inputs 100000``. Five targets share the inputs: settings with overrides, study
files, headers of latent files, tables of attributes, checkpoints. An input is either a good one that was broken (bytes
flipped, cut, doubled, swapped for ones that matter; values of a tree of YAML or JSON replaced by ones of another kind),
or drawn from nothing by Hypothesis. A reader may accept it or end with an error of ours. Anything else (another
exception, a crash, more than a few seconds, more than 2 GiB on top) is a finding: it is printed with the input, and the
command ends with 1.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import yaml

from vaebench.core.errors import VaebenchError

SECONDS, BYTES, BATCH = 10, 2 * 2**30, 500
# What breaks readers: limits of types, markup, the unprintable, the absent.
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(2**63), 0.0, -0.0, 1e308, 5e-324, float("inf"),
    float("nan"), "", " ", "0", "-1", "1e5", "nan", "null", "~", "$", "$x", "../../etc/passwd", "/", "a" * 5000, "\x00",
    "\ud7ff", "é" * 50, "<b>", "=1+1", "{", "}", "%s", [], [[]], {}, {"": ""}, {"a": {"b": {"c": 1}}}, [None],
    ["a", 1, {}], list(range(300)),
]  # fmt: skip
TOKENS = [
    b"", b"\x00", b"\xff\xfe", b"\n", b"\r\n", b"\t", b",", b'"', b"'", b":", b"- ", b"{", b"}", b"[", b"]", b"&a ",
    b"*a", b"!!python/object/apply:os.system ['true']", b"!!binary x", b"<<: *a", b"? ", b"|", b">", b"%YAML 9.9",
    b"---", b"...", b"1e400", b"-1", b"nan", b"NaN", b"Infinity", b"99999999999999999999", b"\xc3\x28", b"\\u0000",
    b"null", b"=cmd", b"0x",
]  # fmt: skip


def broken_bytes(good: bytes, draw: random.Random) -> bytes:
    """A copy with a few bytes changed, cut, doubled, or replaced by tokens that mean something to parsers."""
    data = bytearray(good)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        start = draw.randrange(len(data) + 1)
        stop = min(len(data), start + draw.choice((0, 1, 2, 10, 100)))
        match draw.randrange(5):
            case 0 if data:
                data[start % len(data)] ^= 1 << draw.randrange(8)
            case 1:
                data[start:stop] = draw.choice(TOKENS)
            case 2:
                data[start:start] = data[start:stop] * draw.choice((1, 2, 20))
            case 3:
                del data[start:stop]
            case _:
                data = data[: draw.choice((start, len(data)))]
    return bytes(data)


def broken_tree(value: Any, draw: random.Random) -> Any:
    """A tree with one value replaced, a key renamed, doubled or dropped, somewhere in it."""
    if draw.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return draw.choice(VALUES)
    if isinstance(value, list):
        copy = list(value)
        index = draw.randrange(len(copy))
        copy[index] = broken_tree(copy[index], draw)
        return copy if draw.random() < 0.9 else copy * 2
    changed = dict(value)
    key = draw.choice(list(changed))
    match draw.randrange(8):
        case 0:
            changed[draw.choice((f"{key}x", str(key)[:-1], "", "extends", "paths", "name"))] = changed.pop(key)
        case 1:
            del changed[key]
        case 2:
            changed[draw.choice(("extends", "paths", "unknown"))] = draw.choice(VALUES)
        case _:
            changed[key] = broken_tree(changed[key], draw)
    return changed


def plain(value: Any) -> Any:
    """What YAML can be dumped from."""
    return yaml.safe_load(yaml.safe_dump(value, allow_unicode=True))


class Target:
    """One reader: ``prepare`` is called once, ``feed`` for every input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def feed(self, draw: random.Random) -> None:
        """Break an input and read it."""
        raise NotImplementedError


class Settings(Target):
    """Settings of every stage, from values and overrides."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from vaebench.stages import STAGES

        self.stages = [STAGES.get(kind)() for kind in STAGES.names()]
        self.good = {stage.kind: _defaults(stage) for stage in self.stages}

    def feed(self, draw: random.Random) -> None:
        from vaebench.core.config import build, content_hash, dump_yaml, with_overrides

        stage = draw.choice(self.stages)
        values = self.good[stage.kind]
        if draw.random() < 0.7 and values:
            values = broken_tree(values, draw)
        keys = [str(key) for key in self.good[stage.kind]] + [
            "a.b",
            "",
            ".",
            "name.x",
            "options.a.b.c",
            "training.steps",
        ]
        overrides = [
            f"{draw.choice(keys)}{draw.choice(('=', '', '==', '.x='))}{_text(draw)}" for _ in range(draw.randrange(3))
        ]
        if not isinstance(values, dict):
            values = {"x": values}
        config = build(stage.Config, with_overrides(values, overrides), "fuzz")
        content_hash(config)
        dump_yaml(config)


def _defaults(stage: Any) -> dict[str, Any]:
    """Values that a stage accepts."""
    given: dict[str, dict[str, Any]] = {
        "train": {"method": "kl-vae", "network": "nano", "training": {"steps": 2}},
        "data": {"name": "avatars", "options": {"image_size": 32}},
        "features": {"network": {"name": "efficientnet-lite0", "options": {"input_size": 64}}},
        "sit": {"training": {"steps": 4, "network": {"width": 32, "depth": 1, "heads": 2}}, "snapshots": [2, 4]},
    }
    values = given.get(stage.kind, {})
    with contextlib.suppress(VaebenchError, ValueError):
        values = {**stage.Config.model_validate(values).model_dump(mode="json"), **values}
    return values


def _text(draw: random.Random) -> str:
    return draw.choice(TOKENS).decode("latin-1") if draw.random() < 0.5 else repr(draw.choice(VALUES))[:200]


class Studies(Target):
    """Study files: bytes and trees, up to the graph of stages."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from kills import TINY

        from vaebench.study.reading import shipped

        self.texts = [path.read_bytes() for path in shipped().values()]
        self.trees = [TINY, *(yaml.safe_load(text) for text in self.texts)]

    def feed(self, draw: random.Random) -> None:
        from vaebench.study.graph import build_graph
        from vaebench.study.spec import load_study

        path = self.folder / "study.yaml"
        if draw.random() < 0.5:
            path.write_bytes(broken_bytes(draw.choice(self.texts), draw))
        else:
            tree = broken_tree(self.trees[0] if draw.random() < 0.6 else draw.choice(self.trees), draw)
            path.write_text(yaml.safe_dump(tree, allow_unicode=True))
        spec = load_study(path, [f"seeds={_text(draw)}"] if draw.random() < 0.1 else [])
        # Graphs hash their inputs; with weights that are not there they are built as a plan is.
        build_graph(spec, tolerant=True)


class Headers(Target):
    """Headers of latent files: broken bytes (which the seal must catch), and sealed ones that hold broken values."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torture

        torture.ROWS = 12
        with contextlib.redirect_stderr(io.StringIO()):
            torture.write(folder / "good.h5")
        self.good = (folder / "good.h5").read_bytes()
        with h5py.File(folder / "good.h5") as file:
            self.texts = {key: file.attrs[key] for key in file.attrs if isinstance(file.attrs[key], str)}

    def feed(self, draw: random.Random) -> None:
        from vaebench.latents import LatentFile, verify
        from vaebench.latents.seal import SEAL_BYTES, seal

        path = self.folder / "broken.h5"
        if draw.random() < 0.6:
            path.write_bytes(broken_bytes(self.good, draw))
        else:
            path.write_bytes(self.good[:-SEAL_BYTES])
            with h5py.File(path, "r+") as file:
                for key in draw.sample(sorted(self.texts), draw.choice((1, 1, 2))):
                    file.attrs[key] = self._broken(self.texts[key], draw)
                spans = [(file[name].id.get_offset(), file[name].id.get_offset() + file[name].nbytes) for name in
                         ("mean", "std")]  # fmt: skip
            seal(path, spans)
        file = LatentFile(path)
        file.mean(), file.std(), file.ids, file.labels
        file.normalisation("file")
        verify(path)

    def _broken(self, text: str, draw: random.Random) -> str:
        try:
            value = json.loads(text)
        except ValueError:
            return text[: draw.randrange(len(text))]
        if draw.random() < 0.3:
            return broken_bytes(text.encode(), draw).decode(errors="ignore").replace("\x00", "")
        return json.dumps(broken_tree(value, draw)).replace("\\u0000", "")


class Tables(Target):
    """Tables of paths, labels, splits and attributes."""

    HEAD = "path,label,split,smiles,hat\n"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from PIL import Image

        rows = []
        for index in range(12):
            Image.new("RGB", (8, 8), (20 * index, 0, 0)).save(folder / f"{index}.png")
            rows.append(f"{index}.png,{'ab'[index % 2]},{('train', 'val', 'test')[index % 3]},{index % 2},{index // 6}")
        self.good = (self.HEAD + "\n".join(rows) + "\n").encode()

    def feed(self, draw: random.Random) -> None:
        from vaebench.core.config import build
        from vaebench.data.folder import Folder, FolderConfig

        path = self.folder / f"table{draw.choice(('.csv', '.csv', '.csv', '.tsv', '.parquet'))}"
        path.write_bytes(broken_bytes(self.good, draw))
        options: dict[str, Any] = {"table": path, "image_size": 8}
        if draw.random() < 0.3:
            options["attributes"] = draw.choice([("smiles",), ("hat", "smiles"), ("nothing",), (), ("", "path")])
        if draw.random() < 0.2:
            options[draw.choice(("path_column", "label_column", "split_column"))] = draw.choice(("hat", "", "smiles"))
        source = Folder(build(FolderConfig, options, "fuzz"))
        source.plan()
        source.describe()


class Checkpoints(Target):
    """Checkpoints of training, and files of weights from elsewhere: the manifest rewritten to fit, or not."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch

        from vaebench.training.checkpoint import save_checkpoint

        weights = {"model": {"a": torch.zeros(3, 2), "b": torch.arange(4.0)}}
        state = {"step": 3, "optimiser": {"state": {0: {"m": torch.zeros(3)}}}, "losses": [0.5, 0.25]}
        self.good = save_checkpoint(folder / "good", 3, weights, state)
        self.path = folder / "broken"

    def feed(self, draw: random.Random) -> None:
        from vaebench.core.files import sha256_file
        from vaebench.tokenizers.convert import read_tensors
        from vaebench.training.checkpoint import load_latest

        shutil.rmtree(self.path, ignore_errors=True)
        folder = self.path / self.good.name
        shutil.copytree(self.good, folder)
        files = sorted(folder.iterdir())
        broken = draw.choice(files)
        broken.write_bytes(broken_bytes(broken.read_bytes(), draw))
        if draw.random() < 0.6 and broken.suffix != ".json":
            manifest = next(path for path in files if path.suffix == ".json")
            told = json.loads(manifest.read_text())
            told["files"][broken.name] = {"bytes": broken.stat().st_size, "sha256": sha256_file(broken)}
            manifest.write_text(json.dumps(told))
        if broken.suffix != ".json":
            with contextlib.suppress(VaebenchError):
                read_tensors(broken)
        load_latest(self.path)


TARGETS: dict[str, tuple[type[Target], float]] = {
    "settings": (Settings, 0.4),
    "studies": (Studies, 0.1),
    "latent headers": (Headers, 0.2),
    "attribute tables": (Tables, 0.2),
    "checkpoints": (Checkpoints, 0.1),
}


def fed(target: Target, number: int, title: str) -> str:
    """What one input led to: accepted, refused, or a finding."""
    draw = random.Random(f"{title} {number}")
    began = time.process_time()
    try:
        target.feed(draw)
        result = "accepted"
    except VaebenchError:
        result = "refused"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        own = next((frame for frame in reversed(where) if "/vaebench/" in frame.filename), where[-1])
        result = f"finding: {type(error).__name__} at {Path(own.filename).name}:{own.lineno}: {str(error)[:200]}"
    return result if time.process_time() - began < SECONDS else "finding: slow"


Found = tuple[Counter[str], dict[str, int]]


def batches(title: str, kind: type[Target], inputs: int, first: int = 0) -> Iterator[Found]:
    """Outcomes, and for each kind of finding a number that leads to it, of batches in forked children."""
    with tempfile.TemporaryDirectory() as name:
        target = kind(Path(name))
        for start in range(first, first + inputs, BATCH):
            numbers = range(start, min(start + BATCH, first + inputs))
            yield _in_child(target, numbers, title)


def _in_child(target: Target, numbers: range, title: str) -> Found:
    tally: Counter[str] = Counter()
    examples: dict[str, int] = {}
    left = iter(numbers)
    while (number := next(left, None)) is not None:
        rest = range(number, numbers.stop)
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receiver)
            _work(target, rest, title, sender)
        os.close(sender)
        with os.fdopen(receiver) as heard:
            found = [json.loads(line) for line in heard]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if len(found) < len(rest):
            found.append(f"finding: the process ended with {status}")
        for index, result in enumerate(found):
            tally[result] += 1
            examples.setdefault(result, rest[index])
        left = iter(range(rest[0] + len(found), numbers.stop))
    return tally, examples


def _work(target: Target, numbers: range, title: str, sender: int) -> None:
    warnings.simplefilter("ignore")
    status = Path("/proc/self/statm")
    used = int(status.read_text().split()[0]) * resource.getpagesize() if status.is_file() else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, resource.RLIM_INFINITY))
    with os.fdopen(sender, "w", buffering=1) as told, contextlib.redirect_stderr(io.StringIO()):
        for number in numbers:
            # Of CPU, since a busy machine makes all slow; the clock only for what waits for ever.
            signal.setitimer(signal.ITIMER_PROF, 2 * SECONDS)
            signal.alarm(20 * SECONDS)
            told.write(json.dumps(fed(target, number, title)) + "\n")
    os._exit(0)


def drawn_from_nothing(inputs: int) -> Found:
    """Texts and trees that Hypothesis draws, read as settings and as a study."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from vaebench.core.config import build, with_overrides
    from vaebench.stages.train import TrainConfig
    from vaebench.study.spec import StudySpec

    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    tree = st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
    keys = st.sampled_from([*StudySpec.model_fields, *TrainConfig.model_fields]) | st.text()
    tally: Counter[str] = Counter()
    examples: dict[str, int] = {}

    @settings(
        max_examples=inputs, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(st.dictionaries(keys, tree), st.lists(st.text(), max_size=2), st.sampled_from([StudySpec, TrainConfig]))
    def read(values: dict[str, Any], overrides: list[str], model: Any) -> None:
        try:
            build(model, with_overrides(values, overrides), "fuzz")
            result = "accepted"
        except VaebenchError:
            result = "refused"
        except Exception as error:
            result = f"finding: {type(error).__name__}: {str(error)[:200]}"
        tally[result] += 1
        examples.setdefault(result, tally.total())

    read()
    return tally, examples


def run(inputs: int, first: int = 0, only: str = "") -> tuple[Counter[str], list[str]]:
    """Feed every target; returns how often what came of it, by target, and the findings."""
    counted: Counter[str] = Counter()
    findings = []
    for title, (kind, share) in TARGETS.items():
        if only and title != only:
            continue
        total: Counter[str] = Counter()
        examples: dict[str, int] = {}
        for tally, some in batches(title, kind, max(1, int(share * inputs)), first):
            total.update(tally)
            examples = {**some, **examples}
        findings += _report(title, total, examples, counted)
    if not only:
        findings += _report("hypothesis", *drawn_from_nothing(max(1, inputs // 50)), counted)
    return counted, findings


def _report(title: str, total: Counter[str], examples: dict[str, int], counted: Counter[str]) -> list[str]:
    bad = [f"{title}, input {examples[name]}, {count} times: {name}" for name, count in total.items()
           if name.startswith("finding")]  # fmt: skip
    print(f"{title:<17} {total.total():>7} inputs  {total['accepted']:>6} accepted  {total['refused']:>6} refused  "
          f"{total.total() - total['accepted'] - total['refused']:>4} findings", flush=True)  # fmt: skip
    counted.update({"inputs": total.total(), "findings": sum(total.values()) - total["accepted"] - total["refused"]})
    return bad


def main() -> int:
    """Feed, print, and end with 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input; others give other inputs")
    parser.add_argument("--only", default="", help="one target")
    given = parser.parse_args()
    began = time.monotonic()
    counted, findings = run(given.inputs, given.first, given.only)
    print("\n".join(findings))
    print(f"{counted['inputs']} inputs, {counted['findings']} findings, {time.monotonic() - began:.0f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
