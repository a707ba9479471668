"""Formats of a report, and that no name does harm in any of them."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import reports
from reports.collect import collect
from reports.figures import PALETTE
from reports.formats import checked_formats, csv_text, file_name, latex_text, markdown_text
from vaebench.core.errors import ConfigError, DataError, UnknownName

EVIL = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", r"\input{/etc/passwd} & 100% $x_1$ #1", "a|b`c*d_e[f](g)\nh")


def test_formats_are_checked() -> None:
    assert checked_formats(["html,md", "latex", "html"]) == ["html", "md", "latex"]
    assert checked_formats(["Markdown, tex"]) == ["md", "latex"]
    with pytest.raises(ConfigError, match=r"no report format 'htm'.*html"):
        checked_formats(["htm"])
    with pytest.raises(ConfigError, match="No report format"):
        checked_formats([" , "])


def test_only_what_is_asked_for_is_written(three: Path, tmp_path: Path) -> None:
    assert reports.make_report([three], tmp_path / "a", formats=("md", "latex")) == tmp_path / "a"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["cards", "latex", "report.md"]


def test_tokenizers_can_be_left_out(five: Path, tmp_path: Path) -> None:
    reports.make_report([five], tmp_path, formats=("csv", "md"), without=["kl-vae", "eq-vae"])
    assert {"va-vae", "send-vae"} < set(left := pd.read_csv(tmp_path / "tables" / "comparison.csv")["label"])
    assert left.nunique() == 3
    assert set(pd.read_csv(tmp_path / "tables" / "relations.csv")["n"].dropna()) == {3}
    assert "Left out on request: kl-vae, eq-vae." in (tmp_path / "report.md").read_text()
    with pytest.raises(UnknownName, match="Did you mean 'send-vae'"):
        reports.make_report([five], tmp_path, without=["sendvae"])
    with pytest.raises(DataError, match="no result is left"):
        reports.make_report([five], tmp_path, without=list(collect([five]).labels.values()))


def test_figures_are_png_and_svg_fit_for_print(three: Path, tmp_path: Path) -> None:
    reports.make_report([three], tmp_path, formats=("figures",))
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert {"scatter-probe", "heat-map", "profiles", "attributes", "curves-train"} <= names
    for name in names:
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert picture.width >= 900
            pixels = np.asarray(picture.convert("RGB"))
        assert (pixels[0, 0] == 255).all(), "on white"
        assert pixels.std() > 5, "something is drawn"
        assert "<text" in (tmp_path / "figures" / f"{name}.svg").read_text(), "text stays text"


def test_no_name_does_harm(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    for i, name in enumerate(EVIL):
        writer.tokenizer(name, (22 + i, 30, 0.5 + 0.1 * i, 60 - 5 * i, 30))
    out = tmp_path / "out"
    reports.make_report([writer.finish()], out, formats=("md", "latex", "csv"))
    # CSV: no cell that a spreadsheet would run, and everything is still there.
    for path in (out / "tables").glob("*.csv"):
        with path.open(newline="") as file:
            for row in csv.reader(file):
                assert not any(cell.startswith(("=", "@", "+")) for cell in row), path
                assert not any(cell.startswith("-") and not _is_number(cell) for cell in row), path
    names = set(pd.read_csv(out / "tables" / "tokenizers.csv")["label"])
    assert f"'{EVIL[1]}" in names
    assert EVIL[0] in names
    assert set(pd.read_parquet(out / "tables" / "tokenizers.parquet")["label"]) == set(EVIL), "programs get the name"
    # LaTeX: only commands that the report itself writes.
    text = "".join(path.read_text() for path in (out / "latex").glob("*.tex"))
    assert set(re.findall(r"\\([a-zA-Z]+)", re.sub(r"%.*", "", text, count=0))) <= {
        "begin", "end", "toprule", "midrule", "bottomrule", "textbf", "underline", "scriptsize", "uparrow", "downarrow",
        "rho", "dagger", "multicolumn", "def", "vaebenchcaption", "textbackslash", "textless", "textgreater", "textbar",
        "textquotedbl",
    }  # fmt: skip
    for line in text.splitlines():
        assert line.count("{") - line.count(r"\{") == line.count("}") - line.count(r"\}"), line
    # Markdown: no HTML, and every table row has as many cells as its head.
    cards = sorted((out / "cards").iterdir())
    assert len(cards) == len(EVIL)
    for path in (out / "report.md", *cards):
        body = path.read_text()
        front = body.split("---\n")[1] if body.startswith("---") else ""
        body = body.removeprefix(f"---\n{front}---\n")
        assert "<" not in body
        rows = [line for line in body.splitlines() if line.startswith("|")]
        assert rows
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
        assert widths <= {6, 8, 9, 10}, widths
        if front:
            names = {entry["name"] for entry in yaml.safe_load(front)["model-index"]}
            assert names <= set(EVIL)


def test_latex_tables_can_be_quoted(three: Path, tmp_path: Path) -> None:
    reports.make_report([three], tmp_path, formats=("latex",))
    tables = {path.stem: path.read_text() for path in (tmp_path / "latex").iterdir()}
    said = {name: re.findall(r"\\def\\vaebenchcaption\{(.*)\}", text)[0] for name, text in tables.items()}
    for caption in said.values():
        assert "eneration at steps=600 cfg=1 nfe=25." in caption
        assert "Training seeds of a tokenizer: 1." in caption
    assert r"Samples of a score: 500. " in said["comparison"]
    assert r"Below the values: 95\% bootstrap over samples." in said["comparison"]
    assert "Underlined: within noise of the best." in said["comparison"]
    assert "Holm: over 4 scores." in said["relations"], "PSNR, rFID and two probes; SSIM is the same for all"
    rows = [line for line in tables["relations"].splitlines() if line.startswith(("PSNR", "rFID", "Probe"))]
    assert len(rows) == 4
    assert all(row.split(" & ")[2].endswith(r"$^\dagger$") for row in rows), "three tokenizers settle nothing"
    assert r"$^\dagger$ The sign of r is not settled" in tables["relations"]


def test_a_settled_relation_has_no_dagger(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    for i in range(8):
        psnr, rfid = (22, 22.4, 22.1, 22.3)[i % 4], 30 + (5 * i) % 8
        writer.tokenizer(f"t{i}", (psnr, rfid, 0.5 + 0.02 * i, 60 - 2 * i + 0.3 * (-1) ** i, 30), grids=False)
    reports.make_report([writer.finish()], tmp_path, formats=("latex", "md"))
    for text in ((tmp_path / "latex" / "relations.tex").read_text(), (tmp_path / "report.md").read_text()):
        rows = {line.strip("| ")[:4]: line for line in text.splitlines() if line.strip("| ")[:4] in ("PSNR", "Prob")}
        marked = {name: "dagger" in row or "†" in row for name, row in rows.items()}
        assert marked == {"PSNR": True, "Prob": False}


def test_the_summary_says_how_its_numbers_came_to_be(three: Path, tmp_path: Path) -> None:
    reports.make_report([three], tmp_path, formats=("md",))
    comparison, _, rest = (tmp_path / "report.md").read_text().partition("## What goes with gFID")
    for part in (comparison, rest.partition("## Caveats")[0]):
        assert "Generation at steps=" in part
    assert "Samples of a score: 500." in comparison
    assert "Training seeds of a tokenizer: 1." in comparison
    assert "In brackets: 95% bootstrap over samples." in comparison


def test_tables_mark_differing_protocols_and_drop_none(new_study: Callable, tmp_path: Path, score: Callable) -> None:
    writer = new_study()
    for name, values in (("a", {"heun": 60.0, "euler": 70.0}), ("b", {"heun": 50.0})):
        writer.stage("reconstruct", name, scores=[score("psnr", 20.0)])
        scores = [score("gfid", value, "lower", half=None, protocol={"sampler": s}) for s, value in values.items()]
        writer.stage("generate", name, scores=scores)
    reports.make_report([writer.finish()], tmp_path, formats=("html", "latex", "md"))
    latex = (tmp_path / "latex" / "comparison.tex").read_text()
    assert r" & 60.00$^\dagger$ / 70.00$^\dagger$ \\" in latex
    assert r" & 50.00$^\dagger$ \\" in latex
    assert r"$^\dagger$ Protocols differ: these values do not compare." in latex
    markdown = (tmp_path / "report.md").read_text()
    assert "| b | 20.00" in markdown
    assert "| 60.00† / 70.00† |" in markdown
    assert "†: protocols differ, so these values do not compare." in markdown
    page = (tmp_path / "report.html").read_text()
    assert all(f">{value}†<" in page for value in ("60.00", "70.00", "50.00"))
    assert "different protocols: not comparable" in page


def test_a_model_card_has_the_scores_as_a_hub_reads_them(three: Path, tmp_path: Path) -> None:
    reports.make_report([three], tmp_path, formats=("md",))
    text = (tmp_path / "cards" / "send-vae.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    (result,) = head["model-index"][0]["results"]
    assert head["model-index"][0]["name"] == "send-vae"
    assert {metric["type"]: metric["value"] for metric in result["metrics"]}["gfid"] == 49.0
    assert "| gFID to real images | 49.00 | 48.02 to 49.98" in text


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        ("\\write18{rm}", r"\textbackslash{}write18\{rm\}"),
        ("\N{MINUS SIGN}0.5", "$-$0.5"),
        ("x\x00\x1by", "xy"),
    ],
)
def test_latex_is_set_as_it_is(text: str, latex: str) -> None:
    assert latex_text(text) == latex


def test_markdown_is_shown_as_it_is() -> None:
    assert markdown_text("a|b\n\n# c") == r"a\|b \# c"
    assert markdown_text("<b>[x](y)") == r"&#60;b&#62;\[x\](y)"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_formulas_become_text(text: str) -> None:
    assert csv_text(text) == f"'{text}"
    assert csv_text(f"x{text}") == f"x{text}"


def test_file_names_are_plain_and_apart() -> None:
    assert file_name("../../etc/passwd") == "etc-passwd"
    assert file_name("\N{SNOWMAN}") == "tokenizer"
    assert file_name("A", ["a", "A-2"]) == "A-3"


def test_colours_can_be_told_apart_without_red_or_green_or_blue() -> None:
    """Machado, Oliveira and Fernandes (2009), full deficiency, and CIE 1976 colour differences."""
    matrices = {
        "normal": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for name, matrix in matrices.items():
        ratio = np.clip(linear @ np.array(matrix).T, 0, 1) @ to_xyz.T / [0.9505, 1.0, 1.089]
        f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
        distances = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(len(lab), 1)]
        # The first six, which most studies need, differ clearly; all eight differ visibly, and by their markers.
        six = np.linalg.norm(lab[:6, None] - lab[:6], axis=2)[np.triu_indices(6, 1)]
        assert six.min() > 11, (name, six.min())
        assert distances.min() > 5, (name, distances.min())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
