"""Time and memory against the number of latents, of channels, of tokenizers and of stages; what that makes of ImageNet.

Run: ``python tests/benchmarks/scale.py``. Times are seconds of CPU (of this process and its children), so that a busy
machine tells the same; memory is what a step took on top of what was there. The slope is that of a line through
log(time) against log(size): 1 is proportional. Then the figures for 100 tokenizers on ImageNet, extrapolated from the
largest measurement by its slope, and GPU-hours as ``vaebench study plan paper-table1`` counts them.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.data.base import DataInfo
from vaebench.latents import LatentFile, write_latents
from vaebench.latents.reading import batches
from vaebench.latents.schema import Provenance, Transform
from vaebench.tokenizers.base import TokenizerSpec

SIDE = 4
ROWS, CHANNELS = (1000, 3000, 10_000, 30_000, 100_000), (4, 16, 64)
TOKENIZERS, STAGES = (1, 10, 100), (100, 1000, 10_000)
IMAGENET, OF_TOKENIZERS, LATENT = 1_281_167, 100, (32, 16, 16)


def measured(step: Callable[[], Any]) -> dict[str, float]:
    """CPU seconds and MiB on top, of a step in a forked child."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of before
        before, began, wall = _status("VmRSS"), time.process_time(), time.monotonic()
        step()
        told = {"cpu_s": time.process_time() - began, "wall_s": time.monotonic() - wall,
                "mib": (_status("VmHWM") - before) / 1024}  # fmt: skip
        with os.fdopen(sender, "w") as handle:
            handle.write(json.dumps(told))
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as handle:
        text = handle.read()
    os.waitpid(child, 0)
    found: dict[str, float] = json.loads(text)
    return found


def _status(name: str) -> int:
    """KiB, from the system's word on this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def write(path: Path, rows: int, d: int) -> None:
    """A latent file of noise, with 10 classes and 5 attributes that the latents show."""
    draw = np.random.default_rng(0)
    attributes = draw.integers(0, 2, (rows, 5)).astype(np.uint8)
    mean = draw.standard_normal((rows, d, SIDE, SIDE), np.float32)
    mean[:, :4] += attributes[:, :4, None, None]
    info = DataInfo(name="noise", image_size=SIDE * 8, classes=tuple("0123456789"), attributes=tuple("abcde"),
                    attribute_level="image", fingerprint="x")  # fmt: skip
    provenance = Provenance(
        tokenizer=TokenizerSpec(name="noise", method="test", f=8, d=d, checkpoint_hash="x"),
        data=json.loads(info.to_json()), split="train", transform=Transform(image_size=(SIDE * 8, SIDE * 8)),
    )  # fmt: skip
    columns = {"attributes": attributes, "labels": draw.integers(0, 10, rows)}
    write_latents(path, mean, np.full_like(mean, 0.1), provenance, np.arange(rows), **columns)


def read(path: Path) -> None:
    """One epoch in shuffled blocks, with every shard checked."""
    for _ in batches(LatentFile(path), 256, order="blocks"):
        pass


def probe(path: Path) -> None:
    """A linear probe of every attribute on pooled latents."""
    from vaebench.metrics.probing.logistic import fit_logistic

    file = LatentFile(path)
    assert file.attributes is not None
    fit_logistic(file.mean().mean(axis=(2, 3)), file.attributes, [0.01, 1.0])


def frechet(path: Path) -> None:
    """A Fréchet distance between the halves of pooled latents."""
    from vaebench.metrics.fidelity.statistics import statistics

    pooled = LatentFile(path).mean().mean(axis=(2, 3)).astype(np.float64)
    statistics(pooled)


def graph(tokenizers: int) -> int:
    """Build the stages of a study of so many tokenizers; how many stages."""
    from vaebench.study.graph import build_graph
    from vaebench.study.spec import StudySpec

    entries = [{"name": f"t{index}", "method": "kl-vae", "training": {"kl_weight": 1e-6 * (index + 1)}}
               for index in range(tokenizers)]  # fmt: skip
    spec = {"study": "scale", "data": {"options": {"image_size": 32}}, "network": "nano", "tokenizers": entries,
            "seeds": [0, 1], "generate": {"steps": [100, 200], "cfg": [1.0, 2.0]}}  # fmt: skip
    return len(build_graph(StudySpec.model_validate(spec)).nodes)


def no_ops(stages: int) -> tuple[Any, Any]:
    """So many stages that do nothing, in layers of 100, and their study."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "vaebench" / "study" / "stubs"))
    from stub_graph import SPEC, StubGraph

    needs = [[f"s{index - 100}"] if index >= 100 else [] for index in range(stages)]
    return StubGraph({f"s{index}": {"needs": needs[index]} for index in range(stages)}), SPEC


def planned(stages: int) -> None:
    """All that a run does before its first stage: the graph, what is done, who waits for whom, the index."""
    from vaebench.stages.base import Context
    from vaebench.study.engine import Options, _Run

    made, spec = no_ops(stages)
    with tempfile.TemporaryDirectory() as name:
        _Run(spec, made, Path(name), Context("cpu"), Options())._index.write()


def per_stage(jobs: int, stages: int) -> tuple[float, float]:
    """Milliseconds that a stage which does nothing takes beyond the start of the engine: of wall time, and of CPU."""
    from vaebench.stages.base import Context
    from vaebench.study.engine import Options, run

    def cost(count: int) -> np.ndarray:
        made, spec = no_ops(count)
        with tempfile.TemporaryDirectory() as name, Path(os.devnull).open("w") as nowhere:
            before = np.array([time.monotonic(), _cpu()])
            with contextlib.redirect_stderr(nowhere):
                run(spec, made, Path(name), Context("cpu"), Options(jobs=jobs, threads=1))
            return np.array([time.monotonic(), _cpu()]) - before

    wall, cpu = 1000 * (cost(stages) - cost(1)) / (stages - 1)
    return float(wall), float(cpu)


def _cpu() -> float:
    """Seconds of CPU of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Exponent b of seconds = a size^b, by least squares over the upper half of the sizes."""
    half = max(0, min(len(sizes) // 2, len(sizes) - 2))
    x, y = np.log(sizes[half:]), np.log(np.maximum(seconds[half:], 1e-6))
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else float("nan")


def line(title: str, sizes: list[int], found: list[dict[str, float]]) -> None:
    """One step against its size."""
    times = [each["cpu_s"] for each in found]
    cells = [f"{each['cpu_s']:.2f} s {each['mib']:.0f} MiB" for each in found]
    print(f"{title:<26}{''.join(f'{cell:>18}' for cell in cells)}   slope {slope(sizes, times):.2f}", flush=True)


def against(title: str, sizes: tuple[int, ...], at: Callable[[int], tuple[int, int]], folder: Path) -> dict[str, Any]:
    """Every step on latent files, against one of their sizes."""
    print(f"\n{title:<26}" + "".join(f"{size:>18,}" for size in sizes))
    steps: dict[str, Callable[[Path], None]] = {
        "read an epoch, checked": read, "probe, 5 attributes": probe, "moments of features": frechet,
    }  # fmt: skip
    paths = {size: folder / f"{title.replace(' ', '-')}-{size}.h5" for size in sizes}
    kept: dict[str, Any] = {}
    found = [measured(lambda size=size: write(paths[size], *at(size))) for size in sizes]
    line("write", list(sizes), found)
    kept["write"] = found[-1]
    for name, step in steps.items():
        found = [measured(lambda size=size, step=step: step(paths[size])) for size in sizes]
        line(name, list(sizes), found)
        kept[name] = {**found[-1], "slope": slope(list(sizes), [each["cpu_s"] for each in found])}
    for path in paths.values():
        path.unlink(missing_ok=True)
    return kept


def imagenet(kept: dict[str, Any], d: int, rows: int) -> None:
    """What 100 tokenizers on ImageNet take, from the measurement with so many rows."""
    values = int(np.prod(LATENT))
    size = 2 * 4 * IMAGENET * values
    factor = IMAGENET / rows * values / (d * SIDE * SIDE)
    print(f"\nImageNet, {IMAGENET:,} images, latents {LATENT}, float32, {OF_TOKENIZERS} tokenizers")
    print(f"latents on the disk: {size / 2**30:,.0f} GiB each, {OF_TOKENIZERS * size / 2**40:,.1f} TiB in all")
    for name in ("write", "read an epoch, checked"):
        hours = kept[name]["cpu_s"] * factor / 3600
        print(f"{name}: {hours:.2f} CPU-hours each, {OF_TOKENIZERS * hours:,.0f} in all")
    # Pooled features have d values an image, whatever the size of the grid.
    hours = kept["probe, 5 attributes"]["cpu_s"] * (IMAGENET / rows) * (LATENT[0] / d) / 3600
    print(f"probe, 5 attributes: {hours:.2f} CPU-hours each, {OF_TOKENIZERS * hours:,.1f} in all")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS)
    parser.add_argument("--stages", type=int, nargs="+", default=STAGES)
    parser.add_argument("--run", type=int, default=300, help="stages that are run for the overhead of each")
    given = parser.parse_args()
    for name in ("vaebench.metrics.probing.logistic", "vaebench.metrics.fidelity.statistics", "vaebench.stages.train",
                 "vaebench.study.graph", "vaebench.study.engine", "baselines.kl_vae"):  # fmt: skip
        __import__(name)
    graph(1)  # imports what it needs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        d = 16
        kept = against(f"latents, d = {d}", tuple(given.rows), lambda rows: (rows, d), folder)
        against("channels, 5,000 latents", tuple(given.channels), lambda channels: (5000, channels), folder)
    print(f"\n{'tokenizers':<26}" + "".join(f"{size:>18,}" for size in TOKENIZERS))
    line("graph of their study", list(TOKENIZERS), [measured(lambda n=n: graph(n)) for n in TOKENIZERS])
    print(f"\n{'stages that do nothing':<26}" + "".join(f"{size:>18,}" for size in given.stages))
    line("until the first starts", list(given.stages), [measured(lambda n=n: planned(n)) for n in given.stages])
    for jobs in (1, 2):
        wall, cpu = per_stage(jobs, given.run)
        print(f"overhead of a stage, {jobs} at a time: {cpu:.1f} ms of CPU, {wall:.1f} ms by the clock", flush=True)
    imagenet(kept, d, given.rows[-1])
    print(f"\nload of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, "
          f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s of CPU in all")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
