"""A study for SLURM: a script that submits job arrays, each waiting for those that its stages need.

Stages of one depth that run on the same kind of node form an array (split where SLURM would refuse its length). Arrays
wait with ``afterany``: when a stage fails, those that need it say so and end at once, and all others run.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaebench.core.plugins import plugin_files
from vaebench.study.index import is_complete

# SLURM's default MaxArraySize is 1001.
LONGEST_ARRAY = 1000

HEAD = """#!/bin/bash
# Study '{study}': {stages} stages in {arrays} job arrays. Options given to this script go to every sbatch:
#   bash study.sh --partition=gpu --time=12:00:00
# GPU_ARGS is for stages that compute on a GPU (default --gpus=1; GPU_ARGS= for none), THREADS the cores of a stage.
set -euo pipefail
threads=${{THREADS:-4}}
gpu_args=${{GPU_ARGS---gpus=1}}
cd {cwd}
mkdir -p {logs}
"""


def slurm_script(graph: Any, root: Path, command: Sequence[str], study: str) -> str:
    """The script.

    Args:
        graph: the study's :class:`~vaebench.study.graph.Graph`; what is complete in ``root`` is left out.
        root: the study's folder, on a disk that all nodes see.
        command: the words that run the study (``vaebench study run FILE --output-dir ROOT ...``).
        study: its name.
    """
    arrays = _arrays(graph, root)
    place = {name: number for number, names in enumerate(arrays) for name in names}
    logs = shlex.quote(str(root / "logs"))
    lines = [
        HEAD.format(study=study, stages=len(place), arrays=len(arrays), cwd=shlex.quote(str(Path.cwd())), logs=logs)
    ]
    for number, names in enumerate(arrays):
        needs = sorted({place[need] for name in names for need in graph.nodes[name].needs.values() if need in place})
        lines.append(_submission(number, names, needs, root, command, graph.nodes[names[0]].stage.accelerated))
    after = [f"$job{number}" for number in range(len(arrays))]
    lines.append("# What is left, if anything, then the report.")
    lines.append(_sbatch("report", after, root, [], ["$gpu_args"], shlex.join(command)))
    return "\n".join(lines)


def _arrays(graph: Any, root: Path) -> list[list[str]]:
    """Names of the stages to do, by depth and kind of node."""
    folders = graph.folders(root)
    depth: dict[str, int] = {}
    groups: dict[tuple[int, bool], list[str]] = {}
    for name, node in graph.nodes.items():
        if is_complete(folders[name]):
            continue
        depth[name] = 1 + max((depth[need] for need in node.needs.values() if need in depth), default=-1)
        groups.setdefault((depth[name], node.stage.accelerated), []).append(name)
    return [
        names[start : start + LONGEST_ARRAY]
        for _, names in sorted(groups.items())
        for start in range(0, len(names), LONGEST_ARRAY)
    ]


def _submission(
    number: int, names: Sequence[str], needs: Sequence[int], root: Path, command: Sequence[str], accelerated: bool
) -> str:
    work = (
        f"stages=({' '.join(shlex.quote(name) for name in names)}); export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK; "
        f'exec {shlex.join(command)} --threads "$SLURM_CPUS_PER_TASK" --only "${{stages[$SLURM_ARRAY_TASK_ID]}}"'
    )
    options = [f"--array=0-{len(names) - 1}"]
    after = [f"$job{need}" for need in needs]
    return f"job{number}=$({_sbatch(f'stages-{number}', after, root, options, ['$gpu_args'] * accelerated, work)})"


def _sbatch(name: str, after: Sequence[str], root: Path, options: Sequence[str], raw: Sequence[str], work: str) -> str:
    """One call of sbatch; ``after`` and ``raw`` are for the shell to fill in."""
    dependency = [f"--dependency=afterany:{':'.join(after)}"] if after else []
    output = str(root / "logs" / f"slurm-{name}-%A_%a.out").replace("%A_%a", "%A_%a" if options else "%j")
    words = ["sbatch", "--parsable", f"--job-name={name}", *options]
    return " ".join(
        [shlex.join(words), *dependency, "--cpus-per-task=$threads", *raw, f"--output={shlex.quote(output)}", '"$@"',
         f"--wrap={shlex.quote(work)}"]
    )  # fmt: skip


def command_words(study: str, root: Path, overrides: Sequence[str], device: str) -> list[str]:
    """The command that runs a study, with absolute paths."""
    file = Path(study)
    words = ["vaebench", "study", "run", str(file.absolute()) if file.is_file() else study]
    words += ["--output-dir", str(root.absolute()), "--device", device]
    words += [word for file in plugin_files() for word in ("--plugin", file)]
    return words + [word for override in overrides for word in ("-o", override)]


def plan_as_slurm(study: str, root: Path, overrides: Sequence[str], device: str, graph: Any) -> str:
    """What ``vaebench study plan --format slurm`` prints."""
    return slurm_script(graph, root.absolute(), command_words(study, root, overrides, device), Path(study).stem)
