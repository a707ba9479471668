"""Study folders in, long table out; what is wrong with a folder is said."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from reports.collect import LONG_COLUMNS, collect, read_study
from reports.comparison import compare, select, standing
from vaebench.core.config import content_hash
from vaebench.core.errors import DataError, MissingPath


def test_every_score_is_one_row(three: Path) -> None:
    results = collect([three])
    assert list(results.scores.columns) == list(LONG_COLUMNS)
    assert results.problems == ()
    gfid = results.scores[results.scores["metric"] == "gfid"].set_index("tokenizer")
    assert gfid.loc["send-vae", "value"] == 49.0
    assert gfid.loc["send-vae", ["steps", "cfg", "nfe", "budget"]].tolist() == [600, 1.0, 25, "steps=600 cfg=1 nfe=25"]
    hat = results.scores[(results.scores["attribute"] == "hat") & (results.scores["vectorisation"] == "pooled")]
    assert len(hat) == 3
    assert hat["baseline"].tolist() == [0.3] * 3
    assert set(results.scores["protocol_hash"]) == set(results.protocols)
    assert list(results.labels.values()) == ["kl-vae", "va-vae", "send-vae"]


def of_data(new_study: Callable, score: Callable, name: str, hash_: str | None) -> Path:
    """A study of two tokenizers on data of this hash, with a gFID whose protocol does not say which."""
    writer = new_study(name=name, folder=name)
    if hash_ is not None:
        writer.stage("data", seed=None)
        writer.stages[-1]["hash"] = hash_
    for place, tokenizer in enumerate(("a", "b")):
        scores = [score("gfid", 50.0 - place, "lower", protocol={"nfe": 25})]
        writer.stage("generate", f"{tokenizer}-{name}", budget={"steps": 1}, scores=scores)
        writer.stage("reconstruct", f"{tokenizer}-{name}", scores=[score("psnr", 20.0, protocol={"data": "own"})])
    return writer.finish()


def test_protocols_hold_the_data_that_a_study_made(new_study: Callable, score: Callable) -> None:
    folders = [of_data(new_study, score, name, hash_) for name, hash_ in (("x", "1"), ("y", "2"), ("z", "1"))]
    results = collect(folders)
    protocols = {entry["metric"]: entry["protocol"] for entry in results.protocols.values()}
    assert protocols["psnr"] == {"data": "own"}, "what a stage says of its data stands"
    said = [entry["protocol"] for entry in results.protocols.values() if entry["metric"] == "gfid"]
    assert said == [{"nfe": 25, "data": "1"}, {"nfe": 25, "data": "2"}]
    hashes = results.scores[results.scores["metric"] == "gfid"].groupby("study")["protocol_hash"].first()
    assert hashes["x"] == hashes["z"] != hashes["y"]
    assert set(results.scores["protocol_hash"]) == set(results.protocols)
    for metric, protocol in (("gfid", {"nfe": 25, "data": "1"}), ("psnr", {"data": "own"})):
        assert content_hash({"metric": metric, "protocol": protocol}, length=10) in results.protocols
    best = [standing(select(compare(collect(two).scores), "gfid", budget="steps=1"))
            for two in (folders[:2], folders[::2])]  # fmt: skip
    assert best[0].best is None
    assert "different protocols" in best[0].reason
    assert best[1].best == "b-x"


def test_a_study_without_a_data_stage_keeps_its_protocols(new_study: Callable, score: Callable) -> None:
    results = collect([of_data(new_study, score, "x", None)])
    assert {"metric": "gfid", "protocol": {"nfe": 25}} in results.protocols.values()


def test_incomplete_and_unreadable_stages_are_listed_not_fatal(new_study: Callable) -> None:
    writer = new_study()
    writer.tokenizer("kl-vae", (22, 30, 0.5, 60, 30))
    writer.stage("probe", "va-vae", complete=False)
    broken = writer.stage("reconstruct", "va-vae")
    (broken / "scores.json").write_text('[{"metric": "psnr"}]')
    results = collect([writer.finish()])
    assert len(results.problems) == 2
    assert "probe-va-vae-s0" in results.problems[0]
    assert "not complete" in results.problems[0]
    assert "cannot be read" in results.problems[1]
    assert set(results.scores["tokenizer"]) == {"kl-vae"}


def test_studies_are_told_apart_and_counted_once(three: Path, new_study: Callable, tmp_path: Path) -> None:
    other = new_study(folder="other")
    other.tokenizer("kl-vae", (23, 29, 0.55, 58, 30))
    other.tokenizer("eq-vae", (23, 29, 0.55, 57, 30))
    link = tmp_path / "link"
    link.symlink_to(three)
    results = collect([three, link, other.finish()])
    assert [study.name for study in results.studies] == ["quickstart in study", "quickstart in other"]
    labels = list(results.labels.values())
    assert labels == ["kl-vae (quickstart in study)", "va-vae", "send-vae", "kl-vae (quickstart in other)", "eq-vae"]


def test_what_is_no_study_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPath, match="No study folder"):
        collect([])
    with pytest.raises(MissingPath, match="does not exist"):
        read_study(tmp_path / "nothing")
    (tmp_path / "photo.png").touch()
    with pytest.raises(MissingPath, match=r"not a study folder.*photo\.png"):
        read_study(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_study(tmp_path)
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(DataError, match="lists no stages"):
        read_study(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"schema": 2, "stages": []}))
    with pytest.raises(DataError, match="schema 2"):
        read_study(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"stages": [{"id": "x"}]}))
    with pytest.raises(DataError, match="folder"):
        read_study(tmp_path)


def test_a_log_line_cut_short_is_passed_over(new_study: Callable) -> None:
    writer = new_study()
    folder = writer.stage("train", "kl-vae", losses=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    with (folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "lo')
    (stage,) = read_study(writer.finish()).of_kind("train")
    assert stage.curve()["step"].tolist() == [1, 2]


def test_a_study_without_scores_gives_an_empty_typed_table(new_study: Callable) -> None:
    writer = new_study()
    writer.stage("data", complete=False)
    scores = collect([writer.finish()]).scores
    assert scores.empty
    assert scores.dtypes["value"] == "float64"
    assert isinstance(scores, pd.DataFrame)
