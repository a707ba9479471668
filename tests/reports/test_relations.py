"""Scores paired by tokenizer; differing protocols never share an axis unasked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reports.axes import Axis, differences, require_one_protocol
from reports.collect import collect
from reports.comparison import compare
from reports.relations import predictors, relate
from vaebench.core.errors import MismatchError

F1, GFID = Axis("probe_macro_f1", "flattened"), Axis("gfid", budget="steps=600 cfg=1 nfe=25")


def test_points_are_paired_by_tokenizer(three: Path) -> None:
    results = collect([three])
    relation = relate(compare(results.scores), results.protocols, F1, GFID)
    assert relation.points[["x", "y"]].to_dict("index") == {
        "kl-vae": {"x": 0.52, "y": 61.0}, "va-vae": {"x": 0.58, "y": 55.0}, "send-vae": {"x": 0.63, "y": 49.0},
    }  # fmt: skip
    assert relation.correlation is not None
    assert relation.correlation.n == 3
    assert relation.directions == ("higher", "lower")
    assert relation.partial is None
    assert "at least 4 points" in relation.partial_note


def test_four_tokenizers_allow_a_partial_correlation(new_study: Callable) -> None:
    writer = new_study()
    for place, values in enumerate(
        [(22, 0, 0.5, 60, 1), (23, 0, 0.6, 50, 1), (21, 0, 0.7, 46, 1), (24, 0, 0.65, 41, 1)]
    ):
        writer.tokenizer(f"t{place}", values)
    results = collect([writer.finish()])
    comparison = compare(results.scores)
    relation = relate(comparison, results.protocols, F1, GFID)
    assert relation.partial is not None
    assert relation.partial.n == 4
    assert relate(comparison, results.protocols, Axis("psnr"), GFID).partial is None


def test_two_tokenizers_have_a_note_instead(new_study: Callable) -> None:
    writer = new_study()
    writer.tokenizer("a", (22, 30, 0.5, 60, 30))
    writer.tokenizer("b", (23, 30, 0.6, 50, 30))
    results = collect([writer.finish()])
    relation = relate(compare(results.scores), results.protocols, F1, GFID)
    assert relation.correlation is None
    assert "two points always give" in relation.note


def test_differing_protocols_are_refused_by_name_and_can_be_forced(mixed: Path) -> None:
    results = collect([mixed])
    comparison = compare(results.scores)
    with pytest.raises(MismatchError, match=r"gFID to real images.*sampler\.nfe \(25 against 50\)"):
        relate(comparison, results.protocols, F1, Axis("gfid"))
    forced = relate(comparison, results.protocols, F1, Axis("gfid"), force=True)
    assert forced.forced
    assert len(forced.points) == 3


def test_differences_name_nested_and_absent_entries() -> None:
    assert differences([{"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4, "d": 3}, "e": None}]) == [
        "b.c (2 against 4)",
        "e (absent against None)",
    ]
    require_one_protocol(["x", "x"], {}, "gFID")


def test_predictors_are_scores_that_generation_does_not_enter(three: Path) -> None:
    labels = [axis.label for axis in predictors(compare(collect([three]).scores))]
    assert labels == ["PSNR", "SSIM", "rFID", "Probe macro-F1 (flattened)", "Probe macro-F1 (pooled)"]
