"""The study file: which tokenizers, on which data, scored and generated from how.

Sections that configure a stage are plain mappings here and are validated against the stage's own configuration when
the graph is built; so reading a study file imports nothing heavy.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from vaebench.core.config import Config, build
from vaebench.core.errors import suggest
from vaebench.study.reading import merged, read_study, shipped
from vaebench.tokenizers.controls import Control

__all__ = ["GenerateSweep", "StudySpec", "TokenizerEntry", "load_study", "shipped"]


class TokenizerEntry(Config):
    """One tokenizer of a study: trained by a method, or taken as it is.

    Attributes:
        name: its name in tables and figures.
        method: registered method that trains it.
        load: instead of ``method``, a ready tokenizer (folder, registered name, ``module:Class``).
        init: where training starts: another entry's name, or a tokenizer as in ``load``. Default: from scratch.
        options: settings of the method.
        network: preset or architecture, when trained from scratch. Default: the study's. With ``load``, what ``plan``
            counts while that tokenizer is not at hand.
        teacher: name, under the study's ``teachers``, of the one to align with. Default: that of ``features``.
        training: settings that replace the study's ``training``.
        sit: settings that replace the study's ``sit``, such as the patch that suits its latents.
        seeds: training seeds in place of the study's.
        backbones: names, under the study's ``backbones``, of further networks to train on its latents.
        generate: settings that replace those of the study's ``generate``, such as more CFG scales.
        evaluate: false for one that only serves as a start for others.
        gallery: false for one without traversals and map.
    """

    name: str
    method: str | None = None
    load: str | None = None
    init: str | None = None
    options: dict[str, Any] = {}
    network: str | dict[str, Any] | None = None
    teacher: str | None = None
    training: dict[str, Any] = {}
    sit: dict[str, Any] = {}
    seeds: tuple[int, ...] | None = None
    backbones: tuple[str, ...] = ()
    generate: dict[str, Any] = {}
    evaluate: bool = True
    # Left out where it is as always, so that the identity of studies is what it was.
    gallery: bool = Field(default=True, exclude_if=lambda value: value)

    @model_validator(mode="after")
    def _one_origin(self) -> "TokenizerEntry":
        if (self.method is None) == (self.load is None):
            raise ValueError(f"tokenizer '{self.name}' needs either method (train it) or load (take a ready one)")
        idle = [field for field in ("init", "options", "teacher", "training") if getattr(self, field)]
        if self.load is not None and idle:
            raise ValueError(
                f"tokenizer '{self.name}' is a ready one, for which {', '.join(idle)} would do nothing. Leave that "
                "out; options of a ready tokenizer go into load, such as 'dct?f=8&d=16'"
            )
        if self.init is not None and self.network is not None:
            raise ValueError(
                f"tokenizer '{self.name}' has the network of its start '{self.init}', and network would do nothing. "
                "Leave network or init out"
            )
        return self


class GenerateSweep(Config):
    """Budgets of generation: every combination of training steps, CFG scale and NFE is sampled and scored.

    ``seeds`` are sampling seeds, drawn for every budget; the mean over them counts. Default: that of ``settings``,
    which are the settings of the ``generate`` stage that do not vary.
    """

    steps: tuple[int, ...] = (1000,)
    cfg: tuple[float, ...] = (1.0,)
    nfe: tuple[int, ...] = (50,)
    seeds: tuple[int, ...] = ()
    settings: dict[str, Any] = {}


class StudySpec(Config):
    """A study file.

    Attributes:
        study: its name; an output folder belongs to one study.
        title, description: for the report.
        seeds: training seeds; every tokenizer is trained and every SiT is trained once per seed.
        data, features, reference, training, extract, reconstruct, sit: settings of those stages.
        teachers: further teachers by name, with settings as in ``features``. REPA's is always that of ``features``.
        network: architecture of tokenizers trained from scratch.
        tokenizers: what is compared.
        controls: which of ``pca-patches``, ``random-projection`` and ``pixels`` stand beside them, at f and d of every
            network; measured, not generated from.
        probe: settings of the probes; null for none, as where the data have no attributes.
        probe_data: other data sets on which tokenizers are probed, by name, each with settings as in ``data``. Default:
            the study's own data.
        score: settings of the latent scores; null computes none of them, {} all that the inputs allow.
        backbones: further networks by name, with settings that replace those of ``sit`` and, under ``generate``, those
            of the sweep; for entries that ask for them.
        generate: the sweep of generation budgets.
        gallery: settings of what is there to be looked at: traversals, a map of latents, and (under ``nearest``) the
            training images nearest to samples. Of the first seed; null for none.
    """

    study: str
    title: str = ""
    description: str = ""
    seeds: tuple[int, ...] = (0,)
    data: dict[str, Any] = {}
    features: dict[str, Any] = {}
    teachers: dict[str, dict[str, Any]] = {}
    reference: dict[str, Any] = {}
    network: str | dict[str, Any] = "tiny"
    training: dict[str, Any] = {}
    tokenizers: tuple[TokenizerEntry, ...]
    controls: tuple[Control, ...] = Field(default=(), exclude_if=lambda value: not value)
    extract: dict[str, Any] = {}
    reconstruct: dict[str, Any] = {}
    probe: dict[str, Any] | None = {}
    probe_data: dict[str, dict[str, Any]] = {}
    score: dict[str, Any] | None = None
    sit: dict[str, Any] = {}
    backbones: dict[str, dict[str, Any]] = {}
    generate: GenerateSweep = GenerateSweep()
    # Left out where not asked for, so that the identity of studies without one is what it always was.
    gallery: dict[str, Any] | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _names_fit(self) -> "StudySpec":
        names = [entry.name for entry in self.tokenizers]
        if not any(entry.evaluate for entry in self.tokenizers):
            raise ValueError("a study needs at least one tokenizer to evaluate")
        if len(set(names)) < len(names):
            raise ValueError(f"tokenizer names must differ, got {', '.join(names)}")
        if not self.seeds:
            raise ValueError("a study needs at least one seed")
        for entry in self.tokenizers:
            if entry.teacher is not None and entry.teacher not in self.teachers:
                raise ValueError(
                    f"tokenizer '{entry.name}' has the unknown teacher '{entry.teacher}'. "
                    + suggest(entry.teacher, self.teachers)
                )
            for backbone in entry.backbones:
                if backbone not in self.backbones:
                    raise ValueError(
                        f"tokenizer '{entry.name}' has the unknown backbone '{backbone}'. "
                        + suggest(backbone, self.backbones)
                    )
            start = next((other for other in self.tokenizers if other.name == entry.init), None)
            if start is not None and start.load is None:
                lacking = sorted(set(self.seeds_of(entry)) - set(self.seeds_of(start)))
                if lacking:
                    raise ValueError(
                        f"tokenizer '{entry.name}' has seeds {lacking} that its start '{start.name}' lacks"
                    )
        if self.probe_data and self.probe is None:
            raise ValueError("probe_data says where to probe, and probe: null says not to")
        return self

    def seeds_of(self, entry: TokenizerEntry) -> tuple[int, ...]:
        """The training seeds of a tokenizer."""
        return self.seeds if entry.seeds is None else entry.seeds

    def sweep_of(self, entry: TokenizerEntry, backbone: str = "") -> GenerateSweep:
        """The generation budgets of a tokenizer, with the study's own network or a further one.

        Raises:
            ConfigError: its settings are none of a sweep.
        """
        sweep = merged(self.generate.model_dump(), entry.generate)
        sweep = merged(sweep, self.backbones.get(backbone, {}).get("generate", {}))
        where = f"tokenizer '{entry.name}'" + (f" with backbone '{backbone}'" if backbone else "")
        return build(GenerateSweep, sweep, f"generate of {where}")


def load_study(reference: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> StudySpec:
    """Read a study file by path, or one that ships by name, with dotted overrides; see `read_study`.

    Raises:
        MissingPath: neither a file nor the name of a shipped study.
        ConfigError: not a valid study.
    """
    return build(StudySpec, read_study(reference, overrides), f"study '{reference}'")
