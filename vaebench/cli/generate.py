"""``vaebench generate``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.cli import options as opt


def _numbers(text: str, kind: Any, option: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        from vaebench.core.errors import ConfigError

        raise ConfigError(f"{option} '{text}' is not a list of numbers.", f"Write {option} 1,2,3.") from error


def generate(
    latents: Annotated[Path, typer.Argument(help="Folder made by vaebench extract.")],
    steps: Annotated[str, typer.Option(help="Training steps at which to sample, comma-separated.")] = "1000",
    cfg: Annotated[str, typer.Option(help="Classifier-free guidance scales, comma-separated; 1 is without.")] = "1",
    nfe: Annotated[str, typer.Option(help="Numbers of function evaluations, comma-separated.")] = "50",
    tokenizer: Annotated[str | None, typer.Option(help="Decoder. Default: what the latents were made with.")] = None,
    data: Annotated[str | None, typer.Option(help="Real images. Default: what the latents were made from.")] = None,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Of the SiT's training; that of samples: -o sampling.seed.")] = 0,
    dry_run: opt.DryRun = False,
) -> None:
    """Train a SiT on latents, sample, and measure gFID to the real images and to the tokenizer's reconstructions.

    Several budgets make a sweep with one training run. Settings have sections: -o sit.batch_size=128 (SiT and its
    training), -o sampling.samples=2048 (sampling and scoring), -o reference.train=2048 (FID reference).

    Example: vaebench generate runs/send-vae-latents --steps 500,1000 --cfg 1,2 --nfe 25 --output-dir runs/generation
    """
    from vaebench import api
    from vaebench.core.errors import ConfigError, suggest

    sit, sampling, reference, rest = opt.sections(opt.settings(config, override), "sit", "sampling", "reference")
    if rest:
        name = next(iter(rest))
        raise ConfigError(f"Unknown section '{name}'.", suggest(name, ["sit", "sampling", "reference"]))
    sweep: dict[str, Any] = {
        "sit": sit,
        "settings": sampling,
        "reference": reference,
        "steps": _numbers(steps, int, "--steps"),
        "cfg": _numbers(cfg, float, "--cfg"),
        "nfe": _numbers(nfe, int, "--nfe"),
    }
    root = output_dir or Path("runs") / f"generation-{opt.folder_name(latents)}"
    if dry_run:
        from vaebench.cli.plan import print_plan

        _, graph = api.generation_graph(latents, tokenizer=tokenizer, data=data, name=None, seed=seed, **sweep)
        print_plan(graph, root, opt.context(device).torch_device())
        return
    scores = api.generate(
        latents, root, tokenizer=tokenizer, data=data, seed=seed, context=opt.context(device), **sweep
    )
    opt.show_scores(scores)
    opt.say(f"vaebench report {root} draws tables and figures of this.")
