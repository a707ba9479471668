"""``--plugin``, and that a result knows the code it was made by."""

import json
import shutil
import subprocess
import sys

import pytest
import typer
import yaml
from typer.testing import CliRunner

import vaebench
from vaebench.cli.app import app
from vaebench.core import plugins
from vaebench.core.config import build
from vaebench.core.errors import MismatchError
from vaebench.data import DATASETS
from vaebench.generation import SAMPLERS
from vaebench.metrics import METRICS
from vaebench.stages import STAGES
from vaebench.stages.base import execute, input_hash
from vaebench.study.index import finished, study_hash
from vaebench.study.spec import StudySpec
from vaebench.tokenizers import TOKENIZERS
from vaebench.vision import NETWORKS

CPU = vaebench.Context(device="cpu", workers=1)
runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(a) for a in arguments])


def commands(group=None, path=()):
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_takes_plugins():
    for path, command in commands():
        assert "--plugin" in {name for parameter in command.params for name in parameter.opts}, path


def test_a_plugin_file_is_known_to_the_command_that_names_it(plugin):
    without = run("tokenizers", "check", "file-blur")
    assert without.exit_code == 2
    assert "Unknown tokenizer 'file-blur'" in without.output
    assert "file-grey" not in run("data", "list").output
    checked = run("tokenizers", "check", "file-blur", "--plugin", plugin, "--device", "cpu")
    assert checked.exit_code == 0, checked.output
    assert "keeps the contract" in checked.output
    for words, name in (
        (("data", "list"), "file-grey"),
        (("score", "--list"), "file-energy"),
        (("tokenizers",), "file-plain"),
    ):
        assert name in run(*words, "--plugin", plugin).output
    told = run("doctor", "--section", "plug-ins", "--plugin", plugin).output
    assert "sampler file-leap" in told
    assert "plugin.py, code" in told
    mistake = run("train", "file-plian", "--plugin", plugin, "--dry-run")
    assert (mistake.exit_code, "Did you mean 'file-plain'" in mistake.output) == (2, True)
    assert run("doctor", "--plugin", "nowhere.py").exit_code == 2


def test_two_files_that_register_one_name_collide(plugin, tmp_path):
    other = tmp_path / "plugin_other.py"
    shutil.copy(plugin, other)
    clash = run("data", "list", "--plugin", plugin, "--plugin", other)
    assert clash.exit_code == 2
    assert "Two packages register the data set 'file-grey': plugin.py" in clash.output


RESOLVED = {
    "data": ({"name": "{file}:Grey"}, ("code",)),
    "features": ({"network": {"name": "{file}:Pixels"}}, ("network", "code")),
    "reference": ({"network": {"name": "{file}:Pixels"}}, ("network", "code")),
    "train": ({"method": "{file}:Plain", "network": "nano", "training": {"steps": 1}}, ("code",)),
    "score": ({"metrics": ["{file}:Energy"]}, ("options", "{file}:Energy", "code")),
    "generate": ({"steps": 1, "sampler": {"method": "{file}:Leap"}}, ("sampler", "code")),
}


@pytest.fixture
def file(plugin, tmp_path):
    path = tmp_path / "plugin_mine.py"
    shutil.copy(plugin, path)
    return path


def change(path):
    """Other code in the file, as a later process finds it."""
    path.write_text(path.read_text() + "\nCHANGED = True\n")
    for name in [name for name in sys.modules if name.startswith("plugin_mine_")]:
        del sys.modules[name]
    for kind in (TOKENIZERS, DATASETS, METRICS, NETWORKS, SAMPLERS):
        kind._entries = {name: entry for name, entry in kind._entries.items() if entry.package != path.name}


def filled(value, file):
    return json.loads(json.dumps(value).replace("{file}", str(file)))


@pytest.mark.parametrize("kind", RESOLVED)
def test_a_changed_plugin_is_another_stage(file, kind):
    settings, place = RESOLVED[kind]
    stage = STAGES.get(kind)()
    seen = []
    for _ in range(2):
        value = stage.resolve(build(stage.Config, filled(settings, file), kind)).model_dump(mode="json")
        for key in filled(place, file):
            value = value[key]
        seen.append(value)
        change(file)
    assert all(seen)
    assert seen[0] != seen[1]


def test_what_ships_keeps_the_identity_it_had():
    for kind, settings in {
        "data": {"name": "avatars"}, "features": {}, "score": {"metrics": ["lnc"]}, "generate": {"steps": 1},
        "train": {"method": "va-vae", "network": "nano", "training": {"steps": 1}},
    }.items():  # fmt: skip
        stage = STAGES.get(kind)()
        assert '"code"' not in stage.resolve(build(stage.Config, settings, kind)).model_dump_json()
    assert plugins.code_of("baselines.kl_vae:KLVAE") == plugins.code_of("vaebench.data.avatars:Avatars") == ""


def test_a_changed_tokenizer_class_is_another_input(file, tmp_path):
    reference = f"{file}:Blur"
    first = input_hash("tokenizer", reference)
    assert input_hash("tokenizer", reference) == first
    change(file)
    assert input_hash("tokenizer", reference) != first


def test_a_folder_read_by_a_changed_class_is_another_input(file, tmp_path):
    plugins.load_plugins([file])
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "tokenizer.json").write_text('{"method": "file-blur"}')
    first = input_hash("tokenizer", str(folder))
    (folder / "tokenizer.json").write_text('{"method": "not installed"}')
    assert input_hash("tokenizer", str(folder)) != first
    (folder / "tokenizer.json").write_text('{"method": "file-blur"}')
    file.write_text(file.read_text() + "\n# another\n")
    assert input_hash("tokenizer", str(folder)) != first


def test_a_package_is_all_of_its_files(package, tmp_path, monkeypatch):
    import importlib

    code = plugins.code_of("vaebench_example.metric:Sparsity")
    assert code == plugins.code_of("vaebench_example.tokenizer:Haar") != ""
    other = tmp_path / "elsewhere"
    shutil.copytree(package, other / "vaebench_example", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(other)
    importlib.invalidate_caches()
    assert plugins.code_of("vaebench_example.metric:Sparsity") == code  # the place does not count
    (other / "vaebench_example" / "teacher.py").write_text("# nothing left\n")
    assert plugins.code_of("vaebench_example.metric:Sparsity") != code


def test_a_study_is_not_finished_when_its_code_changed(file, tmp_path):
    spec = StudySpec(study="s", tokenizers=({"name": "blur", "load": f"{file}:Blur"},))
    first = study_hash(spec)
    assert study_hash(spec) == first
    change(file)
    assert study_hash(spec) != first
    plain = StudySpec(study="s", tokenizers=({"name": "kl", "method": "kl-vae"},))
    before = study_hash(plain)
    plugins.load_plugins([file])
    assert study_hash(plain) != before  # the file may register a metric, and all metrics are the default
    assert not finished(plain, tmp_path / "nothing")


def test_work_is_refused_when_code_changed_after_planning(file, tmp_path):
    stage, config = STAGES.get("data")(), {"name": f"{file}:Grey", "options": {"image_size": 8}}
    with pytest.raises(MismatchError, match="changed since it was planned"):
        execute(stage, config, {}, tmp_path / "data", CPU, expected="0123456789abcdef")
    assert not (tmp_path / "data").exists()


def test_batch_scripts_and_workers_are_told_of_plugins(plugin, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({
        "study": "mine", "data": {"name": "file-grey", "options": {"image_size": 16}}, "probe": None,
        "tokenizers": [{"name": "blur", "load": "file-blur"}], "generate": {"steps": []},
        "reference": {"network": "file-pixels"}, "score": {"metrics": ["file-energy"]},
    }))  # fmt: skip
    script = run("study", "plan", study, "--output-dir", tmp_path / "run", "--format", "slurm", "--plugin", plugin)
    assert script.exit_code == 0, script.output
    assert f"--plugin {plugin}" in script.output


@pytest.mark.slow
def test_stages_in_processes_of_their_own_have_the_plugins(plugin, tmp_path):
    test_batch_scripts_and_workers_are_told_of_plugins(plugin, tmp_path)
    command = [sys.executable, "-m", "vaebench", "study", "run", str(tmp_path / "study.yaml"), "--jobs", "2",
               "--output-dir", str(tmp_path / "run"), "--plugin", str(plugin), "--device", "cpu"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    scores = json.loads(next((tmp_path / "run" / "stages").glob("score-*/scores.json")).read_text())
    assert [score["metric"] for score in scores] == ["file_energy"]
