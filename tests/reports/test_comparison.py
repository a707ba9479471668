"""Means over seeds, intervals that say what they are over, and who is best."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.collect import collect
from reports.comparison import compare, primary_budget, primary_probe, select, standing, wide
from reports.tables import write_tables
from vaebench.core.files import read_json

ROW = {"direction": "lower", "protocol_hash": "a", "seeds": 2}


def test_one_seed_keeps_the_scores_own_interval(three: Path) -> None:
    table = compare(collect([three]).scores)
    (row,) = select(table, "psnr")[lambda rows: rows["tokenizer"] == "kl-vae"].to_dict("records")
    assert row["value"] == 22.6
    assert (row["low"], row["high"]) == pytest.approx((22.6 * 0.98, 22.6 * 1.02))
    assert row["interval"] == "95% bootstrap over samples"
    assert row["seeds"] == 1


def test_several_seeds_give_students_interval_over_seeds(new_study: Callable) -> None:
    writer = new_study()
    values = [60.0, 64.0, 59.0]
    for seed, gfid in enumerate(values):
        writer.tokenizer("kl-vae", (22, 30, 0.5, gfid, 30), seed=seed)
    table = compare(collect([writer.finish()]).scores)
    (row,) = select(table, "gfid", budget="steps=600 cfg=1 nfe=25").to_dict("records")
    assert row["value"] == pytest.approx(61)
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, 2, 61, stats.sem(values)))
    assert row["interval"] == "95% t interval over 3 training seeds"


def test_equal_runs_have_their_value_as_mean(new_study: Callable, score: Callable) -> None:
    """However many: else rounding makes values that are all equal differ between one seed and three."""
    writer = new_study()
    for name, seeds in (("a", 1), ("b", 3), ("c", 10)):
        for seed in range(seeds):
            writer.stage("reconstruct", name, seed, scores=[score("ssim", 0.8)])
    assert compare(collect([writer.finish()]).scores)["value"].tolist() == [0.8] * 3


def test_wide_names_every_interval(three: Path) -> None:
    table = wide(compare(collect([three]).scores))
    assert table["tokenizer"].tolist() == ["kl-vae", "va-vae", "send-vae"]
    assert table["gfid [steps=600 cfg=1 nfe=25]"].tolist() == [61.0, 55.0, 49.0]
    assert set(table["probe_macro_f1 [pooled] interval"]) == {"95% bootstrap over samples"}
    assert not any("hat" in column for column in table.columns)


@pytest.mark.parametrize(
    ("intervals", "best", "clear", "reason"),
    [
        ([(9, 11), (12, 14)], "a", True, ""),
        ([(9, 12.5), (12, 14)], "a", False, "intervals overlap"),
        ([(9, 11), (None, None)], "a", False, "no interval"),
    ],
)
def test_best_is_clear_only_without_overlap(intervals: list, best: str, clear: bool, reason: str) -> None:
    rows = [
        {**ROW, "label": label, "value": value, "low": low, "high": high}
        for label, value, (low, high) in zip("ab", (10.0, 13.0), intervals, strict=True)
    ]
    place = standing(pd.DataFrame(rows))
    assert (place.best, place.clear, place.reason) == (best, clear, reason)


@pytest.mark.parametrize(
    ("seeds", "reason"), [((2, 2, 1), ""), ((1, 3, 3), "one training seed"), ((3, 1, 3), "one training seed")]
)
def test_best_is_clear_only_where_retraining_is_covered(seeds: tuple[int, ...], reason: str) -> None:
    """Intervals of one seed cover samples: training again moves a tokenizer by more, so they cannot single one out."""
    rows = [
        {**ROW, "label": label, "value": value, "low": value - 0.1, "high": value + 0.1, "seeds": count}
        for label, value, count in zip("abc", (1.0, 2.0, 3.0), seeds, strict=True)
    ]
    place = standing(pd.DataFrame(rows))
    assert (place.best, place.reason, place.clear) == ("a", reason, reason == "")
    assert place.within_noise == ()


def test_no_best_across_protocols_or_without_direction() -> None:
    rows = pd.DataFrame(
        {
            "label": ["a", "b"],
            "value": [1.0, 2.0],
            "low": [0.9, 1.9],
            "high": [1.1, 2.1],
            "direction": "lower",
            "seeds": 2,
        }
    )
    assert standing(rows.assign(protocol_hash=["x", "y"])).reason == "different protocols: not comparable"
    assert standing(rows.assign(protocol_hash="x", direction="none")).best is None
    assert standing(rows.assign(protocol_hash="x", direction="higher")).best == "b"
    assert standing(rows.head(1).assign(protocol_hash="x")).best is None


def test_leading_choices_do_not_depend_on_the_outcome(three: Path) -> None:
    table = compare(collect([three]).scores)
    assert primary_probe(table) == ("probe_macro_f1", "flattened")
    budgets = pd.DataFrame({
        "metric": "gfid", "budget": ["guided", "short", "long", "fine"], "cfg": [2.0, 1.0, 1.0, 1.0],
        "steps": [900, 300, 600, 600], "nfe": [50, 50, 25, 50],
    })  # fmt: skip
    assert primary_budget(budgets) == "fine"
    assert primary_probe(table.head(0)) is None
    assert primary_budget(table.head(0)) == ""


def test_tables_come_back_from_csv_and_parquet(three: Path, tmp_path: Path) -> None:
    results = collect([three])
    comparison = compare(results.scores)
    written = write_tables(results, comparison, tmp_path / "tables")
    assert set(written) == {f"{t}.{s}" for t in ("scores", "comparison", "wide") for s in ("csv", "parquet")} | {
        "protocols.json"
    }
    for name, table in {"scores": results.scores, "comparison": comparison, "wide": wide(comparison)}.items():
        parquet = pd.read_parquet(written[f"{name}.parquet"])
        pd.testing.assert_frame_equal(parquet, table, check_dtype=False)
        csv = pd.read_csv(written[f"{name}.csv"])
        assert csv.columns.tolist() == table.columns.tolist()
        for column in table.select_dtypes("number"):
            np.testing.assert_allclose(csv[column].astype(float), table[column].astype(float))
    protocols = read_json(written["protocols.json"])
    assert protocols.keys() == set(results.scores["protocol_hash"])
    assert {"metric": "gfid", "protocol": {"network": "mobilenetv2", "nfe": 25}} in protocols.values()


def test_missing_intervals_and_scores_stay_missing_in_the_files(
    new_study: Callable, score: Callable, tmp_path: Path
) -> None:
    writer = new_study()
    writer.stage("reconstruct", "a", scores=[score("psnr", 20.0, half=None), score("ssim", 0.8)])
    writer.stage("reconstruct", "b", scores=[score("psnr", 21.0)])
    results = collect([writer.finish()])
    written = write_tables(results, compare(results.scores), tmp_path)
    for table in (pd.read_parquet(written["wide.parquet"]), pd.read_csv(written["wide.csv"])):
        by_name = table.set_index("tokenizer")
        assert pd.isna(by_name.loc["a", "psnr low"])
        assert by_name.loc["b", "psnr low"] == pytest.approx(21 * 0.98)
        assert pd.isna(by_name.loc["b", "ssim"])
