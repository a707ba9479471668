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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vaebench.core.config import Config, build, refuse_elsewhere
from vaebench.core.errors import ConfigError, DataError, MissingPath, suggest
from vaebench.core.files import read_json
from vaebench.core.plugins import code_of, is_reference
from vaebench.core.processes import process_count, process_index
from vaebench.core.scores import Score, read_scores
from vaebench.stages import STAGES
from vaebench.stages.base import Context, completed, execute, file_part, input_hash, require_kind, stage_hash

Settings = Mapping[str, Any]
T = TypeVar("T")


def cache_root() -> Path:
    """Where prepared data and teacher features are kept: ``$VAEBENCH_CACHE``, or ``vaebench`` in the user's cache."""
    return Path(os.environ.get("VAEBENCH_CACHE") or Path.home() / ".cache" / "vaebench")


def _cached(kind: str, name: str, config: Settings, inputs: Mapping[str, str], context: Context | None) -> Path:
    """Run a stage whose folder in the cache is named by its hash; without a context only what is there counts.

    Raises:
        MissingPath: it is not there, and there is no context to run it in.
    """
    stage = STAGES.get(kind)()
    resolved: Config = stage.resolve(build(stage.Config, config, kind))
    identity = stage_hash(stage, resolved, {role: input_hash(role, reference) for role, reference in inputs.items()})
    folder = cache_root() / kind / f"{name}-{identity[:10]}"
    if context is not None:
        return execute(stage, resolved, inputs, folder, context).folder
    if completed(folder) is None:
        raise MissingPath(f"{folder} was not made yet.")
    return folder


def prepare_data(
    data: str | Path = "avatars",
    output_dir: str | Path | None = None,
    options: Settings | None = None,
    context: Context | None = None,
    known: bool = False,
) -> Path:
    """Prepare a data set as one uint8 HDF5 file, or return it if that is done.

    Args:
        data: a registered name, a folder prepared earlier, a tree of images, a CSV or Parquet table of paths, or a
            source of your own as ``module:Class`` or ``path/file.py:Class``.
        output_dir: where; default: the cache.
        options: the data set's own settings (``image_size``, split sizes ...).
        context: device and workers.
        known: only look for it where it was given or in the cache.

    Raises:
        UnknownName: neither a name nor a path; the remedy is the nearest name.
        MissingPath: it was not made yet, and is not to be made (``known``).
        ConfigError: the folder is prepared already, with other options or in another place than is asked for.
    """
    from vaebench.data.source import named_source

    if (Path(data) / "stage.json").is_file():
        return _prepared(Path(data), options or {}, output_dir)
    name, values = named_source(data, options or {})
    config, context = {"name": name, "options": values}, context or Context()
    if output_dir is None or known:
        return _cached("data", name.rpartition(":")[2], config, {}, None if known else context)
    return execute(STAGES.get("data")(), config, {}, Path(output_dir), context).folder


def _prepared(folder: Path, options: Settings, output_dir: str | Path | None) -> Path:
    """A folder of prepared data, if nothing is asked that would need it to be prepared again."""
    require_kind(folder, ["data"], "data")
    if output_dir is not None:
        raise ConfigError(f"Data '{folder}' are prepared already.", "Leave --output-dir out, or copy that folder.")
    made = read_json(folder / "stage.json")["config"]["options"]
    other = [f"{key}={made.get(key)!r}" for key, value in options.items() if key not in made or made[key] != value]
    if other:
        raise ConfigError(
            f"Data '{folder}' are prepared already, with {', '.join(other)}.",
            "Leave the options of the data out, or give the data set that they were prepared from.",
        )
    return folder


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

    config = training_config(method, options, training, network, init, seed)
    stage, context = STAGES.get("train")(), context or Context()
    stage.resolve(build(stage.Config, config, "train"))  # a slip is told before data and features are made for hours
    inputs = {"data": str(prepare_data(data, options=data_options, context=context))}
    if load_method(method, options).needs_teacher:
        inputs["features"] = str(_cached("features", "teacher", dict(features or {}), inputs, context))
    if init is not None:
        inputs["init"] = str(init)
    return execute(stage, config, inputs, Path(output_dir), context).folder


def training_config(
    method: str,
    options: Settings | None,
    training: Settings | None,
    network: str | Settings | None,
    init: str | Path | None,
    seed: int,
) -> dict[str, Any]:
    """The configuration of the stage behind :func:`train`, whose arguments these are.

    Raises:
        ConfigError: the settings of training have a seed.
        DataError: a network beside an initial tokenizer.
    """
    refuse_elsewhere(training or {}, "the settings of training", {"seed": "seed (--seed)"})
    config: dict[str, Any] = {
        "method": method,
        "options": dict(options or {}),
        "training": {**(training or {}), "seed": seed},
    }
    if init is None:
        config["network"] = network if network is not None else "tiny"
    elif network is not None:
        raise DataError("With init, the network is that of the initial tokenizer.", "Leave network out.")
    return config


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
    inputs = {"tokenizer": str(tokenizer), "data": str(_data_for(tokenizer, data, data_options, context))}
    return execute(STAGES.get("extract")(), settings or {}, inputs, Path(output_dir), context).folder


def _several(values: T | Sequence[T]) -> tuple[T, ...]:
    """One value, which may be a text, or several, as several."""
    return tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)


def _data_for(tokenizer: str | Path, data: str | Path, options: Settings | None, context: Context | None) -> Path:
    """The data, prepared if need be; a tokenizer that cannot be loaded is told before that, which may take hours."""
    with suppress(MissingPath):
        return prepare_data(data, options=options, context=context, known=True)
    from vaebench.tokenizers import load_tokenizer

    load_tokenizer(tokenizer)
    return prepare_data(data, options=options, context=context)


def _scores(kind: str, settings: Settings | None, inputs: Settings, output_dir: Any, context: Context) -> list[Score]:
    """Run a scoring stage; without an output folder the artefact is dropped and only the scores stay."""
    stage = STAGES.get(kind)()
    if output_dir is not None:
        return execute(stage, settings or {}, inputs, Path(output_dir), context).scores
    if process_count() > 1:
        raise DataError("Several processes need one place for their result.", "Give an output_dir (--output-dir).")
    with tempfile.TemporaryDirectory() as folder:
        return execute(stage, settings or {}, inputs, Path(folder) / kind, context).scores


def probe(
    latents: str | Path,
    output_dir: str | Path | None = None,
    *,
    settings: Settings | None = None,
    context: Context | None = None,
) -> list[Score]:
    """Attribute linear probes on a folder of latent files; see :mod:`vaebench.metrics.probing`.

    Raises:
        DataError: the latents have no attributes. (A study notes that, and goes on.)
    """
    found = _scores("probe", settings, {"latents": str(latents)}, output_dir, context or Context())
    if not found:
        raise DataError(f"Latents '{latents}' have no attributes to probe.", "Use data with attributes.")
    return found


def score(
    latents: str | Path,
    output_dir: str | Path | None = None,
    *,
    metrics: str | Sequence[str] = (),
    data: str | Path | None = None,
    tokenizer: str | Path | None = None,
    settings: Settings | None = None,
    context: Context | None = None,
) -> list[Score]:
    """Latent scores: disentanglement, readability, separability, spatial structure, spectrum, velocity ambiguity ...

    Args:
        latents: folder made by :func:`extract`.
        output_dir: folder of the result, with ``notes.json``: what is not available and why.
        metrics: registered names (`vaebench.metrics.METRICS`); default: all that the inputs allow.
        data, tokenizer: for scores that look at images and masks, or that encode and decode; default: those the
            latents were made from, where they still exist.
        settings: of :class:`~vaebench.stages.score.ScoreConfig` (``options``, ``network``, ``seed``).
        context: device and workers.
    """
    config = {**(settings or {}), **({"metrics": _several(metrics)} if metrics else {})}
    return _scores("score", config, score_inputs(latents, data, tokenizer), output_dir, context or Context())


def score_controls(
    latents: str | Path,
    *,
    metrics: str | Sequence[str] = (),
    settings: Settings | None = None,
    context: Context | None = None,
    known: bool = False,
) -> dict[str, list[Score]]:
    """The same scores of latents that nobody trained, by control: what a number means is seen against them.

    Principal components and a random projection of patches have the f and d of the latents, pixels their f. They are
    made from the data that the latents come from, and kept in the cache.

    Args:
        latents, metrics, settings, context: as of :func:`score`.
        known: return those that are in the cache, and make none.

    Raises:
        DataError: those data are not there any more.
    """
    from vaebench.latents import LatentFile
    from vaebench.tokenizers.controls import CONTROLS, control_origin

    inputs, running = score_inputs(latents, None, None), None if known else context or Context()
    if "data" not in inputs:
        if known:
            return {}
        raise DataError("The data that these latents were made from are not there, so no control can be made of them.")
    data, spec = inputs["data"], LatentFile(Path(inputs["latents"]) / "train.h5").info.tokenizer
    config = {**(settings or {}), **({"metrics": _several(metrics)} if metrics else {})}
    found: dict[str, list[Score]] = {}
    for name in CONTROLS:
        origin, tag = control_origin(name, spec.f, spec.d), f"{name}-f{spec.f}"
        tokenizer = origin.get("load")
        with suppress(*([MissingPath] if known else [])):
            if tokenizer is None:
                fitted = _cached("train", f"{tag}d{spec.d}", {**origin, "training": {}}, {"data": data}, running)
                tokenizer = str(fitted)
            given = {"data": data, "tokenizer": tokenizer}
            own = _cached("extract", tag, {}, given, running)
            folder = _cached("score", tag, config, {"latents": str(own), **given}, running)
            found[name] = read_scores(folder / "scores.json")
    return found


def score_inputs(latents: str | Path, data: str | Path | None, tokenizer: str | Path | None) -> dict[str, str]:
    """The inputs of scoring: the latents, and the data and tokenizer given or on record, if they are still there."""
    folder = require_kind(latents, ["extract"], "latents")
    origin = read_json(folder / "stage.json")["references"]
    inputs = {"latents": str(folder)}
    for role, given in (("data", data), ("tokenizer", tokenizer)):
        reference = str(given or origin.get(role) or "")
        place = file_part(reference)
        # A path on record may be gone, and its scores are then not available; one that is asked for must be there.
        if given is not None or (reference and (not place.is_absolute() or place.exists())):
            inputs[role] = reference
    return inputs


def _reference(data: Path, settings: Settings | None, context: Context) -> str:
    from vaebench.stages.reference import reference_parts

    config, batches = reference_parts(settings or {})
    return str(_cached("reference", "reference", config, {"data": str(data), **batches}, context))


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
    prepared = _data_for(tokenizer, data, data_options, context)
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
    steps: int | Sequence[int] = (1000,),
    cfg: float | Sequence[float] = (1.0,),
    nfe: int | Sequence[int] = (50,),
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
        steps, cfg, nfe: the sweep; one value or several of each.
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
    steps: int | Sequence[int],
    cfg: float | Sequence[float],
    nfe: int | Sequence[int],
    settings: Settings | None,
    reference: Settings | None,
    seed: int,
) -> tuple[Any, Any]:
    """The small study behind :func:`generate`: its description and its graph."""
    from vaebench.latents import LatentFile, require_tokenizer
    from vaebench.stages.reference import reference_parts
    from vaebench.study.graph import Graph, add_generation
    from vaebench.study.spec import GenerateSweep, StudySpec, TokenizerEntry
    from vaebench.tokenizers import load_tokenizer

    folder = require_kind(latents, ["extract"], "latents")
    origin = read_json(folder / "stage.json")["references"]
    decoder, images = str(tokenizer or origin["tokenizer"]), str(data or origin["data"])
    require_kind(images, ["data"], "data")
    file = LatentFile(folder / "train.h5")
    # Now, and not when a SiT has been trained for nothing.
    require_tokenizer(file, load_tokenizer(decoder).spec)
    name = name or Path(file.info.tokenizer.name).name  # of owner/name the latter: stages are named after it
    spec = StudySpec(
        study=f"generate {name}",
        tokenizers=(TokenizerEntry(name=name, load=decoder),),
        reference=dict(reference or {}),
        sit=dict(sit or {}),
        seeds=(seed,),
        generate=GenerateSweep(
            steps=_several(steps), cfg=_several(cfg), nfe=_several(nfe), settings=dict(settings or {})
        ),
    )
    graph = Graph()
    subject: dict[str, Any] = {"tokenizer": name, "seed": None}
    config, batches = reference_parts(spec.reference)
    graph.add("reference", "reference", config, {}, {"data": images, **batches})
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


@dataclass(frozen=True)
class CardPlan:
    """What :func:`card` is going to do: the tokenizer's name, facts for the head of its card, and the stages."""

    name: str
    facts: dict[str, str]
    spec: Any
    graph: Any


def card_plan(
    tokenizer: str | Path,
    data: str | Path = "avatars",
    *,
    name: str | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    context: Context | None = None,
) -> CardPlan:
    """The stages behind :func:`card`, whose arguments these are; prepares the data and loads the tokenizer.

    Raises:
        ConfigError: settings of a section that there is none of.
    """
    import re

    from vaebench.data import open_data
    from vaebench.stages.reference import reference_parts
    from vaebench.study.graph import Graph
    from vaebench.study.spec import GenerateSweep, StudySpec, TokenizerEntry
    from vaebench.tokenizers import load_tokenizer, means_path

    parts = {section: dict((settings or {}).get(section) or {}) for section in CARD_SECTIONS}
    for section in settings or {}:
        if section not in CARD_SECTIONS:
            raise ConfigError(f"Unknown section '{section}'.", suggest(section, CARD_SECTIONS))
    images = _data_for(tokenizer, data, parts["data"], context)
    info, spec = open_data(images / "data.h5").info, load_tokenizer(tokenizer).spec
    name = name or spec.name
    tag = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "tokenizer"
    reference = str(Path(tokenizer).absolute()) if means_path(tokenizer) else str(tokenizer)
    given = {"tokenizer": reference, "data": str(images)}
    subject: dict[str, Any] = {"tokenizer": name}
    graph = Graph()
    config, batches = reference_parts(parts["reference"])
    graph.add("reference", "reference", config, {}, {"data": str(images), **batches})
    own = {kind: {"seed": seed, **parts[kind]} for kind in ("reconstruct", "probe", "score")}
    graph.add(f"reconstruct-{tag}", "reconstruct", own["reconstruct"], {"reference": "reference"}, given, **subject)
    latents = graph.add(f"extract-{tag}", "extract", parts["extract"], {}, given, **subject)
    if info.attributes:
        graph.add(f"probe-{tag}", "probe", own["probe"], {"latents": latents}, **subject)
    graph.add(f"score-{tag}", "score", own["score"], {"latents": latents}, given, **subject)
    study = StudySpec(
        study=f"card of {name}",
        tokenizers=(TokenizerEntry(name=name, load=reference),),
        data={"name": info.name},
        score=own["score"],
        generate=GenerateSweep(steps=()),
    )
    facts = {
        "name": name,
        "shape": f"f{spec.f}d{spec.d}",
        "method": spec.method,
        "source": spec.source,
        "weights": spec.checkpoint_hash[:16],
        "code": code_of(str(tokenizer).partition("?")[0]) if is_reference(str(tokenizer)) else "",
        "normalisation": spec.normalisation.source if spec.normalisation else "none published",
        "reference": str(tokenizer),
        "data": f"{info.name}, {info.image_size} x {info.image_size}, {info.fingerprint[:10]}",
    }
    return CardPlan(tag, facts, study, graph)


CARD_SECTIONS = ("data", "reference", "extract", "reconstruct", "probe", "score")


def card(
    tokenizer: str | Path,
    data: str | Path = "avatars",
    output_dir: str | Path | None = None,
    *,
    among: Sequence[str | Path] = (),
    name: str | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    context: Context | None = None,
) -> Path:
    """The whole card of a tokenizer: reconstruction, probes, every latent score, and its standing among others.

    What is complete is reused, so the same call again costs a second, and one that was interrupted goes on.

    Args:
        tokenizer: as in :func:`extract`.
        data: as in :func:`prepare_data`.
        output_dir: folder of its stages, ``card.html``, ``card.md`` and ``card.json``; default ``runs/card-NAME``.
        among: study folders, or folders of other cards, to whose tokenizers it is compared.
        name: on the card; default: the tokenizer's own.
        settings: by section (``data``, ``reference``, ``extract``, ``reconstruct``, ``probe``, ``score``).
        seed: of probes, scores and resampling.
        context: device and workers.

    Returns:
        the path of ``card.html``.
    """
    from reports.card import make_card, write_card
    from reports.collect import read_study
    from vaebench.core.files import write_json
    from vaebench.study.engine import run

    context = context or Context()
    for study in among:
        read_study(study)  # what is no study is said before the work, not after it
    plan = card_plan(tokenizer, data, name=name, settings=settings, seed=seed, context=context)
    root = Path(output_dir) if output_dir is not None else Path("runs") / f"card-{plan.name}"
    run(plan.spec, plan.graph, root, context)
    write_json(root / "card.json", plan.facts)
    return write_card(make_card(root, plan.facts, [Path(study) for study in among]), root)


def export_npz(folder: str | Path, path: str | Path, *, split: str = "train", images: int = 10_000) -> Path:
    """Write the samples of a ``generate`` folder, or a ``reference`` folder, as a file of ADM's evaluation suite.

    Args:
        folder: of the stage.
        path: the file, ending in .npz; returned.
        split: of a reference, "train" or "test".
        images: of a reference, how many images beside its moments.
    """
    from vaebench.stages.batch import export_batch

    export_batch(Path(folder), Path(path), split, images)
    return Path(path)


def run_study(
    study: str | Path,
    output_dir: str | Path,
    *,
    overrides: Sequence[str] = (),
    jobs: int | None = None,
    options: Any = None,
    context: Context | None = None,
) -> Path:
    """Run a study file (or one that ships, by name) and write its report; returns the report's path.

    What is complete is reused; a finished study returns at once.

    Args:
        study: file or name.
        output_dir: folder of the study.
        overrides: settings, as ``a.b=c``.
        jobs: stages at a time; more than one in processes of their own.
        options: :class:`vaebench.study.engine.Options` instead of ``jobs``: engine, threads, memory ...
        context: device and workers.

    Raises:
        StagesFailed: some stages failed, and all that does not need them is complete.
    """
    from vaebench.study.engine import finished, run
    from vaebench.study.spec import load_study

    root, spec = Path(output_dir), load_study(study, list(overrides))
    page = root / "report" / "report.html"
    if not finished(spec, root):
        from vaebench.study.graph import build_graph

        graph = build_graph(spec)
        if process_index() == 0:  # before, since what ends in between would leave a page of what was
            page.unlink(missing_ok=True)
        run(spec, graph, root, context or Context(), options or jobs)
    if process_index() > 0:  # the first of several processes writes the report
        return page
    return page if page.is_file() else make_report([root], root / "report")


def make_report(
    studies: Sequence[str | Path],
    output_dir: str | Path,
    force: bool = False,
    formats: Sequence[str] = ("html", "md", "latex", "csv", "figures"),
    without: Sequence[str] = (),
    with_controls: bool = False,
) -> Path:
    """``report.html``, tables (CSV, Parquet, LaTeX), figures (PNG, SVG) and Markdown from study folders; returns the
    page's path. ``formats`` names what of these is written, ``without`` tokenizers that are left out; controls count
    in no statistic unless ``with_controls``."""
    import reports

    folders = [Path(study) for study in studies]
    return reports.make_report(folders, Path(output_dir), force, formats, without, with_controls)


def describe(folder: str | Path) -> dict[str, Any]:
    """The record of an artefact folder: kind, hash, configuration, inputs, time, versions.

    Raises:
        DataError: no complete artefact folder of vaebench.
    """
    record = completed(Path(folder))
    if record is None:
        raise DataError(f"'{folder}' is no complete result folder of vaebench.")
    return record
