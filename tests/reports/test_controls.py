"""Controls, which nobody trained, stand in tables and plots and decide nothing."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from typer.testing import CliRunner

import reports
from reports.analysis import analyse
from reports.answer import answer
from reports.collect import collect
from reports.comparison import compare
from reports.figures import Look
from reports.pictures import Leading, headline_relations, scatters

F1 = np.array([0.50, 0.52, 0.55, 0.57, 0.60, 0.62])
GFID = 40 + 50 * F1 + np.array([0.3, -0.2, 0.1, 0.2, -0.3, 0.1])
CONTROLS = {"noise": (0.20, 900.0), "pca": (0.30, 20.0)}  # far off, and the best of all
ENTRIES = [
    *({"name": f"t{i}", "method": "kl-vae"} for i in range(6)),
    {"name": "noise", "load": "random-projection?f=16&d=32"},
    {"name": "pca", "method": "pca-patches"},
]


@pytest.fixture
def folder(new_study: Callable) -> Path:
    """Six trained tokenizers of which those with the higher probe score generate worse, and two controls."""
    writer = new_study()
    values = [*((f"t{i}", F1[i], GFID[i]) for i in range(6)), *((name, *both) for name, both in CONTROLS.items())]
    for place, (name, f1, gfid) in enumerate(values):
        for seed in (0, 1):
            writer.tokenizer(name, (22 + place % 2, 30, f1, gfid + 0.1 * seed, gfid - 15), seed=seed, grids=False)
    return writer.finish(config={"tokenizers": ENTRIES})


def test_they_are_known_by_method_load_and_what_the_study_asked_for(new_study: Callable) -> None:
    writer = new_study()
    for name in ("a", "b", "c", "pixels-f16", "random-projection-f16d8", "pca-patches"):
        writer.stage("reconstruct", name)
    entries = [
        {"name": "a", "method": "pca-patches"}, {"name": "b", "load": "pixels?f=16"}, {"name": "c", "load": "pca"},
        {"name": "pca-patches", "method": "kl-vae"},
    ]  # fmt: skip
    results = collect([writer.finish(config={"tokenizers": entries, "controls": ["pixels", "random-projection"]})])
    assert results.controls == ("a", "b", "pixels-f16", "random-projection-f16d8")
    assert list(results.trained().labels.values()) == ["c", "pca-patches"]
    assert results.trained().problems == ()
    assert results.without(["a"]).controls == ("b", "pixels-f16", "random-projection-f16d8")
    assert results.without(["c", "pca-patches"]).controls == (), "where nothing else is left they are what is compared"


def test_a_study_of_controls_alone_keeps_them(new_study: Callable) -> None:
    writer = new_study()
    writer.stage("reconstruct", "pca-patches")
    found = collect([writer.finish(config={"tokenizers": [{"name": "pca-patches", "method": "pca-patches"}]})])
    assert found.controls == ()


def test_relations_and_predictions_are_those_of_the_trained(folder: Path) -> None:
    results = collect([folder])
    comparison = compare(results.scores)
    analysis = analyse(results, comparison)
    row = analysis.relations[
        (analysis.relations["metric"] == "probe_macro_f1") & (analysis.relations["target"] == "gfid")
    ].iloc[0]
    assert row["n"] == 6
    assert row["pearson"] == pytest.approx(np.corrcoef(F1, GFID)[0, 1])
    assert not set(analysis.held_out["label"]) & set(CONTROLS)
    assert set(analysis.prediction["best"].dropna()) == {"t0"}
    assert set(CONTROLS) <= set(analysis.tokenizers["label"])
    assert set(CONTROLS) <= set(analysis.cost["label"])


def test_the_answer_and_the_scatter_tell_both(folder: Path) -> None:
    results = collect([folder])
    comparison = compare(results.scores)
    leading = Leading.of(comparison)
    relations = headline_relations(results, comparison, leading, force=False)
    probe = relations["probe"]
    assert not isinstance(probe, str)
    both = np.array(list(CONTROLS.values()))
    assert probe.with_controls == pytest.approx(
        np.corrcoef(np.append(F1, both[:, 0]), np.append(GFID + 0.05, both[:, 1] + 0.05))[0, 1]
    )
    assert probe.with_controls < 0 < probe.correlation.pearson, "the sign is that of the controls"
    claim, choice = answer(
        results.counted(comparison), leading.budget, relations, analyse(results, comparison).prediction
    )
    assert "6 trained tokenizers" in claim
    assert "generated worse" in claim
    assert choice.startswith("t0 generated best")
    shown = scatters({"probe": probe}, Look(tuple(results.labels.values())))[0]
    assert "n = 6 trained." in shown.caption
    assert "With the 2 controls (hollow) r = \N{MINUS SIGN}0." in shown.caption
    assert shown.picture is not None
    assert shown.picture.figure is not None
    axes = shown.picture.figure.axes[0]
    drawn = [line for line in axes.lines if str(line.get_gid()).startswith("point-")]
    assert [to_rgba(line.get_markerfacecolor())[3] for line in drawn] == [1] * 6 + [0] * 2, "hollow"
    assert {text.get_text() for text in axes.texts} >= set(CONTROLS)
    (fit,) = (line for line in axes.lines if len(line.get_xdata()) == 60)
    slope, intercept = np.polyfit(F1, GFID + 0.05, 1)
    x = np.asarray(fit.get_xdata(), dtype=float)
    assert np.asarray(fit.get_ydata()) == pytest.approx(slope * x + intercept), "the line of the trained"


def test_the_page_and_the_option(folder: Path, tmp_path: Path) -> None:
    from vaebench.cli.app import app

    pages = {}
    for name, options in (("plain", []), ("all", ["--with-controls"])):
        found = CliRunner().invoke(
            app, ["report", str(folder), "--output-dir", str(tmp_path / name), "--format", "html,csv,md", *options]
        )
        assert found.exit_code == 0, found.output
        pages[name] = (tmp_path / name / "report.html").read_text()
    table = {name: pd.read_csv(tmp_path / name / "tables" / "relations.csv") for name in pages}
    assert table["plain"]["n"].max() == 6
    assert table["all"]["n"].max() == 8
    assert "are never the best; --with-controls counts them" in re.sub(r"\s+", " ", pages["plain"])
    assert "--with-controls" not in pages["all"]
    data = json.loads(pages["plain"].split('id="report-data">')[1].split("</script>")[0])
    assert [one["label"] for one in data["tokens"] if one["control"]] == list(CONTROLS)
    wide = pd.read_csv(tmp_path / "plain" / "tables" / "wide.csv")
    assert set(CONTROLS) <= set(wide["tokenizer"])
    best = (tmp_path / "plain" / "report.md").read_text().splitlines()
    assert any(line.startswith("| t0 ") and "**" in line for line in best), "bold among the trained"
    assert not any(line.startswith(("| pca ", "| noise ")) and "**" in line for line in best)
    assert reports.make_report([folder], tmp_path / "api", formats=("html",), with_controls=True).is_file()
