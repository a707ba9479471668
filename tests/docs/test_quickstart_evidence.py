"""The quickstart's evidence: what the pages say of it stands in its committed tables."""

import importlib.util
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
EVIDENCE = ROOT / "docs" / "evidence"
FOLDERS = ("quickstart", "quickstart-fashion-mnist")
NUMBER = r"\d+(?:\.\d+)?"
WITH_INTERVAL = re.compile(rf"({NUMBER})\s+\[({NUMBER}),\s+({NUMBER})\]")


@pytest.fixture(scope="module")
def evidence():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("quickstart_evidence", EVIDENCE / "quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


def results(page: str) -> str:
    """What the page says of the quickstart."""
    text = (ROOT / page).read_text()
    return text.partition("## Results of the quickstart")[2].partition("\n## ")[0] if page == "README.md" else text


def test_the_front_page_has_the_committed_table(evidence):
    shown = results("README.md").partition(evidence.BEGIN)[2].partition(evidence.END)[0].strip()
    assert shown == evidence.table(EVIDENCE / "quickstart")
    value = pd.read_csv(EVIDENCE / "quickstart" / "wide.csv").set_index("tokenizer").loc["va-vae", "psnr"]
    assert f"| {value:.2f} [" in shown


@pytest.mark.parametrize("page", ["README.md", "docs/evidence/README.md"])
def test_every_interval_in_the_text_is_one_of_the_tables(evidence, page):
    committed = {
        text for folder in FOLDERS for row in evidence.scores(EVIDENCE / folder).values() for text in row.values()
    }
    said = {"{} [{}, {}]".format(*found) for found in WITH_INTERVAL.findall(results(page))}
    assert len(said) >= 6
    assert said <= committed


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_picture_is_there(folder):
    assert (EVIDENCE / folder / "report.png").stat().st_size > 50_000
