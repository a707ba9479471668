"""Relation tables: what stands in them is what the statistics say of the points, and what is missing is explained."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.axes import Axis, AxisTable, seed_values
from reports.collect import Results, collect
from reports.comparison import compare
from reports.relation_tables import PARTIAL_COLUMNS, RELATION_COLUMNS, partial_table, related, relation_table
from reports.statistics import critical_r, detectable_r, partial_correlation
from vaebench.core.errors import MismatchError

BUDGET = "steps=600 cfg=1 nfe=25"
# (PSNR, rFID, probe macro-F1, gFID, gFID to own reconstructions) of eight tokenizers.
EIGHT = np.column_stack([
    [22.6, 22.1, 21.9, 22.9, 23.4, 21.2, 22.0, 23.0], [31, 33, 34, 30, 29, 36, 31.5, 32],
    [0.52, 0.58, 0.63, 0.5, 0.47, 0.61, 0.55, 0.57], [61, 55, 49, 64, 63, 50, 57, 52], [33, 26, 19, 35, 36, 22, 30, 25],
])  # fmt: skip


def study(new_study: Callable, values: np.ndarray, seeds: int = 1) -> Results:
    writer = new_study()
    rng = np.random.default_rng(0)
    for place, row in enumerate(values):
        for seed in range(seeds):
            noise = 1 + (0.01 * rng.normal(size=5) if seeds > 1 else 0)
            writer.tokenizer(f"t{place}", row * noise, seed=seed, grids=False)
    return collect([writer.finish()])


def tables(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    comparison = compare(results.scores)
    relations = related(results, comparison)
    return relation_table(results, relations), partial_table(results, comparison, relations)


def row_of(table: pd.DataFrame, metric: str, target: str, vectorisation: str = "") -> pd.Series:
    kept = (table["metric"] == metric) & (table["target"] == target) & (table["vectorisation"] == vectorisation)
    assert kept.sum() == 1
    return table[kept].iloc[0]


def test_every_score_meets_every_generation_measure(new_study: Callable) -> None:
    table, _ = tables(study(new_study, EIGHT))
    assert list(table.columns) == RELATION_COLUMNS
    assert set(table["target"]) == {"gfid", "gfid_vs_reconstructions", "kid"}
    assert set(table["budget"]) == {BUDGET}
    assert len(table) == 3 * 5
    row = row_of(table, "probe_macro_f1", "gfid", "flattened")
    x, y = EIGHT[:, 2], EIGHT[:, 3]
    assert row["n"] == 8
    assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert row["kendall"] == pytest.approx(stats.kendalltau(x, y).statistic)
    assert row["kendall_p"] == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue)
    assert row["permutations"] == 40320
    assert row["pearson_exact"]
    assert (row["critical_r"], row["detectable_r"]) == pytest.approx((critical_r(8), detectable_r(8)))
    assert row["leave_one_out_low"] <= row["pearson"] <= row["leave_one_out_high"]
    assert pd.isna(row["hierarchical_low"]), "one seed has no hierarchy"


def test_p_values_are_adjusted_over_the_family_that_the_row_names(new_study: Callable) -> None:
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    table, _ = tables(study(new_study, EIGHT))
    for target, family in table.groupby("target"):
        tested = family[family["pearson_p"].notna()]
        assert set(family["family_size"]) == {len(tested)}
        if len(tested) == 0:
            assert target == "kid", "the same for all tokenizers: no correlation"
            assert family["note"].str.contains("same value").all()
            continue
        assert family["family"].nunique() == 1
        assert len(tested) == 4, "SSIM is the same for all"
        for kind in ("pearson", "spearman", "kendall"):
            for name, method in (("holm", "holm"), ("bh", "fdr_bh")):
                expected = multipletests(tested[f"{kind}_p"].to_numpy(float), method=method)[1]
                assert tested[f"{kind}_p_{name}"].to_numpy(float) == pytest.approx(expected)


def test_seeds_give_a_hierarchical_interval_and_reliability(new_study: Callable) -> None:
    table, _ = tables(study(new_study, EIGHT, seeds=3))
    row = row_of(table, "probe_macro_f1", "gfid", "flattened")
    assert row["hierarchical_low"] < row["pearson"] < row["hierarchical_high"]
    assert 0.9 < row["score_reliability"] < 1
    assert row["disattenuated"] == pytest.approx(row["pearson"], abs=0.05)
    assert abs(row["disattenuated"]) > abs(row["pearson"]) - 0.01


def test_reliability_is_unknown_where_every_tokenizer_has_one_seed(new_study: Callable) -> None:
    """Their intervals cover samples, so a reliability from these would be too good."""
    table, _ = tables(study(new_study, EIGHT))
    row = row_of(table, "probe_macro_f1", "gfid", "flattened")
    assert row[["score_reliability", "disattenuated"]].isna().all()
    assert "no tokenizer has two training seeds" in row["note"]


def test_one_seed_has_the_error_of_the_others_runs(new_study: Callable) -> None:
    """Three of eight have three seeds: error variances are theirs, whole for one run and a third for three."""
    writer = new_study()
    runs = []
    for place, values in enumerate(EIGHT):
        seeds = [0.0, 0.01, 0.04] if place < 3 else [0.0]
        runs.append(values[2] + np.array(seeds))
        for seed, shift in enumerate(seeds):
            writer.tokenizer(f"t{place}", values + shift * np.array([0, 0, 1, 100, 0]), seed=seed, grids=False)
    table, _ = tables(collect([writer.finish()]))
    row = row_of(table, "probe_macro_f1", "gfid", "flattened")
    x = np.array([one.mean() for one in runs])
    pooled = np.var([0.0, 0.01, 0.04], ddof=1)
    error = pooled * (5 + 3 / 3) / 8
    assert row["score_reliability"] == pytest.approx(1 - error / x.var(ddof=1))
    y = np.array([values[3] + (100 * 0.05 / 3 if place < 3 else 0) for place, values in enumerate(EIGHT)])
    corrected = (np.cov(x, y)[0, 1] - 100 * error) / np.sqrt((x.var(ddof=1) - error) * (y.var(ddof=1) - 1e4 * error))
    assert row["disattenuated"] == pytest.approx(corrected)


def test_partial_table_holds_each_confounder_and_all_of_them(new_study: Callable) -> None:
    _, table = tables(study(new_study, EIGHT))
    assert list(table.columns) == PARTIAL_COLUMNS
    probe = table[(table["metric"] == "probe_macro_f1") & (table["vectorisation"] == "flattened")]
    probe = probe[probe["target"] == "gfid"].set_index("confounders")
    assert list(probe.index) == ["PSNR", "rFID", "PSNR + rFID"], "no latent files, no latent dimension"
    for names, columns in (("PSNR", [0]), ("rFID", [1]), ("PSNR + rFID", [0, 1])):
        expected = partial_correlation(EIGHT[:, 2], EIGHT[:, 3], EIGHT[:, columns])
        assert probe.loc[names, "partial"] == pytest.approx(expected.value)
        assert probe.loc[names, "degrees"] == 8 - 2 - len(columns)
        assert probe.loc[names, "p"] == pytest.approx(expected.p)
    psnr = table[(table["metric"] == "psnr") & (table["target"] == "gfid")]
    assert list(psnr["confounders"]) == ["rFID"], "a score is not held fixed against itself"


def test_a_confounder_that_never_varies_is_no_reason_to_hold_none_of_them(new_study: Callable) -> None:
    constant = EIGHT.copy()
    constant[:, 1] = 30
    _, table = tables(study(new_study, constant))
    rows = table[(table["metric"] == "probe_macro_f1") & (table["vectorisation"] == "flattened")]
    rows = rows[rows["target"] == "gfid"].set_index("confounders")
    assert list(rows.index) == ["PSNR", "rFID"]
    assert "same value" in rows.loc["rFID", "note"]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_tokenizers_leave_notes_instead_of_numbers(new_study: Callable, n: int) -> None:
    relations, partial = tables(study(new_study, EIGHT[:n]))
    row = row_of(relations, "probe_macro_f1", "gfid", "flattened")
    assert row["n"] == n
    assert pd.isna(row["pearson_bootstrap_low"])
    if n < 3:
        assert "at least 3 points" in row["note"]
        assert pd.isna(row["pearson"])
        assert partial.empty
    else:
        assert row["pearson_p"] > 0
        both = partial[partial["confounders"] == "PSNR + rFID"].iloc[0]
        assert "at least 5 points" in both["note"]
        assert pd.isna(both["partial"])


def test_a_score_that_is_not_a_number_takes_only_its_tokenizer_out(new_study: Callable, score: Callable) -> None:
    writer = new_study()
    for place, row in enumerate(EIGHT[:5]):
        writer.tokenizer(f"t{place}", row, grids=False)
        writer.stage("score", f"t{place}", scores=[score("odd", float(place**2), "none", half=None)])
    results = collect([writer.finish()])
    broken = (results.scores["metric"] == "odd") & (results.scores["label"] == "t2")
    scores = results.scores.assign(value=results.scores["value"].mask(broken))
    table, _ = tables(dataclasses.replace(results, scores=scores))
    row = row_of(table, "odd", "gfid")
    assert row["n"] == 4
    assert row["pearson"] == pytest.approx(np.corrcoef([0, 1, 9, 16], EIGHT[[0, 1, 3, 4], 3])[0, 1])
    assert pd.isna(row["disattenuated"]), "no interval, no known error"


def test_differing_protocols_are_told_and_can_be_forced(mixed: Path) -> None:
    results = collect([mixed])
    comparison = compare(results.scores)
    table = relation_table(results, related(results, comparison))
    assert table["note"].str.contains(r"sampler\.nfe").all()
    forced = relation_table(results, related(results, comparison, force=True))
    assert forced["forced"].all()
    assert (forced["n"] == 3).all()
    with pytest.raises(MismatchError):
        AxisTable(comparison, results.protocols).values(Axis("gfid"))


def test_no_scores_no_rows(new_study: Callable) -> None:
    writer = new_study()
    writer.stage("train", "a")
    relations, partial = tables(collect([writer.finish()]))
    assert relations.empty
    assert partial.empty
    assert list(relations.columns) == RELATION_COLUMNS


def test_seed_values_keep_seeds_apart_and_scores_without_one(new_study: Callable, score: Callable) -> None:
    writer = new_study()
    for seed in (0, 1):
        writer.stage("generate", "a", seed, scores=[score("gfid", 50.0 + seed, "lower")])
    writer.stage("reconstruct", "a", None, scores=[score("psnr", 20.0)])
    found = seed_values(collect([writer.finish()]).scores)
    assert found == {Axis("gfid"): {"a": {0: 50.0, 1: 51.0}}, Axis("psnr"): {"a": {-1: 20.0}}}
