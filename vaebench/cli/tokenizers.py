"""``vaebench tokenizers``: list, check, convert, and start one of your own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.cli import options as opt

app = typer.Typer(
    invoke_without_command=True,
    help="List the tokenizers and methods that are registered; check one, convert a checkpoint, start your own.\n\n"
    "Example: vaebench tokenizers",
)

# A contract check needs few images, and statistics of latents are steady with these.
REAL_IMAGES = 64


@app.callback()
def list_(context: typer.Context) -> None:
    """List the tokenizers and methods that are registered, with the package each comes from.

    Example: vaebench tokenizers
    """
    if context.invoked_subcommand is not None:
        return
    from vaebench.core.errors import PluginError
    from vaebench.tokenizers import TOKENIZERS

    rows = []
    for entry in TOKENIZERS.entries():
        try:
            target = entry.load()
        except PluginError:  # one broken package must not hide the others
            rows.append((entry.name, "broken", entry.package, entry.about()))
            continue
        kind = "method" if getattr(target, "trainable", False) else "ready"
        rows.append((entry.name, kind, entry.package, getattr(target, "summary", "") or entry.about()))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]))


@app.command()
def check(
    ref: opt.Tokenizer,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Data set for PSNR and normalisation; drawn images without. -o sets its options."),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the drawn images. Default: the first multiple of f from 64.")
    ] = None,
    override: opt.Overrides = None,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing: weights must be here already.")] = False,
    device: opt.Device = "auto",
) -> None:
    """Test a tokenizer against the contract: its spec, then each line passes, or says what is wrong and how to mend it.

    Example: vaebench tokenizers check stabilityai/sd-vae-ft-mse@main --data path/to/images -o image_size=256
    """
    from vaebench.core.config import dump_yaml
    from vaebench.core.errors import DataError
    from vaebench.core.offline import go_offline
    from vaebench.tokenizers import load_tokenizer
    from vaebench.tokenizers.check import inspect_tokenizer

    if offline:
        go_offline()
    where = opt.context(device)
    place = where.torch_device()
    tokenizer = load_tokenizer(ref, device=place)
    images = _real_images(data, opt.settings(None, override), where) if data is not None else None
    spec = tokenizer.spec
    size = image_size or tokenizer.image_size or -(-64 // max(spec.f, 1)) * max(spec.f, 1)
    print(dump_yaml(spec), end="")
    findings = inspect_tokenizer(tokenizer, size, place, images, lambda: load_tokenizer(ref, device=place))
    for finding in findings:
        word = "FAIL" if finding.status == "fail" else finding.status
        print(f"{word}  {finding.line:<15}  {finding.detail}")
        if finding.remedy:
            print(f"      {'':<15}  -> {finding.remedy}")
    failed = sum(finding.status == "fail" for finding in findings)
    if failed:
        raise DataError(f"The tokenizer does not keep the contract: {failed} problem{'s'[: failed > 1]} above.")
    print("keeps the contract")


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .ckpt, .pt or .safetensors in latent diffusion's layout.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Folder of the tokenizer; must not exist.")],
    stats: Annotated[
        Path | None, typer.Option("--stats", help="Its latent statistics; they become the normalisation.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the tokenizer. Default: that of the file.")] = "",
    norm_groups: Annotated[int, typer.Option(min=1, help="Groups of every GroupNorm, which no shape tells.")] = 32,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", help="Leave out tensors that begin so. Repeatable.")
    ] = None,
) -> None:
    """Convert a checkpoint of VA-VAE, E2E-VAE or another KL autoencoder of latent diffusion, without loss.

    Example: vaebench tokenizers convert vavae.pt --stats latents_stats.pt --output-dir tokenizers/vavae
    """
    from vaebench.core.config import dump_yaml
    from vaebench.tokenizers.convert import convert_checkpoint, refuse_existing, save_new

    refuse_existing(output_dir)
    conversion = convert_checkpoint(checkpoint, stats, name, norm_groups, tuple(leave_out or ()))
    save_new(conversion.tokenizer, output_dir)
    print(dump_yaml(conversion.tokenizer.spec), end="")
    if conversion.left_out:
        opt.say(f"{len(conversion.left_out)} tensors are no part of it, such as {', '.join(conversion.left_out[:3])}.")
    print(output_dir)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the tokenizer: lower-case letters, digits and dashes.")],
    output_dir: opt.OutputDir = None,
) -> None:
    """Write a package with a working tokenizer to start from: module, test, and pyproject with the entry point.

    Example: vaebench tokenizers new my-tokenizer
    """
    from vaebench.tokenizers.template import write_template

    folder = output_dir or Path(name)
    for path in write_template(name, folder):
        print(path)
    opt.say(f"Now: pip install -e {folder.absolute()}; vaebench tokenizers check {name}; pytest {folder}")


def _real_images(data: str, options: dict[str, Any], context: Any) -> Any:
    """The first images of a data set's test split (or its first split), on the [-1, 1] scale."""
    import numpy as np
    import torch

    from vaebench.api import prepare_data
    from vaebench.data import open_data
    from vaebench.vision.transforms import to_signed

    dataset = open_data(prepare_data(data, None, options, context) / "data.h5")
    split = dataset.splits.get("test") or next(iter(dataset.splits.values()))
    return to_signed(torch.from_numpy(split.images(np.arange(min(REAL_IMAGES, len(split))))))
