"""What a user sees of stages that run side by side."""

import io
import os
import time
from dataclasses import asdict

import pytest
import torch

from vaebench import Context
from vaebench.core import progress as shown
from vaebench.core.files import write_json
from vaebench.core.progress import Report
from vaebench.study import watch as watched
from vaebench.study.engine import Options, run
from vaebench.study.engines.job import progress_path
from vaebench.study.watch import Watch

REPORT = Report("train kl-vae", 30, 400, "steps", 7.5, 49.3, {"loss": 0.25})


def tell(log, report: Report = REPORT) -> None:
    write_json(progress_path(log), {**asdict(report), "values": {k: repr(v) for k, v in report.values.items()}})


def test_a_log_gets_a_line_of_each_stage_in_turn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(watched, "SECONDS_BETWEEN_LINES", 0.0)
    with Watch(3) as watch:
        watch.look()
        for name in ("a", "b", "c"):
            watch.begins(name, tmp_path / f"{name}.log")
        tell(tmp_path / "a.log")
        tell(tmp_path / "c.log")
        os.utime(progress_path(tmp_path / "c.log"), (time.time() - 60,) * 2)  # of an attempt that was killed
        for _ in range(4):
            watch.look()
        tell(tmp_path / "b.log")
        watch.ends("a", True)
        watch.look()
    line = "train kl-vae: 30/400 steps  7.5 steps/s  0:49 left  loss 0.25"
    assert capsys.readouterr().err.splitlines() == [f"a: {line}", f"a: {line}", f"b: {line}"]


def test_lines_are_seconds_apart(tmp_path, capsys):
    with Watch(1) as watch:
        watch.begins("a", tmp_path / "a.log")
        tell(tmp_path / "a.log")
        watch.look()
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_rows(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with Watch(2) as watch:
        watch.begins("train-a", tmp_path / "a.log")
        watch.begins("train-b", tmp_path / "b.log")
        tell(tmp_path / "a.log")
        watch.ends("train-c", True)
        watch._live.refresh()
    text = terminal.getvalue()
    for part in ("1 of 2 stages done", "train-a", "30/400 steps", "train-b", "starting"):
        assert part in text


@pytest.mark.parametrize("jobs", [1, 2])
def test_stages_of_a_study_are_told_of_once(stub_graph, stub_spec, tmp_path, capfd, monkeypatch, jobs):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for module in (watched, shown):
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.5)
    graph = stub_graph(a={"seconds": 3.0, "steps": 30})
    run(stub_spec, graph, tmp_path / "run", Context(device="cpu"), Options(jobs=jobs, threads=1))
    lines = capfd.readouterr().err.splitlines()
    assert "== a" in lines
    lines = [line for line in lines if "steps/s" in line and "left" in line]
    assert 2 <= len(lines) <= 7
    assert all(line.startswith("a: a: " if jobs > 1 else "a: ") for line in lines)
