"""A study folder without its weights, latents and images: small enough to keep, send or commit, and still a study.

Its tables and report can be made from it. The study can also go on in it, on another day or machine: what is complete
counts as complete, and a slimmed stage is made anew only if a stage that is not complete needs its files.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from vaebench.core.errors import MismatchError
from vaebench.core.files import read_json, remove, write_json
from vaebench.study.index import is_complete

LEFT_OUT = "left_out.json"
HEADERS = "headers.json"
"""Attributes of the HDF5 files that were left out: what shape the latents had, and whose they were."""
ALWAYS = ("scores.json", "stage.json", HEADERS)
"""What tables are made of, however large it is."""
# Files of a study folder beside its stages.
_OWN = ("index.json", "study.yaml", "events.jsonl")


def slim(root: Path, index: Mapping[str, Any], target: Path, largest: int) -> tuple[int, int]:
    """Copy a study folder without large files; stages that ``target`` already holds are left as they are.

    Args:
        root: the study's folder.
        index: its index.
        target: where the slim one shall be: a new folder, or a slim copy of the same study from before.
        largest: bytes; a stage's files above it are left out, but for scores, and named in its ``left_out.json``.

    Returns:
        stages copied, and bytes that the slim folder has now.

    Raises:
        MismatchError: the target holds something else.
    """
    if target.exists() and any(target.iterdir()):
        known = target / "index.json"
        if not known.is_file() or read_json(known).get("study") != index["study"]:
            raise MismatchError(f"'{target}' is not empty and holds no copy of this study.", "Choose another folder.")
    target.mkdir(parents=True, exist_ok=True)
    copied = 0
    for stage in index["stages"]:
        source, goal = root / stage["folder"], target / stage["folder"]
        if is_complete(source) and not is_complete(goal):
            _copy(source, goal, largest)
            copied += 1
    for name in _OWN:
        if (root / name).is_file():
            shutil.copyfile(root / name, target / name)
    return copied, sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _copy(source: Path, goal: Path, largest: int) -> None:
    """One stage's folder; it appears complete or not at all."""
    partial = goal.with_name(f".{goal.name}.slim.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    lacking = dict(left_out(source))
    headers: dict[str, dict[str, str]] = {}
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if not path.is_file() or "tb" in relative.parts:
            continue
        size = path.stat().st_size
        if size > largest and path.name not in ALWAYS:
            lacking[relative.as_posix()] = size
            if path.suffix == ".h5":
                headers[relative.as_posix()] = _header(path)
        else:
            (partial / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / relative)
    if lacking:
        write_json(partial / LEFT_OUT, lacking)
    if headers:
        write_json(partial / HEADERS, headers)
    partial.rename(goal)


def _header(path: Path) -> dict[str, str]:
    with h5py.File(path, "r") as file:
        return {name: value for name, value in file.attrs.items() if isinstance(value, str)}


def left_out(folder: Path) -> dict[str, int]:
    """Name -> bytes of what a slim stage lacks; empty for one that is whole."""
    return read_json(folder / LEFT_OUT) if (folder / LEFT_OUT).is_file() else {}


def wanting(graph: Any, folders: Mapping[str, Path]) -> list[str]:
    """Ids of slim stages that must be made anew, because a stage that is not complete needs their files."""
    todo = [name for name in graph.nodes if not is_complete(folders[name])]
    found: dict[str, None] = {}
    while todo:
        for need in graph.nodes[todo.pop()].needs.values():
            if need not in found and left_out(folders[need]):
                found[need] = None
                todo.append(need)
    return list(found)


def make_room(graph: Any, folders: Mapping[str, Path]) -> list[str]:
    """Remove the slim stages that are `wanting`, so that they are made anew; returns their ids."""
    names = wanting(graph, folders)
    for name in names:
        remove(folders[name])
    return names
