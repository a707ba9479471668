"""``vaebench score``."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from vaebench.cli import options as opt


def score(
    latents: Annotated[Path | None, typer.Argument(help="Folder made by vaebench extract.")] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Names, separated by commas (--list shows them). Default: all.")
    ] = None,
    all_metrics: Annotated[
        bool, typer.Option("--all", help="Every metric that the inputs allow (the default).")
    ] = False,
    list_metrics: Annotated[bool, typer.Option("--list", help="List the metrics and stop.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Prepared data. Default: where the latents come from.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Default: the one that made the latents.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="Beside them, the same scores of PCA, a random projection and pixels. Once made, they stand there "
            "without being asked for.",
        ),
    ] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Also print scores of single attributes and factors.")
    ] = False,
    output_dir: opt.OutputDir = None,
    config: opt.ConfigFile = None,
    override: opt.Overrides = None,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    dry_run: opt.DryRun = False,
) -> None:
    """Latent scores with intervals: disentanglement, readability, separability, spectrum, velocity ambiguity and more.

    The result is kept in --output-dir (default: LATENTS-scores, with the names of the metrics if some are asked for),
    with what was not available and why.

    Example: vaebench score runs/send-vae-latents --metrics lnc,viv,spectrum
    """
    if list_metrics:
        _list()
        return
    from vaebench import api
    from vaebench.core.errors import ConfigError, DataError
    from vaebench.core.files import read_json

    if latents is None:
        raise ConfigError("No latents were given.", "Give the folder that vaebench extract made.")
    if metrics and all_metrics:
        raise ConfigError("--all and --metrics exclude each other.", "Leave one out.")
    settings = {"seed": seed} | opt.settings(config, override)
    if metrics:
        settings["metrics"] = [name.strip() for name in metrics.split(",") if name.strip()]
    if dry_run:
        from vaebench.cli.preview import stage_preview

        stage_preview("score", settings)
        return
    place = Path(os.path.abspath(latents))  # "." has no name of its own; links are not followed, as elsewhere
    folder = output_dir or place.with_name(_folder_name(place.name, settings.get("metrics")))
    found = api.score(
        latents, folder, data=data, tokenizer=tokenizer, settings=settings, context=opt.context(device)
    )  # fmt: skip
    beside = api.score_controls(latents, settings=settings, context=opt.context(device), known=not controls)
    opt.show_scores(found, details, beside)
    for name, why in read_json(folder / "notes.json")["not_available"].items():
        print(f"{name}: not available: {why}")
    if not found:
        raise DataError(f"None of these scores can be had of '{latents}'.", "What is said of each tells why.")
    if not beside:
        opt.say("What would latents score that nobody trained? --controls tells.")
    opt.say(str(folder))


def _list() -> None:
    """Name, summary and needs of every metric; of one that cannot be loaded the summary says so."""
    from vaebench.core.errors import VaebenchError
    from vaebench.metrics import METRICS

    width = max(map(len, METRICS.names()))
    for entry in METRICS.entries():
        try:
            needs = ", ".join(METRICS.get(entry.name).lacking())
        except VaebenchError:
            needs = ""
        print(f"{entry.name:<{width}}  {entry.about()}{f' [needs {needs}]' if needs else ''}")


def _folder_name(latents: str, metrics: Any) -> str:
    """Another folder for other metrics, so that asking for one more is no clash with what is there; what is no list of
    names is refused later, by the stage."""
    from vaebench.core.config import content_hash

    asked = metrics if isinstance(metrics, list) else []
    names = "-".join(re.sub(r"[^\w-]+", "-", str(name).rpartition(":")[2]) for name in asked)
    if len(names) > 60:
        names = content_hash(metrics)[:10]
    return "-".join(filter(None, [latents, "scores", names]))
