"""``index.json`` of a study folder: what the study consists of and what of it is complete."""

import datetime
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vaebench.core.config import build, content_hash, dump_yaml
from vaebench.core.errors import MismatchError
from vaebench.core.files import atomic_write, file_states, read_json, write_json
from vaebench.core.plugins import code_of, code_outside
from vaebench.stages import VERSIONS
from vaebench.study.spec import StudySpec

INDEX_SCHEMA = 1
# What a study that was stopped before its index was written may have left, besides half-written hidden files.
OWN = frozenset({"stages", "study.yaml", "events.jsonl", "logs"})


def study_hash(spec: StudySpec) -> str:
    """Identity of a study: its resolved file, the versions of the stages' code, and the code of plug-ins if any."""
    plain = spec.model_dump(mode="json")
    outside = code_outside() | {text: code for text in _references(plain) if (code := code_of(text))}
    return content_hash({"spec": plain, "versions": VERSIONS} | ({"code": outside} if outside else {}))


def _references(value: Any) -> Iterator[str]:
    """Texts of a study file that name code, "module:Class" or "path/file.py:Class", where that is there."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and (match := re.fullmatch(r"([\w.]+|.+\.py):\w+(\?.*)?", value)):
        there = not match[1].endswith(".py") or Path(match[1]).is_file()
        yield from [value.partition("?")[0]] if there else []


def finished(spec: StudySpec, root: Path) -> bool:
    """Whether this very study lies complete in ``root``, made of the files from outside that are there now.

    It looks at files, at sizes and times of those from outside, and computes nothing."""
    index = read_index(root, spec)
    if index is None or index["study_hash"] != study_hash(spec):
        return False
    return all(is_complete(root / stage["folder"]) for stage in index["stages"]) and _outside_unchanged(spec, index)


def _outside_unchanged(spec: StudySpec, index: Mapping[str, Any]) -> bool:
    """Whether files from outside the study are as when the index was written.

    What is gone altogether is no other: a finished study needs it no more. An index from before this was noted says
    nothing of them.
    """
    if any(state != _state(path) for path, state in index.get("outside", {}).items() if Path(path).exists()):
        return False
    if not index.get("data_files"):
        return True
    from vaebench.stages import STAGES

    stage = STAGES.get("data")()
    data = {"data": spec.data, **{f"data-{name}": settings for name, settings in spec.probe_data.items()}}
    return all(
        stage.resolve(build(stage.Config, data[name], name)).files in {"", files}
        for name, files in index["data_files"].items()
    )


def _state(path: str) -> str:
    return content_hash(file_states(path))


def is_complete(folder: Path) -> bool:
    """Whether this is the folder of a complete stage."""
    return (folder / "stage.json").is_file()


def read_index(root: Path, spec: StudySpec | None = None) -> dict[str, Any] | None:
    """The index of a study folder, or None when the folder is new.

    Raises:
        MismatchError: the folder belongs to another study or to something else.
    """
    path = root / "index.json"
    if not path.is_file():
        if root.is_dir() and any(not _own(entry.name) for entry in root.iterdir()):
            raise MismatchError(
                f"'{root}' is not empty and holds no study.", "Choose another --output-dir, or an empty folder."
            )
        return None
    index: dict[str, Any] = read_json(path)
    if spec is not None and index["study"] != spec.study:
        raise MismatchError(
            f"'{root}' holds the study '{index['study']}', not '{spec.study}'.", "Choose another --output-dir."
        )
    return index


def _own(name: str) -> bool:
    return name in OWN or (name.startswith(".") and name.endswith(".tmp"))


class Index:
    """Writes ``study.yaml`` (the resolved study) and ``index.json``, again and again while the study runs."""

    def __init__(self, spec: StudySpec, graph: Any, root: Path) -> None:
        self._spec, self._root = spec, root
        self._nodes, self._folders = graph.nodes, graph.folders(root)
        self._seconds: dict[str, float | None] = {}
        self._head: dict[str, Any] = {}

    def write(self) -> None:
        """Write both files as things stand."""
        from vaebench.stages.base import completed, versions
        from vaebench.stages.machine import machine

        if not self._head:
            with atomic_write(self._root / "study.yaml") as temporary:
                temporary.write_text(dump_yaml(self._spec))
            self._head = {
                "schema": INDEX_SCHEMA,
                "study": self._spec.study,
                "study_hash": study_hash(self._spec),
                "machine": machine(),
                "versions": versions(),
                "command": "vaebench study run study.yaml --output-dir OUTPUT_DIR",
                "config": self._spec.model_dump(mode="json"),
                "outside": {path: _state(path) for path in self._outside()},
                "data_files": {
                    node.id: node.config.files
                    for node in self._nodes.values()
                    if node.kind == "data" and node.config.files
                },
            }
        for name, folder in self._folders.items():
            if name not in self._seconds and (record := completed(folder)) is not None:
                self._seconds[name] = record["seconds"]
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        write_json(
            self._root / "index.json",
            {**self._head, "created": created, "stages": [self._entry(node) for node in self._nodes.values()]},
        )

    def _outside(self) -> list[str]:
        """Paths of files and folders from outside that stages take as inputs or their configurations name."""
        from vaebench.stages.base import input_paths

        found: dict[str, None] = {}
        for node in self._nodes.values():
            found |= dict.fromkeys(node.stage.outside(node.config))
            for role, reference in node.given.items():
                found |= dict.fromkeys(input_paths(role, reference))
        return list(found)

    def _entry(self, node: Any) -> dict[str, Any]:
        return {
            "id": node.id,
            "kind": node.kind,
            "folder": f"stages/{node.folder_name}",
            "hash": node.hash,
            "tokenizer": node.tokenizer,
            "seed": node.seed,
            "budget": node.budget,
            "complete": node.id in self._seconds,
            "seconds": self._seconds.get(node.id),
        }
