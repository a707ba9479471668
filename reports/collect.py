"""Reading study folders: every score of every stage in one long table, with the protocol behind each."""

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from reports.names import BUDGET_KEYS, budget_label
from vaebench.core.errors import DataError, MissingPath, UnknownName, suggest
from vaebench.core.files import read_json
from vaebench.core.scores import Score, left_out, read_scores
from vaebench.tokenizers.controls import CONTROLS

INDEX, RECORD, SCORES, NOTES, CURVES = "index.json", "stage.json", "scores.json", "notes.json", "metrics.jsonl"

LONG_COLUMNS: dict[str, str] = {
    "study": "str", "stage": "str", "kind": "str", "tokenizer": "str", "label": "str", "seed": "Int64", "budget": "str",
    "steps": "Int64", "cfg": "Float64", "nfe": "Int64", "metric": "str", "vectorisation": "str", "attribute": "str",
    "value": "float64", "low": "Float64", "high": "Float64", "interval": "str", "n": "Int64", "direction": "str",
    "baseline": "Float64", "protocol_hash": "str",
}  # fmt: skip
"""Columns of the long table and their pandas types; an empty text (never a missing one) means 'does not apply'.

`vectorisation` is how latents became vectors, with the score's variant where it has several; `attribute` is the
attribute or generative factor that a score is about. `label` is the tokenizer's name, with that of the study where
several studies have a tokenizer of that name.
"""


@dataclass(frozen=True)
class Stage:
    """One stage of a study as its index lists it; `folder` need not exist while the stage is incomplete."""

    id: str
    kind: str
    folder: Path
    tokenizer: str
    seed: int | None
    budget: Mapping[str, Any]
    complete: bool
    seconds: float | None

    @property
    def budget_label(self) -> str:
        """The budget as one canonical string."""
        return budget_label(self.budget)

    def image(self, name: str) -> Path | None:
        """Path of an image that the stage left, if it did."""
        path = self.folder / name
        return path if self.complete and path.is_file() else None

    def recorded(self, *keys: str) -> Mapping[str, Any]:
        """A part of the stage's record, by the keys that lead to it; empty without one that can be read."""
        try:
            found = read_json(self.folder / RECORD)
            for key in keys:
                found = found[key]
            return dict(found)
        except (DataError, MissingPath, KeyError, TypeError, ValueError):
            return {}

    def training(self) -> Mapping[str, Any]:
        """Settings of the training loop as the stage recorded them."""
        return self.recorded("config", "training")

    def curve(self) -> pd.DataFrame:
        """The training log, one row per logged step; empty without one. A line cut short by a kill is passed over."""
        path = self.folder / CURVES
        rows = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return pd.DataFrame([row for row in rows if isinstance(row, dict) and "step" in row])


@dataclass(frozen=True)
class Study:
    """A study folder: its index (machine, versions, resolved configuration) and its stages."""

    name: str
    folder: Path
    index: Mapping[str, Any]
    stages: tuple[Stage, ...]

    @property
    def incomplete(self) -> tuple[Stage, ...]:
        """Stages that have no result yet."""
        return tuple(stage for stage in self.stages if not stage.complete)

    def of_kind(self, *kinds: str) -> list[Stage]:
        """Complete stages of these kinds."""
        return [stage for stage in self.stages if stage.complete and stage.kind in kinds]


@dataclass(frozen=True)
class Results:
    """What one or more study folders hold.

    Attributes:
        studies: the folders.
        scores: the long table (`LONG_COLUMNS`), one row per score.
        protocols: protocol hash -> {"metric": name, "protocol": every setting that moves the number}.
        labels: (study, tokenizer) -> label, in the order of the studies' stages.
        problems: what could not be read, in plain words; a report says them.
        unavailable: (score, why) -> labels of the tokenizers that it could not be had for.
        controls: labels of those that nobody trained, which no statistic counts; none where there is nothing else.
    """

    studies: tuple[Study, ...]
    scores: pd.DataFrame
    protocols: Mapping[str, Mapping[str, Any]]
    labels: Mapping[tuple[str, str], str]
    problems: tuple[str, ...] = ()
    unavailable: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    controls: tuple[str, ...] = ()

    def trained(self) -> "Results":
        """These results less the controls."""
        return self._less(self.controls)

    def counted(self, comparison: pd.DataFrame) -> pd.DataFrame:
        """Rows of a comparison of these results, less those of controls."""
        return comparison[~comparison["label"].isin(self.controls)]

    def gaps(self) -> list[str]:
        """What could not be read or could not be had, in plain words."""
        everyone = set(self.labels.values())
        gaps = list(self.problems)
        for (score, why), labels in self.unavailable.items():
            whom = "" if everyone == set(labels) else f" ({', '.join(labels)})"
            gaps.append(f"{score}: not available: {why}{whom}")
        return gaps

    def without(self, labels: Sequence[str]) -> "Results":
        """These results less those tokenizers; `problems` says so.

        Raises:
            UnknownName: a label that is not here.
            DataError: nothing would be left.
        """
        everyone = list(self.labels.values())
        for label in labels:
            if label not in everyone:
                raise UnknownName(f"These studies compare no tokenizer '{label}'.", suggest(label, everyone))
        if not labels:
            return self
        if set(everyone) <= set(labels):
            raise DataError("Without these tokenizers no result is left.", "Leave out fewer.")
        said = f"Left out on request: {', '.join(dict.fromkeys(labels))}."
        return replace(self._less(labels), problems=(*self.problems, said))

    def _less(self, labels: Sequence[str]) -> "Results":
        kept = {key: label for key, label in self.labels.items() if label not in labels}
        gone = self.labels.keys() - kept.keys()
        studies = [
            replace(study, stages=tuple(stage for stage in study.stages if (study.name, stage.tokenizer) not in gone))
            for study in self.studies
        ]
        unavailable = {key: [label for label in who if label not in labels] for key, who in self.unavailable.items()}
        controls = tuple(label for label in self.controls if label not in labels)
        return replace(
            self, studies=tuple(studies), scores=self.scores[~self.scores["label"].isin(labels)].reset_index(drop=True),
            labels=kept, unavailable={key: who for key, who in unavailable.items() if who},
            controls=controls if set(controls) < set(kept.values()) else (),
        )  # fmt: skip


def read_study(folder: Path | str) -> Study:
    """Read the index of one study folder.

    Raises:
        MissingPath: the folder is not there, or holds no index.json and so is no study folder.
        DataError: the index is not what `vaebench study run` writes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingPath(f"Study folder '{folder}' does not exist.", "Give the output folder of `vaebench study run`.")
    if not (folder / INDEX).is_file():
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise MissingPath(
            f"'{folder}' is not a study folder: it holds no {INDEX} (it holds {inside}).",
            "Give the output folder of `vaebench study run` or `vaebench quickstart`.",
        )
    index = read_json(folder / INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("stages"), list):
        raise DataError(f"'{folder / INDEX}' is not the index of a study: it lists no stages.")
    if index.get("schema", 1) != 1:
        raise DataError(
            f"'{folder / INDEX}' has schema {index['schema']!r}; this version reads schema 1.",
            "Write the report with the version of vaebench that ran the study.",
        )
    try:
        stages = tuple(_stage(folder, entry) for entry in index["stages"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"'{folder / INDEX}' has a stage without {error}.") from error
    return Study(str(index.get("study") or folder.name), folder, index, stages)


def collect(folders: Sequence[Path | str]) -> Results:
    """Read several study folders into one long table.

    A folder given twice counts once; studies of the same name are told apart by their folder names. Incomplete
    stages and stages whose scores cannot be read are listed in `problems` and do not stop the others.

    Raises:
        MissingPath, DataError: as `read_study`; no folder given.
    """
    unique = list(dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders))
    if not unique:
        raise MissingPath("No study folder was given.", "Give one or more output folders of `vaebench study run`.")
    studies = _named_apart([read_study(folder) for folder in unique])
    labels = _labels(studies)
    rows: list[dict[str, Any]] = []
    protocols: dict[str, Mapping[str, Any]] = {}
    problems: list[str] = []
    unavailable: dict[tuple[str, str], list[str]] = {}
    for study in studies:
        data = _data_of(study)
        for stage in study.stages:
            if not stage.complete:
                problems.append(f"{study.name}: stage {stage.id} ({stage.kind}) is not complete.")
                continue
            try:
                scores = read_scores(stage.folder / SCORES) if (stage.folder / SCORES).exists() else []
            except (DataError, TypeError, ValueError) as error:
                problems.append(f"{study.name}: the scores of stage {stage.id} cannot be read: {error}")
                continue
            for name, why in {**_not_available(stage), **_not_probed(scores)}.items():
                label = labels.get((study.name, stage.tokenizer), stage.tokenizer)
                tokenizers = unavailable.setdefault((name, why), [])
                tokenizers += [] if label in tokenizers else [label]
            for score in (_of_data(score, data) for score in scores):
                rows.append(_row(study, stage, score, labels))
                protocols[score.protocol_hash] = {"metric": score.metric, "protocol": score.protocol}
    table = pd.DataFrame(rows, columns=list(LONG_COLUMNS)).astype(LONG_COLUMNS)
    return Results(tuple(studies), table, protocols, labels, tuple(problems), unavailable, _controls(studies, labels))


def _data_of(study: Study) -> str:
    """Hash of the stage that made the study's data, its first of that kind; empty where none is known.

    Where the data came from elsewhere, as for a card, stages that encode images have it among their inputs.
    """
    made = (entry.get("hash") for entry in study.index["stages"] if entry["kind"] == "data")
    used = (stage.recorded("inputs").get("data") for stage in study.of_kind("extract", "reconstruct"))
    return str(next(filter(None, itertools.chain(made, used)), ""))


def _of_data(score: Score, data: str) -> Score:
    """The score with the data in its protocol: two data sets share no axis, also where a stage did not say its own."""
    if not data or "data" in score.protocol:
        return score
    return score.model_copy(update={"protocol": {**score.protocol, "data": data}})


def _controls(studies: Sequence[Study], labels: Mapping[tuple[str, str], str]) -> tuple[str, ...]:
    """Labels of the controls, which a study lists among its tokenizers or asks for under `controls`."""
    found = []
    for study in studies:
        config = study.index.get("config")
        config = config if isinstance(config, dict) else {}
        entries = [entry for entry in config.get("tokenizers") or [] if isinstance(entry, dict)]
        origins = {str(e.get("name")): str(e.get("method") or e.get("load") or "").split("?")[0] for e in entries}
        asked = tuple(map(str, config.get("controls") or ()))
        for (name, tokenizer), label in labels.items():
            # One that is asked for bears its kind's name, with sizes ("-f16d32") where the study has several.
            origin = origins.get(tokenizer) or next((one for one in asked if f"{tokenizer}-".startswith(f"{one}-")), "")
            if name == study.name and origin in CONTROLS:
                found.append(label)
    return tuple(found) if len(found) < len(labels) else ()


def _not_available(stage: Stage) -> dict[str, str]:
    """Score -> why a stage could not compute it; nothing where it left no notes, or notes that cannot be read."""
    path = stage.folder / NOTES
    try:
        notes = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    found = notes.get("not_available") if isinstance(notes, dict) else None
    return {str(name): str(why) for name, why in found.items()} if isinstance(found, dict) else {}


def _not_probed(scores: Sequence[Score]) -> dict[str, str]:
    return {f"probe of '{name}'": f"it {why}" for name, why in left_out(scores).items()}


def _stage(folder: Path, entry: Mapping[str, Any]) -> Stage:
    path = Path(entry["folder"])
    return Stage(
        id=str(entry["id"]),
        kind=str(entry["kind"]),
        folder=path if path.is_absolute() else folder / path,
        tokenizer=str(entry.get("tokenizer") or ""),
        seed=entry.get("seed"),
        budget=dict(entry.get("budget") or {}),
        complete=bool(entry.get("complete")),
        seconds=entry.get("seconds"),
    )


def _row(study: Study, stage: Stage, score: Score, labels: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    return {
        "study": study.name,
        "stage": stage.id,
        "kind": stage.kind,
        "tokenizer": stage.tokenizer,
        "label": labels.get((study.name, stage.tokenizer), ""),
        "seed": stage.seed if stage.seed is not None else score.seed,
        "budget": stage.budget_label,
        **{key: stage.budget.get(key) for key in BUDGET_KEYS},
        "vectorisation": " ".join(filter(None, map(score.detail.get, ("vectorisation", "variant")))),
        "attribute": score.detail.get("attribute") or score.detail.get("factor") or "",
        "interval": score.interval or "",
        "baseline": score.detail.get("baseline"),
        **{key: getattr(score, key) for key in ("metric", "value", "low", "high", "n", "direction", "protocol_hash")},
    }


def _named_apart(studies: Iterable[Study]) -> list[Study]:
    """Give studies that share a name the names of their folders, and a number where these agree too."""
    studies = list(studies)
    names = [study.name for study in studies]
    taken: set[str] = set()
    result = []
    for study in studies:
        name = study.name if names.count(study.name) == 1 else f"{study.name} in {study.folder.name}"
        stem, count = name, 2
        while name in taken:
            name, count = f"{stem} ({count})", count + 1
        taken.add(name)
        result.append(Study(name, study.folder, study.index, study.stages))
    return result


def _labels(studies: Sequence[Study]) -> dict[tuple[str, str], str]:
    # A tokenizer that is only trained serves as a start for others and is not compared.
    every = ((study.name, stage.tokenizer) for study in studies for stage in study.stages if stage.kind != "train")
    pairs = dict.fromkeys((study, tokenizer) for study, tokenizer in every if tokenizer)
    names = [tokenizer for _, tokenizer in pairs]
    return {(s, t): f"{t} ({s})" if names.count(t) > 1 else t for s, t in pairs}
