"""``vaebench probe``."""

from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt


def probe(
    latents: Annotated[Path, typer.Argument(help="Folder made by vaebench extract.")],
    attributes: Annotated[bool, typer.Option("--attributes", help="Also print every attribute's scores.")] = False,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    dry_run: opt.DryRun = False,
) -> None:
    """Attribute linear probes on latents: per-attribute and mean scores with intervals and trivial baselines.

    Example: vaebench probe runs/send-vae-latents --output-dir runs/send-vae-probe
    """
    from vaebench import api

    settings = {"seed": seed} | opt.settings(config, override)
    if dry_run:
        from vaebench.cli.preview import stage_preview

        stage_preview("probe", settings)
        return
    scores = api.probe(latents, output_dir, settings=settings, context=opt.context(device))
    opt.show_scores(scores, attributes)
    if output_dir is not None:
        opt.say(str(output_dir))
