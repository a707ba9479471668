"""Single stages of a study, as a batch system starts them: many processes, on many machines, at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaebench.core.errors import MissingPath, UnknownName, suggest
from vaebench.study.engines.job import carry_out, make_job
from vaebench.study.index import is_complete
from vaebench.study.slim import left_out


def run_only(graph: Any, root: Path, context: Any, names: Sequence[str], threads: int | None = None) -> list[str]:
    """Carry out these stages and no others; returns what went wrong, by stage, empty when all is well.

    The study is not locked, only each stage is, and its index is not written: ``vaebench study run`` does that when it
    finds all stages complete.

    Raises:
        UnknownName: no such stage.
        MissingPath: a stage that one of them needs is not complete, or is a slim copy.
    """
    folders, problems = graph.folders(root), []
    for name in names:
        if name not in graph.nodes:
            raise UnknownName(f"The study has no stage '{name}'.", suggest(name, graph.nodes))
        node = graph.nodes[name]
        absent = [other for other in node.needs.values() if not is_complete(folders[other]) and other not in names]
        if absent:
            raise MissingPath(f"Stage '{name}' needs {', '.join(absent)}, not complete yet.", "Run them first.")
        slim = [other for other in node.needs.values() if left_out(folders[other])]
        if slim and not is_complete(folders[name]):
            # Other processes may be about to read them or to make them anew, so that they are not removed here.
            raise MissingPath(
                f"Stage '{name}' needs {', '.join(slim)}, of which this slim copy has not all files.",
                "Run the study without --only: it makes them anew.",
            )
        if not is_complete(folders[name]):
            log = root / "logs" / f"{node.folder_name}.log"
            outcome = carry_out(make_job(node, folders, log, context, threads))
            problems += [f"{name}: {outcome.error}"] if outcome.error else []
    return problems
