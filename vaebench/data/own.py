"""What vaebench itself leaves among a user's images. It is neither read as theirs nor part of what they are."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaebench.core.errors import ConfigError

MARK = ".vaebench"  # in a folder of pictures that holds no other sign of who made it
# Unfinished work, locks and temporary files, by the names that `core` and `stages` give them. They come and go while
# a folder is being read.
_PASSING = re.compile(r"\..+\.([0-9a-f]{10}\.(partial|lock)|((\d+-)?[0-9a-f]{8}|[0-9a-f]{16}|slim)\.tmp)")


def user_file_states(path: Path) -> list[tuple[str, int, int]]:
    """As `core.files.file_states` of a folder, without what vaebench made below it; the folder itself may be its."""
    return sorted(_states_below(path, "", frozenset()))


def _states_below(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, int, int]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as scan:
        entries = list(scan)
    if prefix and _is_own(folder, {entry.name for entry in entries}):
        return
    for entry in entries:
        if _PASSING.fullmatch(entry.name) or (folder.name, entry.name) == ("stages", ".lock"):
            continue
        if entry.is_dir():
            yield from _states_below(Path(entry.path), f"{prefix}{entry.name}/", above | {real})
        elif entry.is_file():
            yield f"{prefix}{entry.name}", entry.stat().st_size, entry.stat().st_mtime_ns


def _is_own(folder: Path, names: set[str]) -> bool:
    """Whether vaebench made a folder: of a stage, a study, a report, logs, or pictures that `mark` stands by."""
    # By their content, since a user's class folder may hold an index.json of another origin.
    return (
        MARK in names
        or ("stage.json" in names and _json(folder / "stage.json").keys() >= {"kind", "hash", "inputs"})
        or ("index.json" in names and "study_hash" in _json(folder / "index.json"))
        or ("report.html" in names and b"vaebench report</title>" in _head(folder / "report.html"))
        or (folder.name == "logs" and _are_logs(folder, names))
    )


def _are_logs(folder: Path, names: set[str]) -> bool:
    """Whether these are a study's logs. They lie there before its index, and for single stages there is none."""
    return all(name.endswith((".log", ".json", ".out")) for name in names) and any(
        name.startswith("slurm-") or _head(folder / name).startswith(b"== 2") for name in names
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(8192)
    except OSError:
        return b""


def require_apart(folder: Path, images: Path) -> None:
    """Check that pictures can be left in ``folder`` without becoming part of the data set that ``images`` is.

    Raises:
        ConfigError: the folder lies among the images, and holds files that `mark` did not stand by.
    """
    place, tree = folder.resolve(), images.resolve()
    if place == tree or (place.is_relative_to(tree) and _is_used(folder) and not (folder / MARK).is_file()):
        raise ConfigError(
            f"'{folder}' lies among the images of '{images}' and holds files of its own: what is written there would "
            "become part of the data set.",
            "Choose a new folder as --output-dir; or remove that one, if an earlier vaebench made it.",
        )


def mark(folder: Path) -> None:
    """Make a folder whose pictures are never taken for a data set's. One that holds other files stays unmarked, since
    these may be a data set's."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_used(folder):
        (folder / MARK).write_text("Made by vaebench: what lies here is not read as images of a data set.\n")


def _is_used(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
