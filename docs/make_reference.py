"""Writes docs/reference/ from the code: commands, Python functions and contracts, settings, and all that is registered.

Run `python docs/make_reference.py` after a change; a test fails while the pages are stale.
"""

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/make_reference.py; edit the code, not this page. -->\n\n"
CONTRACTS = (
    "vaebench.tokenizers.base:Tokenizer",
    "vaebench.tokenizers.base:TokenizerSpec",
    "vaebench.tokenizers.base:Posterior",
    "vaebench.tokenizers.base:LatentNormalisation",
    "vaebench.tokenizers.method:Method",
    "vaebench.tokenizers.method:Objective",
    "vaebench.tokenizers.method:StepInputs",
    "vaebench.data.source:ImageSource",
    "vaebench.data.source:Plan",
    "vaebench.data.source:Drawn",
    "vaebench.data.base:DataInfo",
    "vaebench.metrics.base:Metric",
    "vaebench.metrics.base:MetricInputs",
    "vaebench.vision.base:FrozenNetwork",
    "vaebench.generation.samplers:Sampler",
    "vaebench.generation.samplers:Problem",
    "vaebench.core.scores:Score",
)


def commands() -> str:
    """Every command with its options."""
    from vaebench.cli.app import app

    parts = [
        "# Commands",
        "",
        "Every command takes `--plugin FILE` and `--help`; `vaebench --offline COMMAND` downloads",
    ]
    parts += ["nothing. Exit codes: 0 done, 2 a mistake that the message names, 3 some stages of a study failed, 130"]
    parts += ["interrupted.", ""]
    for path, command in _walk(typer.main.get_command(app)):
        lines = inspect.cleandoc(command.help or "").splitlines()
        example = [line.removeprefix("Example: ") for line in lines if line.startswith("Example: ")]
        text = "\n".join(line for line in lines if not line.startswith("Example: ")).strip()
        parts += [f"## vaebench {' '.join(path)}", "", _markup(text), ""]
        if example:
            parts += ["```bash", *example, "```", ""]
        rows = [_option(parameter) for parameter in command.params if parameter.name not in {"help", "plugin"}]
        if rows:
            parts += ["| argument or option | default | |", "|---|---|---|", *rows, ""]
    return "\n".join(parts)


def _walk(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield (*path, name), command
            yield from _walk(command, (*path, name))
        else:
            yield (*path, name), command


def _option(parameter: Any) -> str:
    option = any(name.startswith("-") for name in parameter.opts)
    names = ", ".join(f"`{name}`" for name in parameter.opts) if option else f"`{parameter.name.upper()}`"
    default = parameter.default
    shown = "" if default is None or default is False or callable(default) or default == [] else f"`{default}`"
    told = "required" if parameter.required else shown
    return f"| {names} | {told} | {_cell(getattr(parameter, 'help', None) or '')} |"


def python() -> str:
    """What `import vaebench` offers, and the contracts for code from outside."""
    import vaebench

    parts = ["# Python", "", "## What `import vaebench` offers", ""]
    for name in vaebench.__all__:
        parts += _described(f"vaebench.{name}", getattr(vaebench, name), level="###")
    parts += ["## Contracts", "", "What code from outside derives from or fills in.", ""]
    for reference in CONTRACTS:
        module, _, attribute = reference.partition(":")
        parts += _described(f"{module}.{attribute}", getattr(importlib.import_module(module), attribute), level="###")
    return "\n".join(parts)


def _described(name: str, found: Any, level: str) -> list[str]:
    parts = [f"{level} {name}", ""]
    if not (inspect.isclass(found) and issubclass(found, BaseModel)):
        parts += ["```python", _signature(name.rpartition(".")[2], found), "```", ""]
    parts += ["```text", inspect.getdoc(found) or "", "```", ""]
    if inspect.isclass(found):
        for method, value in vars(found).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            own = function.fget if isinstance(function, property) else function
            if method.startswith("_") or not inspect.isfunction(own) or not inspect.getdoc(own):
                continue
            what = method if isinstance(function, property) else _signature(method, own)
            parts += ["```python", what, "```", "", "```text", inspect.getdoc(own) or "", "```", ""]
        if issubclass(found, BaseModel):
            parts += [*_fields(found), ""]
    return parts


class _Named:
    """A function or class as a default, shown by its name: Python's own text has its place in memory."""

    def __init__(self, value: Any) -> None:
        self._name = value.__name__

    def __repr__(self) -> str:
        return self._name


def _signature(name: str, found: Any) -> str:
    # Without annotations, which are long and which editors show; the docstrings say what arguments are.
    signature = inspect.signature(found)
    bare = [
        p.replace(annotation=inspect.Parameter.empty, default=_Named(p.default) if callable(p.default) else p.default)
        if p.default is not inspect.Parameter.empty
        else p.replace(annotation=inspect.Parameter.empty)
        for p in signature.parameters.values()
    ]
    return f"{name}{signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"


def tokenizers() -> str:
    """Tokenizers and methods, with their settings."""
    from vaebench.tokenizers import TOKENIZERS

    parts = ["# Tokenizers and methods that ship", "", "`vaebench train NAME -o options.SETTING=VALUE` for a method,"]
    parts += [
        "`NAME?SETTING=VALUE` for a ready tokenizer. What else is a tokenizer: [pretrained](../tokenizers.md).",
        "",
    ]
    for entry in _shipped(TOKENIZERS):
        found = entry.load()
        kind = "method" if getattr(found, "trainable", False) else "ready"
        config = getattr(found, "Config", None)
        kind = "method, fitted at once" if config is not None and kind == "ready" else kind
        parts += [f"## {entry.name}", "", f"{_sentence(_summary(found))} ({kind})", ""]
        if config is not None:
            parts += _settings(config)
        else:
            parts += ["```python", _signature(entry.name, found), "```", ""]
    return "\n".join(parts)


def metrics() -> str:
    """Latent scores, with what they need and their settings."""
    from vaebench.metrics import METRICS

    parts = ["# Latent scores that ship", "", "`vaebench score LATENTS --metrics NAME -o options.NAME.SETTING=VALUE`."]
    parts += ["What they mean and when they mislead: [concepts](../concepts/README.md).", ""]
    for entry in _shipped(METRICS):
        found = entry.load()
        needs = ", ".join(found.lacking()) or "latents alone"
        parts += [f"## {entry.name}", "", f"{_sentence(entry.summary)} Needs {needs}. Version {found.version}.", ""]
        parts += ["```text", inspect.getdoc(found) or "", "```", "", *_settings(found.Config)]
    return "\n".join(parts)


def data() -> str:
    """Data sets, with their settings."""
    from vaebench.data import DATASETS

    parts = [
        "# Data sets that ship",
        "",
        "`--data NAME -o data.SETTING=VALUE`, or `vaebench data prepare NAME`. What files",
    ]
    parts += ["they want: [data sets](../data.md).", ""]
    for entry in _shipped(DATASETS):
        parts += [f"## {entry.name}", "", _sentence(entry.summary), "", *_settings(entry.load().Config)]
    return "\n".join(parts)


def networks() -> str:
    """Frozen networks (teachers, FID extractors) and samplers."""
    from vaebench.generation import SAMPLERS
    from vaebench.generation.sample import SamplerConfig
    from vaebench.vision import NETWORKS

    parts = [
        "# Teachers, feature networks and samplers that ship",
        "",
        "A teacher: `-o features.network.name=NAME`. Of",
    ]
    parts += ["Fréchet distances: `-o reference.network.name=NAME`, options under `.options`.", ""]
    parts += ["| network | what |", "|---|---|"]
    parts += [f"| `{entry.name}` | {_cell(entry.summary)} |" for entry in _shipped(NETWORKS)]
    parts.append("")
    for name in ("efficientnet-lite0", "mobilenetv2", "inception", "timm"):
        parts += [f"## {name}", "", *_settings(NETWORKS.get(name).Config)]
    parts += ["## Samplers", "", "`-o sampling.sampler.method=NAME`.", "", "| sampler | what |", "|---|---|"]
    parts += [f"| `{entry.name}` | {_cell(entry.summary)} |" for entry in _shipped(SAMPLERS)]
    return "\n".join([*parts, "", *_settings(SamplerConfig)])


def studies() -> str:
    """The study file, and the settings of everything in it."""
    from vaebench.generation.training import RepaConfig, SiTTrainingConfig
    from vaebench.metrics.probing.probe import ProbeConfig
    from vaebench.stages import STAGES
    from vaebench.stages.features import NetworkConfig
    from vaebench.study.spec import GenerateSweep, StudySpec, TokenizerEntry
    from vaebench.tokenizers.architecture import AutoencoderConfig
    from vaebench.training.loop import LoopConfig
    from vaebench.training.tokenizer_training import GanConfig, TokenizerTrainingConfig

    stages = {name: STAGES.get(name).Config for name in STAGES.names()}
    sections: dict[str, tuple[type[BaseModel], ...]] = {
        "The file": (StudySpec,),
        "tokenizers, each entry": (TokenizerEntry,),
        "data": (stages["data"],),
        "features, and each of teachers": (stages["features"], NetworkConfig),
        "reference": (stages["reference"],),
        "network": (AutoencoderConfig,),
        "training": (TokenizerTrainingConfig, LoopConfig, GanConfig),
        "extract": (stages["extract"],),
        "reconstruct": (stages["reconstruct"],),
        "probe": (stages["probe"], ProbeConfig),
        "score": (stages["score"],),
        "sit, and each of backbones": (SiTTrainingConfig, RepaConfig),
        "generate": (GenerateSweep,),
        "generate.settings": (stages["generate"],),
        "gallery": (stages["gallery"],),
        "gallery.nearest": (stages["nearest"],),
    }
    parts = [
        "# Study files and their settings",
        "",
        "What a study file may say, section by section ([how to write one](../how-to/studies.md)). Single commands",
        "take the same settings with `-o`: of training by their name (`-o steps=1000`), of others by section. What",
        "`options` may say of a method, a data set, a network or a score stands on the other pages of this reference.",
        "",
    ]
    for name, configs in sections.items():
        parts += [f"## {name}", ""]
        for config in configs:
            parts += [f"### {config.__name__}", ""] if len(configs) > 1 else []
            # The tables of those that extend the loop's hold its settings too.
            parts += ["```text", inspect.getdoc(config) or "", "```", ""] if config is LoopConfig else _settings(config)
    return "\n".join(parts)


def _summary(found: Any) -> str:
    return getattr(found, "summary", "") or (inspect.getdoc(found) or "").partition("\n")[0]


def _shipped(registry: Any) -> list[Any]:
    return [entry for entry in registry.entries() if entry.package == "vaebench"]


def _settings(config: type[BaseModel]) -> list[str]:
    if not config.model_fields:
        return ["No settings.", ""]
    told = inspect.getdoc(config) if "__doc__" in vars(config) else None
    return [*(["```text", told, "```", ""] if told else []), *_fields(config), ""]


def _fields(config: type[BaseModel]) -> list[str]:
    described = any(field.description for field in config.model_fields.values())
    rows = [f"| setting | type | default |{' |' * described}", f"|---|---|---|{'---|' * described}"]
    for name, field in config.model_fields.items():
        default = (
            "required" if field.default is PydanticUndefined and field.default_factory is None else f"`{_plain(field)}`"
        )
        about = f" {_cell(field.description or '')} |" if described else ""
        rows.append(f"| `{name}` | {_cell(_type(field.annotation))} | {_cell(default)} |{about}")
    return rows


def _type(annotation: Any) -> str:
    """'int', 'a | b' for choices, 'tuple[int, ...]' as 'tuple'."""
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return " | ".join(map(_type, typing.get_args(annotation)))
    return "None" if annotation is type(None) else str(getattr(annotation, "__name__", annotation))


def _plain(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple) and value and all(isinstance(part, BaseModel) for part in value):
        return str([part.model_dump(mode="json", exclude_defaults=True) for part in value])
    return str(value.model_dump(mode="json")) if isinstance(value, BaseModel) else repr(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _markup(text: str) -> str:
    return text.replace("<", "&lt;")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "python.md": python,
    "tokenizers.md": tokenizers,
    "metrics.md": metrics,
    "data.md": data,
    "networks.md": networks,
    "studies.md": studies,
}


def page(name: str) -> str:
    """The text of one page."""
    return NOTE + PAGES[name]().rstrip() + "\n"


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(page(name), encoding="utf-8")
        print(FOLDER / name, file=sys.stderr)


if __name__ == "__main__":
    main()
