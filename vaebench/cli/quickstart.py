"""``vaebench quickstart``: a study that ships, and nothing else."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt
from vaebench.cli.study import Jobs, SeedOption, _overrides, run_study


def quickstart(
    data: Annotated[str, typer.Option(help="avatars, fashion-mnist, or a folder or table of your images.")] = "avatars",
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
    jobs: Jobs = None,
    dry_run: opt.DryRun = False,
) -> None:
    """From nothing to a report: plain KL-VAE, VA-VAE and Send-VAE on embedded data, in ten minutes on two fast cores.

    Example: vaebench quickstart --output-dir runs/quickstart
    """
    root = output_dir or Path("runs") / ("quickstart" if data == "avatars" else f"quickstart-{opt.folder_name(data)}")
    overrides = [*other_data(data), *_from_file(config), *_overrides(override, seed)]
    how = {"jobs": jobs if jobs is not None or dry_run else _jobs(device)}
    run_study("quickstart", root, overrides, device, how, dry_run)


def _from_file(config: Path | None) -> list[str]:
    """Overrides of the study from a YAML file: of single settings, however deep they stand."""
    from vaebench.core.config import flattened, read_yaml

    values = {} if config is None else flattened(read_yaml(config))
    return [f"{name}={json.dumps(value, default=str)}" for name, value in values.items()]


def _jobs(device: str) -> int | None:
    """Two stages side by side on a CPU: they are so small that one of them gains little from a second core."""
    import torch

    from vaebench.core.processes import process_count

    alone = process_count() == 1  # launched processes share each stage instead
    return min(2, torch.get_num_threads()) if alone and opt.context(device).torch_device() == "cpu" else None


def other_data(data: str) -> list[str]:
    """Overrides that put the quickstart study on other data."""
    from vaebench.core.errors import UnknownName, suggest
    from vaebench.core.plugins import is_reference
    from vaebench.data import DATASETS

    path = Path(data)
    if data == "avatars":
        return []
    if data in DATASETS:
        return [f"study=quickstart-{data}", f"data.name={data}"]
    if is_reference(data) and not path.exists():
        return [f"study=quickstart-{opt.folder_name(data)}", f"data.name={data}"]
    if path.exists():
        role = "root" if path.is_dir() else "table"
        place = f"data.options={{image_size: 64, {role}: '{path.absolute()}'}}"
        return [f"study=quickstart-{opt.folder_name(data)}", "data.name=folder", place]
    raise UnknownName(f"Data '{data}' is neither a registered data set nor a path.", suggest(data, DATASETS.names()))
