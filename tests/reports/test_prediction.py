"""Prediction of gFID: who is picked, at what regret, against which baselines, and what it saves."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import make_report
from reports.analysis import analyse
from reports.collect import Results, collect
from reports.comparison import compare
from reports.costs import spent, stage_costs
from reports.prediction import HELD_OUT_COLUMNS, Prediction, predict, prediction_table

N = 8
F1 = np.array([0.41, 0.46, 0.5, 0.52, 0.55, 0.6, 0.63, 0.7])
GFID = 100 - 80 * F1 + np.array([0.3, -0.2, 0.1, 0.0, -0.3, 0.2, 0.1, -0.1])  # follows the probe
PSNR = np.array([22.1, 21.4, 23.0, 22.6, 21.2, 22.9, 21.9, 22.3])  # does not


def study(new_study: Callable, n: int = N, seeds: int = 2, families: list[str] | None = None) -> Results:
    writer = new_study()
    for place in range(n):
        for seed in range(seeds):
            values = (PSNR[place], 30 + place % 3, F1[place], GFID[place] + 0.1 * seed, 20 + place)
            writer.tokenizer(f"t{place}", values, seed=seed, grids=False)
    entries = [{"name": f"t{i}", "method": (families or ["m"] * n)[i]} for i in range(n)]
    return collect([writer.finish(config={"tokenizers": entries})])


def judge(results: Results, **options: object) -> tuple[dict[str, Prediction], pd.DataFrame]:
    judged, frame = predict(results, compare(results.scores), **options)  # type: ignore[arg-type]
    return {one.model: one for one in judged}, frame


def test_the_probe_predicts_what_follows_it_and_the_baselines_do_not(new_study: Callable) -> None:
    found, frame = judge(study(new_study))
    assert list(found) == [
        "latent scores, ridge", "latent scores, elastic net", "leading probe only", "rFID only", "PSNR only",
        "constant",
    ]  # fmt: skip
    for name in ("latent scores, ridge", "leading probe only"):
        one = found[name]
        assert (one.n, one.rows) == (N, 2 * N)
        assert one.r2 is not None
        assert one.r2 > 0.97
        assert (one.picked, one.best, one.regret) == ("t7", "t7", 0)
        assert one.kendall == 1
    assert found["latent scores, ridge"].inputs == "Probe macro-F1 (flattened), Probe macro-F1 (pooled)"
    assert (found["PSNR only"].r2 or 0) < 0.2
    assert list(frame.columns) == HELD_OUT_COLUMNS
    assert len(frame) == 6 * N


@pytest.mark.parametrize(("model", "x", "picks"), [("leading probe only", F1, True), ("PSNR only", PSNR, False)])
def test_judgements_are_worked_out_from_predictions_of_unseen_tokenizers(
    new_study: Callable, model: str, x: np.ndarray, picks: bool
) -> None:
    found, frame = judge(study(new_study), within=5.0)
    rows = frame[frame["model"] == model]
    y, predicted = rows["measured"].to_numpy(), rows["predicted"].to_numpy()
    others = np.array([np.delete(y, i).mean() for i in range(N)])
    one = found[model]
    assert one.r2 == pytest.approx(1 - ((y - predicted) ** 2).sum() / ((y - others) ** 2).sum())
    assert y == pytest.approx(GFID + 0.05), "means over seeds"
    agreeing, wins = 0, np.zeros(N)
    for i, j in itertools.combinations(range(N), 2):
        seen = ~np.isin(np.arange(N), (i, j))
        slope = np.polyfit(np.repeat(x[seen], 2), (GFID[seen][:, None] + [0, 0.1]).ravel(), 1)[0]
        better = i if slope * (x[i] - x[j]) < 0 else j
        wins[better] += 1
        agreeing += (GFID[i] < GFID[j]) == (better == i)
    assert one.kendall == pytest.approx(2 * agreeing / (N * (N - 1) / 2) - 1)
    assert picks == (one.r2 > 0)
    if picks:
        assert np.sort(wins)[-2] < wins.max(), "one picked, not the first of several"
        assert one.picked == f"t{wins.argmax()}"
        assert one.regret == pytest.approx(y[wins.argmax()] - y.min())
        assert one.picked_within == float(y[wins.argmax()] - y.min() <= 5)
    else:
        assert one.regret is one.picked_within is None
        assert one.picked == ""


def test_the_elastic_net_is_judged_without_pairs(new_study: Callable) -> None:
    net = judge(study(new_study))[0]["latent scores, elastic net"]
    assert net.r2 is not None
    assert net.kendall is net.regret is net.picked_within is None
    assert net.picked == ""


def test_the_constant_picks_at_random_and_ranks_nothing(new_study: Callable) -> None:
    found, _ = judge(study(new_study), within=10.0)
    constant = found["constant"]
    assert constant.r2 == 0
    assert constant.kendall is None
    assert constant.picked == ""
    assert constant.regret == pytest.approx(np.mean(GFID - GFID.min()))
    assert constant.picked_within == pytest.approx(np.mean(GFID - GFID.min() <= 10))


def test_the_default_margin_is_the_noise_of_the_best(new_study: Callable) -> None:
    results = study(new_study, seeds=1)
    found, _ = judge(results)
    assert found["constant"].within == pytest.approx(0.02 * GFID.min()), "half of the interval that the study writes"


def test_families_are_left_out_together(new_study: Callable) -> None:
    """A family of its own level: known when its sisters are there, unknown when the family is left out."""
    families = ["a", "a", "b", "b", "c", "c", "d", "d"]
    results = study(new_study, families=families)
    by_family, _ = judge(results, left_out="family")
    assert by_family["latent scores, ridge"].left_out == "family"
    assert by_family["latent scores, ridge"].r2 is not None
    tables = analyse(results, compare(results.scores)).tables()
    assert set(tables["prediction"]["left_out"]) == {"tokenizer", "family"}
    assert set(tables["prediction"]["target"]) == {"gfid", "gfid_vs_reconstructions"}


def test_one_family_is_refused_and_told(new_study: Callable) -> None:
    found, frame = judge(study(new_study), left_out="family")
    assert all("at least 3 families, here are 1" in one.note for one in found.values())
    assert frame.empty


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_too_few_tokenizers_are_refused_and_told(new_study: Callable, n: int) -> None:
    found, frame = judge(study(new_study, n=n))
    assert all(f"at least 5 tokenizers, here are {n}" in one.note for one in found.values())
    assert all(one.r2 is None for one in found.values())
    assert frame.empty
    table = prediction_table(list(found.values()))
    assert table["r2"].isna().all()
    assert (table["n"] == n).all()


def test_a_score_that_one_tokenizer_lacks_is_left_off_by_name(new_study: Callable, score: Callable) -> None:
    writer = new_study()
    for place in range(6):
        writer.tokenizer(f"t{place}", (PSNR[place], 30, F1[place], GFID[place], 20), grids=False)
        if place:
            writer.stage("score", f"t{place}", scores=[score("odd", float(place))])
    found, _ = judge(collect([writer.finish()]))
    assert found["latent scores, ridge"].note == "Left off, not there for every tokenizer: odd."
    assert "odd" not in found["latent scores, ridge"].inputs


def test_scores_without_a_seed_serve_every_seed(new_study: Callable, score: Callable) -> None:
    writer = new_study()
    for place in range(6):
        detail = {"vectorisation": "flattened", "attribute": None}
        writer.stage("probe", f"t{place}", None, scores=[score("probe_macro_f1", F1[place], detail=detail)])
        for seed in (0, 1, 2):
            budget = {"steps": 600, "cfg": 1.0, "nfe": 25}
            writer.stage("generate", f"t{place}", seed, budget, scores=[score("gfid", GFID[place] + seed, "lower")])
    found, _ = judge(collect([writer.finish()]))
    assert (found["leading probe only"].n, found["leading probe only"].rows) == (6, 18)
    assert (found["leading probe only"].r2 or 0) > 0.9


def test_what_scoring_takes_is_counted_in_recorded_seconds(new_study: Callable) -> None:
    """Every stage of the test studies took 12.3 s: one probe against SiT and sampling."""
    results = study(new_study, seeds=2)
    costs = stage_costs(results)
    assert len(costs) == N * 2 * 5
    found, _ = judge(results)
    one = found["latent scores, ridge"]
    assert one.scoring_seconds == pytest.approx(12.3 * N * 2)
    assert one.generating_seconds == pytest.approx(12.3 * 2 * N * 2)
    assert one.scoring_share == pytest.approx(0.5)
    assert found["constant"].scoring_share == 0
    none = spent(costs[costs["kind"] != "sit"], [f"t{i}" for i in range(N)], "steps=600 cfg=1 nfe=25", ("probe",))
    assert np.isnan(none.generating), "some SiT has no recorded time"


def test_what_stages_were_computed_on_is_told(new_study: Callable, tmp_path: Path, score: Callable) -> None:
    writer = new_study()
    for place, threads in enumerate((1, 1, 2)):
        folder = writer.stage("reconstruct", f"t{place}", scores=[score("psnr", 20.0 + place)])
        machine = {"cpu": "AMD EPYC", "cpu_model": "family 26 model 2", "gpu": None, "threads": threads, "processes": 1}
        (folder / "stage.json").write_text(json.dumps({"machine": machine}))
    writer.stage("reconstruct", "t3", scores=[score("psnr", 24.0)])
    results = collect([writer.finish()])
    one, two = (f"AMD EPYC (family 26 model 2), {threads}, 1 process" for threads in ("1 thread", "2 threads"))
    assert stage_costs(results)["machine"].tolist() == [one, one, two, ""]
    page = make_report([results.studies[0].folder], tmp_path / "out", formats=("html",)).read_text()
    assert f"2 stages on</th><td>{one}<" in page
    assert f"1 stage on</th><td>{two}<" in page


def test_equal_targets_are_refused_and_told(new_study: Callable) -> None:
    writer = new_study()
    for place in range(6):
        writer.tokenizer(f"t{place}", (PSNR[place], 30, F1[place], 50, 20), grids=False)
    found, _ = judge(collect([writer.finish()]))
    assert all("nothing to predict" in one.note for one in found.values())


def test_differing_protocols_of_the_target_are_told_in_the_analysis(mixed: object) -> None:
    results = collect([mixed])  # type: ignore[list-item]
    table = analyse(results, compare(results.scores)).prediction
    assert len(table) == 1
    assert "different protocols" in table["note"].iloc[0]
