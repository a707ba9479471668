"""The analysis as a whole: every table is written with the report and comes back the same."""

from pathlib import Path

import pandas as pd
import pytest

import reports
from reports.analysis import Analysis, analyse
from reports.collect import collect
from reports.comparison import compare

NAMES = {
    "tokenizers", "relations", "partial", "prediction", "held_out", "convergence", "speedup", "cost", "published",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(three: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Analysis, Path]:
    """The analysis of three tokenizers and the tables of its report."""
    output = tmp_path_factory.mktemp("report")
    reports.make_report([three], output)
    results = collect([three])
    return analyse(results, compare(results.scores)), output / "tables"


def test_the_report_writes_every_table_twice(written: tuple[Analysis, Path]) -> None:
    analysis, folder = written
    assert analysis.tables().keys() == NAMES
    for name, table in analysis.tables().items():
        pd.testing.assert_frame_equal(pd.read_parquet(folder / f"{name}.parquet"), table, check_dtype=False)
        text = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
        assert list(text.columns) == list(table.columns)
        assert len(text) == len(table)


def test_three_tokenizers_are_told_that_they_are_three(written: tuple[Analysis, Path]) -> None:
    analysis, _ = written
    row = analysis.relations.query("metric == 'psnr' and target == 'gfid'").iloc[0]
    assert (row["n"], row["pearson_low"], row["pearson_high"]) == (3, -1, 1)
    assert row["detectable_r"] > 0.99
    assert analysis.partial["note"].str.contains("at least").all()
    assert analysis.prediction["note"].str.contains("at least 5 tokenizers").all()
    assert analysis.held_out.empty


def test_the_same_study_gives_the_same_tables(three: Path, written: tuple[Analysis, Path]) -> None:
    results = collect([three])
    again = analyse(results, compare(results.scores)).tables()
    for name, table in written[0].tables().items():
        pd.testing.assert_frame_equal(again[name], table)
