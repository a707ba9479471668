import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import vaebench
from vaebench.core.errors import ConfigError, MismatchError
from vaebench.stages.base import Context
from vaebench.study.engine import Options, StagesFailed, finished, refuse_unused, run
from vaebench.study.engines.job import Needs
from vaebench.study.graph import build_graph
from vaebench.study.index import Index
from vaebench.study.spec import StudySpec, load_study


def scores(root):
    return {p.parent.name: json.loads(p.read_text()) for p in sorted((root / "stages").glob("*/scores.json"))}


def test_the_study_is_complete_and_indexed(smoke_run):
    index = json.loads((smoke_run / "index.json").read_text())
    assert len(index["stages"]) == 3 + 3 * 5 + 6
    assert all(stage["complete"] for stage in index["stages"])
    assert (smoke_run / "report" / "report.html").stat().st_size > 10_000
    assert not list((smoke_run / "stages").glob(".*partial"))


def test_every_tokenizer_has_every_headline_score(smoke_run):
    wanted = {"psnr", "ssim", "rfid", "gfid", "gfid_vs_reconstructions", "kid", "precision", "recall", "density",
              "coverage", "probe_macro_f1", "probe_average_precision", "probe_balanced_accuracy"}  # fmt: skip
    for name in ("kl-vae", "va-vae", "send-vae"):
        found = {s["metric"] for folder, items in scores(smoke_run).items() if f"-{name}-s0" in folder for s in items}
        assert wanted <= found


def test_a_finished_study_is_recognised_without_torch(smoke_run, smoke_file):
    code = (
        "import sys; from pathlib import Path; from vaebench.study.engine import finished;"
        "from vaebench.study.spec import load_study;"
        f"assert finished(load_study({str(smoke_file)!r}), Path({str(smoke_run)!r}));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_running_again_recomputes_nothing(smoke_run, smoke_file):
    before = {p: p.stat().st_mtime_ns for p in smoke_run.rglob("*") if p.is_file()}
    vaebench.run_study(smoke_file, smoke_run)
    assert {p: p.stat().st_mtime_ns for p in smoke_run.rglob("*") if p.is_file()} == before


def test_a_page_of_what_was_does_not_outlive_a_run_that_fails(smoke_run, smoke_file, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(smoke_run, root)

    def failing(*_):
        raise StagesFailed("on purpose")

    monkeypatch.setattr("vaebench.study.engine.run", failing)
    vaebench.run_study(smoke_file, root)
    assert (root / "report" / "report.html").is_file()
    with pytest.raises(StagesFailed):
        vaebench.run_study(smoke_file, root, overrides=["probe.seed=3"])
    assert not (root / "report" / "report.html").exists()


def test_a_lost_stage_is_made_again_alone_and_equal(smoke_run, smoke_file, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(smoke_run, root)
    lost = next((root / "stages").glob("probe-va-vae-*"))
    before = json.loads((lost / "scores.json").read_text())
    shutil.rmtree(lost)
    assert not finished(load_study(smoke_file), root)
    kept = {p: p.stat().st_mtime_ns for p in (root / "stages").glob("train-*/stage.json")}
    vaebench.run_study(smoke_file, root)
    assert json.loads((lost / "scores.json").read_text()) == before
    assert {p: p.stat().st_mtime_ns for p in (root / "stages").glob("train-*/stage.json")} == kept


def test_a_folder_of_another_study_is_refused(smoke_run, smoke_file, tmp_path):
    with pytest.raises(MismatchError, match="holds the study 'smoke', not 'other'"):
        vaebench.run_study(smoke_file, smoke_run, overrides=["study=other"])
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    with pytest.raises(MismatchError, match="not empty and holds no study"):
        vaebench.run_study(smoke_file, tmp_path / "letters")


@pytest.mark.slow
def test_interrupted_and_started_again_it_ends_with_the_same_numbers(smoke_run, smoke_file, tmp_path):
    root = tmp_path / "interrupted"
    command = [sys.executable, "-c", "from vaebench.cli import main; main()", "study", "run", str(smoke_file),
               "--device", "cpu", "--output-dir", str(root)]  # fmt: skip
    for part in ("sit-kl-vae-*", "features-*", "train-va-vae-*"):  # in the order in which they are made
        assert not list((root / "stages").glob(part))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while not list((root / "stages").glob(part)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 130
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert scores(root) == scores(smoke_run)


@pytest.fixture
def outside(tmp_path):
    """A study of files from outside that counts as complete: a folder of images, a tokenizer, weights and a batch."""
    import torch

    from vaebench.tokenizers.autoencoder import build_autoencoder, resolve_preset

    for number in range(3):
        path = tmp_path / "images" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number] * 9))
    build_autoencoder(resolve_preset("nano"), torch.Generator().manual_seed(0)).save(tmp_path / "vae")
    for name in ("weights.pth", "batch.npz"):
        (tmp_path / name).write_text(name)
    plain = {
        "study": "outside",
        "data": {"name": "folder", "options": {"root": str(tmp_path / "images")}},
        "reference": {
            "network": {"name": "inception", "options": {"weights": str(tmp_path / "weights.pth")}},
            "npz": str(tmp_path / "batch.npz"),
        },
        "tokenizers": [{"name": "a", "load": str(tmp_path / "vae")}],
    }
    spec, root = StudySpec.model_validate(plain), tmp_path / "run"
    graph = build_graph(spec)
    for folder in graph.folders(root).values():
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text('{"seconds": 1.0}')
    Index(spec, graph, root).write()
    return spec, root


@pytest.mark.parametrize("name", ["images/a/1.png", "images/a/new.png", "vae/config.json", "weights.pth", "batch.npz"])
def test_a_finished_study_notices_other_files_from_outside(outside, tmp_path, name):
    spec, root = outside
    assert finished(spec, root)
    with (tmp_path / name).open("a") as file:
        file.write("more")
    assert not finished(spec, root)


def test_a_finished_study_needs_no_files_from_outside(outside, tmp_path):
    spec, root = outside
    for name in ("images", "vae"):
        shutil.rmtree(tmp_path / name)
    for name in ("weights.pth", "batch.npz"):
        (tmp_path / name).unlink()
    assert finished(spec, root)


def test_an_index_of_old_says_nothing_of_files_from_outside(outside, tmp_path):
    spec, root = outside
    index = json.loads((root / "index.json").read_text())
    del index["outside"], index["data_files"]
    (root / "index.json").write_text(json.dumps(index))
    (tmp_path / "batch.npz").write_text("another")
    assert finished(spec, root)


def test_launched_processes_notice_what_changed_since_it_was_planned(stub_graph, stub_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("vaebench.study.engine.process_count", lambda: 2)
    graph = stub_graph(a={})
    graph.nodes["a"] = dataclasses.replace(graph.nodes["a"], hash="0" * 16)
    with pytest.raises(StagesFailed, match=r"Stage 'a' failed: .* has changed since it was planned"):
        run(stub_spec, graph, tmp_path / "run", Context(device="cpu"))


@pytest.mark.parametrize(
    ("fail", "message"), [("user", "upside down"), ("fault", "ZeroDivisionError: a fault of ours")]
)
def test_a_stage_of_launched_processes_that_fails_is_named(
    stub_graph, stub_spec, tmp_path, monkeypatch, capsys, fail, message
):
    monkeypatch.setattr("vaebench.study.engine.process_count", lambda: 2)
    with pytest.raises(StagesFailed, match=f"Stage 'a' failed: .*{message}"):
        run(stub_spec, stub_graph(a={"fail": fail}), tmp_path / "run", Context(device="cpu"))
    assert ("Traceback" in capsys.readouterr().err) == (fail == "fault")


@pytest.mark.parametrize(("launched", "options", "names"), [
    (2, {"wandb": "x", "memory": 1, "retries": 0, "needs": {"sit": Needs()}}, "memory and --for and --retries"),
    (2, {"jobs": 2, "engine": "ray"}, "--engine and --jobs"),
    (1, {"address": "x:1"}, "--address"),
    (1, {"gpus": 0.5}, "--gpus"),
    (1, {"engine": "ray", "address": "x:1", "jobs": 2}, "--jobs"),
    (2, {"jobs": 1, "threads": 2}, ""),
    (1, {"jobs": 2, "memory": 1, "retries": 1, "wandb": "x", "threads": 1}, ""),
    (1, {"engine": "ray", "address": "x:1", "gpus": 0.5, "copied": True}, ""),
])  # fmt: skip
def test_options_that_would_do_nothing_are_refused(monkeypatch, launched, options, names):
    monkeypatch.setattr("vaebench.study.engine.process_count", lambda: launched)
    if not names:
        refuse_unused(Options(**options))
        return
    with pytest.raises(ConfigError, match=f"{names}.* would do nothing"):
        refuse_unused(Options(**options))


@pytest.mark.parametrize(("threads", "alone", "shared"), [(None, 3, 1), (2, 2, 2)])
def test_threads_of_a_stage_of_launched_processes(stub_graph, stub_spec, tmp_path, monkeypatch, threads, alone, shared):
    import torch

    monkeypatch.setattr("vaebench.study.engine.process_count", lambda: 8)
    monkeypatch.setattr("vaebench.study.engine.core_count", lambda: 3)
    graph, before = stub_graph(alone={}, shared={"needs": ["alone"]}), torch.get_num_threads()
    graph.nodes["shared"].stage.parallel = True
    torch.set_num_threads(1)  # as torchrun does
    try:
        run(stub_spec, graph, tmp_path / "run", Context(device="cpu"), Options(threads=threads))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert {name: made["threads"] for name, made in graph.made(tmp_path / "run").items()} == {
        "alone": alone, "shared": shared,
    }  # fmt: skip


def test_the_plan_knows_what_is_done(smoke_run, smoke_file, tmp_path):
    from vaebench.study.plan import plan

    graph = build_graph(load_study(smoke_file))
    assert all(line.done for line in plan(graph, smoke_run, "cpu"))
    fresh = plan(graph, tmp_path, "cpu")
    assert not any(line.done for line in fresh)
    assert all(line.seconds > 0 for line in fresh if line.kind in {"data", "train", "sit", "generate", "extract"})
    assert all(line.disk_bytes > 0 for line in fresh if line.kind in {"data", "train", "extract"})
