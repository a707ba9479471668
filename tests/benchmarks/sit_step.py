"""Speed of a SiT training step on the CPU: against the machine's matrix-product peak, and against plain code.

    python tests/benchmarks/sit_step.py [--repeats 5] [--depth 12] [--clock wall] [--profile]

SiT-S/2 on latents of 32 x 32 x 4 at batch 32, float32: forward, backward, AdamW and EMA. Three things take turns, so
that a machine shared with others slows all of them alike, and the best of each counts: our step, in a process set up as
the command line sets up its own (`vaebench.core.memory`); the same step of a plainly written SiT (one adaLN layer per
block, attention matrix materialised, optimiser and EMA in loops), in a process set up by nobody; and large square
matrix products (the peak). --same-process gives the plain step the memory of our process, to tell what the code alone
gains.

Goals: the linear layers' 1.05 TFLOP a step at 65% of the peak or more; 1.2 times the plain step or more.
"""

import argparse
import copy
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.core.memory import keep_freed_memory
from vaebench.generation.sit import SiT, sincos_positions, sit_config, time_features, training_flops
from vaebench.generation.training import make_optimizer
from vaebench.training.ema import Ema

BATCH = 32
PEAK_SIDE = 4096


class PlainBlock(nn.Module):
    """A DiT/SiT block as it is written in most code: clear, and one operation after the other."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def attention(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q * (d // self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, d))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(c).chunk(6, dim=1)
        h = self.norm1(x) * (1 + scale1.unsqueeze(1)) + shift1.unsqueeze(1)
        x = x + gate1.unsqueeze(1) * self.attention(h)
        h = self.norm2(x) * (1 + scale2.unsqueeze(1)) + shift2.unsqueeze(1)
        return x + gate2.unsqueeze(1) * self.mlp(h)


class PlainSiT(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, patch: int, channels: int, grid: int, classes: int):
        super().__init__()
        self.patch, self.channels, self.grid = patch, channels, grid
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Embedding(classes + 1, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.out = nn.Linear(width, patch * patch * channels)
        self.register_buffer("positions", sincos_positions(width, (grid // patch, grid // patch)))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        c = self.time(time_features(t)) + self.labels(labels)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.ada(c).chunk(2, dim=1)
        x = self.out(self.norm(x) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1))
        side, p = self.grid // self.patch, self.patch
        x = torch.einsum("nhwpqc->nchpwq", x.reshape(-1, side, side, p, p, self.channels))
        return x.reshape(-1, self.channels, self.grid, self.grid)


def our_step(model: SiT) -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
    optimizer, ema, count = make_optimizer(model.parameters(), 1e-4, (0.9, 0.999), 0.0), Ema(model, 0.9999), 0

    def step(x: Tensor, t: Tensor, labels: Tensor, target: Tensor) -> None:
        nonlocal count
        F.mse_loss(model(x, t, labels).velocity, target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model, count)
        count += 1

    return step


def plain_step(model: PlainSiT) -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
    optimizer, ema = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0), copy.deepcopy(model)

    def step(x: Tensor, t: Tensor, labels: Tensor, target: Tensor) -> None:
        loss = ((model(x, t, labels) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for average, weight in zip(ema.parameters(), model.parameters(), strict=True):
                average.mul_(0.9999).add_(weight, alpha=1 - 0.9999)

    return step


def serve(connection: Connection, name: str, depth: int, threads: int, keep: bool, cpu: bool) -> None:
    """A process of its own: answers each message but None with the seconds of one piece of work."""
    if keep:
        keep_freed_memory()
    torch.set_num_threads(threads)
    work, clock = make_work(name, depth), time.process_time if cpu else time.perf_counter
    while (message := connection.recv()) is not None:
        began = clock()
        if message == "profile":
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                work()
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
        else:
            work()
        connection.send(clock() - began)


def make_work(name: str, depth: int) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    if name == "peak":
        square = torch.randn(PEAK_SIDE, PEAK_SIDE, generator=generator)
        product = torch.empty_like(square)
        return lambda: torch.mm(square, square, out=product)
    config = sit_config("SiT-S/2", 4, (32, 32), 1000, depth=depth)
    if name == "ours":
        step = our_step(SiT(config, generator))
    else:
        step = plain_step(PlainSiT(config.width, config.depth, config.heads, 2, 4, 32, 1000))
    x, target = (torch.randn(BATCH, 4, 32, 32, generator=generator) for _ in range(2))
    t, labels = torch.rand(BATCH, generator=generator), torch.randint(1000, (BATCH,), generator=generator)
    return lambda: step(x, t, labels, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--depth", type=int, default=12, help="blocks; fewer for a quick look")
    parser.add_argument("--profile", action="store_true", help="print torch's profile of one of our steps")
    parser.add_argument("--same-process", action="store_true", help="the plain step keeps freed memory too")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: one thread, its CPU seconds")
    args = parser.parse_args()
    # On a machine that others keep busy, wall time says little.
    cpu, threads = args.clock == "cpu", 1 if args.clock == "cpu" else torch.get_num_threads()

    context, workers = multiprocessing.get_context("spawn"), {}
    for name in ("peak", "ours", "plain"):
        connection, other = context.Pipe()
        keep = name != "plain" or args.same_process
        context.Process(target=serve, args=(other, name, args.depth, threads, keep, cpu), daemon=True).start()
        workers[name] = connection

    def ask(name: str, message: str = "step") -> float:
        workers[name].send(message)
        return workers[name].recv()

    times: dict[str, list[float]] = {name: [] for name in workers}
    for repeat in range(args.repeats + 1):  # the first round warms up
        for name in workers:
            took = ask(name)
            if repeat:
                times[name].append(took)
    best = {name: min(values) for name, values in times.items()}

    config = sit_config("SiT-S/2", 4, (32, 32), 1000, depth=args.depth)
    peak = 2 * PEAK_SIDE**3 / best["peak"]
    linear, everything = (training_flops(config, BATCH, count) for count in ("linear", "all"))
    print(f"threads {threads}, peak {peak / 1e9:.1f} GFLOP/s")
    for name in ("ours", "plain"):
        print(
            f"{name:5}: {best[name]:.3f} s a step; {linear / best[name] / peak:.3f} of the peak (linear layers, "
            f"{linear / 1e12:.2f} TFLOP), {everything / best[name] / peak:.3f} (all, {everything / 1e12:.2f})"
        )
    print(f"ratio plain / ours: {best['plain'] / best['ours']:.3f}")
    paired = sorted(p / o for p, o in zip(times["plain"], times["ours"], strict=True))
    print(f"ratio of each pair: {', '.join(f'{ratio:.3f}' for ratio in paired)}")
    if args.profile:
        ask("ours", "profile")
    for connection in workers.values():
        connection.send(None)


if __name__ == "__main__":
    main()
