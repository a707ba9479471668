import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaebench.core.config import Config
from vaebench.core.errors import (
    ConfigError,
    DataError,
    MismatchError,
    MissingPath,
    NoSpace,
    NotWritable,
    VaebenchError,
)
from vaebench.core.scores import Score
from vaebench.stages import base
from vaebench.stages.base import Context, Stage, execute, input_hash, partial_folder, require_kind


class CountConfig(Config):
    times: int = 3


class Count(Stage[CountConfig]):
    """Counts its runs in a file, and fails as told."""

    kind = "probe"
    Config = CountConfig
    failure: BaseException | None = None

    def run(self, config, inputs, folder, context):
        path = folder / "count"
        done = int(path.read_text()) if path.exists() else 0
        while done < config.times:
            done += 1
            path.write_text(str(done))
            if self.failure is not None:
                raise self.failure
        return [Score(metric="count", value=done, n=1, direction="none", protocol={})]


CPU = Context(device="cpu")


def test_a_folder_appears_whole_and_is_reused(tmp_path):
    first = execute(Count(), {}, {}, tmp_path / "a", CPU)
    assert not first.reused
    files = {"count", "config.yaml", "scores.json", "checksums.json", "stage.json"}
    assert {p.name for p in first.folder.iterdir()} == files
    again = execute(Count(), {}, {}, tmp_path / "a", CPU)
    assert again.reused
    assert again.scores == first.scores
    assert [p.name for p in tmp_path.iterdir()] == ["a"]  # neither a lock nor unfinished work


def test_interrupted_work_is_kept_and_taken_up(tmp_path):
    stage = Count()
    stage.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        execute(stage, {}, {}, tmp_path / "a", CPU)
    assert not (tmp_path / "a").exists()
    (partial,) = tmp_path.iterdir()
    assert (partial / "count").read_text() == "1"
    stage.failure = None
    assert execute(stage, {}, {}, tmp_path / "a", CPU).scores[0].value == 3


def test_other_settings_do_not_take_up_that_work(tmp_path):
    stage = Count()
    stage.failure = RuntimeError()
    with pytest.raises(RuntimeError):
        execute(stage, {"times": 5}, {}, tmp_path / "a", CPU)
    stage.failure = None
    execute(stage, {"times": 2}, {}, tmp_path / "a", CPU)
    assert (tmp_path / "a" / "count").read_text() == "2"


def test_a_result_of_other_settings_is_not_overwritten(tmp_path):
    execute(Count(), {}, {}, tmp_path / "a", CPU)
    with pytest.raises(MismatchError, match="times: 3 there, 4 asked"):
        execute(Count(), {"times": 4}, {}, tmp_path / "a", CPU)
    assert (tmp_path / "a" / "count").read_text() == "3"


def test_a_folder_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("x")
    with pytest.raises(MismatchError, match="not made by this command"):
        execute(Count(), {}, {}, tmp_path / "a", CPU)


def test_the_hash_follows_the_input(tmp_path):
    source = tmp_path / "input"
    source.write_text("one")
    first = execute(Count(), {}, {"data": source}, tmp_path / "a", CPU)
    source.write_text("two")
    with pytest.raises(MismatchError, match=r"data \S+ has changed|data \S+ there, \S+ asked"):
        execute(Count(), {}, {"data": source}, tmp_path / "a", CPU)
    assert input_hash("data", str(first.folder)) == first.hash


def test_unfinished_work_of_other_settings_is_told(tmp_path, capsys):
    source = tmp_path / "input"
    source.write_text("one")
    other = tmp_path / ".a.0123456789.partial"
    other.mkdir()
    execute(Count(), {}, {"data": source}, tmp_path / "a", CPU)
    assert f"lies in '{other}'" in capsys.readouterr().err
    assert other.exists()
    execute(Count(), {}, {"data": source}, tmp_path / "b", CPU)
    assert "other settings" not in capsys.readouterr().err


def test_a_full_disk_is_said_and_work_is_kept(tmp_path):
    stage = Count()
    stage.failure = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(NoSpace, match="is full"):
        execute(stage, {}, {}, tmp_path / "a", CPU)
    stage.failure = None
    assert execute(stage, {}, {}, tmp_path / "a", CPU).scores[0].value == 3


def test_what_a_kill_left_half_written_does_not_get_into_the_result(tmp_path):
    stage = Count()
    stage.failure = RuntimeError()
    with pytest.raises(RuntimeError):
        execute(stage, {}, {}, tmp_path / "a", CPU)
    (partial,) = tmp_path.iterdir()
    (partial / ".config.yaml.123-ab.tmp").write_text("half")
    (partial / ".checkpoints.ab.tmp").mkdir()
    stage.failure = None
    folder = execute(stage, {}, {}, tmp_path / "a", CPU).folder
    assert not list(folder.glob(".*"))


def test_killed_between_the_last_file_and_the_last_name_nothing_is_computed_again(tmp_path):
    made = execute(Count(), {}, {}, tmp_path / "a", CPU)
    made.folder.rename(partial_folder(made.folder, made.hash))
    stage = Count()
    stage.failure = RuntimeError()
    assert execute(stage, {"times": 3}, {}, tmp_path / "a", CPU).scores == made.scores


class Resumable(Count):
    """Keeps what it has done in its checkpoints."""

    def run(self, config, inputs, folder, context):
        (folder / "checkpoints").mkdir(exist_ok=True)
        return super().run(config, inputs, folder / "checkpoints", context)


@pytest.mark.parametrize("name", ["write_scores", "write_sums", "write_json", "remove"])
def test_checkpoints_stay_until_the_result_is_sealed(tmp_path, monkeypatch, name):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(base, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        execute(Resumable(), {}, {}, tmp_path / "a", CPU)
    (partial,) = tmp_path.iterdir()
    assert (partial / "checkpoints" / "count").read_text() == "3"
    stage = Resumable()
    stage.failure = RuntimeError("begins anew")
    folder = execute(stage, {}, {}, tmp_path / "a", CPU).folder
    assert {p.name for p in folder.iterdir()} == {"config.yaml", "scores.json", "checksums.json", "stage.json"}
    assert "checkpoints" not in (folder / "checksums.json").read_text()
    assert list(tmp_path.iterdir()) == [folder]


SEALED = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_base as t
from vaebench.core.processes import leave_group
stage = t.Count()
stage.parallel, stage.run = True, lambda *_: sys.exit("begins anew")
made = t.execute(stage, {{"times": 1}}, {{}}, Path({folder!r}), t.CPU)
assert made.scores[0].value == 1
leave_group()
"""


def test_launched_processes_take_up_a_sealed_result_together(tmp_path):
    made = execute(Count(), {"times": 1}, {}, tmp_path / "a", CPU)
    made.folder.rename(partial_folder(made.folder, made.hash))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, running = SEALED.format(here=str(Path(__file__).parent), folder=str(made.folder)), []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        environment = os.environ | place | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
        running.append(subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE))
    for process in running:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
    assert list(tmp_path.iterdir()) == [made.folder]


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "Read-only file system"), PermissionError(errno.EACCES, "no")])
def test_a_folder_that_may_not_be_written_is_said(tmp_path, error):
    stage = Count()
    stage.failure = error
    with pytest.raises(NotWritable, match="refuses access"):
        execute(stage, {}, {}, tmp_path / "a", CPU)


def test_what_is_not_there_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(MissingPath, match="Latents 'nowhere' does not exist"):
        execute(Count(), {}, {"latents": "nowhere"}, tmp_path / "a", CPU)
    made = execute(Count(), {}, {}, tmp_path / "a", CPU).folder
    with pytest.raises(DataError, match="is a 'probe' result"):
        require_kind(made, ["extract"], "latents")
    with pytest.raises(DataError, match="no result folder"):
        require_kind(tmp_path, ["extract"], "latents")
    with pytest.raises(ConfigError, match="Did you mean 'times'"):
        execute(Count(), {"time": 1}, {}, tmp_path / "b", CPU)


def test_a_process_takes_a_gpu_that_it_sees(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Context(device="auto").torch_device() == "cuda"
    for rank, place in enumerate(("cuda:0", "cuda:1", "cuda:0")):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert Context(device="cuda").torch_device() == place
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # srun --gpus-per-task=1
    assert Context(device="auto").torch_device() == "cuda:0"


def test_a_numbered_device_is_refused():
    with pytest.raises(VaebenchError, match="--device cuda, and CUDA_VISIBLE_DEVICES=1"):
        Context(device="cuda:1").torch_device()


def test_references_to_tokenizers_are_recorded_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "vavae.pt", "s.pt", "dct", "8"):
        (tmp_path / name).write_text("")
    for given, recorded in (
        ("mine.py:Blur?f=8", f"{tmp_path}/mine.py:Blur?f=8"),
        ("vavae.pt?stats=s.pt", f"{tmp_path}/vavae.pt?stats={tmp_path}/s.pt"),
        ("vavae.pt", f"{tmp_path}/vavae.pt"),
        ("dct?f=8&d=16", "dct?f=8&d=16"),
        ("module:Blur", "module:Blur"),
        ("owner/vae@main", "owner/vae@main"),
    ):
        assert base._absolute("tokenizer", given) == base._absolute("init", recorded) == recorded
    places = [base.file_part(given).name for given in ("/a/mine.py:Blur?f=8", "/a/v.pt?stats=/b/s.pt", "/a/folder")]
    assert places == ["mine.py", "v.pt", "folder"]


def test_the_record_names_machine_versions_and_inputs(tmp_path):
    (tmp_path / "x").write_text("1")
    folder = execute(Count(), {}, {"data": tmp_path / "x"}, tmp_path / "a", CPU).folder
    record = json.loads((folder / "stage.json").read_text())
    assert record["device"] == "cpu"
    assert record["machine"].keys() == {"cpu", "cpu_model", "gpu", "threads", "processes"}
    assert (record["machine"]["threads"], record["machine"]["processes"]) == (torch.get_num_threads(), 1)
    assert record["machine"]["gpu"] is None
    assert record["versions"]["torch"]
    assert Path(record["references"]["data"]) == tmp_path / "x"
    assert partial_folder(folder, record["hash"]).name.startswith(".a.")
