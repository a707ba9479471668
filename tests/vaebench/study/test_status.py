"""Events, status, clean-up and the SLURM script, with stages that do next to nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vaebench.cli.status import print_status, watch_status
from vaebench.core.errors import MismatchError, MissingPath, UnknownName
from vaebench.core.locks import hold
from vaebench.stages.base import Context
from vaebench.study.clean import clean, leftovers
from vaebench.study.engine import StagesFailed, run
from vaebench.study.events import Events, read_events
from vaebench.study.index import read_index
from vaebench.study.single import run_only
from vaebench.study.slurm import slurm_script
from vaebench.study.status import device_use, study_status

CPU = Context(device="cpu")
CHAIN = {"a": {}, "long": {"needs": ["a"], "seconds": 30.0, "steps": 300}, "b": {"needs": ["long"]}}


@pytest.fixture
def killed(stub_graph, tmp_path):
    """A study whose process was killed in the middle of its second stage."""
    root, driver = tmp_path / "run", Path(__file__).parent / "stubs" / "driver.py"
    process = subprocess.Popen([sys.executable, str(driver), str(root), json.dumps(CHAIN), "{}"])
    end = time.monotonic() + 60
    while not list((root / "logs").glob("long-*.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    yield root, process
    process.kill()
    process.wait()


def states(root):
    status = study_status(root, read_index(root))
    return {stage.id: stage.state for stage in status.stages}, status


def test_events_are_whole_lines_even_after_one_was_cut_off(tmp_path):
    events = Events(tmp_path)
    events.write("study-started", stages=3)
    with (tmp_path / "events.jsonl").open("a") as handle:
        handle.write('{"time": "2026", "ev')
    events.write("study-finished", done=3)
    assert [event["event"] for event in read_events(tmp_path)] == ["study-started", "study-finished"]


def test_events_say_when_and_how_each_stage_ended(stub_graph, stub_spec, tmp_path):
    with pytest.raises(StagesFailed):
        run(stub_spec, stub_graph(a={}, b={"needs": ["a"], "fail": "user"}, c={"needs": ["b"]}), tmp_path, CPU)
    events = [
        {key: e[key] for key in e if key not in {"time", "host", "pid", "seconds"}} for e in read_events(tmp_path)
    ]
    failed = next(e for e in events if e["event"] == "stage-failed")
    assert [(e["event"], e.get("stage")) for e in events] == [
        ("study-started", None), ("stage-started", "a"), ("stage-finished", "a"), ("stage-started", "b"),
        ("stage-failed", "b"), ("stage-skipped", "c"), ("study-finished", None),
    ]  # fmt: skip
    assert (failed["exit"], failed["error"], failed["retry"]) == (2, "The data are upside down. Turn them.", None)
    assert (tmp_path / events[1]["log"]).is_file()
    assert states(tmp_path)[0] == {"a": "done", "b": "failed", "c": "skipped"}


def test_status_of_a_study_that_runs_and_that_was_killed(killed, capsys):
    root, process = killed
    found, status = states(root)
    assert found == {"a": "done", "long": "running", "b": "to do"}
    assert status.runner.pid == process.pid
    report = status.stages[1].report
    assert (report.total, report.unit, report.values) == (300, "steps", {"loss": 0.5})
    assert 0 < report.rate <= 10.5
    assert 20 < report.left < 60
    assert status.left >= report.left
    assert any(re.match(r"long: \d+% CPU, \d+\.\d GiB", line) for line in device_use(status))
    print_status(root, read_index(root))
    assert re.search(r"running  long +long: \d+/300 steps +.* left +loss 0.5", capsys.readouterr().out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found, status = states(root)
    assert found == {"a": "done", "long": "begun", "b": "to do"}
    assert status.runner is None


def test_watching_ends_with_the_study(killed, capsys):
    root, process = killed
    watcher = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from vaebench.cli.status import watch_status;"
         "watch_status(Path(sys.argv[1]), 0.1)", str(root)], stdout=subprocess.PIPE, text=True)  # fmt: skip
    first = watcher.stdout.readline()
    assert first.startswith("1 of 3 stages are done.")
    assert "long: " in first
    process.kill()
    process.wait()
    assert watcher.wait(20) == 0
    watcher.stdout.close()
    watch_status(root, 0.1)
    assert capsys.readouterr().out.startswith("1 of 3 stages are done.")


def test_clean_removes_what_the_dead_left_and_nothing_else(killed, stub_graph, stub_spec):
    root, process = killed
    with pytest.raises(MismatchError, match="is running this study"):
        leftovers(root, read_index(root))
    process.kill()
    process.wait()
    (root / "stages" / ".old-0123456789.0123456789.partial").mkdir()
    partial = next((root / "stages").glob(".long-*.partial"))
    (partial / ".state.1-ab.tmp").write_text("half")
    (root / ".index.json.1-ab.tmp").write_text("half")
    complete = {p: p.stat().st_mtime_ns for p in (root / "stages").glob("a-*/**/*")}
    found = {path.relative_to(root).as_posix() for path in leftovers(root, read_index(root))}
    locks = {path.relative_to(root).as_posix() for path in (root / "stages").glob(".*lock")}
    progress = next((root / "logs").glob("*.json")).relative_to(root).as_posix()
    assert len(locks) == 2
    assert found == locks | {
        "stages/.old-0123456789.0123456789.partial", f"stages/{partial.name}/.state.1-ab.tmp", ".index.json.1-ab.tmp",
        progress,
    }  # fmt: skip
    clean(root, read_index(root))
    assert leftovers(root, read_index(root)) == []
    assert partial.is_dir()
    assert {p: p.stat().st_mtime_ns for p in (root / "stages").glob("a-*/**/*")} == complete


def test_a_stage_that_another_process_makes_is_not_cleaned_away(stub_graph, stub_spec, tmp_path):
    graph = stub_graph(a={"fail": "user"})
    with pytest.raises(StagesFailed):
        run(stub_spec, graph, tmp_path, CPU)
    partial = next((tmp_path / "stages").glob(".a-*.partial"))
    (partial / ".x.tmp").write_text("half")
    with hold(partial.with_suffix(".lock"), "it"):
        assert leftovers(tmp_path, read_index(tmp_path)) == []
    assert leftovers(tmp_path, read_index(tmp_path)) == [partial / ".x.tmp"]


def test_work_of_other_stages_of_the_study_file_is_not_cleaned_away(stub_graph, stub_spec, tmp_path):
    run(stub_spec, stub_graph(a={}), tmp_path, CPU)
    graph = stub_graph(a={}, b={"fail": "user"})
    assert run_only(graph, tmp_path, CPU, ["b"]) != []
    (partial,) = (tmp_path / "stages").glob(".b-*.partial")
    index = read_index(tmp_path)  # of the run without b
    assert leftovers(tmp_path, index) == [partial]
    assert leftovers(tmp_path, index, graph) == []
    (partial / "checkpoints").mkdir()
    assert leftovers(tmp_path, index) == []
    assert leftovers(tmp_path, index, force=True) == [partial]
    assert leftovers(tmp_path, index, graph, force=True) == []


def test_single_stages_need_their_inputs(stub_graph, stub_spec, tmp_path):
    graph = stub_graph(a={}, b={"needs": ["a"]}, bad={"fail": "user"})
    with pytest.raises(MissingPath, match="'b' needs a"):
        run_only(graph, tmp_path, CPU, ["b"])
    with pytest.raises(UnknownName, match="Did you mean 'bad'"):
        run_only(graph, tmp_path, CPU, ["bda"])
    assert run_only(graph, tmp_path, CPU, ["a"]) == []
    assert run_only(graph, tmp_path, CPU, ["b"]) == []
    assert run_only(graph, tmp_path, CPU, ["bad"]) == ["bad: The data are upside down. Turn them."]
    assert graph.made(tmp_path).keys() == {"a", "b"}


SBATCH = """#!{python}
import json, sys
from pathlib import Path
calls = Path({calls!r})
known = calls.read_text().splitlines() if calls.exists() else []
with calls.open("a") as handle:
    handle.write(json.dumps(sys.argv[1:]) + "\\n")
print(100 + len(known))
"""


def test_the_slurm_script_submits_every_stage_after_what_it_needs(stub_graph, tmp_path):
    graph = stub_graph(
        **{"data": {"as": "light"}, "it's": {"needs": ["data"]}, "t2": {"needs": ["data"]}},
        e={"needs": ["it's"]}, far={"needs": ["data", "e"]},
    )  # fmt: skip
    command = ["vaebench", "study", "run", "my study.yaml", "--output-dir", str(tmp_path / "run")]
    script = tmp_path / "study.sh"
    script.write_text(slurm_script(graph, tmp_path / "run", command, "mine"))
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(SBATCH.format(python=sys.executable, calls=str(tmp_path / "calls")))
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(script), "--partition=gpu"], env=environment, check=True, capture_output=True)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert len(calls) == 5
    submitted = {}
    for number, call in enumerate(calls[:-1]):
        after = next((word.rpartition("afterany:")[2].split(":") for word in call if "afterany" in word), [])
        work = next(word for word in call if word.startswith("--wrap=")).removeprefix("--wrap=")
        assert "--partition=gpu" in call
        last = int(next(word for word in call if word.startswith("--array=0-")).removeprefix("--array=0-"))
        for index in range(last + 1):
            probe = work.replace("exec vaebench", "printf '%s\\n'")
            told = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, check=True,
                                  env={"SLURM_ARRAY_TASK_ID": str(index), "SLURM_CPUS_PER_TASK": "4"})  # fmt: skip
            words = told.stdout.splitlines()
            assert words[:3] == ["study", "run", "my study.yaml"]
            submitted[words[words.index("--only") + 1]] = (number, {int(job) - 100 for job in after})
        assert ("--gpus=1" in call) == (number > 0)
    assert submitted.keys() == graph.nodes.keys()
    for name, node in graph.nodes.items():
        assert {submitted[need][0] for need in node.needs} <= submitted[name][1]
    assert submitted["it's"][0] == submitted["t2"][0]
    assert any("afterany:100:101:102:103" in word for word in calls[-1])


def test_slurm_leaves_out_what_is_done(stub_graph, stub_spec, tmp_path):
    run(stub_spec, stub_graph(a={}), tmp_path, CPU)
    script = slurm_script(stub_graph(a={}, b={"needs": ["a"]}), tmp_path, ["vaebench"], "mine")
    assert "1 stages in 1 job arrays" in script
    assert "stages=(b)" in script


def test_options_are_taken_from_the_command_line(smoke_file, tmp_path):
    from typer.testing import CliRunner

    from vaebench.cli.app import app

    result = CliRunner().invoke(
        app, ["study", "plan", str(smoke_file), "--format", "slurm", "--output-dir", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    assert "--only" in result.output
    assert CliRunner().invoke(app, ["study", "plan", str(smoke_file), "--format", "pbs"]).exit_code == 2
    bad = ["study", "run", str(smoke_file), "--output-dir", str(tmp_path / "x"), "--engine", "spark"]
    result = CliRunner().invoke(app, bad)
    assert result.exit_code == 2
    assert "Known: local, ray" in result.output
    nothing = CliRunner().invoke(app, ["study", "clean", str(smoke_file), "--output-dir", str(tmp_path / "none")])
    assert nothing.exit_code == 2


def test_a_failed_stage_ends_the_command_with_exit_code_3(smoke_file, tmp_path):
    from typer.testing import CliRunner

    from vaebench.cli.app import app

    for split in ("train", "validation", "test"):
        (tmp_path / "photos" / split / "cats").mkdir(parents=True)
        (tmp_path / "photos" / split / "cats" / "1.png").write_text("no picture")
    data = f"data={{name: folder, options: {{root: '{tmp_path / 'photos'}', image_size: 32}}}}"
    root = tmp_path / "run"
    result = CliRunner().invoke(
        app, ["study", "run", str(smoke_file), "-o", data, "--output-dir", str(root), "--device", "cpu"]
    )
    assert result.exit_code == 3, result.output
    assert "1 stage failed, 0 of 24 are complete" in result.output
    assert "1.png" in result.output
    only = CliRunner().invoke(
        app,
        ["study", "run", str(smoke_file), "-o", data, "--output-dir", str(root), "--device", "cpu", "--only", "data"],
    )
    assert only.exit_code == 3


def test_resources_by_kind_are_read_from_words_and_are_for_ray(stub_graph, stub_spec, tmp_path):
    from vaebench.cli.study import _needs
    from vaebench.core.errors import ConfigError
    from vaebench.study.engine import Options
    from vaebench.study.engines.job import Needs

    assert _needs(["sit:processes=4,gpus=0.5,memory=2", "probe:threads=8"]) == {
        "sit": Needs(processes=4, gpus=0.5, memory=2**31), "probe": Needs(threads=8),
    }  # fmt: skip
    with pytest.raises(UnknownName, match="Did you mean 'sit'"):
        _needs(["sat:threads=1"])
    for word in ("sit", "sit:", "sit:threads=0", "sit:threads=1.5", "sit:gpus=-1", "sit:x=1", "sit:memory=inf"):
        with pytest.raises(ConfigError, match="is not of the form"):
            _needs([word])
    for options in (Options(needs={"stub": Needs(threads=2)}), Options(copied=True)):
        with pytest.raises(ConfigError, match="Without --engine ray"):
            run(stub_spec, stub_graph(a={}), tmp_path, CPU, options)
