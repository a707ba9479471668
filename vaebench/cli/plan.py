"""What ``study plan`` prints: stages, what is done, time and disk here, and GPU-hours with their assumptions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TIMES = (("s", 1.0, 90.0), ("min", 60.0, 5400.0), ("h", 3600.0, 48 * 3600.0), ("days", 86400.0, 730 * 86400.0))


def print_plan(graph: Any, root: Path, device: str, gpu: str = "h100", utilisation: float = 0.35) -> None:
    """The stages of a graph, what is done, and estimates: time and disk here, and hours on that GPU.

    Raises:
        ConfigError, UnknownName: a utilisation beyond (0, 1], or an unknown GPU.
    """
    from vaebench.core.errors import ConfigError
    from vaebench.study.cost import gpu_named
    from vaebench.study.plan import Assumptions, plan

    if not 0 < utilisation <= 1:
        raise ConfigError(f"A utilisation is a share of the peak, in (0, 1], not {utilisation}.")
    assumptions = Assumptions(gpu_named(gpu), utilisation)
    lines = plan(graph, root, device)
    width = max(len(line.id) for line in lines)
    print(f"{'stage':<{width}}  state  {'time here':>9}  {'disk':>11}  {'PFLOP':>10}  {'GPU-hours':>9}")
    for line in lines:
        state, about = ("done", "") if line.done else ("to do", "~")
        here = _told([line], line.seconds, duration, about)
        disk = _told([line], line.disk_bytes, size, about)
        flops = "" if line.done else _told([line], line.work.total / 1e15, amount)
        hours = "" if line.done else _told([line], assumptions.hours(line.work), amount)
        print(f"{line.id:<{width}}  {state:<5}  {here:>9}  {disk:>11}  {flops:>10}  {hours:>9}")
    todo = [line for line in lines if not line.done]
    print(f"\n{len(lines) - len(todo)} of {len(lines)} stages are done. Left, by kind:")
    for kind in dict.fromkeys(line.kind for line in todo):
        _print_total(
            f"{kind} ({sum(line.kind == kind for line in todo)})", [x for x in todo if x.kind == kind], assumptions
        )
    _print_total("all", todo, assumptions)
    _print_assumptions(todo, root, assumptions)
    for reference, reason in graph.missing.items():
        print(f"Not here yet: {reference}. {reason}")


def _print_total(name: str, lines: Sequence[Any], assumptions: Any) -> None:
    hours = _told(lines, sum(assumptions.hours(line.work) for line in lines), amount)
    here = _told(lines, sum(line.seconds for line in lines), duration)
    disk = _told(lines, sum(line.disk_bytes for line in lines), size)
    print(f"  {name:<18} {hours:>9} GPU-hours, or about {here} here; {disk}")


def _told(lines: Sequence[Any], value: float, words: Callable[[float], str], about: str = "") -> str:
    """An estimate in words; that of nothing means nothing where it is not known how many images there are."""
    return about + words(value) if value or all(line.sized for line in lines) else "?"


def _print_assumptions(todo: Sequence[Any], root: Path, assumptions: Any) -> None:
    gpu = assumptions.gpu
    print(
        f"\nGPU-hours: operations counted on the networks, over {assumptions.utilisation:.0%} of the peaks of one "
        f"{gpu.name}\n({gpu.half / 1e12:g} TFLOP/s bfloat16, {gpu.tf32 / 1e12:g} TF32 for float32 convolutions, "
        f"{gpu.single / 1e12:g} float32 matrix products); --gpu and --utilisation change both.\n"
        "Tokenizer and SiT train in the precision that the study asks for; everything else runs in float32.\n"
        "Not in it: reading and preparing images, writing, metrics on features, idle GPUs, failed runs."
    )
    if left_out := sorted({line.left_out for line in todo if line.left_out}):
        print(f"Could not be counted: {', '.join(left_out)}.")
    print(f"Time here: this machine's matrix-product rate, right within a factor of two. Disk: in {root}.")


def duration(seconds: float) -> str:
    """Seconds in words that suit their size."""
    for unit, length, below in TIMES:
        if seconds < below:
            return f"{seconds / length:.{int(unit == 'h')}f} {unit}"
    return f"{seconds / (365.25 * 86400):,.0f} years"


def size(count: float) -> str:
    """Bytes in words that suit their size."""
    for unit, power in (("MiB", 20), ("GiB", 30)):
        if count < 2 ** (power + 10):
            return f"{count / 2**power:,.1f} {unit}"
    return f"{count / 2**40:,.1f} TiB"


def amount(value: float) -> str:
    """A number with about two digits, 0 for none."""
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.2g}" if value >= 0.01 else "<0.01"
