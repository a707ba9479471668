"""The command line as a user meets it: help, results, and mistakes that end with one message and exit code 2."""

import errno
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

import vaebench
from vaebench.api import extract, generation_graph, prepare_data
from vaebench.cli.app import app
from vaebench.cli.options import folder_name, show_scores
from vaebench.core.errors import ConfigError, MissingPath
from vaebench.core.scores import Score
from vaebench.latents import LatentFile, estimated_bytes
from vaebench.tokenizers import load_tokenizer

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(a) for a in arguments])


def commands():
    root = typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from ((name, sub) for sub in command.commands)
        else:
            yield (name,)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_shows_an_example(path):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert f"Example: vaebench {' '.join(path)}" in " ".join(result.output.split())


# These make no stage: they list, look, convert or draw.
OTHERS = {("data", "list"), ("report",), ("compare",), ("npz",), ("doctor",)}


def stages():
    return [path for path in commands() if path not in OTHERS and path[0] != "tokenizers"]


@pytest.mark.parametrize("path", stages(), ids=" ".join)
def test_every_working_command_takes_the_common_options(path):
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    names = {name for parameter in command.params for name in parameter.opts}
    assert {"--device", "--seed", "--output-dir", "--config", "-o"} <= names


def test_version_is_that_of_the_package():
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"vaebench {version('vaebench')}\n"


def test_help_imports_nothing_heavy():
    heavy = {"torch", "diffusers", "timm", "pandas", "pydantic"}
    code = f"import sys; import vaebench.cli; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_is_quick():
    command = [sys.executable, "-c", "from vaebench.cli import main; main()", "--help"]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    # The promise is 0.4 s on an idle machine; a test machine may be busy, so the best of five counts, with room.
    assert min(seconds) < 0.8


def test_interrupted_while_it_still_imports():
    # The signal comes with the first import of the command line, from within, so that the moment is certain.
    code = (
        "import builtins, os, signal, sys\n"
        "real = builtins.__import__\n"
        "def hooked(name, *rest):\n"
        "    if name == 'vaebench.cli.app': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "from vaebench.cli import main\n"
        "builtins.__import__ = hooked\n"
        "main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "Interrupted.\n")


def test_an_error_that_an_interruption_raised_is_an_interruption(monkeypatch):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__") from error

    monkeypatch.setattr("vaebench.study.spec.load_study", interrupted)
    result = run("quickstart", "--dry-run")
    assert (result.exit_code, result.exception.__class__) == (130, SystemExit)
    assert "Interrupted" in result.output


def test_lists():
    assert {line.split()[0] for line in run("data", "list").output.splitlines()} >= {
        "avatars",
        "folder",
        "fashion-mnist",
    }
    methods = {line.split()[0]: line for line in run("tokenizers").output.splitlines()}
    assert {"kl-vae", "va-vae", "send-vae"} <= methods.keys()
    assert all("method" in methods[name] for name in ("kl-vae", "va-vae", "send-vae"))


MISTAKES = {
    "unknown method": (("train", "send-vea"), "Did you mean 'send-vae'"),
    "unknown data": (("data", "prepare", "avatrs"), "Did you mean 'avatars'"),
    "unknown key": (("train", "kl-vae", "-o", "stepz=3", "--dry-run"), "Did you mean 'steps'"),
    "unknown nested key": (("train", "va-vae", "-o", "options.margim=1", "--dry-run"), "unknown key"),
    "wrong type": (("train", "kl-vae", "-o", "steps=many", "--dry-run"), "steps"),
    "malformed override": (("train", "kl-vae", "-o", "steps", "--dry-run"), "key=value"),
    "missing latents": (("probe", "nowhere"), "does not exist"),
    "missing tokenizer": (("extract", "nowhere/at/all", "--data", "avatars", "-o", "data.train=8"), "nowhere/at/all"),
    "missing config": (("train", "kl-vae", "--config", "none.yaml"), "does not exist"),
    "missing study": (("study", "run", "none.yaml"), "no study that ships"),
    "unknown device": (("train", "kl-vae", "--device", "tpu"), "auto, cpu, cuda or mps"),
    "not a study folder": (("report", "nowhere"), "nowhere"),
    "unknown section": (("generate", ".", "-o", "sti.steps=1"), "Did you mean 'sit'"),
    "no workers": (("data", "prepare", "avatars", "--workers", "0"), "--workers"),
    "unknown data, not prepared": (("data", "prepare", "./avatrs", "--dry-run"), "neither a registered data set nor"),
    "numbers": (("generate", ".", "--cfg", "a,b"), "not a list of numbers"),
    "a seed of training": (("train", "kl-vae", "-o", "seed=5", "--dry-run"), "Set seed (--seed) instead"),
    "ray's address": (("study", "run", "quickstart", "--address", "x:1", "--output-dir", "new"), "--address would do"),
    "only, and ray": (
        ("study", "run", "quickstart", "--only", "data", "--engine", "ray", "--memory", "1", "--for", "sit:gpus=1"),
        "With --only, which carries out single stages, --engine and --memory and --for would do nothing",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_with_one_message(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = MISTAKES[name]
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize("arguments", [
    ("data", "prepare", "avatars", "-o", "train=4"),
    ("data", "show", "avatars", "-o", "image_size=16", "-o", "train=4", "-o", "validation=2", "-o", "test=2"),
    ("study", "run", "quickstart"),
    ("tokenizers", "new", "mine"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/below", "x" * 300], ids=["file", "below", "long"])
def test_a_place_that_can_be_no_folder_is_a_mistake(tmp_path, monkeypatch, arguments, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    result = run(*arguments, "--output-dir", place)
    assert result.exit_code == 2, (result.output, result.exception)
    assert "Error: " in result.output
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(("code", "message"), [
    (errno.ENOSPC, "is full"), (errno.EACCES, "refuses access to 'there'"), (errno.ENOTDIR, "'there' cannot be used"),
])  # fmt: skip
def test_what_the_disk_says_of_a_report_is_one_message(monkeypatch, code, message):
    def broken(*_):
        raise OSError(code, "no", "there")

    monkeypatch.setattr("reports.make_report", broken)
    result = run("report", "somewhere")
    assert result.exit_code == 2, result.exception
    assert message in result.output


def test_prepared_data_take_no_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = [word for size in ("image_size=16", "train=4", "validation=2", "test=2") for word in ("-o", size)]
    assert run("data", "prepare", "avatars", *sizes, "--output-dir", "made").exit_code == 0
    assert run("data", "prepare", "made", *sizes).output.strip() == "made"
    for more, message in (
        (("-o", "image_size=32"), "prepared already, with image_size=16"),
        (("--output-dir", "other"), "prepared already"),
    ):
        result = run("data", "prepare", "made", *more)
        assert result.exit_code == 2
        assert message in result.output
    with pytest.raises(ConfigError, match="prepared already, with image_size=16"):
        extract("pixels?f=8", "made", "latents", data_options={"image_size": 32})


@pytest.mark.parametrize(("reference", "name"), [
    ("kl-vae", "kl-vae"), ("/home/me/mine.py:Blur", "Blur"), ("module.sub:Blur", "Blur"), ("runs/model.v2", "model.v2"),
    ("dct?f=8&d=16", "dct-f=8-d=16"), ("owner/vae.v2@main", "vae.v2@main"), (".", "here.v1"), ("vavae.pt", "vavae"),
])  # fmt: skip
def test_folders_are_called_after_what_they_are_made_of(tmp_path, monkeypatch, reference, name):
    (tmp_path / "here.v1" / "runs" / "model.v2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here.v1")
    (tmp_path / "here.v1" / "vavae.pt").write_text("")
    assert folder_name(reference) == name
    made = {}
    for stage in ("train", "extract", "generate"):
        monkeypatch.setattr(f"vaebench.api.{stage}", lambda *given, stage=stage, **_: made.update({stage: given}) or [])
        assert run(stage, reference).exit_code == 0
    assert made["train"][2] == Path("runs") / name
    assert made["extract"][2] == Path("runs") / f"{name}-latents"
    assert made["generate"][1] == Path("runs") / f"generation-{name}"


def test_what_preparing_would_do_is_told_of_a_path_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "0.png")
    told = run("data", "prepare", "./images", "--dry-run", "-o", "image_size=8")
    assert told.exit_code == 0, told.output
    config = yaml.safe_load(told.output)
    assert (config["name"], config["options"]["root"]) == ("folder", str(tmp_path / "images"))
    assert config["options"]["image_size"] == 8
    assert not (tmp_path / "cache").exists()
    assert yaml.safe_load(run("data", "prepare", "avatars", "--dry-run").output)["name"] == "avatars"
    (tmp_path / "images").rename(tmp_path / "moved")
    made = run("data", "prepare", "moved", "-o", "image_size=8", "--output-dir", "made")
    assert made.exit_code == 0, made.output
    assert run("data", "prepare", "made", "--dry-run").output.strip() == "made"


def test_what_extraction_would_write_is_told_without_preparing_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "cache"))
    options = {"image_size": 64, "train": 40, "validation": 20, "test": 10}
    asked = ["extract", "pixels?f=8", "--dry-run", *(w for k, v in options.items() for w in ("-o", f"data.{k}={v}"))]
    told = run(*asked)
    assert told.exit_code == 0, told.output
    assert "not prepared yet" in told.output
    assert not (tmp_path / "cache").exists()
    prepare_data("avatars", options=options)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    spec = load_tokenizer("pixels?f=8").spec
    for more, expected in (
        ((), estimated_bytes(70, spec, 64)),
        (("--flip", "both"), estimated_bytes(40, spec, 64, "both") + estimated_bytes(30, spec, 64)),
        (("-o", "splits=[test]", "-o", "dtype=float16"), estimated_bytes(10, spec, 64, dtype="float16")),
    ):
        told = run(*asked, *more)
        assert told.exit_code == 0, told.output
        assert f" {expected / 2**20:,.1f} MiB" in told.output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_generation_is_called_after_the_tokenizer_of_the_latents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"image_size": 16, "train": 10, "validation": 3, "test": 2}
    latents = extract("pixels?f=8", prepare_data("avatars", "data", options), "latents")
    none = dict.fromkeys(("tokenizer", "data", "name", "sit", "settings", "reference"))
    spec, graph = generation_graph(latents, steps=(2,), cfg=(1.0,), nfe=(2,), seed=0, **none)
    assert LatentFile(latents / "train.h5").info.tokenizer.name == "pixels"
    assert spec.study == "generate pixels"
    assert {node.tokenizer for node in graph.nodes.values() if node.kind != "reference"} == {"pixels"}


def test_a_device_that_is_not_there_is_an_error():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    result = run("probe", ".", "--device", "cuda")
    assert result.exit_code == 2
    assert "not available" in result.output


def test_plan_and_status_of_a_study(smoke_file, smoke_run, tmp_path):
    fresh = run("study", "plan", smoke_file, "--output-dir", tmp_path / "new", "--device", "cpu")
    assert fresh.exit_code == 0
    assert "to do" in fresh.output
    assert not (tmp_path / "new").exists()
    status = run("study", "status", smoke_file, "--output-dir", smoke_run)
    assert "24 of 24 stages are done" in status.output
    assert "is not what was run" not in status.output
    changed = run("study", "status", smoke_file, "--output-dir", smoke_run, "-o", "sit.batch_size=7")
    assert "24 of 24 stages are done" in changed.output
    assert "is not what was run" in changed.output
    again = run("study", "run", smoke_file, "--output-dir", smoke_run)
    assert again.exit_code == 0
    assert "done already" in again.output


def test_a_report_is_not_strewn_among_other_files(smoke_run, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.png").touch()
    refused = run("report", smoke_run, "--output-dir", photos, "--format", "md")
    assert (refused.exit_code, [path.name for path in photos.iterdir()]) == (2, ["1.png"])
    for _ in range(2):  # an earlier report is replaced
        assert run("report", smoke_run, "--output-dir", tmp_path / "report", "--format", "md").exit_code == 0


@pytest.mark.parametrize("command", ["extract", "reconstruct", "card"])
def test_a_misspelt_tokenizer_is_told_before_data_are_prepared(command, tmp_path, monkeypatch):
    monkeypatch.setattr("vaebench.stages.data.prepare", lambda *args, **kwargs: pytest.fail("prepares"))
    result = run(command, "kl-vea", "--data", "avatars", "-o", "data.train=64", "--output-dir", tmp_path / "a")
    assert result.exit_code == 2
    assert "Unknown tokenizer 'kl-vea'" in result.output


def test_what_a_probe_leaves_out_is_said(capsys):
    detail = {"vectorisation": "flattened", "excluded": {"smiling": "has one class only in the test split"}}
    show_scores([Score(metric="probe_macro_f1", value=0.5, n=9, direction="higher", protocol={}, detail=detail)])
    assert "'smiling' is left out of the means of probes: it has one class only in the test" in capsys.readouterr().err


def test_folders_of_data_and_latents_are_known_for_what_they_are(smoke_run):
    data, latents = (next((smoke_run / "stages").glob(f"{kind}-*")) for kind in ("data", "extract-kl-vae"))
    assert vaebench.open_data(data).splits.keys() == vaebench.open_data(data / "data.h5").splits.keys()
    with pytest.raises(MissingPath, match=r"is a folder, which holds test.h5, train.h5, validation.h5"):
        LatentFile(latents)


def test_one_value_stands_for_several(smoke_run, tmp_path):
    latents = next(p for p in (smoke_run / "stages").glob("extract-kl-vae-*") if (p / "stage.json").is_file())
    one, several = (vaebench.score(latents, metrics=metrics) for metrics in ("lnc", ["lnc"]))
    assert [s.value for s in one] == [s.value for s in several]
    budget = generation_graph(
        latents, tokenizer=None, data=None, name=None, sit=None, steps=5, cfg=1.5, nfe=2, settings=None, reference=None,
        seed=0,
    )[0].generate  # fmt: skip
    assert (budget.steps, budget.cfg, budget.nfe) == ((5,), (1.5,), (2,))


def test_the_whole_way_by_single_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cpu = ("--device", "cpu")
    sizes = [f"data.{name}={n}" for name, n in {"image_size": 32, "train": 96, "validation": 48, "test": 48}.items()]
    data = [word for size in sizes for word in ("-o", size)]
    short = [word for o in ("steps=2", "batch_size=8", "tensorboard=false") for word in ("-o", o)]
    assert run("train", "kl-vae", *data, *short, "--network", "nano", "--output-dir", "kl", *cpu).exit_code == 0
    result = run("train", "send-vae", *data, *short, "--init", "kl", "--output-dir", "send", *cpu,
                 "-o", "options.width=64", "-o", "options.projector_hidden=64")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert run("extract", "send", *data, "--output-dir", "latents", *cpu).exit_code == 0
    probe = run("probe", "latents", "--output-dir", "probe", *cpu)
    assert "probe_macro_f1" in probe.output, probe.output
    rec = run("reconstruct", "send", *data, "--output-dir", "rec", *cpu, "-o", "bootstrap=5")
    assert "psnr" in rec.output, rec.output
    sit = [word for o in ("sit.network.width=32", "sit.network.depth=1", "sit.network.heads=2", "sit.batch_size=8",
                          "sit.tensorboard=false", "sampling.samples=40", "sampling.bootstrap=5")
           for word in ("-o", o)]  # fmt: skip
    made = run("generate", "latents", "--steps", "2", "--nfe", "2", "--output-dir", "gen", *sit, *cpu)
    assert "gfid_vs_reconstructions" in made.output, made.output
    report = run("report", "gen", "--output-dir", "page")
    assert report.exit_code == 0, report.output
    assert (tmp_path / "page" / "report.html").is_file()
    other = run(
        "train", "kl-vae", *data, *short, "-o", "learning_rate=0.5", "--network", "nano", "--output-dir", "kl", *cpu
    )
    assert other.exit_code == 2
    assert "learning_rate: 0.0001 there, 0.5 asked" in other.output


@pytest.mark.parametrize(("cores", "launched", "expected"), [(1, 1, 1), (2, 1, 2), (16, 1, 2), (2, 2, None)])
def test_quickstart_runs_two_stages_side_by_side_on_a_cpu(monkeypatch, cores, launched, expected):
    from vaebench.cli.quickstart import _jobs

    monkeypatch.setattr("torch.get_num_threads", lambda: cores)
    monkeypatch.setattr("vaebench.core.processes.process_count", lambda: launched)
    assert _jobs("cpu") == expected


def test_quickstart_takes_a_file_of_settings(tmp_path):
    from vaebench.cli.quickstart import _from_file
    from vaebench.study.spec import load_study

    (tmp_path / "mine.yaml").write_text("training: {batch_size: 8, betas: [0.8, 0.9]}\ncontrols: []\nseeds: [3]\n")
    spec = load_study("quickstart", _from_file(tmp_path / "mine.yaml"))
    assert (spec.training["batch_size"], list(spec.training["betas"]), list(spec.seeds)) == (8, [0.8, 0.9], [3])
    assert spec.training["schedule"] == "cosine"
    assert not spec.controls
    assert _from_file(None) == []
    result = run("quickstart", "--config", str(tmp_path / "none.yaml"), "--dry-run")
    assert (result.exit_code, "does not exist" in result.output) == (2, True)


def test_quickstart_goes_on_other_data(tmp_path):
    from vaebench.cli.quickstart import other_data
    from vaebench.study.spec import load_study

    assert other_data("avatars") == []
    photographs = load_study("quickstart", other_data("fashion-mnist"))
    assert (photographs.study, photographs.data["name"]) == ("quickstart-fashion-mnist", "fashion-mnist")
    assert photographs.data["options"]["train"] == load_study("quickstart").data["options"]["train"]
    (tmp_path / "photos").mkdir()
    own = load_study("quickstart", other_data(str(tmp_path / "photos")))
    assert own.study == "quickstart-photos"
    assert own.data["options"] == {"image_size": 64, "root": str(tmp_path / "photos")}
    result = run("quickstart", "--data", "fashion-mnits", "--dry-run")
    assert result.exit_code == 2
    assert "Did you mean 'fashion-mnist'" in result.output
