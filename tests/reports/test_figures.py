"""Figures of many tokenizers: everyone is named, and no name covers another or a mark."""

import itertools
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation, Text

from reports.collect import collect
from reports.comparison import compare
from reports.figures import Look
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
