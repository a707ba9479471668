"""``vaebench score`` and the study section behind it."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import vaebench
from vaebench.api import score_inputs
from vaebench.cli.app import app
from vaebench.core.errors import MismatchError
from vaebench.core.scores import Score, read_scores
from vaebench.metrics import METRICS
from vaebench.stages.base import Context
from vaebench.stages.score import ScoreConfig, metric_inputs
from vaebench.study.graph import build_graph
from vaebench.study.spec import load_study

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(a) for a in arguments])


def stage(root, name):
    return next(path for path in (root / "stages").iterdir() if path.name.startswith(name))


def test_every_metric_is_listed():
    result = run("score", "--list")
    assert result.exit_code == 0
    assert all(name in result.output for name in METRICS.names())


def test_scores_are_kept_with_what_was_not_available(smoke_run, tmp_path):
    latents = stage(smoke_run, "extract-kl-vae")
    few = ("-o", "options.viv.minimum=1000")
    result = run("score", latents, "--metrics", "spectrum,srss,viv", *few, "--output-dir", tmp_path / "scores")
    assert result.exit_code == 0, result.output
    found = {score.metric for score in read_scores(tmp_path / "scores" / "scores.json")}
    assert {"sec", "srss"} <= found
    notes = json.loads((tmp_path / "scores" / "notes.json").read_text())
    assert "No class has 1000 training samples" in notes["not_available"]["viv"]
    assert "viv: not available" in result.output
    assert set(notes["seconds"]) == {"spectrum", "srss", "viv"}


def test_controls_stand_beside_the_scores(smoke_run, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "cache"))
    latents = stage(smoke_run, "extract-kl-vae")
    asked = ("score", latents, "--metrics", "effective-rank", "--output-dir", tmp_path / "scores")

    def shown(*more) -> tuple[list[bool], int, str]:
        result = run(*asked, *more)
        assert result.exit_code == 0, result.output
        header = next(row for row in result.output.splitlines() if "baseline" in row)
        line = next(row for row in result.output.splitlines() if row.startswith("effective_rank "))
        names = [name in header for name in ("pca-patches", "random-projection", "pixels")]
        return names, len(line.split()), result.output

    names, width, told = shown()
    assert names == [False] * 3
    assert "--controls tells" in told
    assert shown("--controls")[:2] == ([True] * 3, width + 3)
    names, _, told = shown()  # from now on they are there
    assert names == [True] * 3
    assert "--controls tells" not in told


def test_a_tokenizer_on_record_by_class_or_with_options_is_found(smoke_run, tmp_path):
    latents = tmp_path / "latents"
    shutil.copytree(stage(smoke_run, "extract-kl-vae"), latents)
    record = json.loads((latents / "stage.json").read_text())
    for name, rest in (("mine.py", ":Blur"), ("vavae.pt", "?stats=/somewhere/s.pt")):
        record["references"] = {"data": "/no/such/place", "tokenizer": f"{tmp_path / name}{rest}"}
        (latents / "stage.json").write_text(json.dumps(record))
        assert "tokenizer" not in score_inputs(latents, None, None)
        (tmp_path / name).write_text("")
        assert score_inputs(latents, None, None)["tokenizer"] == f"{tmp_path / name}{rest}"


def test_without_the_data_their_scores_are_not_available(smoke_run, tmp_path):
    latents = tmp_path / "latents"
    shutil.copytree(stage(smoke_run, "extract-kl-vae"), latents)
    record = json.loads((latents / "stage.json").read_text())
    record["references"] = {"data": "/no/such/place", "tokenizer": "/no/such/place"}
    (latents / "stage.json").write_text(json.dumps(record))
    result = run("score", latents, "--metrics", "srss,equivariance,spectrum", "--output-dir", tmp_path / "s")
    assert result.exit_code == 0, result.output
    assert "srss: not available: needs masks" in result.output
    assert "equivariance: not available: needs the images and the tokenizer" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "spectrun"), "Did you mean 'spectrum'"),
        (("--metrics", "mig", "--all"), "exclude each other"),
        (("--metrics", "mig", "-o", "options.mig.bin=3"), "Did you mean 'bins'"),
        (("--metrics", "mig", "-o", "options.sap.c=3"), "not among the metrics"),
        (("--metrics", "lnc", "--data", "/no/such/place"), "does not exist"),
    ],
)
def test_mistakes_end_with_one_message(arguments, message, smoke_run, tmp_path):
    result = run("score", stage(smoke_run, "extract-kl-vae"), *arguments, "--output-dir", tmp_path / "s")
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("given", [".", "../latents", "..", "{}"])
def test_the_folder_one_is_in_has_a_name(given, tmp_path, monkeypatch):
    folder = tmp_path / "latents"
    (folder / "inner").mkdir(parents=True)
    monkeypatch.chdir(folder / "inner" if given == ".." else folder)

    def score(latents, output_dir, **_):
        output_dir.mkdir()
        (output_dir / "notes.json").write_text('{"not_available": {}}')
        return [Score(metric="lnc", value=0.5, n=9, direction="higher", protocol={})]

    monkeypatch.setattr("vaebench.api.score", score)
    monkeypatch.setattr("vaebench.api.score_controls", lambda *_, **__: {})
    result = run("score", given.format(folder))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "latents-scores" / "notes.json").is_file()


def test_no_score_at_all_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.json").write_text('{"not_available": {"srss": "needs masks"}}')
    monkeypatch.setattr("vaebench.api.score", lambda *_, **__: [])
    monkeypatch.setattr("vaebench.api.score_controls", lambda *_, **__: {})
    result = run("score", tmp_path, "--metrics", "srss", "--output-dir", tmp_path / "s")
    assert result.exit_code == 2
    assert "srss: not available: needs masks" in result.output
    assert "None of these scores can be had" in result.output


def test_no_latents_is_said():
    result = run("score")
    assert result.exit_code == 2
    assert "No latents were given" in result.output


def test_another_tokenizers_weights_are_refused(smoke_run):
    inputs = {"latents": str(stage(smoke_run, "extract-kl-vae")), "tokenizer": str(stage(smoke_run, "train-va-vae"))}
    prepared = metric_inputs(ScoreConfig(), inputs, Context("cpu"))
    with pytest.raises(MismatchError, match="were made with weights"):
        prepared.decode(prepared.normalised(prepared.test)[:2])


def test_a_study_scores_where_its_file_says_so(smoke_file, tmp_path):
    plain = build_graph(load_study(smoke_file))
    assert not [node for node in plain.nodes if node.startswith("score")]
    scored = build_graph(load_study(smoke_file, ["score={metrics: [spectrum]}"]))
    assert [node for node in scored.nodes if node.startswith("score")] == [
        "score-kl-vae-s0", "score-va-vae-s0", "score-send-vae-s0",
    ]  # fmt: skip
    untouched = [node.hash for name, node in scored.nodes.items() if not name.startswith("score")]
    assert untouched == [node.hash for node in plain.nodes.values()]


def test_from_python(smoke_run):
    scores = vaebench.score(stage(smoke_run, "extract-kl-vae"), metrics=["spatial-structure"], context=Context("cpu"))
    assert {"lds", "rmsc"} <= {score.metric for score in scores}


def test_other_metrics_go_to_another_folder(smoke_run, tmp_path):
    latents = tmp_path / "latents"
    shutil.copytree(stage(smoke_run, "extract-kl-vae"), latents)
    for names in ("spectrum", "effective-rank", "effective-rank"):
        result = run("score", latents, "--metrics", names)
        assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {
        "latents", "latents-scores-spectrum", "latents-scores-effective-rank",
    }  # fmt: skip


def test_a_decoder_of_other_weights_is_refused_before_a_sit_is_trained(smoke_run, tmp_path):
    latents, other = stage(smoke_run, "extract-kl-vae"), stage(smoke_run, "train-send-vae")
    result = run("generate", latents, "--tokenizer", other, "--output-dir", tmp_path / "generation")
    assert result.exit_code == 2
    assert "tokenizer" in result.output
    assert not (tmp_path / "generation").exists()


@pytest.mark.parametrize("wrong", ["null", "spectrum", "[1]", "{a: b}"])
def test_metrics_that_are_no_list_of_names_are_refused(smoke_run, tmp_path, wrong):
    shutil.copytree(stage(smoke_run, "extract-kl-vae"), tmp_path / "latents")
    result = run("score", tmp_path / "latents", "-o", f"metrics={wrong}")
    assert result.exit_code == 2, result.output
    assert "metrics" in result.output
