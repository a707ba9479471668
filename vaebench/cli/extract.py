"""``vaebench extract``."""

from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt


def extract(
    tokenizer: opt.Tokenizer,
    data: opt.Data = "avatars",
    flip: Annotated[str | None, typer.Option(help="none, or both: also the mirrored images.")] = None,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Does nothing here: all commands take it.")] = 0,
    workers: opt.Workers = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Encode a data set into latent files (HDF5). Interrupted and started again, it goes on where it was.

    Nothing is drawn here (the posterior's mean and std are stored), so --seed does nothing; a data set has its own
    (-o data.seed=1).

    Example: vaebench extract runs/send-vae --data avatars --output-dir runs/send-vae-latents
    """
    from vaebench import api

    data_options, settings = opt.sections(opt.settings(config, override), "data")
    if flip is not None:
        settings["flip"] = flip
    if dry_run:
        from vaebench.cli.preview import extraction_preview

        extraction_preview(tokenizer, data, data_options, settings)
        return
    folder = output_dir or Path("runs") / f"{opt.folder_name(tokenizer)}-latents"
    print(api.extract(
        tokenizer, data, folder, data_options=data_options, settings=settings, context=opt.context(device, workers),
    ))  # fmt: skip
