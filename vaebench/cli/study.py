"""``vaebench study``: run, plan, status and clean-up of a study file."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.cli import options as opt
from vaebench.core.errors import MissingPath, UnknownName

app = typer.Typer(help="Run a study file: tokenizers x seeds x budgets.", no_args_is_help=True)

Study = Annotated[str, typer.Argument(help="Study file (YAML), or the name of one that ships (quickstart).")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Stages at a time, each in a process of its own with its share of the cores. Default: the number of GPUs "
        "where there are several, else 1, in this process.",
    ),
]


def _folder(study: str, output_dir: Path | None) -> Path:
    # A study that ships may have a folder in its name: smoke/paper-table1.
    return output_dir or Path("runs") / (Path(study).stem if Path(study).is_file() else study)


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
    jobs: Jobs = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Cores of each stage; numbers on a CPU are equal to the last bit for equal threads."),
    ] = None,
    engine: Annotated[str, typer.Option(help="local (this machine) or ray (a Ray cluster).")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: one is started here.")] = None,
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of each stage with --engine ray, a fraction to share one.")
    ] = 1.0,
    memory: Annotated[
        float | None, typer.Option(min=0, help="GiB: of all stages at a time (local), of each (ray).")
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            min=0, help="How often a stage is tried again whose process or node was lost. Default: 3 with ray, else 0."
        ),
    ] = None,
    needs: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="With --engine ray, what stages of a kind take instead, for each of their processes: "
            "sit:processes=4,threads=8,gpus=1,memory=64. Repeatable.",
        ),
    ] = None,
    copied: Annotated[
        bool, typer.Option("--copied", help="With --engine ray: nodes share no folder, inputs and results are sent.")
    ] = False,
    wandb: Annotated[
        str | None, typer.Option(help="Project of Weights & Biases that is told of each stage (extra vaebench[wandb]).")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Carry out this stage alone, for batch systems. Repeatable.")
    ] = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Run what is not done yet and write the report. Interrupted and started again, it goes on where it was.

    A stage that fails takes those that need it with it, and no others. Logs stand in OUTPUT_DIR/logs, events for
    programs in OUTPUT_DIR/events.jsonl; tensorboard --logdir OUTPUT_DIR shows training.

    Exit codes: 0 all is done; 1 a fault of vaebench, with a traceback; 2 a mistake that the message names; 3 some
    stages failed, and all that does not need them is complete; 130 interrupted.

    Example: vaebench study run quickstart --output-dir runs/quickstart
    """
    study, overrides = _with_config(study, config), _overrides(override, seed)
    bytes_allowed = None if memory is None else int(memory * 2**30)
    how = {"engine": engine, "address": address, "jobs": jobs, "threads": threads, "gpus": gpus,
           "memory": bytes_allowed, "retries": retries, "needs": _needs(needs or []), "copied": copied,
           "wandb": wandb}  # fmt: skip
    if only and not dry_run:
        _run_stages(study, _folder(study, output_dir), overrides, device, only, how)
        return
    run_study(study, output_dir, overrides, device, how, dry_run)


def _needs(words: list[str]) -> dict[str, Any]:
    """Kind -> `vaebench.study.engines.job.Needs`, from words such as ``sit:processes=4,gpus=0.5,memory=64`` (GiB).

    Raises:
        ConfigError, UnknownName: another form, another resource or kind, or an amount below what makes sense.
    """
    from vaebench.core.errors import ConfigError, suggest
    from vaebench.stages import VERSIONS
    from vaebench.study.engines.job import Needs

    found = {}
    for word in words:
        kind, _, amounts = word.partition(":")
        if kind not in VERSIONS:
            raise UnknownName(f"--for {word}: no stage is of the kind '{kind}'.", suggest(kind, VERSIONS))
        try:
            given = {name: float(amount) for name, amount in (item.split("=") for item in amounts.split(","))}
            whole = {name: int(given[name]) for name in ("threads", "processes") if name in given}
            if any(whole[name] != given[name] or whole[name] < 1 for name in whole) or min(given.values()) < 0:
                raise ValueError
            needs: dict[str, Any] = dict(given)
            needs |= dict(whole.items())
            if "memory" in given:
                needs["memory"] = int(given["memory"] * 2**30)
            found[kind] = Needs(**needs)
        except (ValueError, TypeError, OverflowError) as error:
            raise ConfigError(
                f"'--for {word}' is not of the form KIND:threads=8,processes=2,gpus=0.5,memory=32.",
                "threads and processes are whole numbers from 1, memory is in GiB.",
            ) from error
    return found


def _run_stages(
    study: str, root: Path, overrides: list[str], device: str, names: list[str], how: dict[str, Any]
) -> None:
    from vaebench.study.engine import Options, StagesFailed, refuse_unused
    from vaebench.study.graph import build_graph
    from vaebench.study.single import run_only
    from vaebench.study.spec import load_study

    refuse_unused(Options(**how), alone=True)
    graph = build_graph(load_study(study, overrides))
    with _stages_may_fail():
        if problems := run_only(graph, root, opt.context(device), names, how["threads"]):
            raise StagesFailed("; ".join(problems))


@contextlib.contextmanager
def _stages_may_fail() -> Iterator[None]:
    from vaebench.study.engine import StagesFailed

    try:
        yield
    except StagesFailed as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(3) from error


def run_study(
    study: str, output_dir: Path | None, overrides: list[str], device: str, how: dict[str, Any], dry_run: bool
) -> None:
    """What ``study run`` and ``quickstart`` share; ``how`` are `vaebench.study.engine.Options`."""
    from vaebench.study.engine import Options, finished
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

    with _stages_may_fail():
        print(api.run_study(study, root, overrides=overrides, options=Options(**how), context=opt.context(device)))


def show_plan(
    study: str, root: Path, overrides: list[str], device: str, gpu: str = "h100", utilisation: float = 0.35
) -> None:
    """Print the stages of a study with their state and cost."""
    from vaebench.cli.plan import print_plan
    from vaebench.study.engine import read_index
    from vaebench.study.graph import build_graph
    from vaebench.study.spec import load_study

    spec = load_study(study, overrides)
    read_index(root, spec)
    print_plan(build_graph(spec, tolerant=True), root, opt.context(device).torch_device(), gpu, utilisation)


@app.command()
def plan(
    study: Study,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
    gpu: Annotated[
        str, typer.Option(help="GPU whose hours are estimated: a100, h100, h200, l40s, rtx4090, v100.")
    ] = "h100",
    utilisation: Annotated[float, typer.Option(help="Share of that GPU's peak that the work reaches.")] = 0.35,
    form: Annotated[str, typer.Option("--format", help="table, or slurm: a script that submits job arrays.")] = "table",
) -> None:
    """Print the stages, what is done, time and disk here, and GPU-hours; start nothing. Needs neither data nor weights.

    Example: vaebench study plan paper-table1 --gpu a100 --utilisation 0.3
    """
    study = _with_config(study, config)
    if form == "slurm":
        from vaebench.study.graph import build_graph
        from vaebench.study.slurm import plan_as_slurm
        from vaebench.study.spec import load_study

        overrides = _overrides(override, seed)
        graph = build_graph(load_study(study, overrides))
        print(plan_as_slurm(study, _folder(study, output_dir), overrides, device, graph))
        return
    if form != "table":
        raise UnknownName(f"Unknown format '{form}'.", "Known: slurm, table.")
    show_plan(study, _folder(study, output_dir), _overrides(override, seed), device, gpu, utilisation)


@app.command()
def status(
    study: Study,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it until nobody runs the study.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Print which stages of a study are complete, running (how fast, how long still), failed or missing.

    Example: vaebench study status quickstart --output-dir runs/quickstart --watch
    """
    from vaebench.cli.status import print_status, watch_status

    overrides = _overrides(override, seed)
    root, index = _existing(study, output_dir, config, overrides)
    if _differs(study, config, overrides, index):
        opt.say(
            f"'{study}' is not what was run in '{root}' last (it was changed, or the code of its stages was): this is "
            "the state of that run. `vaebench study run` makes anew what the change concerns."
        )
    if watch:
        watch_status(root, interval)
    else:
        print_status(root, index)


@app.command()
def clean(
    study: Study,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also remove checkpoints of stages of other settings, such as another --seed."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be removed, and stop.")] = False,
) -> None:
    """Remove what killed processes left: half-written files, dead locks, work that no stage will take up.

    Complete stages, and work that a run of the study file goes on with, are never touched.

    Example: vaebench study clean quickstart --output-dir runs/quickstart --dry-run
    """
    from vaebench.study import clean as cleaning
    from vaebench.study.graph import build_graph
    from vaebench.study.spec import load_study

    overrides = _overrides(override, seed)
    root, index = _existing(study, output_dir, config, overrides)
    graph = build_graph(load_study(_with_config(study, config), overrides), tolerant=True)
    removed = (cleaning.leftovers if dry_run else cleaning.clean)(root, index, graph, force)
    for path in removed:
        print(path)
    opt.say(f"{len(removed)} {'would be' if dry_run else 'were'} removed.")


@app.command()
def slim(
    study: Study,
    target: Annotated[Path, typer.Argument(help="Folder of the copy: new, or a slim copy from before.")],
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: SeedOption = None,
    largest: Annotated[int, typer.Option(min=1, help="KiB; larger files of a stage are left out.")] = 64,
) -> None:
    """Copy a study without weights, latents and images: tables and report can be made of it, and the study go on in it.

    What is complete counts as complete there; a stage is made anew only if one that is not complete needs its files.

    Example: vaebench study slim avatars-claim evidence/ --output-dir runs/avatars-claim
    """
    from vaebench.study import slim as slimming

    root, index = _existing(study, output_dir, config, _overrides(override, seed))
    copied, size = slimming.slim(root, index, target, largest * 1024)
    opt.say(f"{copied} stages were copied; '{target}' has {size / 2**20:.1f} MiB.")


def _differs(study: str, config: Path | None, overrides: list[str], index: dict[str, Any]) -> bool:
    from vaebench.study.index import study_hash
    from vaebench.study.spec import load_study

    return study_hash(load_study(_with_config(study, config), overrides)) != index.get("study_hash")


def _existing(
    study: str, output_dir: Path | None, config: Path | None, overrides: list[str]
) -> tuple[Path, dict[str, Any]]:
    """The folder and the index of a study that has been started.

    Raises:
        MissingPath: it has not.
    """
    from vaebench.study.engine import read_index
    from vaebench.study.spec import load_study

    study = _with_config(study, config)
    root = _folder(study, output_dir)
    index = read_index(root, load_study(study, overrides))
    if index is None:
        raise MissingPath(f"'{root}' holds no study yet.", f"Start it: vaebench study run {study} --output-dir {root}")
    return root, index
