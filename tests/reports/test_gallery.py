"""Traversals, maps and nearest images: what the page makes of what the stages leave."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.collect import collect
from reports.gallery import gallery, selectivity
from reports.images import MOST_PIXELS, packer, size_of

FACES = 2


@pytest.fixture
def study(new_study: Callable) -> Path:
    """Two tokenizers, the second with more of the attribute that is turned up."""
    writer = new_study()
    for seed, name in enumerate(("a", "b")):
        writer.tokenizer(name, (22, 30, 0.5, 60 - seed, 30))
        writer.gallery(name, seed=seed)
    return writer.finish()


def test_every_tokenizer_has_a_strip_of_its_own_rows(study: Path) -> None:
    results = collect([study])
    shown = gallery(results, packer(90))
    assert shown.problems == []
    assert [traversal.name for traversal in shown.traversals] == ["glasses", "hat"]
    whole = {
        stage.tokenizer: np.asarray(Image.open(stage.folder / "traversals.png"))
        for stage in results.studies[0].of_kind("gallery")
    }
    for place, traversal in enumerate(shown.traversals):
        assert [strip.label for strip in traversal.strips] == ["a", "b"]
        for strip in traversal.strips:
            assert (strip.picture.width, strip.picture.height) == (3 * 18 - 2, FACES * 18 - 2)
            rows = whole[strip.label][place * FACES * 18 :][: FACES * 18 - 2].astype(float)
            error = np.abs(_pixels(strip.picture.uri) - rows).mean()
            other = whole[strip.label][(1 - place) * FACES * 18 :][: FACES * 18 - 2].astype(float)
            assert error < 0.8 * np.abs(_pixels(strip.picture.uri) - other).mean(), "noise survives WebP that far"


def test_what_moved_is_sorted_and_the_attribute_itself_is_first(study: Path) -> None:
    first = gallery(collect([study]), packer(90)).traversals[0]
    assert [moved.name for moved in first.moved] == ["glasses", "smile", "hat", "beard"]
    assert [moved.target for moved in first.moved] == [True, False, False, False]
    assert first.moved[0].read == {"a": (0.6, 0.5, 0.9), "b": (0.65, 0.5, 0.9)}
    assert first.moved[0].probe == {"a": 0.7, "b": 0.7}
    assert first.moved[0].cooccurrence == 1.0


def test_selectivity_is_the_change_wanted_over_the_mean_of_all_others(study: Path) -> None:
    table = selectivity(gallery(collect([study]), packer(90)).traversals).set_index("label")
    # glasses: others move by 0.02, 0.04, 0.06; hat: by 0, 0.02, 0.06.
    others = (0.04 + 0.08 / 3) / 2
    assert table.loc["a", "target"] == pytest.approx(0.6)
    assert table.loc["a", "others"] == pytest.approx(others)
    assert table.loc["b", "ratio"] == pytest.approx(0.65 / others)
    assert list(table["attributes"]) == [2, 2]


def test_without_a_reader_the_probes_alone_speak(new_study: Callable) -> None:
    writer = new_study()
    writer.tokenizer("a", (22, 30, 0.5, 60, 30))
    writer.gallery("a", read=False)
    shown = gallery(collect([writer.finish()]), packer(90))
    assert shown.traversals[0].moved[0].read == {}
    assert shown.traversals[0].moved[0].probe == {"a": 0.7}
    assert selectivity(shown.traversals).empty


def test_maps_of_one_study_share_their_images(study: Path) -> None:
    (one,) = gallery(collect([study]), packer(90)).maps
    assert list(one.places) == ["a", "b"]
    assert one.places["a"] != one.places["b"]
    assert sorted(one.attributes) == ["glasses", "hat"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("traversals.json", "{", "cannot be read"),
        ("traversals.json", json.dumps({"attributes": [{"name": "x"}], "steps": 3}), "another form"),
        ("map.json", json.dumps({"ids": [1]}), "another form"),
        ("nearest.json", json.dumps({"median": 1, "shown": []}), ""),
    ],
)
def test_what_cannot_be_read_is_said_and_stops_nothing(study: Path, name: str, content: str, said: str) -> None:
    for path in study.rglob(name):
        path.write_text(content)
    shown = gallery(collect([study]), packer(90))
    assert len(shown.problems) == (0 if not said else 2 if "cannot" in said else 1)
    assert all(said in problem for problem in shown.problems)


def test_only_png_files_of_a_sane_size_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "real.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "jpeg.png", format="JPEG")
    (tmp_path / "cut.png").write_bytes((tmp_path / "real.png").read_bytes()[:30])
    (tmp_path / "text.png").write_text("<svg onload=alert(1)>")
    pack = packer(90)
    assert pack(tmp_path / "real.png").uri.startswith("data:image/webp;base64,")
    for name in ("jpeg.png", "cut.png", "text.png", "missing.png"):
        assert pack(tmp_path / name).uri == ""
        assert size_of(tmp_path / name) is None
    assert MOST_PIXELS > 1e6
    monkeypatch.setattr("reports.images.MOST_PIXELS", 15)
    assert pack(tmp_path / "real.png").uri == ""


def _pixels(uri: str) -> np.ndarray:
    content = base64.b64decode(uri.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)
