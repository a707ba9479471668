"""The user's own images: trees, tables, and everything that can be wrong with them."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vaebench.data as data
from vaebench.core.errors import ConfigError, DataError, MissingPath, UnknownName
from vaebench.core.files import file_states, write_json
from vaebench.data.base import SPLITS
from vaebench.data.folder import Folder, FolderConfig, read_image
from vaebench.data.own import mark, user_file_states
from vaebench.vision.transforms import centre_crop_resize


def picture(path, seed=0, size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def prepare(tmp_path, **values):
    path = tmp_path / "prepared" / "data.h5"
    info = data.prepare("folder", {"image_size": 16, **values}, path)
    return info, data.open_data(path)


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "images"
    for c, name in enumerate(("cat", "dog", "elk")):
        for i in range(60):
            picture(root / name / f"{i}.png", seed=100 * c + i)
    return root


@pytest.fixture
def table(tmp_path):
    """Frame of 40 images whose files exist, with two attributes."""
    rng = np.random.default_rng(0)
    names = [f"img/{i:03}.png" for i in range(40)]
    for i, name in enumerate(names):
        picture(tmp_path / name, seed=i)
    return pd.DataFrame({"path": names, "smiling": rng.integers(0, 2, 40), "hat": rng.integers(0, 2, 40) * 2 - 1})


def test_one_tree_is_divided(tree, tmp_path):
    info, dataset = prepare(tmp_path, root=tree)
    assert info.classes == ("cat", "dog", "elk")
    assert info.attributes == ()
    assert info.attribute_level is None
    sizes = [len(dataset.splits[name]) for name in SPLITS]
    assert sum(sizes) == 180
    assert sizes[0] > 110
    assert min(sizes) > 5
    ids = np.concatenate([dataset.splits[name].ids for name in SPLITS])
    assert len(np.unique(ids)) == 180
    labels = np.concatenate([dataset.splits[name].labels for name in SPLITS])
    np.testing.assert_array_equal(np.bincount(labels), [60, 60, 60])


def test_pixels_pass_through_the_one_crop_function(tmp_path):
    image = picture(tmp_path / "images" / "train" / "a" / "x.png", size=(50, 33))
    picture(tmp_path / "images" / "val" / "a" / "y.png")
    picture(tmp_path / "images" / "test" / "a" / "z.png")
    _, dataset = prepare(tmp_path, root=tmp_path / "images")
    with Image.open(image) as opened:
        np.testing.assert_array_equal(dataset.splits["train"].in_memory()[0], centre_crop_resize(opened, 16))


def test_adding_an_image_moves_no_other(tree, tmp_path):
    _, before = prepare(tmp_path, root=tree)
    where = {int(i): name for name in SPLITS for i in before.splits[name].ids}
    picture(tree / "bee" / "new.png", seed=999)
    _, after = prepare(tmp_path, root=tree)
    now = {int(i): name for name in SPLITS for i in after.splits[name].ids}
    assert len(now) == len(where) + 1
    assert {i: now[i] for i in where} == where


def test_fingerprint_is_of_the_content_not_the_place(tree, tmp_path):
    info, _ = prepare(tmp_path, root=tree)
    moved = tree.rename(tmp_path / "elsewhere")
    assert prepare(tmp_path, root=moved)[0].fingerprint == info.fingerprint
    picture(moved / "cat" / "0.png", seed=12345)
    assert prepare(tmp_path, root=moved)[0].fingerprint != info.fingerprint


def test_split_folders(tmp_path):
    root = tmp_path / "images"
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for i in range(count):
            picture(root / split / "ab"[i % 2] / f"{i}.jpg", seed=i)
    (root / "notes").mkdir()
    (root / "notes" / "read.me").write_text("beside the splits may lie what is no image")
    info, dataset = prepare(tmp_path, root=root)
    assert [len(dataset.splits[name]) for name in SPLITS] == [6, 2, 3]
    assert info.classes == ("a", "b")


@pytest.mark.parametrize("names", [("bicycle", "bus", "train"), ("train", "val", "thumbnails"), ("test", "cat")])
def test_splits_beside_other_folders_of_images_are_refused(tmp_path, names):
    for name in names:
        picture(tmp_path / "images" / name / "a" / "0.png")
    others = ", ".join(name for name in names if name not in ("train", "val", "test"))
    with pytest.raises(DataError, match=f"beside them images that are in none: {others}\\."):
        prepare(tmp_path, root=tmp_path / "images")
    picture(tmp_path / "flat" / "train" / "0.png")
    picture(tmp_path / "flat" / "1.png")
    with pytest.raises(DataError, match=r"in none: 1\.png\."):
        prepare(tmp_path, root=tmp_path / "flat")


def test_validation_and_test_alone_are_splits_too(tmp_path):
    for split in ("val", "test"):
        picture(tmp_path / "images" / split / "cat" / "0.png")
    info, dataset = prepare(tmp_path, root=tmp_path / "images")
    assert (info.classes, set(dataset.splits)) == (("cat",), {"validation", "test"})


def test_linked_class_folders_are_classes_and_circles_end(tree, tmp_path):
    alone = prepare(tmp_path, root=tree)[0].fingerprint
    elsewhere = (tree / "dog").rename(tmp_path / "elsewhere")
    (tree / "dog").symlink_to(elsewhere)
    (tree / "cat" / "again").symlink_to(tree / "cat")
    info, dataset = prepare(tmp_path, root=tree)
    assert info.classes == ("cat", "dog", "elk")
    assert sum(len(split) for split in dataset.splits.values()) == 180
    assert info.fingerprint == alone


def test_missing_splits_are_taken_from_training(tmp_path):
    root = tmp_path / "images"
    for i in range(80):
        picture(root / "train" / "a" / f"{i}.png", seed=i)
    for i in range(3):
        picture(root / "validation" / "a" / f"{i}.png", seed=i)
    _, dataset = prepare(tmp_path, root=root)
    assert len(dataset.splits["validation"]) == 3
    assert 0 < len(dataset.splits["test"]) < 25
    assert len(dataset.splits["train"]) + len(dataset.splits["test"]) == 80


def test_class_folders_named_by_digits(tmp_path):
    for digit in ("0", "1", "2", "10"):
        for i in range(12):
            picture(tmp_path / "images" / digit / f"{i}.png", seed=i)
    info, _ = prepare(tmp_path, root=tmp_path / "images")
    assert info.classes == ("0", "1", "2", "10")


def test_images_without_classes(tmp_path):
    for i in range(30):
        picture(tmp_path / "images" / f"{i}.png", seed=i)
    info, dataset = prepare(tmp_path, root=tmp_path / "images")
    assert info.classes == ()
    assert dataset.splits["train"].labels is None


def test_stray_image_beside_class_folders(tree, tmp_path):
    picture(tree / "stray.png")
    with pytest.raises(DataError, match=r"stray\.png"):
        prepare(tmp_path, root=tree)


def test_the_smaller_side_is_the_stray_one(tmp_path):
    for i in range(3):
        picture(tmp_path / "images" / f"{i}.png")
    picture(tmp_path / "images" / "runs" / "sheet.png")
    said = r"1 image\(s\) of .* lie in class folders while others lie in none: runs/sheet\.png\."
    with pytest.raises(DataError, match=said):
        prepare(tmp_path, root=tmp_path / "images")


def test_folders_that_vaebench_made_are_left_out(tree, tmp_path):
    alone = prepare(tmp_path, root=tree)[0].fingerprint
    write_json(tree / "runs" / "latents" / "stage.json", {"kind": "extract", "hash": "0", "inputs": {}})
    write_json(tree / "runs" / "study" / "index.json", {"study": "x", "study_hash": "0"})
    picture(tree / "runs" / "study" / "report" / "figures" / "a.png")
    (tree / "page").mkdir()
    (tree / "page" / "report.html").write_text("<head><title>a · vaebench report</title></head>")
    mark(tree / "look")
    for folder in ("runs/latents", "page/figures", "look"):
        picture(tree / folder / "sheet.png")
    assert prepare(tmp_path, root=tree)[0].fingerprint == alone
    with pytest.raises(DataError, match=r"holds no images.*Folders that vaebench made do not count"):
        prepare(tmp_path, root=tree / "runs")
    assert prepare(tmp_path, root=tree / "look")[0].classes == ()  # for it was asked for


@pytest.mark.parametrize("name", ["stage.json", "index.json", "report.html"])
@pytest.mark.parametrize("text", ["{}", "[]", '{"hash": 1}', "no JSON"])
def test_files_that_only_bear_the_names_of_ours_leave_nothing_out(tree, tmp_path, name, text):
    (tree / "cat" / name).write_text(text)
    (tree / "logs").mkdir()
    (tree / "logs" / "camera.log").write_text("exposure 1/60")
    (tree / "dog" / ".hidden.lock").write_text("of somebody else")
    assert user_file_states(tree) == file_states(tree)
    assert prepare(tmp_path, root=tree)[0].classes == ("cat", "dog", "elk")


def test_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        prepare(tmp_path, root=tmp_path / "images")


def test_missing_folder(tmp_path):
    with pytest.raises(MissingPath, match="nowhere"):
        prepare(tmp_path, root=tmp_path / "nowhere")
    with pytest.raises(MissingPath, match="no folder"):
        prepare(tmp_path, root=picture(tmp_path / "x.png"))


def spoil(tree):
    """Seven files that are no images, of every kind."""
    (tree / "cat" / "0.png").write_bytes(b"")
    (tree / "cat" / "1.png").write_text("no image")
    whole = picture(tree / "dog" / "2.jpg", size=(200, 200)).read_bytes()
    (tree / "dog" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    for i in range(10, 14):
        (tree / "elk" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def test_unreadable_images_are_named_and_counted(tree, tmp_path):
    spoil(tree)
    with pytest.raises(DataError, match=r"7 image\(s\) cannot be read.*and 2 more.*skip_unreadable") as caught:
        prepare(tmp_path, root=tree)
    named = sum(name in str(caught.value) for name in ("cat/0.png", "cat/1.png", "dog/2.jpg", "elk/1"))
    assert named >= 2
    assert not list((tmp_path / "prepared").iterdir())


def test_unreadable_images_are_skipped_when_told_to(tree, tmp_path):
    spoil(tree)
    with pytest.warns(UserWarning, match=r"Skipped: 7 image\(s\).*cat/0\.png: empty file.*cat/1\.png: not an image"):
        _, dataset = prepare(tmp_path, root=tree, skip_unreadable=True)
    assert sum(len(split) for split in dataset.splits.values()) == 181 - 7  # dog/2.jpg came beside dog/2.png


def test_nothing_left_after_skipping(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="Skipped"),
        pytest.raises(DataError, match=r"No image of '.*images' can be read"),
    ):
        prepare(tmp_path, root=tmp_path / "images", skip_unreadable=True)


def test_nothing_to_skip_means_no_warning(tree, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(tmp_path, root=tree, skip_unreadable=True)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_tables(table, tmp_path, kind):
    file = tmp_path / f"table.{kind}"
    table["label"] = ["ab"[i % 2] for i in range(40)]
    table["split"] = ["train"] * 20 + ["val"] * 8 + ["test"] * 12
    if kind == "parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, index=False, sep="\t" if kind == "tsv" else ",")
    info, dataset = prepare(tmp_path, table=file)
    assert info.attributes == ("smiling", "hat")
    assert info.attribute_level == "image"
    assert info.classes == ("a", "b")
    assert [len(dataset.splits[name]) for name in SPLITS] == [20, 8, 12]
    train = dataset.splits["train"]
    np.testing.assert_array_equal(train.attributes, (table[["smiling", "hat"]].to_numpy()[:20] > 0))
    np.testing.assert_array_equal(train.labels, [i % 2 for i in range(20)])
    with Image.open(tmp_path / table["path"][5]) as opened:
        np.testing.assert_array_equal(train.images(np.array([5]))[0], centre_crop_resize(opened, 16))


def test_the_images_of_a_table_are_watched_where_no_root_holds_them(table, tmp_path):
    file = tmp_path / "table.csv"
    table.loc[0, "path"] = "gone.png"
    table.to_csv(file, index=False)

    def watched(**values):
        return Folder(FolderConfig(**values)).watched()

    assert watched(table=file) == {name: tmp_path / name for name in table["path"][1:]}
    assert watched(table=file, path_column="file") == {}
    assert watched(table=file, root=tmp_path) == {}  # for `contents` of the root tells them
    below = Folder(FolderConfig(table=file, root=tmp_path)).contents("root", tmp_path)
    assert [name for name, *_ in below] == list(table["path"][1:])
    assert watched(root=tmp_path) == {}
    assert watched(table=tmp_path / "nowhere.csv") == {}


def test_row_order_of_a_table_does_not_matter(table, tmp_path):
    table.to_csv(tmp_path / "a.csv", index=False)
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "b.csv", index=False)
    first, _ = prepare(tmp_path, table=tmp_path / "a.csv")
    second, _ = prepare(tmp_path, table=tmp_path / "b.csv")
    assert first.fingerprint == second.fingerprint


def test_celeba_style_splits_and_chosen_columns(table, tmp_path):
    table = table.rename(columns={"path": "image_id"})
    table["partition"] = [0] * 30 + [1] * 5 + [2] * 5
    table["age"] = np.arange(40) / 7
    table["image_id"] = table["image_id"].str.removeprefix("img/")
    table.to_csv(tmp_path / "table.csv", index=False)
    info, dataset = prepare(
        tmp_path,
        table=tmp_path / "table.csv",
        root=tmp_path / "img",
        path_column="image_id",
        split_column="partition",
        attributes=["hat"],
    )
    assert info.attributes == ("hat",)
    assert [len(dataset.splits[name]) for name in SPLITS] == [30, 5, 5]


@pytest.mark.parametrize("setting", ["label_column", "split_column"])
def test_columns_for_labels_and_splits_must_exist_where_they_are_named(table, tmp_path, setting):
    table = table.assign(breed=["cat", "dog"] * 20, part=["train"] * 30 + ["test"] * 10)
    given = {"label_column": "breed", "split_column": "part", "attributes": ["hat"]}
    said = rf"no column '{given[setting]}s' \({setting}\)\. Did you mean '{given[setting]}'"
    refuse(tmp_path, table, UnknownName, said, **given | {setting: f"{given[setting]}s"})
    info, dataset = prepare(tmp_path, table=tmp_path / "table.csv", test_fraction=0, **given | {setting: None})
    assert (info.classes == ()) == (setting == "label_column")
    assert ("test" in dataset.splits) == (setting == "label_column")


@pytest.mark.parametrize(("given", "used"), [(None, ("smiling", "hat")), (["hat"], ("hat",)), ([], ())])
def test_no_attributes_are_other_than_all_of_them(table, tmp_path, given, used):
    table.to_csv(tmp_path / "table.csv", index=False)
    info, dataset = prepare(tmp_path, table=tmp_path / "table.csv", attributes=given)
    assert info.attributes == used
    assert (dataset.split("train").attributes is None) == (not used)


def test_integer_labels_keep_their_order(table, tmp_path):
    table["label"] = [10 if i % 2 else 9 for i in range(40)]
    table.to_csv(tmp_path / "table.csv", index=False)
    assert prepare(tmp_path, table=tmp_path / "table.csv")[0].classes == ("9", "10")


def refuse(tmp_path, table, error, match, **values):
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(error, match=match):
        prepare(tmp_path, table=tmp_path / "table.csv", **values)


def test_missing_files_of_a_table(table, tmp_path):
    table.loc[:6, "path"] = [f"gone/{i}.png" for i in range(7)]
    refuse(tmp_path, table, DataError, r"7 file\(s\) that do not exist.*gone/0\.png.*and 2 more")


@pytest.mark.parametrize("value", [2, 0.5, "yes", None])
def test_attribute_that_is_not_binary(table, tmp_path, value):
    table["smiling"] = table["smiling"].astype(object)
    table.loc[3, "smiling"] = value
    refuse(tmp_path, table, DataError, "'smiling' is not binary")


def test_cells_without_a_value_are_counted_and_the_first_is_named(table, tmp_path):
    holed = table.astype({"smiling": float}, copy=True)
    holed.loc[[3, 7], "smiling"] = np.nan
    said = r"'smiling' is not binary .*: 2 row\(s\) have no value, the first is row 4 \(img/003\.png\)\."
    refuse(tmp_path, holed, DataError, said)
    both = holed.astype({"smiling": object})
    both.loc[0, "smiling"] = "yes"
    refuse(tmp_path, both, DataError, r"it holds 'yes'; 2 row\(s\) have no value")
    split = table.assign(split=["train", None, *["test"] * 38])
    said = r"1 cell\(s\) of the column 'split' are empty; the first is in row 2 \(img/001\.png\)\. Write train"
    refuse(tmp_path, split, DataError, said)
    label = table.assign(label=["a", None, *["b"] * 38])
    refuse(tmp_path, label, DataError, r"1 row\(s\) have no 'label'; the first is row 2 \(img/001\.png\)\. Fill")
    gone = table.assign(path=[*table["path"][:5], None, *table["path"][6:]])
    refuse(tmp_path, gone, DataError, r"1 row\(s\) have no 'path'; the first is row 6\. Name")


@pytest.mark.parametrize(("suffix", "sign", "said"), [
    ("csv", ";", "parted by ';': save it with commas."),
    ("csv", "\t", "parted by a tab: save it with commas, or name it .tsv."),
    ("tsv", ",", "parted by ',': save it with tabs, or name it .csv."),
])  # fmt: skip
def test_another_separator_is_named(table, tmp_path, suffix, sign, said):
    file = tmp_path / f"table.{suffix}"
    table.to_csv(file, index=False, sep=sign)
    with pytest.raises(UnknownName, match=rf"no column 'path' \(path_column\)\. Its columns are {re.escape(said)}$"):
        prepare(tmp_path, table=file)


def test_a_table_in_latin_1_is_told_to_be_saved_as_utf_8(table, tmp_path):
    table.assign(label="Käse").to_csv(tmp_path / "table.csv", index=False, encoding="latin-1")
    with pytest.raises(DataError, match=r"cannot be read: it is not UTF-8 .*\. Save it as UTF-8\.$"):
        prepare(tmp_path, table=tmp_path / "table.csv")


def test_attribute_that_mixes_codes(table, tmp_path):
    table["hat"] = [-1, 0, 1, 1] * 10
    refuse(tmp_path, table, DataError, r"'hat' is not binary.*-1, 0, 1")


def test_other_faults_of_a_table(table, tmp_path):
    refuse(tmp_path, table.rename(columns={"path": "file"}), UnknownName, "no column 'path'")
    refuse(tmp_path, table, UnknownName, "Did you mean 'smiling'", attributes=["smilling"])
    refuse(tmp_path, pd.concat([table, table.head(2)]), DataError, r"2 path\(s\) more than once")
    refuse(tmp_path, table.head(0), DataError, "no rows")
    refuse(tmp_path, table.assign(split="trian"), DataError, "'trian' in column 'split'")
    refuse(tmp_path, table.assign(label=[None] * 5 + ["a"] * 35), DataError, r"5 row\(s\) have no 'label'")


def test_unusable_table_files(tmp_path):
    with pytest.raises(MissingPath):
        prepare(tmp_path, table=tmp_path / "gone.csv")
    (tmp_path / "table.xlsx").write_text("x")
    with pytest.raises(ConfigError, match="neither CSV"):
        prepare(tmp_path, table=tmp_path / "table.xlsx")
    (tmp_path / "table.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path, table=tmp_path / "table.parquet")
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path, table=tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "'root'"),
        ({"root": "x", "image_size": 0}, "image_size"),
        ({"root": "x", "validation_fraction": 0.6, "test_fraction": 0.5}, "below 1"),
        ({"root": "x", "skip_unreadabel": True}, "skip_unreadable"),
    ],
)
def test_bad_configuration(values, named, tmp_path):
    with pytest.raises(ConfigError, match=named):
        data.prepare("folder", values, tmp_path / "a.h5")


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = np.asarray(read_image(tmp_path / "turned.png"))
    assert image.shape == (40, 20, 3)
    assert image[:20].min() == 255
    assert image[20:].max() == 0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / f"x.{'tif' if mode in ('CMYK', 'I;16') else 'png'}"
    Image.new(mode, (8, 8)).save(path)
    assert read_image(path).mode == "RGB"


def test_16_bit_grey_is_scaled_and_32_bits_are_refused(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    seen = np.asarray(read_image(tmp_path / "x.png"))
    np.testing.assert_array_equal(seen, np.repeat(np.rint(ramp / 257)[..., None], 3, axis=2))
    for mode in "IF":
        Image.new(mode, (8, 8)).save(tmp_path / f"{mode}.tif")
        with pytest.raises(DataError, match=f"32-bit grey .mode {mode}. has no known range"):
            read_image(tmp_path / f"{mode}.tif")
