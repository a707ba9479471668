"""Figures of many tokenizers: everyone is named, and no name covers another or a mark."""

import itertools
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation, Text

from reports.analysis import analyse
from reports.collect import collect
from reports.comparison import compare
from reports.explorer import Explorer, heat
from reports.figures import DIVERGING, Look, ink_on
from reports.html import shade
from reports.names import GENERATION, METRICS, PROBES, RECONSTRUCTION
from reports.pictures import MOST_AXES, Leading, headline_relations, profile_cards, scatters, training_curves

NAMES = [f"tokenizer-{i}" for i in range(20)]


@pytest.fixture
def many(new_study: Callable) -> Path:
    rng = np.random.default_rng(0)
    writer = new_study()
    for name in NAMES:
        quality = rng.normal()
        values = (22 + 0.3 * rng.normal(), 31 + rng.normal(), 0.55 + 0.03 * quality, 61 - 3 * quality, 33 - quality)
        writer.tokenizer(name, values, grids=False)
    return writer.finish()


def test_many_tokenizers_are_all_named_without_covering_each_other(many: Path) -> None:
    results = collect([many])
    comparison = compare(results.scores)
    leading, look = Leading.of(comparison), Look(tuple(NAMES), {})
    drawn = scatters(headline_relations(results, comparison, leading, force=False), look)
    (psnr,) = (shown.picture for shown in drawn if shown.picture and shown.picture.name == "scatter-psnr")
    assert psnr.figure is not None
    names = [text for text in psnr.figure.axes[0].texts if isinstance(text, Annotation)]
    assert sorted(text.get_text() for text in names) == sorted(NAMES)
    boxes = [Text.get_window_extent(text) for text in names]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_panels_of_many_tokenizers_stay_on_a_screen_and_fit_their_letters(many: Path) -> None:
    results = collect([many])
    comparison = compare(results.scores)
    look = Look(tuple(NAMES), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as where a layout has no room
        shown = [*training_curves(results, look), profile_cards(comparison, Leading.of(comparison), look)]
    for one in shown:
        assert one is not None
        assert one.picture is not None
        assert set(NAMES) <= set(re.findall(r"tokenizer-\d+", one.picture.source))
        assert one.picture.figure is not None
        assert one.picture.figure.get_figheight() <= 8


def test_with_all_scores_there_are_still_profiles_to_read(many: Path) -> None:
    comparison = compare(collect([many]).scores)
    scores = [name for name, entry in METRICS.items() if entry.group not in {RECONSTRUCTION, PROBES, GENERATION}]
    more = [comparison[comparison["metric"] == "psnr"].assign(metric=score, vectorisation=kind)
            for score in scores for kind in ("pooled", "flattened")]  # fmt: skip
    everything = pd.concat([comparison, *more])
    shown = profile_cards(everything, Leading.of(comparison), Look(tuple(NAMES), {}))
    assert shown is not None
    assert shown.picture is not None
    assert shown.picture.figure is not None
    names = [tick.get_text() for tick in shown.picture.figure.axes[len(NAMES) - 1].get_xticklabels()]
    assert {"PSNR", "macro-F1 (flattened)", "gFID"} <= set(names)
    assert len(names) <= MOST_AXES
    assert len(shown.picture.source) < 600_000


def test_no_two_tokenizers_look_the_same_where_families_outnumber_colours() -> None:
    families = {f"{family}{member}": family for family in "abcdefghij" for member in "12"}
    look = Look(tuple(families), families)
    assert look.by_family
    assert len({(look.colour(label), look.marker(label)) for label in families}) == len(families)
    assert look.colour("a1") == look.colour("i1"), "the ninth family has the colour of the first"


def test_numbers_of_the_heat_map_can_be_read_on_their_colours() -> None:
    def luminance(channels: np.ndarray) -> float:
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for r in np.linspace(-1, 1, 81):
        colour, white = shade(r)
        page = np.array([int(part) for part in colour[4:-1].split()]) / 255
        printed = np.array(DIVERGING((r + 1) / 2)[:3])
        for channels, is_white in ((page, white), (printed, ink_on(printed.tolist()) == "#ffffff")):
            light, dark = sorted((luminance(channels), 1.0 if is_white else 0.0), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, r


def test_bold_follows_the_coefficient_and_rows_say_which_way_is_better(five: Path) -> None:
    results = collect([five])
    comparison = compare(results.scores)
    relations = analyse(results, comparison).relations.assign(
        pearson_low=-0.1, pearson_high=0.9, spearman_low=0.2, spearman_high=0.9, kendall_low=-0.9, kendall_high=-0.1
    )
    shown = heat(Explorer.of(comparison, relations, Leading.of(comparison).budget))
    assert shown is not None
    cells = [cell for _, row in shown.rows for cell in row if cell.pearson is not None]
    assert {cell.clear for cell in cells} == {("spearman", "kendall")}
    assert {"PSNR \N{UPWARDS ARROW}", "rFID \N{DOWNWARDS ARROW}"} <= {name for name, _ in shown.rows}


@pytest.mark.parametrize(
    ("losses", "settings", "panels", "words"),
    [
        (("loss_reconstruction",) * 2, ("mean l1", "mean l1"), 1, "reconstruction loss"),
        (("loss_reconstruction",) * 2, ("mean l1", "sum l1"), 2, "reconstruction loss"),
        (("loss_reconstruction",) * 2, ("mean l1", "mean mse"), 2, "reconstruction loss"),
        (("loss_reconstruction", "loss"), ("mean l1", "mean l1"), 2, "of loss against"),
        (("loss",) * 2, ("mean l1", "mean l1"), 2, "total loss"),
    ],
)
def test_losses_share_an_axis_where_they_are_the_same_loss(
    new_study: Callable, losses: tuple[str, str], settings: tuple[str, str], panels: int, words: str
) -> None:
    writer = new_study()
    for tokenizer, loss, setting in zip("ab", losses, settings, strict=True):
        folder = writer.stage("train", tokenizer, losses=[{"step": step, loss: 1 / step} for step in (1, 2, 3)])
        reduction, norm = setting.split()
        training = {"reduction": reduction, "reconstruction": norm}
        (folder / "stage.json").write_text(json.dumps({"config": {"training": training}}))
        writer.stage("reconstruct", tokenizer)
    (shown,) = training_curves(collect([writer.finish()]), Look(("a", "b")))
    assert shown.picture is not None
    assert shown.picture.figure is not None
    assert len(shown.picture.figure.axes) == panels
    assert words in shown.picture.alt
    assert ("do not compare" in shown.caption) == (panels == 2)
