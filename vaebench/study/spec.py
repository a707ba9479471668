"""The study file: which tokenizers, on which data, scored and generated from how.

Sections that configure a stage are plain mappings here and are validated against the stage's own configuration when
the graph is built; so reading a study file imports nothing heavy.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import model_validator

from vaebench.core.config import Config, build, read_yaml, with_overrides
from vaebench.core.errors import MissingPath, suggest


class TokenizerEntry(Config):
    """One tokenizer of a study: trained by a method, or taken as it is.

    Attributes:
        name: its name in tables and figures.
        method: registered method that trains it.
        load: instead of ``method``, a ready tokenizer (folder, registered name, ``module:Class``).
        init: where training starts: another entry's name, or a tokenizer as in ``load``. Default: from scratch.
        options: settings of the method.
        network: preset or architecture, when trained from scratch. Default: the study's.
        training: settings that replace the study's ``training``.
        evaluate: false for one that only serves as a start for others.
    """

    name: str
    method: str | None = None
    load: str | None = None
    init: str | None = None
    options: dict[str, Any] = {}
    network: str | dict[str, Any] | None = None
    training: dict[str, Any] = {}
    evaluate: bool = True

    @model_validator(mode="after")
    def _one_origin(self) -> "TokenizerEntry":
        if (self.method is None) == (self.load is None):
            raise ValueError(f"tokenizer '{self.name}' needs either method (train it) or load (take a ready one)")
        return self


class GenerateSweep(Config):
    """Budgets of generation: every combination of training steps, CFG scale and NFE is sampled and scored.

    ``settings`` are those of the ``generate`` stage that do not vary.
    """

    steps: tuple[int, ...] = (1000,)
    cfg: tuple[float, ...] = (1.0,)
    nfe: tuple[int, ...] = (50,)
    settings: dict[str, Any] = {}


class StudySpec(Config):
    """A study file.

    Attributes:
        study: its name; an output folder belongs to one study.
        title, description: for the report.
        seeds: training seeds; every tokenizer is trained and every SiT is trained once per seed.
        data, features, reference, training, extract, reconstruct, probe, sit: settings of those stages.
        network: architecture of tokenizers trained from scratch.
        tokenizers: what is compared.
        generate: the sweep of generation budgets.
    """

    study: str
    title: str = ""
    description: str = ""
    seeds: tuple[int, ...] = (0,)
    data: dict[str, Any] = {}
    features: dict[str, Any] = {}
    reference: dict[str, Any] = {}
    network: str | dict[str, Any] = "tiny"
    training: dict[str, Any] = {}
    tokenizers: tuple[TokenizerEntry, ...]
    extract: dict[str, Any] = {}
    reconstruct: dict[str, Any] = {}
    probe: dict[str, Any] = {}
    sit: dict[str, Any] = {}
    generate: GenerateSweep = GenerateSweep()

    @model_validator(mode="after")
    def _names_fit(self) -> "StudySpec":
        names = [entry.name for entry in self.tokenizers]
        if not any(entry.evaluate for entry in self.tokenizers):
            raise ValueError("a study needs at least one tokenizer to evaluate")
        if len(set(names)) < len(names):
            raise ValueError(f"tokenizer names must differ, got {', '.join(names)}")
        if not self.seeds:
            raise ValueError("a study needs at least one seed")
        return self


def shipped() -> dict[str, Path]:
    """Study files that come with the package, by name."""
    folder = Path(str(files("vaebench.study") / "files"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_study(reference: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> StudySpec:
    """Read a study file by path, or one that ships by name; then apply dotted overrides.

    Raises:
        MissingPath: neither a file nor the name of a shipped study.
        ConfigError: not a valid study.
    """
    path = Path(reference)
    if not path.is_file():
        known = shipped()
        if str(reference) not in known:
            raise MissingPath(
                f"Study '{reference}' is no file and no study that ships.", suggest(str(reference), known)
            )
        path = known[str(reference)]
    return build(StudySpec, with_overrides(read_yaml(path), overrides), f"study '{reference}'")
