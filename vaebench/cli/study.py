"""``vaebench study``: run, plan and status of a study file."""

from pathlib import Path
from typing import Annotated

import typer

from vaebench.cli import options as opt

app = typer.Typer(help="Run a study file: tokenizers x seeds x budgets.", no_args_is_help=True)

Study = Annotated[str, typer.Argument(help="Study file (YAML), or the name of one that ships (quickstart).")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Stages at a time, each in a process of its own.")]


def _folder(study: str, output_dir: Path | None) -> Path:
    return output_dir or Path("runs") / Path(study).stem


def _overrides(override: list[str] | None, seed: int | None) -> list[str]:
    return [*(override or []), *([] if seed is None else [f"seeds=[{seed}]"])]


def _with_config(study: str, config: Path | None) -> str:
    # A study is its own configuration file; --config is accepted for uniformity and then names the study file.
    return str(config) if config is not None else study


SeedOption = Annotated[int | None, typer.Option("--seed", help="Run this one training seed instead of the file's.")]


@app.command()
def run(
    study: Study,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
    jobs: Jobs = 1,
    dry_run: opt.DryRun = False,
) -> None:
    """Run what is not done yet and write the report. Interrupted and started again, it goes on where it was.

    Example: vaebench study run quickstart --output-dir runs/quickstart
    """
    run_study(_with_config(study, config), output_dir, _overrides(override, seed), device, jobs, dry_run)


def run_study(study: str, output_dir: Path | None, overrides: list[str], device: str, jobs: int, dry_run: bool) -> None:
    """What ``study run`` and ``quickstart`` share."""
    from vaebench.study.engine import finished
    from vaebench.study.spec import load_study

    root = _folder(study, output_dir)
    page = root / "report" / "report.html"
    if not dry_run and page.is_file() and finished(load_study(study, overrides), root):
        opt.say("Everything is done already.")
        print(page)
        return
    if dry_run:
        show_plan(study, root, overrides, device)
        return
    from vaebench import api

    print(api.run_study(study, root, overrides=overrides, jobs=jobs, context=opt.context(device)))


def show_plan(study: str, root: Path, overrides: list[str], device: str) -> None:
    """Print the stages of a study with their state and cost."""
    from vaebench.cli.preview import print_plan
    from vaebench.study.engine import read_index
    from vaebench.study.graph import build_graph
    from vaebench.study.spec import load_study

    spec = load_study(study, overrides)
    read_index(root, spec)
    print_plan(build_graph(spec), root, opt.context(device).torch_device())


@app.command()
def plan(
    study: Study,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
) -> None:
    """Print the stages, what is done, and an estimate of time and disk; start nothing.

    Example: vaebench study plan quickstart --output-dir runs/quickstart
    """
    study = _with_config(study, config)
    show_plan(study, _folder(study, output_dir), _overrides(override, seed), device)


@app.command()
def status(
    study: Study,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
) -> None:
    """Print which stages of a study are complete, running or missing.

    Example: vaebench study status quickstart --output-dir runs/quickstart
    """
    from vaebench.core.errors import MissingPath
    from vaebench.study.engine import read_index
    from vaebench.study.spec import load_study

    study = _with_config(study, config)
    root = _folder(study, output_dir)
    index = read_index(root, load_study(study, _overrides(override, seed)))
    if index is None:
        raise MissingPath(f"'{root}' holds no study yet.", f"Start it: vaebench study run {study} --output-dir {root}")
    done = 0
    for stage in index["stages"]:
        folder = root / stage["folder"]
        complete = (folder / "stage.json").is_file()
        begun = any(folder.parent.glob(f".{folder.name}.*.partial"))
        done += complete
        state = "done" if complete else "begun" if begun else "to do"
        seconds = f"{stage['seconds']:.0f} s" if stage["seconds"] is not None else ""
        print(f"{state:6}  {stage['id']:<50}  {seconds:>8}")
    print(f"{done} of {len(index['stages'])} stages are done.")
