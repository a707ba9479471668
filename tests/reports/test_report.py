"""The page: complete, self-contained, escaped, honest, and not troubled by what is missing."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest

import reports
from reports.analysis import analyse
from reports.answer import answer
from reports.collect import collect
from reports.comparison import compare
from reports.findings import findings
from reports.html import cell
from reports.names import coefficient, number
from reports.pictures import Leading, headline_relations
from reports.prediction import Prediction, prediction_table
from reports.relations import Relation
from reports.statistics import partial_correlation
from vaebench.core.errors import MissingPath

BUDGET_AXES = {"steps": "SiT training steps", "cfg": "guidance scale", "nfe": "function evaluations"}
VOID = {"meta", "img", "link", "br", "hr", "input", "use", "path", "rect", "line", "circle"}
OWN_SCRIPTS = 2  # the data and the one that reads them


class Page(HTMLParser):
    """Collects tags with their attributes and the text; checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[Mapping[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(folder: Path, output: Path, force: bool = False) -> tuple[str, Page]:
    path = reports.make_report([folder], output, force, formats=("html",))
    assert path == output / "report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [], "every tag is closed"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "ids are unique"
    return text, page


def said(page: Page) -> str:
    return re.sub(r"\s+", " ", " ".join(page.text))


@pytest.fixture(scope="module")
def page_of_three(three: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """Source and parse of the report on three tokenizers."""
    return report(three, tmp_path_factory.mktemp("out"))


def test_a_complete_study_has_every_section(page_of_three: tuple[str, Page]) -> None:
    _, page = page_of_three
    sections = [attributes["id"] for attributes in page.of("section")]
    assert sections == ["answer", "comparison", "prediction", "training", "reconstructions", "samples", "attributes",
                        "findings", "caveats", "protocols", "provenance"]  # fmt: skip
    assert len(page.of("img")) == 1 + 3 + 3, "originals once, reconstructions and samples of each tokenizer"
    figures = [a["aria-label"] for a in page.of("svg")]
    assert len(figures) == 4 + 1 + 2 + 1, "scatters, attributes, training, profiles"
    assert str(figures[0]).startswith("Scatter plot of gFID to real images"), "the plot that shows the answer is first"
    words = said(page)
    assert "n=3 carries almost nothing" in words
    assert "neither shown nor refuted" in words
    assert (
        "send-vae has the lowest gFID to real images; its interval overlaps no other, but it or the runner-up has one "
        "training seed"
    ) in words
    assert "not comparable" in words
    assert "not the Inception network" in words
    assert "3 of 3 tokenizers have one training seed" in words
    assert "Test CPU" in words


def test_the_page_loads_nothing(page_of_three: tuple[str, Page]) -> None:
    text, page = page_of_three
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/webp;base64,")), (tag, name, value)
    assert [a.get("type") for a in page.of("script")] == ["application/json", None]
    assert not page.of("link")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    policy = [a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    script = text.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'"
    assert policy == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {allowed}"]


def test_the_page_can_be_read_without_seeing_it(page_of_three: tuple[str, Page]) -> None:
    _, page = page_of_three
    assert all(attributes.get("alt") for attributes in page.of("img"))
    figures = [attributes for attributes in page.of("svg") if attributes.get("role") == "img"]
    assert len(figures) == len(page.of("svg"))
    assert all(attributes.get("aria-label") for attributes in figures)
    assert all(attributes.get("scope") in ("col", "row", "rowgroup") for attributes in page.of("th"))
    assert page.of("html")[0]["lang"] == "en"


def test_names_from_files_are_escaped(new_study: Callable, tmp_path: Path) -> None:
    evil = '<script>alert("x")</script> & $\\frac{1}{2}$'
    writer = new_study(name="<img src=http://x.test/a.png onerror=alert(1)>")
    for name, shift in ((evil, 0.0), ("b", 0.1), ("c", 0.2)):
        writer.tokenizer(name, (22 + shift, 30, 0.5 + shift, 60 - 50 * shift, 30 - 40 * shift))
    folder = writer.finish(
        config={"title": "</title><script>", "description": "<iframe src=//x.test>", "seeds": ["<b>"]},
        machine={"<i>cpu</i>": "<u>"}, command=["vaebench", "quickstart", "; rm -rf <x>"],
    )  # fmt: skip
    text, page = report(folder, tmp_path / "out")
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"iframe", "b", "u"}
    assert len(page.of("script")) == text.count("<script") == OWN_SCRIPTS
    assert len(page.of("img")) == 7
    assert evil in "".join(page.text)
    known = json.loads(text.split('id="report-data">')[1].split("</script>")[0])
    assert known["tokens"][0]["label"] == evil


@pytest.mark.parametrize(
    ("sign", "verdict", "words"), [(-1, "supports", "claim holds"), (1, "contradicts", "not hold")]
)
def test_a_claim_that_holds_or_fails_is_said_so(new_study: Callable, sign: int, verdict: str, words: str) -> None:
    writer = new_study()
    for place in range(6):
        gfid = 50 + sign * 2 * place + 0.3 * (-1) ** place
        writer.tokenizer(f"t{place}", (22 + place % 2, 30, 0.5 + 0.02 * place, gfid, gfid - 20), grids=False)
    results = collect([writer.finish()])
    comparison = compare(results.scores)
    leading = Leading.of(comparison)
    relations = headline_relations(results, comparison, leading, force=False)
    first, *_ = findings(results, comparison, leading.probe, leading.budget, relations)
    said_first, _ = answer(comparison, leading.budget, relations, analyse(results, comparison).prediction)
    assert f"generated {'better' if sign < 0 else 'worse'}" in said_first
    assert first.verdict == verdict
    assert words in first.text
    assert "leaving one out" in first.detail
    assert "With PSNR held fixed" in first.detail


def test_one_tokenizer_far_from_the_rest_settles_nothing(new_study: Callable) -> None:
    """Three that rise and one far away: r is near -1, its interval narrow, and it means next to nothing."""
    writer = new_study()
    for place, (f1, gfid) in enumerate(((0.350, 60.0), (0.351, 60.2), (0.352, 60.4), (0.60, 40.0))):
        writer.tokenizer(f"t{place}", (22 + place % 2, 30, f1, gfid, gfid - 20), grids=False)
    results = collect([writer.finish()])
    comparison = compare(results.scores)
    leading = Leading.of(comparison)
    relations = headline_relations(results, comparison, leading, force=False)
    first, *_ = findings(results, comparison, leading.probe, leading.budget, relations)
    assert first.verdict == "open"
    said_first, _ = answer(comparison, leading.budget, relations, analyse(results, comparison).prediction)
    for words in (first.text, said_first):
        assert "one tokenizer carries it: leaving one out, r runs from" in words


def test_attributes_left_out_of_probes_are_said(new_study: Callable, score: Callable, tmp_path: Path) -> None:
    writer = new_study()
    for name in ("a", "b"):
        detail = {"attribute": None, "vectorisation": "flattened"}
        detail |= {"excluded": {"smiling": "has one class only in the test split"}} if name == "b" else {}
        writer.stage("probe", name, scores=[score("probe_macro_f1", 0.5, detail=detail)])
    folder = writer.finish()
    said = "probe of 'smiling': not available: it has one class only in the test split (b)"
    assert said in collect([folder]).gaps()
    reports.make_report([folder], tmp_path / "out", formats=("md",))
    assert "one class only in the test split" in (tmp_path / "out" / "report.md").read_text()


def test_most_of_it_is_size(new_study: Callable) -> None:
    """Larger latents show more and generate worse; among equals, nothing is left."""
    writer = new_study()
    noise = np.random.default_rng(5).normal(size=(2, 8))
    for place in range(8):
        size = 1 + place // 2
        writer.tokenizer(f"t{place}", (22 + place % 2, 30, 0.4 + 0.1 * size + 0.01 * noise[0, place],
                                       50 + 5 * size + 0.5 * noise[1, place], 30), grids=False)  # fmt: skip
        with h5py.File(writer.stage("extract", f"t{place}") / "test.h5", "w") as file:
            file.attrs["shape"], file.attrs["tokenizer"] = json.dumps((8 * size, 4, 4)), json.dumps({"f": 16})
    results = collect([writer.finish()])
    comparison = compare(results.scores)
    leading = Leading.of(comparison)
    relations = headline_relations(results, comparison, leading, force=False)
    probe = relations["probe"]
    assert isinstance(probe, Relation)
    assert probe.correlation is not None
    assert probe.correlation.unsettled == "", "by itself it is as clear as can be"
    x, y, sizes = probe.points["x"], probe.points["y"], np.repeat([128.0, 256, 384, 512], 2)
    expected = partial_correlation(x, y, sizes)
    first, *_ = findings(results, comparison, leading.probe, leading.budget, relations)
    assert first.verdict == "open"
    analysis = analyse(results, comparison)
    said_first, _ = answer(comparison, leading.budget, relations, analysis.prediction)
    rows = analysis.relations
    in_table = rows[(rows["metric"] == probe.predictor.metric) & (rows["target"] == "gfid")]["unsettled"].iloc[0]
    for words in (first.text, said_first, in_table):
        assert f"most of it goes with latent size: with that held fixed r is {coefficient(expected.value)}" in words


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_rival_is_named_whichever_way_it_went(new_study: Callable, sign: int) -> None:
    writer = new_study()
    for place in range(6):
        gfid = 50 + sign * 2 * place + 0.3 * (-1) ** place
        writer.tokenizer(f"t{place}", (22 + 0.1 * place, 30, 0.5 + 0.02 * place, gfid, gfid - 20), grids=False)
    results = collect([writer.finish()])
    comparison = compare(results.scores)
    leading = Leading.of(comparison)
    relations = headline_relations(results, comparison, leading, force=False)
    claim, _ = answer(comparison, leading.budget, relations, analyse(results, comparison).prediction)
    assert f"generated {'better' if sign < 0 else 'worse'}" in claim
    assert "but PSNR went with gFID as closely" in claim


def test_what_psnr_explains_is_not_said_of_an_unsettled_correlation(page_of_three: tuple[str, Page]) -> None:
    words = said(page_of_three[1])
    assert "that of PSNR is not settled: the interval includes zero" in words
    assert "a higher PSNR came with" not in words


@pytest.mark.parametrize(
    ("n", "reference", "shown"), [(500, "test", True), (400, "test", False), (500, "train", False)]
)
def test_a_share_of_the_decoder_needs_equal_n_and_reference(
    new_study: Callable, score: Callable, n: int, reference: str, shown: bool
) -> None:
    writer = new_study()
    for name, rfid in (("a", 20.0), ("b", 10.0)):
        scores = [score("rfid", rfid, "lower", protocol={"reference": "test", "reference_samples": 500})]
        writer.stage("reconstruct", name, scores=scores)
        protocol = {"reference": reference, "reference_samples": 500}
        writer.stage("generate", name, budget={"steps": 1}, scores=[score("gfid", 40, "lower", protocol=protocol, n=n)])
    results = collect([writer.finish()])
    comparison = compare(results.scores)
    leading = Leading.of(comparison)
    found = findings(results, comparison, leading.probe, leading.budget, {})
    assert any("already at 25% to 50% of the gFID" in one.text for one in found) == shown


@pytest.mark.parametrize(
    ("r2", "picked", "words"),
    [
        (0.5, "a", "put it first; for a further tokenizer, once these are generated, scoring takes 30% of the time"),
        (0.5, "b", "put b (2.0 gFID worse) first"),
        (-0.1, "", "predicted from its latent scores no better than by the mean of the others"),
        (None, "", "needs five tokenizers to say"),
    ],
)
def test_what_latent_scores_pick_is_said_without_claiming_to_have_saved(
    three: Path, r2: float | None, picked: str, words: str
) -> None:
    comparison = compare(collect([three]).scores)
    one = Prediction("latent scores, ridge", "x", "gfid", "", "tokenizer", 6, r2=r2, picked=picked, best="a",
                     regret=2.0 if picked else None, scoring_share=0.3)  # fmt: skip
    _, choice = answer(comparison, Leading.of(comparison).budget, {}, prediction_table([one]))
    assert words in choice
    assert "saved" not in choice


def test_a_confounder_is_named(page_of_three: tuple[str, Page]) -> None:
    assert "cannot tell the two explanations apart" in said(page_of_three[1])


def test_overlapping_intervals_mark_nobody_best(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    for name, gfid in (("a", 50.0), ("b", 51.0), ("c", 52.0)):
        writer.tokenizer(name, (22, 30, 0.5, gfid, 30), half=0.1)
    text, page = report(writer.finish(), tmp_path / "out")
    assert 'class="value best"' not in text
    assert 'class="value tied"' in text
    assert "though within noise of b and c" in said(page)
    assert "a has the lowest gFID to real images, but its interval overlaps those of b and c" in said(page)


def test_differing_protocols_are_not_drawn_unless_forced(mixed: Path, tmp_path: Path) -> None:
    text, page = report(mixed, tmp_path / "out")
    assert "sampler.nfe (25 against 50)" in said(page)
    assert 'aria-label="Scatter plot of gFID to real images' not in text
    text, page = report(mixed, tmp_path / "forced", force=True)
    assert 'aria-label="Scatter plot of gFID to real images' in text
    assert "protocols differ (forced)" in said(page)


def test_one_tokenizer_only(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    writer.tokenizer("kl-vae", (22, 30, 0.5, 60, 30))
    words = said(report(writer.finish(), tmp_path / "out")[1])
    assert "cannot be told here" in words
    assert "1 tokenizer: n=1 carries nothing" in words


def test_no_grids_and_no_probe(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    writer.tokenizer("kl-vae", (22, 30, 0.5, 60, 30), grids=False)
    kept = [stage for stage in writer.stages if stage["kind"] != "probe"]
    writer.stages = kept
    _, page = report(writer.finish(), tmp_path / "out")
    assert "attributes" not in [attributes["id"] for attributes in page.of("section")]
    assert not page.of("img")
    assert "No readable PNG." in said(page)


def test_a_file_that_is_no_png_is_not_embedded(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    folder = writer.stage("generate", "a", budget={"steps": 1})
    (folder / "samples.png").write_text("<svg onload=alert(1)>")
    text, page = report(writer.finish(), tmp_path / "out")
    assert "onload" not in text
    assert "No readable PNG." in said(page)


def test_nothing_complete_yet(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    writer.stage("data", seed=None)
    writer.stage("train", "kl-vae", complete=False)
    _, page = report(writer.finish(), tmp_path / "out")
    words = said(page)
    assert "No scores yet" in words
    assert "1 stage is not complete" in words
    assert "train-kl-vae-s0-1 (train) is not complete" in words


def test_budgets_and_seeds(new_study: Callable, tmp_path: Path, score: Callable) -> None:
    writer = new_study()
    for name, base in (("a", 50.0), ("b", 60.0)):
        for seed in (0, 1):
            for steps in (300, 600):
                gfid = score("gfid", base * (600 / steps) ** 0.5 + seed, "lower", protocol={"sit_steps": steps})
                writer.stage("generate", name, seed, {"steps": steps, "cfg": 1.0, "nfe": 25}, scores=[gfid])
    _, page = report(writer.finish(), tmp_path / "out")
    words = said(page)
    assert "gFID to real images against steps" in words
    assert "Generation at steps=300 cfg=1 nfe=25" in words
    assert "95% t interval over 2 training seeds" in words


@pytest.mark.parametrize("key", ["steps", "cfg", "nfe"])
def test_budgets_share_an_axis_where_protocols_differ_in_nothing_else(
    new_study: Callable, tmp_path: Path, score: Callable, key: str
) -> None:
    def study(name: str, networks: Sequence[str]) -> Path:
        writer = new_study(folder=name)
        for tokenizer, network in zip("ab", networks, strict=True):
            for value in (10, 20):
                budget = {"steps": 600, "cfg": 1.0, "nfe": 25} | {key: value}
                sampler = {"name": "heun", "cfg": budget["cfg"], "nfe": budget["nfe"]}
                protocol = {"network": network, "sampler": sampler, "sit_steps": budget["steps"]}
                writer.stage("generate", tokenizer, budget=budget, scores=[score("gfid", 50.0, protocol=protocol)])
        return writer.finish()

    drawn = f'aria-label="gFID to real images against {BUDGET_AXES[key]}'
    text, _ = report(study("same", ["mobilenetv2"] * 2), tmp_path / "same")
    assert drawn in text
    differing = study("differing", ["mobilenetv2", "inception"])
    text, page = report(differing, tmp_path / "out")
    assert drawn not in text
    assert "Not drawn. gFID to real images" in said(page)
    assert "network ('mobilenetv2' against 'inception')" in said(page)
    text, page = report(differing, tmp_path / "forced", force=True)
    assert drawn in text
    assert "Protocols differ (forced)." in said(page)


def test_values_of_differing_protocols_are_marked(mixed: Path, tmp_path: Path) -> None:
    _, page = report(mixed, tmp_path / "out")
    assert said(page).count("60.00†") == 2, "in the table of leading scores and in that of all"
    assert "†: protocols differ, so these values do not compare." in said(page)
    assert "0.500†" not in said(page)


def test_numbers_have_the_digits_of_their_metric(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    for i, name in enumerate(("a", "b", "c")):
        writer.tokenizer(name, (22.734 + i, 1004.86 + i, 0.5 + 0.1 * i, 60 - 5 * i, 30), grids=False)
    text, _ = report(writer.finish(), tmp_path / "out")
    printed = text.split("Published numbers beside these")[1].split("</details>")[0]
    assert ">22.73<" in printed
    assert ">1004.86<" in printed
    assert not re.search(r">\d\S*e[+-]\d", text), "no exponents"


@pytest.mark.parametrize(
    ("value", "text"),
    [(999.7, "1000"), (1004.86, "1005"), (123456.0, "123456"), (0.98765, "0.988"), (-22.73, "\N{MINUS SIGN}22.7"),
     (0.0, "0"), (0.5, "0.5"), (0.0000123, "0.0000123"), (1.5e7, "1.5e+07"), (12, "12"), (None, "\N{EM DASH}")],
)  # fmt: skip
def test_cells_have_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert cell(value) == text


def test_a_metric_that_nobody_foresaw_is_shown(new_study: Callable, tmp_path: Path, score: Callable) -> None:
    writer = new_study()
    for name, value in (("a", 0.1), ("b", 0.2), ("c", 0.4)):
        writer.stage("probe", name, scores=[score("sparsity", value)])
        writer.stage("generate", name, budget={"steps": 1}, scores=[score("gfid", 50 - 30 * value, "lower")])
    words = said(report(writer.finish(), tmp_path / "out")[1])
    assert "Other scores" in words
    assert words.count("sparsity") >= 2, "in the comparison and among the predictors"


def test_several_studies_on_one_page(three: Path, new_study: Callable, tmp_path: Path) -> None:
    other = new_study(name="second", folder="second")
    other.tokenizer("kl-vae", (23, 29, 0.55, 58, 30))
    path = reports.make_report([three, other.finish()], tmp_path / "out", formats=("html",))
    words = said(Page(path.read_text()))
    assert "kl-vae (quickstart)" in words
    assert "kl-vae (second)" in words


def test_the_same_study_gives_the_same_page(three: Path, page_of_three: tuple[str, Page], tmp_path: Path) -> None:
    assert report(three, tmp_path / "again")[0] == page_of_three[0]


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPath, match="not a study folder"):
        reports.make_report([tmp_path], tmp_path / "out")


def test_reports_never_import_torch(mixed: Path, tmp_path: Path) -> None:
    code = (
        "import sys, reports; from pathlib import Path; "
        f"reports.make_report([Path({str(mixed)!r})], Path({str(tmp_path / 'out')!r})); "
        "sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(reports.__file__).parents[1]).returncode == 0
    )


@pytest.mark.parametrize(
    ("r", "text"),
    [(1.0, "1"), (-1.0, "\N{MINUS SIGN}1"), (0.5, "0.50"), (-0.9981, "\N{MINUS SIGN}0.998"), (0.9999999, "0.9999")],
)
def test_a_correlation_never_looks_like_one_unless_it_is(r: float, text: str) -> None:
    assert coefficient(r) == text


def test_numbers_are_printed_plainly() -> None:
    assert number(-0.001, 2) == "0.00"
    assert number(float("nan")) == number(None) == "\N{EM DASH}"
    assert number(-3.14159, 3) == "\N{MINUS SIGN}3.142"


def test_problems_reach_the_caveats(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    (writer.stage("probe", "a") / "scores.json").write_text("not json")
    folder = writer.finish()
    (problem,) = collect([folder]).problems
    assert "cannot be read" in problem
    assert "cannot be read" in said(report(folder, tmp_path / "out")[1])


def test_what_no_score_could_be_had_for_is_said(new_study: Callable, tmp_path: Path) -> None:
    writer = new_study()
    for name in ("a", "b"):
        notes = {"not_available": {"srss": "needs masks"} | ({"viv": "no class has enough"} if name == "b" else {})}
        (writer.stage("score", name) / "notes.json").write_text(json.dumps(notes))
    words = said(report(writer.finish(), tmp_path / "out")[1])
    assert "srss: not available: needs masks viv: not available: no class has enough (b)" in words
    reports.make_report([writer.folder], tmp_path / "md", formats=["md"])
    assert "srss: not available: needs masks" in (tmp_path / "md" / "report.md").read_text()
