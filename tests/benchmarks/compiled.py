"""What torch.compile would gain in a study's stages, in one run: seconds eager and compiled, and what compiling takes.

    python tests/benchmarks/compiled.py [--study avatars-claim] [--repeats 8] [--device cpu] [--threads N]

The networks and batch sizes are those of the study: forward and backward of a tokenizer and of a SiT, and a SiT's
forward pass in sampling. Compiled networks take plain formulas where eager ones on a CPU have code of their own
(`vaebench.generation.fused`, `vaebench.core.products`). Needs a C++ compiler; on a GPU, Triton.

A stage gains when (eager - compiled) x its steps is more than compiling takes; the last column is that number of steps.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.core.memory import keep_freed_memory
from vaebench.generation.sit import SiT, sit_config
from vaebench.study.spec import load_study
from vaebench.tokenizers.autoencoder import AutoencoderConfig, build_autoencoder

Work = Callable[[nn.Module], Tensor]
NUM_CLASSES = 10
SAMPLING_BATCH = 200


def gradients(network: nn.Module, loss: Tensor) -> Tensor:
    """Runs backward, and leaves the network without gradients."""
    loss.backward()
    network.zero_grad(set_to_none=True)
    return loss.detach()


def pieces(study: str, device: str) -> dict[str, tuple[nn.Module, Work]]:
    """Name -> network and what is done with it, with a result to compare."""
    spec, generator = load_study(study), torch.Generator().manual_seed(0)
    built = build_autoencoder(AutoencoderConfig.model_validate(spec.network), generator)
    size, d, batch = int(spec.data["options"]["image_size"]), built.spec.d, int(spec.sit["batch_size"])
    grid = size // built.spec.f
    sit = SiT(sit_config(spec.sit["preset"], d, (grid, grid), NUM_CLASSES), generator)
    with torch.no_grad():
        for parameter in sit.parameters():  # gates that start at zero would leave nothing to compare
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    tokenizer, images = (
        built.network.autoencoder,
        torch.rand(int(spec.training["batch_size"]), 3, size, size, generator=generator),
    )
    folded = F.pixel_unshuffle(images, built.network.patch_size).to(device)
    x, target = (torch.randn(batch, d, grid, grid, generator=generator).to(device) for _ in range(2))
    t, labels = torch.rand(batch, generator=generator), torch.randint(NUM_CLASSES, (batch,), generator=generator)
    noise = torch.randn(SAMPLING_BATCH, d, grid, grid, generator=generator).to(device)
    at, classes = torch.full((SAMPLING_BATCH,), 0.5), torch.arange(SAMPLING_BATCH) % NUM_CLASSES
    t, labels, at, classes = (tensor.to(device) for tensor in (t, labels, at, classes))

    def reconstruct(network: nn.Module) -> Tensor:
        return gradients(network, (network(folded).sample - folded).abs().mean())

    def match(network: nn.Module) -> Tensor:
        return gradients(network, F.mse_loss(network(x, t, labels).velocity, target))

    def sample(network: nn.Module) -> Tensor:
        with torch.inference_mode():
            return network(noise, at, classes).velocity

    return {
        "tokenizer, forward and backward": (tokenizer.to(device), reconstruct),
        "SiT, forward and backward": (sit.to(device), match),
        "SiT, sampling": (sit, sample),
    }


def seconds(device: str, work: Callable[[], Tensor]) -> float:
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="avatars-claim")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    print(f"{args.study} on {args.device}, {args.threads} threads, torch {torch.__version__}; best of {args.repeats}")
    print(
        f"{'':32}{'eager':>8}{'compiled':>10}{'ratio':>7}{'to compile':>12}{'largest difference':>20}{'pays after':>12}"
    )
    for name, (network, work) in pieces(args.study, args.device).items():
        eager = copy.deepcopy(network)
        network.compile()
        expected = work(eager)
        first = seconds(args.device, lambda w=work, n=network: w(n))
        difference = (work(network) - expected).abs().max().item()
        best = [float("inf"), float("inf")]
        for _ in range(args.repeats):  # in turns, so that other work on the machine slows both
            for index, one in enumerate((eager, network)):
                best[index] = min(best[index], seconds(args.device, lambda w=work, n=one: w(n)))
        gain = best[0] - best[1]
        pays = f"{(first - best[1]) / gain:.0f} steps" if gain > 0 else "never"
        print(
            f"{name:32}{best[0]:8.4f}{best[1]:10.4f}{best[0] / best[1]:7.2f}{first:11.1f}s{difference:20.1e}{pays:>12}"
        )


if __name__ == "__main__":
    main()
