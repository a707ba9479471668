"""Published numbers: as printed, beside one's own, in no fit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.analysis import analyse
from reports.axes import Axis, AxisTable, seed_values
from reports.collect import Results, collect
from reports.comparison import compare
from reports.convergence import convergence_curves, speedups
from reports.prediction import predict
from reports.published import COLUMNS, beside, published
from reports.relation_tables import related
from reports.relations import relate
from vaebench.core.errors import MismatchError


def test_every_number_has_a_source_and_a_place() -> None:
    table = published()
    assert list(table.columns) == [*COLUMNS, "origin"]
    assert (table["origin"] == "published").all()
    assert table[["source", "table", "metric"]].ne("").all(axis=None)
    assert np.isfinite(table["value"]).all()
    assert not table.duplicated(list(COLUMNS)).any()


@pytest.mark.parametrize(
    ("metric", "variant", "r"),
    [("probe_f1", "CelebA, flattened", -0.90), ("probe_f1", "DeepFashion, flattened", -0.98),
     ("probe_f1", "AwA, flattened", -0.96), ("psnr", "", 0.993), ("ssim", "", 0.94), ("rfid", "", -0.87)],
)  # fmt: skip
def test_tables_7_and_8_give_the_correlations_worked_out_from_the_paper(metric: str, variant: str, r: float) -> None:
    four = published().query("table == 'Tables 7-8'")
    gfid = four[four["metric"] == "gfid"].set_index("tokenizer")["value"]
    score = four[(four["metric"] == metric) & (four["variant"] == variant)].set_index("tokenizer")["value"]
    assert list(gfid.index) == ["IN-VAE", "VA-VAE", "E2E-VAE", "Send-VAE"]
    assert np.corrcoef(score[gfid.index], gfid)[0, 1] == pytest.approx(r, abs=0.006)


def test_the_headline_of_the_paper_is_there() -> None:
    send = published().query("tokenizer == 'Send-VAE' and epochs == 800 and metric == 'gfid'")
    assert dict(zip(send["guidance"], send["value"], strict=True)) == {"none": 1.75, "cfg": 1.21}
    assert published().query("metric == 'pearson'")[["value", "n"]].to_numpy().tolist() == [[-0.9572, 6]]


def test_beside_ones_own_and_told_apart(three: Path) -> None:
    table = beside(compare(collect([three]).scores))
    own = table[table["origin"] == "own"]
    assert set(own["tokenizer"]) == {"kl-vae", "va-vae", "send-vae"}
    assert set(table["metric"]) == {"psnr", "ssim", "rfid", "gfid"}
    assert own.query("metric == 'gfid'")["setting"].eq("steps=600 cfg=1 nfe=25").all()
    theirs = table[table["origin"] == "published"]
    assert theirs["low"].isna().all()
    assert theirs["setting"].str.contains("80 epochs, no guidance").any()


def _with_published(results: Results) -> tuple[Results, pd.DataFrame]:
    """What a careless caller would build: own rows and published ones in one comparison table."""
    comparison = compare(results.scores)
    foreign = published().query("table == 'Tables 7-8'").assign(
        label=lambda t: t["tokenizer"], study="paper", vectorisation="", attribute="", budget="", protocol_hash="",
        direction="lower", seeds=1, n=1, low=pd.NA, high=pd.NA,
    )  # fmt: skip
    mixed = pd.concat([comparison.assign(origin="own"), foreign], ignore_index=True)
    scores = results.scores.assign(origin="own")
    return Results(results.studies, scores, results.protocols, results.labels), mixed


def test_no_fit_takes_them(three: Path) -> None:
    results, mixed = _with_published(collect([three]))
    calls = [
        lambda: AxisTable(mixed, results.protocols),
        lambda: relate(mixed, results.protocols, Axis("psnr"), Axis("gfid")),
        lambda: related(results, mixed),
        lambda: convergence_curves(mixed),
        lambda: speedups(mixed, results.protocols),
        lambda: predict(results, mixed),
        lambda: seed_values(results.scores),
        lambda: AxisTable(beside(compare(collect([three]).scores)), results.protocols),
    ]
    for call in calls:
        with pytest.raises(MismatchError, match="Published numbers do not enter"):
            call()


def test_the_analysis_is_the_same_whatever_was_published(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = collect([three])
    comparison = compare(results.scores)
    plain = analyse(results, comparison).tables()
    monkeypatch.setattr("reports.analysis.published", lambda: published().assign(value=1e9))
    other = analyse(results, comparison).tables()
    assert not plain["published"].equals(other["published"])
    for name in plain.keys() - {"published"}:
        pd.testing.assert_frame_equal(plain[name], other[name])
