"""``vaebench quickstart``: a study that ships, and nothing else."""

from typing import Annotated

import typer

from vaebench.cli import options as opt
from vaebench.cli.study import Jobs, SeedOption, _overrides, run_study


def quickstart(
    data: Annotated[str, typer.Option(help="avatars, or fashion-mnist.")] = "avatars",
    output_dir: opt.OutputDir = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
    jobs: Jobs = 1,
    dry_run: opt.DryRun = False,
) -> None:
    """From nothing to a report: plain KL-VAE, VA-VAE and Send-VAE on embedded data, in about 15 minutes on two cores.

    Example: vaebench quickstart --output-dir runs/quickstart
    """
    study = "quickstart" if data == "avatars" else f"quickstart-{data}"
    run_study(study, output_dir, _overrides(override, seed), device, jobs, dry_run)
