"""What ``study status`` and ``study clean`` print."""

import sys
import time
from pathlib import Path
from typing import Any

from vaebench.cli.plan import duration
from vaebench.core.files import read_json


def print_status(root: Path, index: dict[str, Any]) -> None:
    """Every stage with its state, and the sum."""
    from vaebench.study.status import study_status

    status = study_status(root, index)
    for stage in status.stages:
        print(f"{stage.state:7}  {stage.id:<50}  {_about(stage)}".rstrip())
    print(_sum(status))


def watch_status(root: Path, interval: float) -> None:
    """Show the status again and again until nobody runs the study: live on a terminal, else a line when it changes."""
    if sys.stdout.isatty():
        _watch_live(root, interval)
    else:
        _watch_lines(root, interval)


def _watch_lines(root: Path, interval: float) -> None:
    from vaebench.study.status import study_status

    last = ""
    while True:
        status = study_status(root, read_json(root / "index.json"))
        running = "; ".join(f"{s.id} {_about(s)}".strip() for s in status.stages if s.state == "running")
        line = f"{_sum(status)} {running}".strip()
        if line != last:
            print(line, flush=True)
        last = line
        if status.runner is None:
            return
        time.sleep(interval)


def _watch_live(root: Path, interval: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from vaebench.study.status import device_use, study_status

    colours = {"done": "green", "running": "cyan", "failed": "red", "skipped": "yellow"}
    with Live(refresh_per_second=4) as live:
        while True:
            status = study_status(root, read_json(root / "index.json"))
            table = Table(box=None, pad_edge=False)
            for column in ("state", "stage", ""):
                table.add_column(column, no_wrap=True)
            # What runs or went wrong, and then as many others as a screen holds.
            order = sorted(status.stages, key=lambda s: ("running", "failed", "skipped", "begun").count(s.state) == 0)
            for stage in order[: max(10, live.console.height - 8)]:
                state = Text(stage.state, colours.get(stage.state, "dim"))
                table.add_row(state, Text(stage.id), Text(_about(stage)))
            live.update(Group(table, *(Text(line) for line in (_sum(status), *device_use(status)))))
            if status.runner is None:
                return
            time.sleep(interval)


def _about(stage: Any) -> str:
    if stage.seconds is not None:
        return f"{stage.seconds:>6.0f} s"
    return str(stage.report) if stage.report is not None else stage.error.strip().partition("\n")[0]


def _sum(status: Any) -> str:
    left = f" About {duration(status.left)} of work left, as far as known." if status.left else ""
    runner = f" {status.runner} runs it." if status.runner is not None else ""
    return f"{status.done} of {len(status.stages)} stages are done.{left}{runner}"
