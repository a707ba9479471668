"""``vaebench train``."""

from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt


def train(
    method: Annotated[
        str,
        typer.Argument(
            help="Method to train by, see vaebench tokenizers; or file.py:Class.", autocompletion=opt.tokenizer_names
        ),
    ],
    data: opt.Data = "avatars",
    init: Annotated[str | None, typer.Option(help="Tokenizer to start from. Default: from scratch.")] = None,
    network: Annotated[str | None, typer.Option(help="Preset when from scratch. Default: tiny.")] = None,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    workers: opt.Workers = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Train a tokenizer. Interrupted and started again, it goes on where it was.

    Settings of training stand alone (-o steps=1000), those of the method, the data set and the teacher features have a
    section (-o options.depth=2, -o data.image_size=64, -o features.network.name=...).

    Example: vaebench train send-vae --data avatars --init runs/kl-vae --output-dir runs/send-vae -o steps=500
    """
    from vaebench import api

    values = opt.settings(config, override)
    options, data_options, features, training = opt.sections(values, "options", "data", "features")
    architecture = training.pop("network", None) if network is None else network
    if dry_run:
        from vaebench.cli.preview import stage_preview

        stage_preview("train", api.training_config(method, options, training, architecture, init, seed))
        return
    folder = api.train(
        method, data, output_dir or Path("runs") / opt.folder_name(method),
        init=init, network=architecture, options=options, training=training, features=features or None,
        data_options=data_options, seed=seed, context=opt.context(device, workers),
    )  # fmt: skip
    print(folder)
