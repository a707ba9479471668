"""``vaebench npz``."""

from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt


def npz(
    folder: Annotated[Path, typer.Argument(help="Folder of a 'generate' or 'reference' stage.")],
    output: Annotated[Path, typer.Argument(help="The file, ending in .npz.")],
    split: Annotated[str, typer.Option(help="Of a reference: train or test.")] = "train",
    images: Annotated[int, typer.Option(help="Of a reference: how many images beside the moments.")] = 10_000,
) -> None:
    """Write samples, or a reference, as a file of ADM's evaluation suite (arr_0, mu, sigma, mu_s, sigma_s).

    Example: vaebench npz runs/generation/stages/generate-send-vae-s0-steps400000-cfg1-nfe250-0123456789 samples.npz
    """
    from vaebench import api

    opt.say(str(api.export_npz(folder, output, split=split, images=images)))
