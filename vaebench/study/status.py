"""How far a study is, from what lies in its folder; asks no running process."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from vaebench.core.files import read_json
from vaebench.core.locks import Holder, host_identity, living_holder
from vaebench.core.progress import Report
from vaebench.study.engines.job import progress_path, read_report
from vaebench.study.events import read_events
from vaebench.study.index import is_complete


@dataclass(frozen=True)
class StageStatus:
    """One stage: done, running, failed, skipped, begun or to do; its seconds, or how far it is and who works on it."""

    id: str
    kind: str
    state: str
    seconds: float | None = None
    report: Report | None = None
    holder: Holder | None = None
    error: str = ""


@dataclass(frozen=True)
class StudyStatus:
    """All stages, who runs the study (None: nobody), and how many seconds of work are left where that is known."""

    stages: list[StageStatus]
    runner: Holder | None
    left: float | None

    @property
    def done(self) -> int:
        """How many stages are complete."""
        return sum(stage.state == "done" for stage in self.stages)


def study_status(root: Path, index: dict[str, Any]) -> StudyStatus:
    """The status of the study in ``root``, whose index has been read."""
    names = {path.name for path in (root / "stages").iterdir()} if (root / "stages").is_dir() else set()
    endings = _endings(root)
    stages = [_stage(root, entry, names, endings.get(entry["id"])) for entry in index["stages"]]
    return StudyStatus(stages, living_holder(root / "stages" / ".lock"), _left(stages))


def _endings(root: Path) -> dict[str, dict[str, Any]]:
    """Stage -> how it failed or why it was left out, in the last run of the study and for good."""
    endings: dict[str, dict[str, Any]] = {}
    for event in read_events(root):
        if event["event"] == "study-started":
            endings = {}
        elif event["event"] == "stage-skipped" or (event["event"] == "stage-failed" and event["retry"] is None):
            endings[event["stage"]] = event
    return endings


def _stage(root: Path, entry: dict[str, Any], names: set[str], ending: dict[str, Any] | None) -> StageStatus:
    about = entry["id"], entry["kind"]
    folder = root / entry["folder"]
    if is_complete(folder):
        seconds = entry["seconds"] if entry["seconds"] is not None else read_json(folder / "stage.json")["seconds"]
        return StageStatus(*about, "done", seconds)
    hidden = f".{folder.name}.{entry['hash'][:10]}"
    holder = living_holder(folder.with_name(f"{hidden}.lock")) if f"{hidden}.lock" in names else None
    if holder is not None:
        report = read_report(progress_path(root / "logs" / f"{folder.name}.log"))
        return StageStatus(*about, "running", report=report, holder=holder)
    if ending is not None:
        failed = ending["event"] == "stage-failed"
        words = ending["error"] if failed else f"needs {ending['because']}"
        return StageStatus(*about, "failed" if failed else "skipped", error=words)
    return StageStatus(*about, "begun" if f"{hidden}.partial" in names else "to do")


def _left(stages: list[StageStatus]) -> float | None:
    """Seconds of work left: as running stages say, for others the mean of their kind; None where none is known."""
    seen: dict[str, list[float]] = {}
    for stage in stages:
        if stage.seconds is not None:
            seen.setdefault(stage.kind, []).append(stage.seconds)
    known = []
    for stage in stages:
        if stage.report is not None and stage.report.left is not None:
            known.append(stage.report.left)
        elif stage.state != "done" and stage.kind in seen:
            known.append(mean(seen[stage.kind]))
    return sum(known) if known else None


def device_use(status: StudyStatus) -> list[str]:
    """Processor and memory of the processes of running stages on this host, and what GPUs say of themselves."""
    import psutil

    lines = []
    for stage in status.stages:
        if stage.holder is None or stage.holder.host != host_identity():
            continue
        try:
            process = psutil.Process(stage.holder.pid)
            cpu, memory = process.cpu_percent(interval=0.1), process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        lines.append(f"{stage.id}: {cpu:.0f}% CPU, {memory / 2**30:.1f} GiB")
    return lines + _gpus()


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = "--query-gpu=index,utilization.gpu,memory.used,memory.total"
    told = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20, check=False
    )
    rows = [[word.strip() for word in line.split(",")] for line in told.stdout.splitlines()]
    return [f"GPU {row[0]}: {row[1]}%, {row[2]} of {row[3]} MiB" for row in rows if len(row) == 4]
