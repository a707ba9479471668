"""What is there to be looked at: traversals, maps of latents and nearest training images, as stages left them.

A file that is missing, broken or of another shape is told in `problems` and stops nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.collect import Results, Stage
from reports.images import NOTHING, Packed, Packer, size_of


@dataclass(frozen=True)
class Moved:
    """What one step along an attribute's direction did to an attribute, by tokenizer label.

    Attributes:
        name: of the attribute that is looked at.
        target: whether it is the one that was turned up.
        read: change of the share of images that a reader sees it in, with its interval; by label.
        probe: change of the output of the latents' own probe per step; by label.
        cooccurrence: what the probe would change by if attributes only went together as they do in the data.
    """

    name: str
    target: bool
    read: Mapping[str, tuple[float, float, float]]
    probe: Mapping[str, float]
    cooccurrence: float | None


@dataclass(frozen=True)
class Strip:
    """Decoded moves of the same images by one tokenizer, a row per image and a column per step."""

    label: str
    picture: Packed
    images: int


@dataclass(frozen=True)
class Traversal:
    """One attribute turned up in every tokenizer's latents.

    Attributes:
        steps: positions of the columns.
        moved: the attribute itself first, then all others, those that moved most in any tokenizer first.
    """

    name: str
    steps: tuple[float, ...]
    strips: list[Strip]
    moved: list[Moved]


@dataclass(frozen=True)
class Nearest:
    """Samples (first column) with their nearest training images, and how near they are."""

    label: str
    picture: Packed
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class LatentMap:
    """Maps of the same images for several tokenizers.

    Attributes:
        attributes: name -> 0 or 1 per image.
        places: label -> (x, y) in [0, 1] per image.
        thumbnails: pictures of the images, row by row, `columns` to a row, each `side` pixels wide.
        method: how the map was made.
    """

    attributes: Mapping[str, Sequence[int]]
    places: Mapping[str, tuple[list[float], list[float]]]
    thumbnails: Packed
    columns: int
    side: int
    method: str


@dataclass(frozen=True)
class Gallery:
    """All of it; lists are empty where no stage left anything."""

    traversals: list[Traversal]
    nearest: list[Nearest]
    maps: list[LatentMap]
    reader: Mapping[str, Any]
    problems: list[str]


def gallery(results: Results, pack: Packer) -> Gallery:
    """Read the `gallery` and `nearest` stages of all studies; the first stage of each tokenizer counts."""
    problems: list[str] = []
    shown = _Reading(results, problems)
    traversals = shown.each("gallery", "traversals.json")
    maps = shown.each("gallery", "map.json")
    nearest = shown.each("nearest", "nearest.json")
    found = Gallery(
        traversals=_guarded(lambda: _traversals(traversals, pack), problems, "traversals"),
        nearest=_guarded(lambda: _nearest(nearest, pack), problems, "nearest training images"),
        maps=_guarded(lambda: _maps(maps, pack), problems, "maps of latents"),
        reader=next((dict(record["reader"]) for _, _, record in traversals if record.get("reader")), {}),
        problems=problems,
    )
    return found


def selectivity(traversals: Sequence[Traversal]) -> pd.DataFrame:
    """Per tokenizer, over all traversals that were read: mean change of the attribute turned up, mean absolute change
    of all others, and how many times the first is the second, where the attribute did appear.

    Columns label, attributes, target, others, ratio.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    for traversal in traversals:
        own = next((moved for moved in traversal.moved if moved.target), None)
        for label in own.read if own else ():
            others = [
                abs(moved.read[label][0]) for moved in traversal.moved if not moved.target and label in moved.read
            ]
            if own and others:
                rows.setdefault(label, []).append((own.read[label][0], float(np.mean(others))))
    table = [
        {"label": label, "attributes": len(pairs), "target": float(np.mean([p[0] for p in pairs])),
         "others": float(np.mean([p[1] for p in pairs]))}
        for label, pairs in rows.items()
    ]  # fmt: skip
    frame = pd.DataFrame(table, columns=["label", "attributes", "target", "others"])
    return frame.assign(ratio=(frame["target"] / frame["others"].where(frame["others"] > 0)).where(frame["target"] > 0))


class _Reading:
    """JSON files of complete stages, in the order of the labels."""

    def __init__(self, results: Results, problems: list[str]) -> None:
        self.results, self.problems = results, problems

    def each(self, kind: str, name: str) -> list[tuple[str, Stage, dict[str, Any]]]:
        found: dict[str, tuple[str, Stage, dict[str, Any]]] = {}
        for study in self.results.studies:
            for stage in study.of_kind(kind):
                label = self.results.labels.get((study.name, stage.tokenizer))
                record = self._read(stage.folder / name) if label is not None and label not in found else None
                if label is not None and record is not None:
                    found[label] = (label, stage, record)
        return [found[label] for label in self.results.labels.values() if label in found]

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self.problems.append(f"{path.parent.name}/{path.name} cannot be read: {error}")
            return None
        return record if isinstance(record, dict) else None


def _guarded(make: Callable[[], list[Any]], problems: list[str], what: str) -> list[Any]:
    try:
        return make()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        problems.append(f"The {what} are not drawn, a file has another form than this version writes: {error!r}.")
        return []


def _traversals(read: Sequence[tuple[str, Stage, dict[str, Any]]], pack: Packer) -> list[Traversal]:
    names = list(dict.fromkeys(entry["name"] for _, _, record in read for entry in record["attributes"]))
    made = []
    for name in names:
        strips, entries, steps = [], {}, ()
        for label, stage, record in read:
            place = next((i for i, entry in enumerate(record["attributes"]) if entry["name"] == name), None)
            if place is None:
                continue
            entries[label], steps = record["attributes"][place], tuple(record["steps"])
            strips.append(Strip(label, _strip(record, stage, place, pack), int(record["faces"][place])))
        made.append(Traversal(name, steps, strips, _moved(name, entries)))
    return made


def _strip(record: Mapping[str, Any], stage: Stage, place: int, pack: Packer) -> Packed:
    path = stage.image("traversals.png")
    size, pitch = size_of(path), int(record["tile"][0]) + int(record["gap"])
    if size is None:
        return NOTHING
    above, rows = sum(record["faces"][:place]), int(record["faces"][place])
    return pack(path, (0, above * pitch, size[0], (above + rows) * pitch - int(record["gap"])))


def _moved(name: str, entries: Mapping[str, Mapping[str, Any]]) -> list[Moved]:
    """The attribute itself, then the others by how far they moved in the tokenizer where they moved most."""
    every = dict.fromkeys(other for entry in entries.values() for other in (entry.get("read") or entry["probe"]))
    strength = {
        other: max(
            abs(float((entry.get("read") or {}).get(other, [entry["probe"].get(other, 0.0)])[0]))
            for entry in entries.values()
        )
        for other in every
    }
    others = sorted((other for other in every if other != name), key=lambda other: -strength[other])
    rows = []
    for other in [name, *others]:
        together = [entry["cooccurrence"][other] for entry in entries.values() if other in entry["cooccurrence"]]
        rows.append(Moved(
            name=other, target=other == name,
            read={
                label: _triple(entry["read"][other])
                for label, entry in entries.items() if other in (entry.get("read") or {})
            },
            probe={label: float(entry["probe"][other]) for label, entry in entries.items() if other in entry["probe"]},
            cooccurrence=float(together[0]) if together else None,
        ))  # fmt: skip
    return rows


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    value, low, high = (float(v) for v in values)
    return value, low, high


def _nearest(read: Sequence[tuple[str, Stage, dict[str, Any]]], pack: Packer) -> list[Nearest]:
    return [
        Nearest(label, pack(stage.image("nearest.png")), record) for label, stage, record in read if "median" in record
    ]


def _maps(read: Sequence[tuple[str, Stage, dict[str, Any]]], pack: Packer) -> list[LatentMap]:
    """One map per set of images: tokenizers of one study share theirs."""
    sets: dict[tuple[int, ...], list[tuple[str, Stage, dict[str, Any]]]] = {}
    for label, stage, record in read:
        sets.setdefault(tuple(record["ids"]), []).append((label, stage, record))
    made = []
    for members in sets.values():
        _, stage, record = members[0]
        places = {label: ([float(v) for v in r["x"]], [float(v) for v in r["y"]]) for label, _, r in members}
        made.append(LatentMap(
            attributes={str(name): [int(v) for v in values] for name, values in record["attributes"].items()},
            places=places, thumbnails=pack(stage.image("map.png")), columns=int(record["columns"]),
            side=int(record["thumbnail"]), method=str(record["method"]),
        ))  # fmt: skip
    return made
