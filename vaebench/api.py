"""The Python interface: what the commands do, as functions.

Each function leaves an artefact folder that carries its configuration, provenance and hash, and returns its path, or
the scores where numbers are what one wants. Called again with the same arguments and folder, it reuses what is there.

Example:
    >>> import vaebench  # doctest: +SKIP
    >>> tokenizer = vaebench.train("kl-vae", data="avatars", output_dir="runs/kl-vae", training={"steps": 500})
    >>> latents = vaebench.extract(tokenizer, data="avatars", output_dir="runs/kl-vae-latents")
    >>> scores = vaebench.probe(latents)
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaebench.core.config import Config, build
from vaebench.core.errors import DataError, UnknownName, suggest
from vaebench.core.files import read_json
from vaebench.core.scores import Score
from vaebench.stages import STAGES
from vaebench.stages.base import Context, completed, execute, input_hash, require_kind, stage_hash

Settings = Mapping[str, Any]


def cache_root() -> Path:
    """Where prepared data and teacher features are kept: ``$VAEBENCH_CACHE``, or ``vaebench`` in the user's cache."""
    return Path(os.environ.get("VAEBENCH_CACHE") or Path.home() / ".cache" / "vaebench")


def _cached(kind: str, name: str, config: Settings, inputs: Mapping[str, str], context: Context) -> Path:
    """Run a stage whose folder in the cache is named by its hash."""
    stage = STAGES.get(kind)()
    resolved: Config = stage.resolve(build(stage.Config, config, kind))
    identity = stage_hash(stage, resolved, {role: input_hash(role, reference) for role, reference in inputs.items()})
    return execute(stage, resolved, inputs, cache_root() / kind / f"{name}-{identity[:10]}", context).folder


def prepare_data(
    data: str | Path = "avatars",
    output_dir: str | Path | None = None,
    options: Settings | None = None,
    context: Context | None = None,
) -> Path:
    """Prepare a data set as one uint8 HDF5 file, or return it if that is done.

    Args:
        data: a registered name, a folder prepared earlier, a tree of images, or a CSV or Parquet table of paths.
        output_dir: where; default: the cache.
        options: the data set's own settings (``image_size``, split sizes ...).
        context: device and workers.

    Raises:
        UnknownName: neither a name nor a path; the remedy is the nearest name.
    """
    from vaebench.data import DATASETS

    path, options = Path(data), dict(options or {})
    if (path / "stage.json").is_file():
        return require_kind(path, ["data"], "data")
    if str(data) in DATASETS:
        name = str(data)
    elif path.exists():
        role = "root" if path.is_dir() else "table"
        name, options = "folder", {role: str(path.absolute()), **options}
    else:
        raise UnknownName(
            f"Data '{data}' is neither a registered data set nor a path.", suggest(str(data), DATASETS.names())
        )
    config, context = {"name": name, "options": options}, context or Context()
    if output_dir is None:
        return _cached("data", name, config, {}, context)
    return execute(STAGES.get("data")(), config, {}, Path(output_dir), context).folder


def train(
    method: str,
    data: str | Path = "avatars",
    output_dir: str | Path = "runs/tokenizer",
    *,
    init: str | Path | None = None,
    network: str | Settings | None = None,
    options: Settings | None = None,
    training: Settings | None = None,
    features: Settings | None = None,
    data_options: Settings | None = None,
    seed: int = 0,
    context: Context | None = None,
) -> Path:
    """Train a tokenizer.

    Args:
        method: registered method, such as ``send-vae``.
        data: as in :func:`prepare_data`.
        output_dir: folder of the trained tokenizer.
        init: tokenizer to start from; default: from scratch.
        network: preset or architecture when from scratch; default ``tiny``.
        options: settings of the method.
        training: settings of :class:`~vaebench.training.tokenizer_training.TokenizerTrainingConfig`.
        features: settings of the teacher features (``network.name`` ...), where the method needs a teacher.
        data_options: settings of the data set.
        seed: seed of initial weights, batches and noise.
        context: device and workers.
    """
    from vaebench.tokenizers import load_method

    context = context or Context()
    needs_teacher = load_method(method, options).needs_teacher
    inputs = {"data": str(prepare_data(data, options=data_options, context=context))}
    if needs_teacher:
        inputs["features"] = str(_cached("features", "teacher", dict(features or {}), inputs, context))
    if init is not None:
        inputs["init"] = str(init)
    config: dict[str, Any] = {
        "method": method,
        "options": dict(options or {}),
        "training": {**(training or {}), "seed": seed},
    }
    if init is None:
        config["network"] = network if network is not None else "tiny"
    elif network is not None:
        raise DataError("With init, the network is that of the initial tokenizer.", "Leave network out.")
    return execute(STAGES.get("train")(), config, inputs, Path(output_dir), context).folder


def extract(
    tokenizer: str | Path,
    data: str | Path = "avatars",
    output_dir: str | Path = "runs/latents",
    *,
    data_options: Settings | None = None,
    settings: Settings | None = None,
    context: Context | None = None,
) -> Path:
    """Encode every split of a data set into latent files (HDF5), resumably.

    Args:
        tokenizer: a trained tokenizer's folder, a diffusers folder, a registered name, ``module:Class`` or
            ``file.py:Class``.
        data: as in :func:`prepare_data`.
        output_dir: folder of ``train.h5``, ``validation.h5``, ``test.h5``.
        data_options: settings of the data set.
        settings: ``flip``, ``dtype``, ``batch_size`` ...
        context: device and workers.
    """
    context = context or Context()
    inputs = {"tokenizer": str(tokenizer), "data": str(prepare_data(data, options=data_options, context=context))}
    return execute(STAGES.get("extract")(), settings or {}, inputs, Path(output_dir), context).folder


def _scores(kind: str, settings: Settings | None, inputs: Settings, output_dir: Any, context: Context) -> list[Score]:
    """Run a scoring stage; without an output folder the artefact is dropped and only the scores stay."""
    stage = STAGES.get(kind)()
    if output_dir is not None:
        return execute(stage, settings or {}, inputs, Path(output_dir), context).scores
    with tempfile.TemporaryDirectory() as folder:
        return execute(stage, settings or {}, inputs, Path(folder) / kind, context).scores


def probe(
    latents: str | Path,
    output_dir: str | Path | None = None,
    *,
    settings: Settings | None = None,
    context: Context | None = None,
) -> list[Score]:
    """Attribute linear probes on a folder of latent files; see :mod:`vaebench.metrics.probing`."""
    return _scores("probe", settings, {"latents": str(latents)}, output_dir, context or Context())


def _reference(data: Path, settings: Settings | None, context: Context) -> str:
    return str(_cached("reference", "reference", dict(settings or {}), {"data": str(data)}, context))


def reconstruct(
    tokenizer: str | Path,
    data: str | Path = "avatars",
    output_dir: str | Path | None = None,
    *,
    data_options: Settings | None = None,
    reference: Settings | None = None,
    settings: Settings | None = None,
    context: Context | None = None,
) -> list[Score]:
    """PSNR, SSIM and rFID of a tokenizer on the test split; ``reference`` are settings of the FID features."""
    context = context or Context()
    prepared = prepare_data(data, options=data_options, context=context)
    inputs = {
        "tokenizer": str(tokenizer),
        "data": str(prepared),
        "reference": _reference(prepared, reference, context),
    }
    return _scores("reconstruct", settings, inputs, output_dir, context)


def generate(
    latents: str | Path,
    output_dir: str | Path = "runs/generation",
    *,
    tokenizer: str | Path | None = None,
    data: str | Path | None = None,
    name: str | None = None,
    sit: Settings | None = None,
    steps: Sequence[int] = (1000,),
    cfg: Sequence[float] = (1.0,),
    nfe: Sequence[int] = (50,),
    settings: Settings | None = None,
    reference: Settings | None = None,
    seed: int = 0,
    context: Context | None = None,
) -> list[Score]:
    """Train a SiT on latents once, then sample and score every combination of steps, CFG scale and NFE.

    Args:
        latents: folder made by :func:`extract`.
        output_dir: folder of the stages; ``vaebench report`` reads it.
        tokenizer, data: decoder and real images; default: those the latents were made from.
        name: the tokenizer's name in tables; default: that of the latent file.
        sit: settings of the SiT and its training.
        steps, cfg, nfe: the sweep.
        settings: settings of sampling and scoring.
        reference: settings of the FID features.
        seed: seed of the SiT's training.
        context: device and workers.
    """
    from vaebench.study.engine import run

    context = context or Context()
    spec, graph = generation_graph(
        latents, tokenizer=tokenizer, data=data, name=name, sit=sit, steps=steps, cfg=cfg, nfe=nfe,
        settings=settings, reference=reference, seed=seed,
    )  # fmt: skip
    root = Path(output_dir)
    run(spec, graph, root, context)
    folders = graph.folders(root)
    from vaebench.core.scores import read_scores

    return [
        score
        for node in graph.nodes.values()
        if node.kind == "generate"
        for score in read_scores(folders[node.id] / "scores.json")
    ]


def generation_graph(
    latents: str | Path,
    *,
    tokenizer: str | Path | None,
    data: str | Path | None,
    name: str | None,
    sit: Settings | None,
    steps: Sequence[int],
    cfg: Sequence[float],
    nfe: Sequence[int],
    settings: Settings | None,
    reference: Settings | None,
    seed: int,
) -> tuple[Any, Any]:
    """The small study behind :func:`generate`: its description and its graph."""
    from vaebench.study.graph import Graph, add_generation
    from vaebench.study.spec import GenerateSweep, StudySpec, TokenizerEntry

    folder = require_kind(latents, ["extract"], "latents")
    origin = read_json(folder / "stage.json")["references"]
    decoder, images = str(tokenizer or origin["tokenizer"]), str(data or origin["data"])
    require_kind(images, ["data"], "data")
    name = name or Path(decoder).name
    spec = StudySpec(
        study=f"generate {name}",
        tokenizers=(TokenizerEntry(name=name, load=decoder),),
        reference=dict(reference or {}),
        sit=dict(sit or {}),
        seeds=(seed,),
        generate=GenerateSweep(steps=tuple(steps), cfg=tuple(cfg), nfe=tuple(nfe), settings=dict(settings or {})),
    )
    graph = Graph()
    subject: dict[str, Any] = {"tokenizer": name, "seed": None}
    graph.add("reference", "reference", spec.reference, {}, {"data": images})
    graph.add(
        f"reconstruct-{name}", "reconstruct", {}, {"reference": "reference"},
        {"tokenizer": decoder, "data": images}, **subject,
    )  # fmt: skip
    add_generation(
        graph, spec, name, seed,
        latents={"given": {"latents": str(folder)}},
        tokenizer={"given": {"tokenizer": decoder}},
        reconstruct=f"reconstruct-{name}",
    )  # fmt: skip
    return spec, graph


def run_study(
    study: str | Path,
    output_dir: str | Path,
    *,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    context: Context | None = None,
) -> Path:
    """Run a study file (or one that ships, by name) and write its report; returns the report's path.

    What is complete is reused; a finished study returns at once.
    """
    from vaebench.study.engine import finished, run
    from vaebench.study.spec import load_study

    root, spec = Path(output_dir), load_study(study, list(overrides))
    page = root / "report" / "report.html"
    if not finished(spec, root):
        from vaebench.study.graph import build_graph

        run(spec, build_graph(spec), root, context or Context(), jobs)
        page.unlink(missing_ok=True)
    return page if page.is_file() else make_report([root], root / "report")


def make_report(studies: Sequence[str | Path], output_dir: str | Path, force: bool = False) -> Path:
    """Tables (CSV, Parquet), figures and ``report.html`` from study folders; returns the page's path."""
    import reports

    return reports.make_report([Path(study) for study in studies], Path(output_dir), force=force)


def describe(folder: str | Path) -> dict[str, Any]:
    """The record of an artefact folder: kind, hash, configuration, inputs, time, versions.

    Raises:
        DataError: no complete artefact folder of vaebench.
    """
    record = completed(Path(folder))
    if record is None:
        raise DataError(f"'{folder}' is no complete result folder of vaebench.")
    return record
