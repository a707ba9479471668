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
LEAST = {"avatars": 24, "budgets": 8, "fashion": 12}


@pytest.fixture(scope="module")
def evidence():
    spec = importlib.util.spec_from_file_location("claim_render", CLAIM / "render.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_number_of_the_text_comes_from_the_tables(evidence):
    assert evidence.render() == (CLAIM / "README.md").read_text()


def test_the_front_page_quotes_the_finding(evidence):
    front = " ".join((ROOT / "README.md").read_text().split())
    assert evidence.sentence() in front
    assert len(evidence.sentence().split(". ")) == 1


def test_pictures_are_there():
    shown = {path for page in ("README.md", "docs/evidence/claim/README.md")
             for path in re.findall(r"\]\(([^)]*(?:main|scores)\.png)\)", (ROOT / page).read_text())}  # fmt: skip
    assert shown
    for name in {Path(path).name for path in shown}:
        assert (CLAIM / name).stat().st_size > 10_000
        assert (CLAIM / name).with_suffix(".svg").is_file()


@pytest.mark.parametrize("over", ["all", "trained", "same size"])
def test_correlations_are_scipys(evidence, over):
    for study in evidence.studies().values():
        table = pd.read_csv(study.folder / "comparison.csv").fillna({"vectorisation": "", "budget": ""})
        labels = study.labels_of(over)

        def column(metric, vectorisation="", budget="", table=table, labels=labels):
            rows = table[(table.metric == metric) & (table.vectorisation == vectorisation) & (table.budget == budget)]
            return rows.set_index("label").value[labels].to_numpy()

        x, y = column("probe_macro_f1", "flattened"), column("gfid", budget=study.budget)
        held = [rankdata(column(name)) for name in ("psnr", "ssim")]
        assert study.coefficient(evidence.CLAIMED, "gfid", over)[0] == pytest.approx(spearmanr(x, y).statistic)
        ones = np.column_stack([np.ones(len(x)), *held])
        rest = [v - ones @ np.linalg.lstsq(ones, v, rcond=None)[0] for v in (rankdata(x), rankdata(y))]
        assert study.partial_value(evidence.CLAIMED, "gfid", ("psnr", "ssim"), over).value == pytest.approx(
            np.corrcoef(*rest)[0, 1]
        )


def test_every_tokenizer_has_everything(evidence):
    for name, study in evidence.studies().items():
        assert study.n >= LEAST[name]
        for score in (*study.scores(), *evidence.MEASURES):
            assert study.cells(score)["value"].reindex(study.labels).notna().all(), score


def test_only_attribute_shift_contradicts_the_claim_among_equals(evidence):
    """As the text has it: an interval of rho that lies where the claim says it does not."""
    study, against = evidence.studies()["avatars"], []
    for measure in evidence.MEASURES:
        _, low, high = study.coefficient(evidence.CLAIMED, measure, "same size")
        if (low > 0) if study.direction(measure) == "lower" else (high < 0):
            against.append(measure)
    assert against == ["attribute_shift"]


def test_orders_at_other_budgets_are_of_the_same_runs(evidence):
    made = evidence.studies()
    if "budgets" not in made:
        pytest.skip("other budgets have not been run yet")
    first, other = (pd.read_csv(made[name].folder / "runs.csv").fillna("") for name in ("avatars", "budgets"))
    for variant, budget in made["budgets"].settings():
        pairs = []
        for _, row in other[(other.metric == "gfid") & (other.vectorisation == variant)].iterrows():
            if row.budget == budget:
                same = first[(first.metric == "gfid") & (first.label == row.label) & (first.seed == row.seed)]
                pairs.append((row.value, same.value.mean()))
        assert len(pairs) >= 4
        value = f"{spearmanr(*zip(*pairs, strict=True)).statistic:.2f}".replace("-", "−")
        assert made["avatars"].agreement(made["budgets"], (variant, budget)).startswith(value)
