"""Standings of a card against cases counted by hand; and hostile names stay text."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from reports.card import html, make_card, markdown, strip, write_card
from vaebench.core.errors import DataError, MissingPath
from vaebench.core.scores import Score, write_scores

FACTS = {"name": "mine", "shape": "f8d4"}


def score(metric, value, *, low=None, high=None, direction="higher", protocol=None):
    return Score(
        metric=metric, value=value, low=low, high=high, n=100, direction=direction, protocol=protocol or {"a": 1}
    )


def study(root: Path, tokenizers, data="data-1"):
    """A study folder with a `reconstruct` stage for each tokenizer: name -> scores."""
    stages = []
    root.mkdir()
    for name, scores in tokenizers.items():
        tag = f"reconstruct-{len(stages)}"
        folder = root / "stages" / tag
        folder.mkdir(parents=True)
        write_scores(folder / "scores.json", scores)
        (folder / "stage.json").write_text(json.dumps({"kind": "reconstruct", "inputs": {"data": data}}))
        stages.append({"id": tag, "kind": "reconstruct", "folder": f"stages/{tag}", "tokenizer": name, "seed": None,
                       "budget": {}, "complete": True, "seconds": 1.0})  # fmt: skip
    (root / "index.json").write_text(json.dumps({"schema": 1, "study": root.name, "stages": stages}))
    return root


@pytest.fixture
def own(tmp_path):
    return study(tmp_path / "own", {"mine": [
        score("psnr", 20.0, low=19.5, high=20.5),
        score("rfid", 10.0, low=9.0, high=11.0, direction="lower"),
        score("effective_rank", 5.0, direction="none"),
    ]})  # fmt: skip


def line(card, metric):
    return next(line for line in card.lines if line.metric == metric)


def test_ranks_count_the_better_ones(own, tmp_path):
    others = study(tmp_path / "others", {
        "a": [score("psnr", 22.0, low=21.0, high=23.0), score("rfid", 12.0, low=10.5, high=13.0, direction="lower")],
        "b": [score("psnr", 20.2, low=19.9, high=20.6), score("rfid", 20.0, low=19.0, high=21.0, direction="lower")],
        "c": [score("psnr", 15.0, low=14.0, high=16.0), score("effective_rank", 7.0, direction="none")],
    })  # fmt: skip
    card = make_card(own, FACTS, [others])
    psnr, rfid, rank = (line(card, metric) for metric in ("psnr", "rfid", "effective_rank"))
    assert (psnr.rank, len(psnr.rivals), psnr.level) == (3, 3, ("b",))
    assert psnr.standing == "3 of 4, level with b"
    assert (rfid.rank, rfid.level) == (1, ("a",))
    assert (rank.rank, rank.standing) == (None, "beside 1")  # neither way is better, so nobody leads
    assert card.among == ("a", "b", "c")
    assert "3 of 4, level with b" in markdown(card)


def test_other_protocols_and_other_data_do_not_count(own, tmp_path):
    otherwise = study(tmp_path / "otherwise", {"a": [score("psnr", 30.0, protocol={"a": 2})]})
    elsewhere = study(tmp_path / "elsewhere", {"b": [score("psnr", 40.0)]}, data="data-2")
    psnr = line(make_card(own, FACTS, [otherwise, elsewhere]), "psnr")
    assert (psnr.rank, psnr.rivals, psnr.elsewhere) == (None, (), 2)
    assert psnr.standing == "2 measured otherwise"


def test_data_from_elsewhere_are_those_of_the_study_that_made_them(own, tmp_path):
    """A card's own stages were given the data, the other study has a stage for them: one hash, so one protocol."""
    others = study(tmp_path / "others", {"a": [score("psnr", 30.0)]})
    index = json.loads((others / "index.json").read_text())
    index["stages"].append({"id": "data", "kind": "data", "folder": "stages/data", "hash": "data-1", "complete": False})
    (others / "index.json").write_text(json.dumps(index))
    assert line(make_card(own, FACTS, [others]), "psnr").rank == 2


def test_the_strip_has_the_better_side_on_the_right(own, tmp_path):
    others = study(tmp_path / "others", {"a": [score("psnr", 25.0), score("rfid", 30.0, direction="lower")]})
    card = make_card(own, FACTS, [others])
    for metric, better in (("psnr", False), ("rfid", True)):
        places = strip(line(card, metric))
        assert (places["own"] > places["rivals"][0][2]) == better
        assert places["low"] <= places["own"] <= places["high"]
    assert strip(line(make_card(own, FACTS), "effective_rank"))["own"] == 80


def test_seeds_give_the_interval_of_their_mean(own, tmp_path):
    """Student's over seeds as in reports, and not the outermost bounds of the runs."""
    root = study(tmp_path / "seeds", {f"run-{i}": [score("psnr", value, low=value - 3, high=value + 3)]
                                      for i, value in enumerate((20.0, 21.0, 23.0))})  # fmt: skip
    index = json.loads((root / "index.json").read_text())
    for seed, stage in enumerate(index["stages"]):
        stage |= {"tokenizer": "a", "seed": seed}
    (root / "index.json").write_text(json.dumps(index))
    (rival,) = line(make_card(own, FACTS, [root]), "psnr").rivals
    expected = stats.t.interval(0.95, 2, np.mean([20, 21, 23]), stats.sem([20, 21, 23]))
    assert (rival.low, rival.high) == pytest.approx(expected)


def test_hostile_names_stay_text(own, tmp_path):
    evil = "<script>alert(1)</script>|`x` ![i](http://t/x.png)"
    others = study(tmp_path / "others", {evil: [score("psnr", 25.0, low=20.0, high=30.0)]})
    card = make_card(own, {"name": evil, "source": "a|b"}, [others])
    page, text = html(card), markdown(card)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in text
    assert "![i](" not in text
    assert "a\\|b" in text


def test_both_files_are_written_and_ask_for_nothing(own):
    page = write_card(make_card(own, FACTS), own)
    assert page.name == "card.html"
    assert (own / "card.md").read_text().startswith("# mine\n")
    text = page.read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text


def test_what_is_no_study_is_said(own, tmp_path):
    with pytest.raises(MissingPath, match="not a study folder"):
        make_card(own, FACTS, [tmp_path])
    with pytest.raises(DataError, match="Nothing has been measured"):
        make_card(study(tmp_path / "empty", {}), FACTS)
