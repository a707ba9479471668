"""What moves the identity of a stage: the content of files, not their place; and what no stage accepts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebench.core.config import build, content_hash
from vaebench.core.errors import ConfigError, UnknownName
from vaebench.core.files import file_states, write_json
from vaebench.data import fashion_mnist
from vaebench.stages import STAGES
from vaebench.stages.base import Context, execute, input_paths, lock_path, partial_folder, stage_hash
from vaebench.study.graph import build_graph
from vaebench.study.single import run_only
from vaebench.study.spec import load_study

CPU = Context(device="cpu")


def identity(kind: str, **config) -> str:
    stage = STAGES.get(kind)()
    return stage_hash(stage, stage.resolve(build(stage.Config, config)), {})


def data(**options) -> str:
    return identity("data", name="folder", options=options)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(4):
        path = tmp_path / "images" / f"class-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(path)
    return tmp_path / "images"


def test_where_images_lie_does_not_count(images, tmp_path, monkeypatch):
    here = data(root=str(images))
    monkeypatch.chdir(tmp_path)
    assert data(root="images") == here
    images.rename(tmp_path / "elsewhere")
    assert data(root="elsewhere") == here
    assert data(root="images") != here  # what is not there is not known


def test_what_images_are_counts_behind_links_too(images, tmp_path):
    (tmp_path / "linked").mkdir()
    for folder in images.iterdir():
        (tmp_path / "linked" / folder.name).symlink_to(folder)
    linked = data(root=str(tmp_path / "linked"))
    assert linked == data(root=str(images))
    (images / "class-0" / "0.png").write_bytes(b"another image")
    assert data(root=str(tmp_path / "linked")) != linked


@pytest.mark.parametrize("root", [False, True], ids=["beside the table", "below a root"])
def test_images_that_a_table_names_count(images, root):
    table = images.parent / "table.csv"
    table.write_text("path\n" + "".join(f"{'' if root else 'images/'}class-1/{n}.png\n" for n in (1, 3)))
    options = {"table": str(table), **({"root": str(images)} if root else {})}
    before = data(**options)
    (images.parent / "notes.txt").write_text("no image")
    assert data(**options) == before
    (images / "class-1" / "3.png").write_bytes(b"another image")
    assert data(**options) != before


def test_a_table_is_not_what_else_lies_below_its_root(images):
    table = images.parent / "table.csv"
    table.write_text("path\nclass-1/1.png\nclass-1/3.png\n")
    before = data(table=str(table), root=str(images))
    (images / "runs").mkdir()
    (images / "runs" / "events.jsonl").write_text("what a run leaves, whoever made it")
    (images / "class-0" / "0.png").write_bytes(b"an image that the table does not name")
    assert data(table=str(table), root=str(images)) == before


def test_a_table_of_all_images_below_its_root_keeps_the_hash_of_when_the_root_was_watched_whole(images):
    table, stage = images.parent / "table.csv", STAGES.get("data")()
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    table.write_text("path\n" + "\n".join(reversed(names)))
    config = stage.resolve(
        build(stage.Config, {"name": "folder", "options": {"table": str(table), "root": str(images)}})
    )
    whole = [(key, *state) for key, path in (("root", images), ("table", table)) for state in file_states(path)]
    assert config.files == content_hash(whole)


def test_what_vaebench_leaves_in_a_tree_does_not_count(images):
    before = data(root=str(images))
    latents = images / "class-0" / "latents"
    partial, lock = partial_folder(latents, "0123456789abcdef"), lock_path(latents, "0123456789abcdef")
    partial.mkdir()
    (partial / "train.h5").write_text("half")
    lock.write_text("{}")
    (images / "runs" / "study" / "logs").mkdir(parents=True)
    (images / "runs" / "study" / "logs" / "data-avatars.log").write_text("== 2024-01-01 00:00:00 on host, process 1\n")
    (images / "runs" / "study" / "stages").mkdir()
    (images / "runs" / "study" / "stages" / ".lock").write_text("{}")
    assert data(root=str(images)) == before
    write_json(images / "runs" / "study" / "index.json", {"study": "x", "study_hash": "y"})
    (images / "runs" / "study" / "events.jsonl").write_text("{}")
    assert data(root=str(images)) == before
    write_json(images / "class-1" / "index.json", {"made by": "somebody else"})
    assert data(root=str(images)) != before


@pytest.mark.parametrize("table", [False, True], ids=["tree", "table"])
def test_results_may_lie_below_the_images(images, table, monkeypatch):
    """Also those of a study, whose stages are checked against what was planned while it writes its logs."""
    from vaebench.api import extract

    monkeypatch.chdir(images)
    monkeypatch.setenv("VAEBENCH_CACHE", str(images.parent / "cache"))
    options = {"root": ".", "image_size": 16, "validation_fraction": 0, "test_fraction": 0}
    if table:
        Path("table.csv").write_text("path\nclass-0/0.png\nclass-1/1.png\nclass-0/2.png\nclass-1/3.png\n")
        options["table"] = "table.csv"
    made = [
        extract("dct", "folder", "latents", data_options=options, settings={"splits": ["train"]}, context=CPU)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    spec = load_study("quickstart", [f"data={json.dumps({'name': 'folder', 'options': options})}"])
    for _ in range(2):
        assert run_only(build_graph(spec), Path("runs/quickstart"), CPU, ["data"]) == []


def test_fashion_mnist_in_the_working_directory_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEFAULT_FOLDERS", (Path("data"),))
    found = []
    for name in ("first", "second"):
        (tmp_path / name / "data").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        found.append(identity("data", name="fashion-mnist"))
        Path("data/train-images-idx3-ubyte.gz").write_text(name)
        found.append(identity("data", name="fashion-mnist"))
    assert found[0] == found[2]
    assert len(set(found)) == 3


def test_options_that_only_bear_the_name_of_a_file_do_not_count(images, tmp_path, monkeypatch):
    before = data(root=str(images))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "label").write_text("path, label and split are columns of a table")
    (tmp_path / "split").mkdir()
    assert data(root=str(images)) == before


@pytest.mark.parametrize(("kind", "option", "config"), [
    ("reference", "weights", {"network": {"name": "inception", "options": {}}}),
    ("features", "checkpoint", {"network": {"name": "timm", "options": {"model": "resnet18"}}}),
    ("score", "weights", {"metrics": ["spectrum"], "network": {"name": "inception", "options": {}}}),
])  # fmt: skip
def test_weights_of_networks_count_by_their_content(tmp_path, kind, option, config):
    weights, stage = tmp_path / "w.pth", STAGES.get(kind)()
    config["network"]["options"][option] = str(weights)
    absent = identity(kind, **config)
    found = []
    for content in (b"first", b"the second", b"first"):
        weights.write_bytes(content)
        found.append(identity(kind, **config))
    assert found[0] == found[2] != found[1]
    assert absent not in found
    assert stage.outside(stage.resolve(build(stage.Config, config))) == [str(weights)]


def test_weights_of_the_perceptual_loss_count(tmp_path):
    weights, stage = tmp_path / "vgg.pth", STAGES.get("train")()
    config = {"method": "kl-vae", "network": "nano", "training": {"perceptual_weights": str(weights)}}
    weights.write_bytes(b"first")
    first = identity("train", **config)
    weights.write_bytes(b"the second")
    assert identity("train", **config) != first
    assert stage.outside(stage.resolve(build(stage.Config, config))) == [str(weights)]


def test_files_that_inputs_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("vae.pt", "stats.pt", "dct"):
        Path(name).write_text(name)
    assert input_paths("tokenizer", "vae.pt?stats=stats.pt&norm_groups=8") == ["vae.pt", "stats.pt"]
    assert input_paths("tokenizer", "vae.pt") == ["vae.pt"]
    assert input_paths("npz", "stats.pt") == ["stats.pt"]
    assert input_paths("tokenizer", "random-projection?f=16&d=32") == []
    assert input_paths("tokenizer", "dct") == []  # the registered one


@pytest.mark.parametrize(("kind", "setting"), [
    *((kind, "batch_size") for kind in ("extract", "features", "reference", "reconstruct", "generate", "score",
                                        "gallery", "nearest")),
    ("reconstruct", "bootstrap"), ("reconstruct", "grid"),
    *(("generate", name) for name in ("steps", "nfe", "samples", "bootstrap", "per_class")),
])  # fmt: skip
def test_sizes_and_counts_are_positive(kind, setting):
    given = {"steps": 4} if kind == "generate" else {}
    for value in (0, -1):
        with pytest.raises(ConfigError, match=f"'{setting}'"):
            build(STAGES.get(kind).Config, {**given, setting: value})


@pytest.mark.parametrize("setting", ["train", "test"])
def test_a_reference_may_take_all_images_but_not_fewer_than_none(setting):
    assert getattr(build(STAGES.get("reference").Config, {setting: 0}), setting) == 0
    with pytest.raises(ConfigError, match=f"'{setting}'"):
        build(STAGES.get("reference").Config, {setting: -1})


def test_a_split_that_the_data_lack_is_named(images, tmp_path):
    shutil.move(images, tmp_path / "photos" / "train")
    options = {"root": str(tmp_path / "photos"), "image_size": 16, "test_fraction": 0, "validation_fraction": 0}
    prepared = execute(STAGES.get("data")(), {"name": "folder", "options": options}, {}, tmp_path / "data", CPU).folder
    with pytest.raises(UnknownName, match="has no split 'test'"):
        execute(STAGES.get("reference")(), {}, {"data": prepared}, tmp_path / "reference", CPU)
    with pytest.raises(UnknownName, match="has no split 'validation'"):
        execute(STAGES.get("features")(), {"split": "validation"}, {"data": prepared}, tmp_path / "features", CPU)
    inputs = {"data": prepared, "tokenizer": "dct"}
    with pytest.raises(
        UnknownName, match=r"no images for validation and test\. Extract what there is: -o splits=\[train\]"
    ):
        execute(STAGES.get("extract")(), {}, inputs, tmp_path / "extract", CPU)
    assert not list((tmp_path).rglob("train.h5*"))


def test_a_table_needs_no_column_that_is_only_named_by_default(images):
    (images.parent / "table.csv").write_text("path\nclass-0/0.png\nclass-1/1.png\n")
    options = {"table": str(images.parent / "table.csv"), "root": str(images), "image_size": 16}
    execute(STAGES.get("data")(), {"name": "folder", "options": options}, {}, images.parent / "data", CPU)


def test_data_without_a_training_split_are_shown_by_another(images, tmp_path):
    shutil.move(images, tmp_path / "photos" / "test")
    options = {"root": str(tmp_path / "photos"), "image_size": 16}
    made = execute(STAGES.get("data")(), {"name": "folder", "options": options}, {}, tmp_path / "data", CPU).folder
    assert (made / "contact-sheet.png").is_file()


def test_features_of_reconstructions_are_those_of_the_images_made_at_once(smoke_run):
    import torch

    from vaebench import load_tokenizer, open_data
    from vaebench.vision import extract, load_network
    from vaebench.vision.transforms import to_signed, to_uint8

    def folder(pattern):
        return next((smoke_run / "stages").glob(pattern))

    tokenizer = load_tokenizer(folder("train-kl-vae-*"))
    rows = np.load(folder("reference-*") / "train_rows.npy")
    images = open_data(folder("data-*") / "data.h5").split("train").images(rows)
    with torch.inference_mode():
        made = to_uint8(tokenizer.decode(tokenizer.encode(to_signed(torch.from_numpy(images))).mean)).numpy()
    expected = extract(load_network("mobilenetv2"), made.__getitem__, len(made), want=("pooled",))["pooled"]
    found = np.load(folder("reconstruct-kl-vae-*") / "train.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
