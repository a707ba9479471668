"""Speed-up in steps: exact on curves of known shape, bounded where it is not reached, wide where noise is."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import make_report
from reports.collect import Results, collect
from reports.comparison import compare
from reports.convergence import convergence_curves, speedups, steps_to_reach

STEPS = (100, 200, 400, 800)


def study(new_study: Callable, score: Callable, curves: dict[str, list[float]], half: float | None = 0.01,
          seeds: int = 1, networks: dict[str, str] | None = None) -> Results:  # fmt: skip
    writer = new_study()
    for name, values in curves.items():
        for seed in range(seeds):
            for steps, value in zip(STEPS, values, strict=False):
                protocol = {"network": (networks or {}).get(name, "mobilenetv2"), "sit_steps": steps}
                own = score("gfid", value * (1 + 0.01 * seed), "lower", half=half, protocol=protocol)
                writer.stage("generate", name, seed, {"steps": steps, "cfg": 1.0, "nfe": 25}, scores=[own])
    return collect([writer.finish()])


def pairs(results: Results) -> pd.DataFrame:
    return speedups(compare(results.scores), results.protocols).set_index(["label", "rival"])


def test_crossing_is_linear_in_log_steps() -> None:
    values = np.array([100.0, 80, 60, 50])
    assert steps_to_reach(np.array(STEPS), values, 70)[0] == pytest.approx(math.sqrt(200 * 400))
    assert steps_to_reach(np.array(STEPS), values, 80)[0] == pytest.approx(200)
    assert steps_to_reach(np.array(STEPS), values, 49)[0] == math.inf
    assert steps_to_reach(np.array(STEPS), values, 100)[0] == 0


def test_the_first_crossing_counts_on_a_curve_that_rises_again() -> None:
    values = np.array([100.0, 60, 90, 50])
    assert steps_to_reach(np.array(STEPS), values, 70)[0] == pytest.approx(100 * 2**0.75)


@given(st.floats(0.5, 20), st.floats(1.1, 4))
def test_a_curve_shifted_in_log_steps_is_that_many_times_faster(slope: float, factor: float) -> None:
    """gFID = 100 - slope log2(steps): shifting the curve by a factor in steps gives exactly that speed-up."""
    steps = np.array([100.0, 1600])
    fast = 100 - slope * np.log2(steps * factor)
    slow_final = 100 - slope * np.log2(1600)
    assert 1600 / steps_to_reach(steps, fast, slow_final)[0] == pytest.approx(factor, rel=1e-6)


def test_the_page_tells_speedups_at_several_guidances_apart(new_study: Callable, score: Callable, tmp_path) -> None:
    writer = new_study()
    for name, start in (("fast", 50.0), ("slow", 60.0)):
        for cfg in (1, 2):
            for steps in (1000, 2000):
                own = score("gfid", start - steps / 100, "lower", protocol={"sit_steps": steps, "cfg": cfg})
                writer.stage("generate", name, 0, {"steps": steps, "cfg": cfg, "nfe": 20}, scores=[own])
    page = make_report([writer.finish()], tmp_path / "out", formats=("html",)).read_text()
    table = page.partition("Times fewer steps to be as good")[2].partition("</table>")[0]
    rows = [row.partition("</tr>")[0] for row in table.split("<tr>")[2:]]
    assert ">guidance<" in table
    assert len(rows) == 4
    assert len(set(rows)) == 4


def test_speedup_of_known_curves(new_study: Callable, score: Callable) -> None:
    fast, slow = [70.0, 60, 50, 40], [80.0, 70, 60, 50]
    table = pairs(study(new_study, score, {"fast": fast, "slow": slow}))
    row = table.loc[("fast", "slow")]
    assert row["rival_value"] == 50
    assert row["steps_to_reach"] == pytest.approx(400)
    assert row["speedup"] == pytest.approx(2)
    assert row["low"] < 2 < row["high"]
    assert row["share_reached"] == 1
    back = table.loc[("slow", "fast")]
    assert pd.isna(back["speedup"])
    assert back["note"] == "Not reached within 800 steps: less than 1 times."
    assert (back["low"], back["high"], back["share_reached"]) == (0, 0, 0)


def test_reached_by_the_first_snapshot_is_a_lower_bound(new_study: Callable, score: Callable) -> None:
    table = pairs(study(new_study, score, {"a": [40.0, 30, 20, 10], "b": [80.0, 70, 60, 50]}))
    row = table.loc[("a", "b")]
    assert row["note"] == "Reached by the first snapshot: at least 8 times."
    assert pd.isna(row["speedup"])
    assert row["high"] == math.inf


def test_more_noise_is_a_wider_interval_and_none_is_none(new_study: Callable, score: Callable) -> None:
    curves = {"fast": [70.0, 60, 50, 40], "slow": [80.0, 70, 60, 50]}
    widths = []
    for place, half in enumerate((0.01, 0.04)):
        row = pairs(study(partial(new_study, folder=f"s{place}"), score, curves, half)).loc[("fast", "slow")]
        widths.append(row["high"] - row["low"])
    assert 0 < widths[0] < widths[1]
    bare = pairs(study(partial(new_study, folder="bare"), score, curves, half=None)).loc[("fast", "slow")]
    assert bare["speedup"] == pytest.approx(2)
    assert pd.isna(bare["low"])


def test_the_interval_covers_the_truth(new_study: Callable, score: Callable) -> None:
    """60 noisy measurements of the same two curves, true speed-up 2: the 95% interval holds it nearly always."""
    rng = np.random.default_rng(0)
    results = study(new_study, score, {"fast": [70.0, 60, 50, 40], "slow": [80.0, 70, 60, 50]}, half=0.02)
    table = compare(results.scores)
    sd = table["value"].to_numpy() * 0.02 / 1.959964
    held = 0
    for draw in range(60):
        noisy = table.assign(value=table["value"] + sd * rng.normal(size=len(table)))
        shift = noisy["value"] - table["value"]
        noisy = noisy.assign(low=table["low"] + shift, high=table["high"] + shift)
        row = speedups(noisy, results.protocols, seed=draw).set_index(["label", "rival"]).loc[("fast", "slow")]
        held += row["low"] <= 2 <= row["high"]
    assert held >= 52, "95% of 60 is 57, less three standard errors"


def test_seeds_widen_by_students_t(new_study: Callable, score: Callable) -> None:
    curves = {"fast": [70.0, 60, 50, 40], "slow": [80.0, 70, 60, 50]}
    row = pairs(study(new_study, score, curves, seeds=2)).loc[("fast", "slow")]
    assert row["low"] < row["speedup"] < row["high"]


def test_protocols_may_differ_in_steps_only(new_study: Callable, score: Callable) -> None:
    curves = {"a": [70.0, 60, 50, 40], "b": [80.0, 70, 60, 50], "c": [80.0, 70, 60, 55]}
    table = pairs(study(new_study, score, curves, networks={"c": "inception"}))
    assert table.loc[("a", "b"), "note"] == ""
    assert "Protocols differ" in table.loc[("a", "c"), "note"]
    assert pd.isna(table.loc[("a", "c"), "speedup"])


def test_curves_are_sorted_points(new_study: Callable, score: Callable) -> None:
    results = study(new_study, score, {"b": [80.0, 70, 60, 50], "a": [70.0, 60]})
    curves = convergence_curves(compare(results.scores))
    assert list(curves["label"]) == ["a"] * 2 + ["b"] * 4
    assert list(curves["steps"]) == [100, 200, *STEPS]


def test_one_snapshot_gives_bounds_only(new_study: Callable, score: Callable) -> None:
    table = pairs(study(new_study, score, {"a": [70.0], "b": [80.0]}))
    assert table["speedup"].isna().all()
    assert set(table["note"].str.split(":").str[0]) == {"Reached by the first snapshot", "Not reached within 100 steps"}
