"""The claim's evidence: its text and figures are those of the committed tables."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

ROOT = Path(__file__).parents[2]
CLAIM = ROOT / "docs" / "evidence" / "claim"
LEAST = {"avatars": 26, "budgets": 7, "fashion": 14}


@pytest.fixture(scope="module")
def evidence():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("claim_render", CLAIM / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


@pytest.fixture(scope="module")
def made(evidence):
    return evidence.studies()


def tables(study, name):
    return pd.read_csv(study.folder / f"{name}.csv").fillna({"vectorisation": "", "budget": ""})


def column(study, labels, metric, vectorisation="", budget=""):
    table = tables(study, "comparison")
    rows = table[(table.metric == metric) & (table.vectorisation == vectorisation) & (table.budget == budget)]
    return rows.set_index("label").value[labels].to_numpy()


def test_every_result_of_the_text_comes_from_the_tables(evidence, made):
    for page in evidence.PAGES:
        assert evidence.render(page, made) == (CLAIM / page).read_text()


def test_the_summary_is_two_pages():
    assert len((CLAIM / "README.md").read_text().split()) < 1500


def test_the_front_page_quotes_the_finding(evidence, made):
    front = " ".join((ROOT / "README.md").read_text().split())
    assert evidence.sentence(made) in front
    assert len(evidence.sentence(made).split(". ")) == 1


def test_pictures_are_there():
    shown = {path for page in ("README.md", "docs/evidence/claim/README.md", "docs/evidence/claim/tables.md")
             for path in re.findall(r"\]\(([^)]*(?:main|scores)\.png)\)", (ROOT / page).read_text())}  # fmt: skip
    assert shown
    for name in {Path(path).name for path in shown}:
        assert (CLAIM / name).stat().st_size > 10_000
        assert (CLAIM / name).with_suffix(".svg").is_file()


@pytest.mark.parametrize("over", ["all", "trained", "same size"])
def test_correlations_are_scipys(evidence, made, over):
    for study in made.values():
        labels = study.over(over)
        x = column(study, labels, "probe_macro_f1", "flattened")
        y = column(study, labels, "gfid", budget=study.leading.budget)
        held = rankdata(column(study, labels, "psnr"))
        assert study.rho(evidence.CLAIMED, "gfid", over).value == pytest.approx(spearmanr(x, y).statistic)
        ones = np.column_stack([np.ones(len(x)), held])
        rest = [v - ones @ np.linalg.lstsq(ones, v, rcond=None)[0] for v in (rankdata(x), rankdata(y))]
        found = study.partial_correlation(evidence.CLAIMED, "gfid", ["psnr"], over)
        assert found.value == pytest.approx(np.corrcoef(*rest)[0, 1])
        if found.high is not None:
            error = np.sqrt((1 + found.value**2 / 2) / (len(x) - 1 - 3))  # Bonett and Wright, one held fixed
            assert np.arctanh(found.high) == pytest.approx(np.arctanh(found.value) + 1.959964 * error)


def test_a_tokenizer_left_out_is_predicted_from_the_others(evidence, made):
    study = made["avatars"]
    x = column(study, study.trained, "probe_macro_f1", "flattened")
    y = column(study, study.trained, "gfid", budget=study.leading.budget)
    others = [np.arange(len(x)) != i for i in range(len(x))]
    guess = [np.polyval(np.polyfit(x[rest], y[rest], 1), at) for rest, at in zip(others, x, strict=True)]
    mean = [y[rest].mean() for rest in others]
    r2 = 1 - np.sum((y - guess) ** 2) / np.sum((y - mean) ** 2)
    assert study.predicted("the probe alone", "gfid", "trained", "tokenizer").startswith(f"{r2:.2f} [")


def test_the_best_is_picked_only_where_its_size_tells(evidence, made):
    """As the text has it."""
    study = made["avatars"]
    for target in ("gfid", "gfid_vs_reconstructions"):
        picked = {
            over: [study.picked(model, target, over) for model in study.models()] for over in ("trained", "same size")
        }
        assert not any(", place 1," in one for one in picked["same size"])
        assert any(one.startswith("kl-d8, place 1, regret 0,") for one in picked["trained"])
        assert study.cells(target)["value"][study.trained].idxmin() == "kl-d8"


def test_every_tokenizer_has_everything(made):
    for name, study in made.items():
        assert len(study.labels) >= LEAST[name]
        for score in (*study.scores(), *study.measures):
            assert study.complete(score, "trained"), score


def test_only_attribute_shift_contradicts_the_claim_among_equals(evidence, made):
    """As the text has it: an interval of rho that lies where the claim says it does not."""
    study, against = made["avatars"], []
    for measure in study.measures:
        rho = study.rho(evidence.CLAIMED, measure, "same size")
        if (rho.low > 0) if study.direction(measure) == "lower" else (rho.high < 0):
            against.append(measure)
    assert against == ["attribute_shift"]


def test_what_goes_with_readability_over_all_sizes_is_size(evidence, made):
    """As the finding has it: with the size held fixed no relation is left that its interval would tell from none."""
    study = made["avatars"]
    found = study.partial_correlation(evidence.CLAIMED, "gfid", ["latent_dim"], "trained")
    assert found.low < 0 < found.high
    assert found.value < 0.6 * study.rho(evidence.CLAIMED, "gfid", "trained").value


def test_spectra_go_with_generation_on_both_data_sets(made):
    """As the text has it."""
    for study, over in ((made["avatars"], "same size"), (made["fashion"], "trained")):
        for score in ("sec [rho=0.5]", "spectral_slope"):
            assert study.rho(score, "gfid", over).high < 0
            assert study.tested("gfid", over)["holm"][score] < 0.05


def test_orders_at_other_budgets_are_of_the_same_runs(made):
    if "budgets" not in made:
        pytest.skip("other budgets have not been run yet")
    first, other = tables(made["avatars"], "runs"), tables(made["budgets"], "runs")
    for setting in made["budgets"].settings:
        pairs = []
        rows = other[(other.metric == "gfid") & (other.vectorisation == setting.variant)]
        for _, row in rows[rows.budget == setting.budget].iterrows():
            same = first[(first.metric == "gfid") & (first.label == row.label) & (first.seed == row.seed)]
            pairs.append((row.value, same.value.mean()))
        assert len(pairs) >= 4
        agreement = made["avatars"].agreement(made["budgets"], setting)
        assert agreement.value == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
        targets = ("gfid", "gfid_vs_reconstructions")
        with_probe = [made["budgets"].with_probe(made["budgets"].generated(target, setting)) for target in targets]
        for found in (agreement, *with_probe):  # the text says that none is clear of 0
            assert "[" not in str(found) or found.low < 0 < found.high
    assert made["avatars"].apart(made["budgets"], "psnr") < 0.5, "the same tokenizers, but for rounding"
