"""What killed processes left in a study's folder, and its removal. Complete stages and resumable work stay."""

from pathlib import Path
from typing import Any

from vaebench.core.errors import MismatchError
from vaebench.core.files import remove, temporaries
from vaebench.core.locks import living_holder
from vaebench.stages import CHECKPOINTS
from vaebench.study.index import is_complete


def leftovers(root: Path, index: dict[str, Any], graph: Any = None, force: bool = False) -> list[Path]:
    """Half-written files, locks of dead processes, and unfinished work that no stage of the study will take up.

    Args:
        root: the study's folder.
        index: its index, which lists the stages of the last run.
        graph: the :class:`~vaebench.study.graph.Graph` of the study file, whose stages may be others.
        force: also unfinished work with checkpoints of stages that neither of them knows, such as those of other seeds.

    Raises:
        MismatchError: the study is running, and its half-written files are not left over.
    """
    folder = root / "stages"
    runner = living_holder(folder / ".lock")
    if runner is not None:
        raise MismatchError(f"{runner} is running this study.", "Wait for it, or stop it first.")
    stages = {Path(stage["folder"]).name: stage["hash"] for stage in index["stages"]}
    stages |= {node.folder_name: node.hash for node in graph.nodes.values()} if graph is not None else {}
    wanted = {f".{name}.{identity[:10]}.partial" for name, identity in stages.items() if not is_complete(folder / name)}
    locks = [folder / ".lock", *folder.glob(".*.lock")] if folder.is_dir() else []
    held = [lock for lock in locks if living_holder(lock) is not None]
    busy = {f"{lock.name.removesuffix('.lock')}.partial" for lock in held}
    found = {lock for lock in locks if lock.is_file() and lock not in held}
    found |= {
        path
        for path in folder.glob(".*.partial")
        if path.name not in wanted | busy and (force or not (path / CHECKPOINTS).is_dir())
    }
    found |= {path for path in temporaries(root) if not busy & set(path.relative_to(root).parts)}
    states = {path.with_suffix(".log") for path in (root / "logs").glob("*.json")}
    found |= {
        log.with_suffix(".json") for log in states if not any(lock.name.startswith(f".{log.stem}.") for lock in held)
    }
    return sorted(path for path in found if not found & set(path.parents))


def clean(root: Path, index: dict[str, Any], graph: Any = None, force: bool = False) -> list[Path]:
    """Remove `leftovers`; returns what was removed."""
    removed = leftovers(root, index, graph, force)
    for path in removed:
        if path.exists():
            remove(path)
    return removed
