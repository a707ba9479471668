"""``vaebench data``: list, prepare and look at data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.cli import options as opt

app = typer.Typer(help="List, prepare and look at data sets.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        help="Data set: a name, a prepared folder, a tree of images, a table of paths, or file.py:Class.",
        autocompletion=opt.data_names,
    ),
]


@app.command("list")
def list_() -> None:
    """List the data sets that are registered.

    Example: vaebench data list
    """
    from vaebench.data import DATASETS

    width = max(len(name) for name in DATASETS.names())
    for entry in DATASETS.entries():
        print(f"{entry.name:<{width}}  {entry.package}  {entry.about()}")


@app.command()
def prepare(
    name: Name,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: Annotated[int | None, typer.Option(help="Seed of drawing or splitting, where the data set has one.")] = None,
    workers: opt.Workers = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Prepare a data set as one uint8 HDF5 file.

    Example: vaebench data prepare avatars --output-dir runs/avatars -o image_size=64 -o train=8000
    """
    from vaebench.api import prepare_data

    values = opt.settings(config, override) | ({} if seed is None else {"seed": seed})
    if dry_run and not (Path(name) / "stage.json").is_file():
        from vaebench.cli.preview import stage_preview
        from vaebench.data.source import named_source

        source, options = named_source(name, values)
        stage_preview("data", {"name": source, "options": options})
        return
    print(prepare_data(name, output_dir, values, opt.context(device, workers)))


@app.command()
def show(
    name: Name,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: Annotated[int | None, typer.Option(help="Seed of drawing or splitting, where the data set has one.")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test; the first that has images.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of images.")] = 24,
) -> None:
    """Describe a data set and write a contact sheet with labels and attributes, and a table of prevalence.

    Of a published data set whose place is not given, it says what to download, how the files lie, and the settings.

    Example: vaebench data show avatars --output-dir runs/look
    """
    from vaebench.api import prepare_data
    from vaebench.core.errors import UnknownName, suggest
    from vaebench.data import DATASETS, open_data
    from vaebench.data.own import mark, require_apart
    from vaebench.data.show import contact_sheet, prevalence
    from vaebench.data.source import lacks_files

    values = opt.settings(config, override) | ({} if seed is None else {"seed": seed})
    if name in DATASETS and lacks_files(kind := DATASETS.get(name), values):
        print(kind.guide(name))
        return
    folder = output_dir or Path("runs") / "data"
    if tree := _tree(name, values):
        require_apart(folder, tree)  # before the images are read, which may take hours
    dataset = open_data(prepare_data(name, None, values, opt.context(device)) / "data.h5")
    split = split or next(name for name, part in dataset.splits.items() if len(part))
    if split not in dataset.splits:
        raise UnknownName(f"Unknown split '{split}'.", suggest(split, dataset.splits))
    info = dataset.info
    mark(folder)
    sheet = folder / f"{info.name}-{split}.png"
    contact_sheet(dataset, sheet, split, n)
    sizes = ", ".join(f"{key} {len(part)}" for key, part in dataset.splits.items())
    print(f"{info.name}: {info.image_size} x {info.image_size}; {sizes}; licence: {info.licence}")
    print(_count(info.classes, "class", "classes") + (f": {', '.join(info.classes)}" if info.classes else ""))
    level = f" per {info.attribute_level}" if info.attributes else ""
    print(f"{_count(info.attributes, 'attribute')}{level}, {_count(info.factors, 'factor')}")
    if info.attributes:
        table = prevalence(dataset)
        table.to_csv(folder / f"{info.name}-prevalence.csv")
        print(table.to_string(float_format=lambda value: f"{value:.3f}"))
    print(sheet)


def _tree(name: str, values: Mapping[str, Any]) -> Path | None:
    """The tree of images that a data set is read from, or None: a table names its images."""
    from vaebench.data.source import named_source

    if (Path(name) / "stage.json").is_file():
        return None
    source, options = named_source(name, values)
    is_tree = source == "folder" and options.get("table") is None and options.get("root") is not None
    return Path(str(options["root"])) if is_tree else None


def _count(things: Sequence[object], one: str, several: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else several or one + 's'}"
