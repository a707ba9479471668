"""Running a graph: what is done is reused, what was interrupted goes on, what is missing is made."""

import datetime
import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from vaebench.core.config import content_hash, dump_yaml
from vaebench.core.errors import MismatchError
from vaebench.core.files import atomic_write, only_process, read_json, write_json
from vaebench.stages import VERSIONS
from vaebench.study.spec import StudySpec

INDEX_SCHEMA = 1
# What a study that was stopped before its index was written may have left.
OWN = frozenset({"stages", "study.yaml"})


def study_hash(spec: StudySpec) -> str:
    """Identity of a study: its resolved file and the versions of the stages' code."""
    return content_hash({"spec": spec.model_dump(mode="json"), "versions": VERSIONS})


def finished(spec: StudySpec, root: Path) -> bool:
    """Whether this very study lies complete in ``root``. Reads files only, so it answers at once."""
    index = read_index(root, spec)
    if index is None or index["study_hash"] != study_hash(spec):
        return False
    return all(_complete(root / stage["folder"]) for stage in index["stages"])


def _complete(folder: Path) -> bool:
    return (folder / "stage.json").is_file()


def read_index(root: Path, spec: StudySpec | None = None) -> dict[str, Any] | None:
    """The index of a study folder, or None when the folder is new.

    Raises:
        MismatchError: the folder belongs to another study or to something else.
    """
    path = root / "index.json"
    if not path.is_file():
        if root.is_dir() and any(entry.name not in OWN for entry in root.iterdir()):
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


def write_index(spec: StudySpec, graph: Any, root: Path) -> None:
    """Write ``study.yaml`` (the resolved study) and ``index.json``: what it consists of and what of it is complete."""
    from vaebench.stages.base import completed, machine, versions

    folders = graph.folders(root)
    stages = []
    for node in graph.nodes.values():
        record = completed(folders[node.id])
        stages.append(
            {
                "id": node.id,
                "kind": node.kind,
                "folder": f"stages/{node.folder_name}",
                "hash": node.hash,
                "tokenizer": node.tokenizer,
                "seed": node.seed,
                "budget": node.budget,
                "complete": record is not None,
                "seconds": record["seconds"] if record else None,
            }
        )
    with atomic_write(root / "study.yaml") as temporary:
        temporary.write_text(dump_yaml(spec))
    write_json(
        root / "index.json",
        {
            "schema": INDEX_SCHEMA,
            "study": spec.study,
            "study_hash": study_hash(spec),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "command": "vaebench study run study.yaml --output-dir OUTPUT_DIR",
            "config": spec.model_dump(mode="json"),
            "stages": stages,
        },
    )


def run(spec: StudySpec, graph: Any, root: Path, context: Any, jobs: int = 1) -> None:
    """Run every stage that is not complete.

    Args:
        spec: the study.
        graph: its :class:`~vaebench.study.graph.Graph`.
        root: the study's folder.
        context: device and workers.
        jobs: stages at a time, each in a process of its own with its share of the cores, or with a GPU of its own
            where there are several.
    """
    read_index(root, spec)
    root.mkdir(parents=True, exist_ok=True)
    with only_process(root / "stages" / ".lock", "this study"):
        write_index(spec, graph, root)
        if jobs == 1:
            for node in graph.nodes.values():
                _run_node(node, graph.inputs(node, root), graph.folders(root)[node.id], context)
                write_index(spec, graph, root)
        else:
            _run_parallel(spec, graph, root, context, jobs)


def _run_node(node: Any, inputs: Mapping[str, str], folder: Path, context: Any) -> None:
    import sys

    from vaebench.stages.base import execute

    if not _complete(folder):
        print(f"== {node.id}", file=sys.stderr, flush=True)
    execute(node.stage, node.config, inputs, folder, context)


def _run_parallel(spec: StudySpec, graph: Any, root: Path, context: Any, jobs: int) -> None:
    folders = graph.folders(root)
    waiting = {node.id: node for node in graph.nodes.values()}
    done: set[str] = set()
    running: dict[Future[None], str] = {}
    spawn = multiprocessing.get_context("spawn")
    slots = spawn.Queue()
    for slot in range(jobs):
        slots.put(slot)
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_start_worker, initargs=(slots, jobs)) as pool:
        while waiting or running:
            for node in [n for n in waiting.values() if set(n.needs.values()) <= done]:
                future = pool.submit(_run_node, node, graph.inputs(node, root), folders[node.id], context)
                running[future] = node.id
                del waiting[node.id]
            finished_now, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished_now:
                future.result()
                done.add(running.pop(future))
            write_index(spec, graph, root)


def _start_worker(slots: Any, jobs: int) -> None:
    """Give this worker its share: cores on the CPU, one device where there are several."""
    slot = slots.get()
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    import torch

    if torch.cuda.device_count() > 1:
        visible = [gpu for gpu in gpus if gpu] or [str(i) for i in range(torch.cuda.device_count())]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
