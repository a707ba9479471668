"""Two tokenizers head to head."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from reports.versus import mover, paired_t, versus
from vaebench.core.errors import UnknownName


def test_pairs_over_seeds_are_student_paired_t() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(5, 1, 6), rng.normal(4, 1, 6)
    interval = paired_t(dict(enumerate(first)), dict(enumerate(second)))
    expected = stats.ttest_rel(first, second).confidence_interval()
    assert interval == pytest.approx((expected.low, expected.high))
    assert paired_t({0: 1.0, 1: 2.0}, {1: 1.0, 2: 5.0}) is None, "one seed in common"


def test_mover_is_the_normal_interval_where_intervals_are_symmetric() -> None:
    low, high = mover((5.0, 4.0, 6.0), (3.0, 2.5, 3.5))
    half = math.sqrt(1 + 0.25)
    assert (low, high) == pytest.approx((2 - half, 2 + half))


def test_mover_covers_a_difference_of_skewed_estimates() -> None:
    """Variances of normal samples, whose exact intervals are skewed: the difference is covered in about 95%."""
    rng, n, draws = np.random.default_rng(1), 15, 4000
    chi = stats.chi2(n - 1).ppf([0.975, 0.025])
    hits = 0
    for a, b in rng.chisquare(n - 1, (draws, 2)) * [[2.0 / (n - 1), 1.0 / (n - 1)]]:
        sides = [(v, v * (n - 1) / chi[0], v * (n - 1) / chi[1]) for v in (a, b)]
        low, high = mover(sides[0], sides[1])
        hits += low <= 1.0 <= high
    assert 0.935 < hits / draws < 0.97


def test_seeds_in_common_make_a_pair(new_study: Callable, score: Callable) -> None:
    writer = new_study()
    for seed, (a, b) in enumerate(((50.0, 40.0), (60.0, 49.0), (55.0, 45.5))):
        for name, value in (("a", a), ("b", b)):
            writer.stage("generate", name, seed, {"steps": 1}, scores=[score("gfid", value, "lower")])
    found = versus([writer.finish()], "a", "b")
    (row,) = found.table.to_dict("records")
    expected = stats.ttest_1samp([10, 11, 9.5], 0).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["difference"] == pytest.approx(30.5 / 3)
    assert row["better"] == "b"
    assert row["how"] == "paired over 3 training seeds, Student's t"
    assert "one training seed" not in found.sentence
    assert "1 favour b" in found.sentence


def test_values_shown_are_those_of_the_seeds_in_common(new_study: Callable, score: Callable) -> None:
    writer = new_study()
    for name, values in (("a", (1.0, 2.0, 6.0)), ("b", (1.0, 2.0))):
        for seed, value in enumerate(values):
            writer.stage("generate", name, seed, {"steps": 1}, scores=[score("gfid", value, "lower")])
    (row,) = versus([writer.finish()], "a", "b").table.to_dict("records")
    assert (row["a"], row["b"], row["difference"]) == (1.5, 1.5, 0.0)


def test_attributes_are_pairs(three: Path) -> None:
    table = versus([three], "send-vae", "kl-vae").table.set_index("score")
    assert table.loc["gFID to real images", "better"] == "send-vae"
    assert table.loc["SSIM", "better"] == "undecided"
    assert "taken as independent; one training seed: does not cover retraining" in table.loc["PSNR", "how"]
    assert "Those of one training seed do not cover retraining" in versus([three], "send-vae", "kl-vae").sentence
    assert not any("by attribute" in score for score in table.index), "four attributes are too few"


def test_five_attributes_are_enough(new_study: Callable, score: Callable) -> None:
    writer = new_study()
    rng = np.random.default_rng(2)
    base = rng.random(20)
    for name, lead in (("a", 0.05), ("b", 0.0)):
        detail = [{"vectorisation": "flattened", "attribute": str(i)} for i in range(20)]
        values = base + lead + 0.01 * rng.normal(size=20)
        writer.stage("probe", name, scores=[
            score("probe_f1", v, protocol={"n": 1}, detail=d) for v, d in zip(values, detail, strict=True)
        ])  # fmt: skip
    (row,) = versus([writer.finish()], "a", "b").table.to_dict("records")
    assert row["better"] == "a"
    assert row["difference"] == pytest.approx(0.05, abs=0.01)
    assert row["high"] - row["low"] < 0.02, "the spread between attributes is taken out"


def test_differing_protocols_are_not_compared(mixed: Path) -> None:
    table = versus([mixed], "a", "c").table.set_index("score")
    assert "sampler.nfe (25 against 50)" in table.loc["gFID to real images", "note"]
    assert table.loc["gFID to real images", "better"] == ""


def test_the_command(three: Path, tmp_path: Path) -> None:
    from vaebench.cli.app import app

    shown = CliRunner().invoke(app, ["compare", "send-vae", "kl-vae", str(three), "--output-dir", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "favour send-vae" in shown.output
    assert {path.name for path in tmp_path.iterdir()} == {"compare.csv", "compare.md", "compare.tex"}
    with pytest.raises(UnknownName, match="send-vae"):
        versus([three], "send-va", "kl-vae")
