"""Published data sets from small stand-ins in their official layout, and what is said when the layout is wrong."""

import shutil

import numpy as np
import pytest
from PIL import Image

import vaebench.data as data
from vaebench.core.errors import DataError, MissingPath

rng = np.random.default_rng(0)


def picture(path, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)


def imagenet(root):
    for split, count in (("train", 8), ("val", 2)):
        for name in ("n01", "n02", "n03"):
            for i in range(count):
                picture(root / split / name / f"{name}_{i}.JPEG")
    return {"validation_fraction": 0.3}


def celeba(root):
    names = [f"{i:06}.jpg" for i in range(1, 13)]
    for name in names:
        picture(root / "img_align_celeba" / name)
    rows = "\n".join(f"{n}  {' '.join('1' if i % (k + 2) else '-1' for k in range(3))}" for i, n in enumerate(names))
    (root / "list_attr_celeba.txt").write_text(f"12\nMale Smiling Young\n{rows}\n")
    parts = [0] * 6 + [1] * 3 + [2] * 3
    (root / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True)))
    (root / "identity_CelebA.txt").write_text(
        "".join(f"{n} {100 * p + i % 2}\n" for i, (n, p) in enumerate(zip(names, parts, strict=True)))
    )
    return {}


def deepfashion(root):
    paths = [f"img/Dress_{i}/img_{i}.jpg" for i in range(9)]
    parts = ["train"] * 5 + ["val"] * 2 + ["test"] * 2
    for path in paths:
        picture(root / path)
    coarse, fine = root / "Anno_coarse", root / "Anno_fine"
    for folder in (coarse, fine, root / "Eval"):
        folder.mkdir()
    (coarse / "list_attr_cloth.txt").write_text("3\nattribute_name  attribute_type\na-line 3\nmaxi dress  2\nred 1\n")
    (coarse / "list_attr_img.txt").write_text(
        "9\nimage_name  attribute_labels\n"
        + "".join(f"{p}  {(-1, 0, 1)[i % 3]} {1 if i % 2 else -1} -1\n" for i, p in enumerate(paths))
    )
    (coarse / "list_category_cloth.txt").write_text("2\ncategory_name category_type\nDress 3\nTee 1\n")
    (coarse / "list_category_img.txt").write_text(
        "9\nimage_name category_label\n" + "".join(f"{p} {i % 2 + 1}\n" for i, p in enumerate(paths))
    )
    (root / "Eval" / "list_eval_partition.txt").write_text(
        "9\nimage_name evaluation_status\n" + "".join(f"{p} {s}\n" for p, s in zip(paths, parts, strict=True))
    )
    (fine / "list_attr_cloth.txt").write_text("2\nattribute_name attribute_type\nfloral 1\nlong_sleeve 2\n")
    for part in ("train", "val", "test"):
        own = [i for i, p in enumerate(parts) if p == part]
        (fine / f"{part}.txt").write_text("".join(f"{paths[i]}\n" for i in own))
        (fine / f"{part}_attr.txt").write_text("".join(f"{i % 2} 1\n" for i in own))
        (fine / f"{part}_cate.txt").write_text("".join(f"{i % 2 + 1}\n" for i in own))
    return {}


def awa2(root):
    names = ["antelope", "bat", "cow", "dolphin", "elk"]
    for name in names:
        for i in range(10):
            picture(root / "JPEGImages" / name / f"{name}_{i}.jpg")
    (root / "classes.txt").write_text("".join(f"{i + 1}\t{n}\n" for i, n in enumerate(names)))
    (root / "predicates.txt").write_text("1\tblack\n2\tflies\n")
    (root / "predicate-matrix-binary.txt").write_text("0 0\n1 1\n1 0\n0 0\n0 1\n")
    (root / "trainclasses.txt").write_text("antelope\nbat\ncow\nelk\n")
    (root / "testclasses.txt").write_text("dolphin\n")
    return {}


def cub(root):
    folder = root / "CUB_200_2011"
    paths = [f"00{i % 3 + 1}.Bird/Bird_{i}.jpg" for i in range(12)]
    for path in paths:
        picture(folder / "images" / path)
    (folder / "attributes").mkdir()
    (folder / "images.txt").write_text("".join(f"{i + 1} {p}\n" for i, p in enumerate(paths)))
    (folder / "image_class_labels.txt").write_text("".join(f"{i + 1} {i % 3 + 1}\n" for i in range(12)))
    (folder / "classes.txt").write_text("1 001.Crow\n2 002.Gull\n3 003.Wren\n")
    (folder / "train_test_split.txt").write_text("".join(f"{i + 1} {int(i < 8)}\n" for i in range(12)))
    (folder / "attributes" / "image_attribute_labels.txt").write_text(
        "".join(f"{i + 1} {a + 1} {(i + a) % 2} 3 1.5{' 0' * (i == 3)}\n" for i in range(12) for a in range(2))
    )
    (root / "attributes.txt").write_text("1 has_bill_shape::curved\n2 has_wing_color::blue\n")
    return {"validation_fraction": 0.4}


MAKERS = {make.__name__: make for make in (imagenet, celeba, deepfashion, awa2, cub)}


def made(name, tmp_path, **options):
    root = tmp_path / name
    root.mkdir()
    values = {**MAKERS[name](root), **options}
    root = root / "CUB_200_2011" if name == "cub" else root
    return root, {"root": str(root), "image_size": 8, **values}


def prepared(name, tmp_path, **options):
    root, values = made(name, tmp_path, **options)
    file = tmp_path / f"{name}.h5"
    data.prepare(name, values, file)
    return root, data.open_data(file)


@pytest.mark.parametrize("name", MAKERS)
def test_every_split_is_there_and_shares_nothing(name, tmp_path):
    _, dataset = prepared(name, tmp_path)
    assert set(dataset.splits) == {"train", "validation", "test"}
    ids = np.concatenate([split.ids for split in dataset.splits.values()])
    assert len(np.unique(ids)) == len(ids)
    for split in dataset.splits.values():
        assert split.images(slice(None)).shape == (len(split), 3, 8, 8)
        if dataset.info.attributes:
            assert split.attributes.shape == (len(split), len(dataset.info.attributes))


@pytest.mark.parametrize("name", MAKERS)
def test_a_missing_root_says_what_to_get_and_where_to_put_it(name, tmp_path):
    with pytest.raises((MissingPath, DataError), match=r"https://.*'root'"):
        data.prepare(name, {"root": str(tmp_path / "nowhere"), "image_size": 8}, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def complaint(name, values, file):
    try:
        data.prepare(name, values, file)
    except (MissingPath, DataError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", MAKERS)
def test_each_missing_file_is_named_with_what_to_get(name, tmp_path):
    variants = {"deepfashion": [{}, {"attributes": "fine"}], "awa2": [{"split": "classes"}]}.get(name, [{}])
    root, values = made(name, tmp_path)
    files = [path for path in tmp_path.rglob("*.txt") if path.name != "identity_CelebA.txt"]
    files += [root / folder for folder in ("train", "val") if (root / folder).is_dir()]
    assert len(files) >= 2
    for path in files:
        away = path.rename(tmp_path / "away")
        found = [complaint(name, {**values, **options}, tmp_path / "a.h5") for options in variants]
        assert any(found), f"{path.name} is needed by no variant"
        assert all(path.name in text and "https://" in text for text in found if text), found
        away.rename(path)


def test_the_folder_of_another_data_set_is_a_wrong_layout(tmp_path):
    roots = {name: made(name, tmp_path)[0] for name in MAKERS}
    names = list(MAKERS)
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        with pytest.raises((MissingPath, DataError), match=r"does not exist.*https://.*'root'"):
            data.prepare(name, {"root": str(roots[other]), "image_size": 8}, tmp_path / "a.h5")


@pytest.mark.parametrize("name", MAKERS)
def test_moving_the_images_changes_nothing_and_a_seed_moves_the_splits(name, tmp_path):
    root, values = made(name, tmp_path, train=3)
    first = data.prepare(name, values, tmp_path / "a.h5")
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / name, moved)
    root = moved / "CUB_200_2011" if name == "cub" else moved
    assert data.prepare(name, {**values, "root": str(root)}, tmp_path / "b.h5").fingerprint == first.fingerprint
    assert len(data.open_data(tmp_path / "a.h5").split("train")) == 3
    assert data.prepare(name, {**values, "seed": 5}, tmp_path / "c.h5").fingerprint != first.fingerprint


def test_imagenet_keeps_val_for_the_test(tmp_path):
    _, dataset = prepared("imagenet", tmp_path)
    assert dataset.info.classes == ("n01", "n02", "n03")
    assert len(dataset.split("test")) == 6
    assert len(dataset.split("train")) + len(dataset.split("validation")) == 24


def test_celeba_follows_the_official_partition(tmp_path):
    _, dataset = prepared("celeba", tmp_path)
    assert dataset.info.attributes == ("Male", "Smiling", "Young")
    assert [len(dataset.split(s)) for s in ("train", "validation", "test")] == [6, 3, 3]
    expected = [[int(bool(i % (k + 2))) for k in range(3)] for i in range(6)]
    assert dataset.split("train").attributes.tolist() == expected


def test_celeba_with_identities(tmp_path):
    root, values = made("celeba", tmp_path, labels="identity", image_size=8)
    file = root / "list_eval_partition.txt"
    lines = (root / "identity_CelebA.txt").read_text()
    assert data.prepare("celeba", values, tmp_path / "a.h5").classes == ("0", "1")
    splits = data.open_data(tmp_path / "a.h5").splits
    assert sum(len(split) for split in splits.values()) == 6  # those of the official training partition
    file.write_text(file.read_text().replace("000007.jpg 1", "000007.jpg 0"))
    with pytest.raises(DataError, match="in two partitions"):
        data.prepare("celeba", values, tmp_path / "b.h5")
    (root / "identity_CelebA.txt").write_text("\n".join(lines.splitlines()[1:]))
    with pytest.raises(DataError, match=r"does not say who is in 000001\.jpg"):
        data.prepare("celeba", values, tmp_path / "b.h5")


def test_celeba_with_identities_has_the_same_people_in_every_split(tmp_path):
    root = tmp_path / "celeba"
    names = [f"{i:06}.jpg" for i in range(1, 121)]
    for name in names:
        picture(root / "img_align_celeba" / name, (8, 8))
    (root / "list_attr_celeba.txt").write_text("120\nMale\n" + "".join(f"{name} 1\n" for name in names))
    (root / "list_eval_partition.txt").write_text("".join(f"{name} {i // 60}\n" for i, name in enumerate(names)))
    (root / "identity_CelebA.txt").write_text(
        "".join(f"{name} {10 * (i // 60) + i % 2}\n" for i, name in enumerate(names))
    )
    values = {"root": str(root), "image_size": 8, "labels": "identity"}
    assert data.prepare("celeba", values, tmp_path / "a.h5").classes == ("0", "1")
    splits = data.open_data(tmp_path / "a.h5").splits
    assert sum(len(split) for split in splits.values()) == 60
    assert all(set(split.labels) == {0, 1} for split in splits.values())
    kind = data.DATASETS.get("celeba")
    expected = kind.expected(kind.Config(root=root, labels="identity"))
    assert sum(expected[split] for split in splits) == 162_770
    assert expected["validation"] == expected["test"] == 16_277


BAD_LINES = [
    ("celeba", {}, "list_eval_partition.txt", 3),
    ("celeba", {}, "identity_CelebA.txt", 2),
    ("cub", {}, "images.txt", 2),
    ("cub", {}, "classes.txt", 3),
    ("cub", {}, "../attributes.txt", 2),
    ("cub", {}, "image_class_labels.txt", 1),
    ("cub", {}, "train_test_split.txt", 12),
    ("cub", {}, "attributes/image_attribute_labels.txt", 5),
    ("deepfashion", {}, "Anno_coarse/list_category_img.txt", 4),
    ("deepfashion", {}, "Eval/list_eval_partition.txt", 3),
    ("deepfashion", {"attributes": "fine"}, "Anno_fine/val_cate.txt", 2),
]


@pytest.mark.parametrize("change", ["nonsense", "{} one field more, or two", "x{}"])
@pytest.mark.parametrize(("name", "options", "file", "number"), BAD_LINES)
def test_a_foreign_line_is_named(name, options, file, number, change, tmp_path):
    root, values = made(name, tmp_path, **options)
    path = root / file
    lines = path.read_text().splitlines()
    lines[number - 1] = change.format(lines[number - 1])
    path.write_text("\n".join(lines))
    said = complaint(name, values, tmp_path / "a.h5")
    if "more" in change and path.name == "image_attribute_labels.txt":
        assert not said  # whose later fields are not read
    elif change == "x{}" and path.name in ("list_eval_partition.txt", "identity_CelebA.txt", "list_category_img.txt"):
        assert "000" in said or "names" in said  # an image that there is not
    else:
        assert f"{path.name}, line {number}: '" in said


def test_a_partition_that_there_is_not_is_named(tmp_path):
    root, values = made("celeba", tmp_path)
    file = root / "list_eval_partition.txt"
    file.write_text(file.read_text().replace("000003.jpg 0", "000003.jpg 3"))
    with pytest.raises(DataError, match=r"list_eval_partition\.txt, line 3: '000003\.jpg 3'"):
        data.prepare("celeba", values, tmp_path / "a.h5")


def test_labels_beyond_the_classes_are_refused_before_anything_is_drawn(tmp_path):
    root, values = made("cub", tmp_path)
    file = root / "image_class_labels.txt"
    file.write_text(file.read_text().replace("5 2\n", "5 4\n"))
    with pytest.raises(DataError, match=r"'cub', \w+: labels run from 0 to 3; there are 3 classes"):
        data.prepare("cub", values, tmp_path / "a.h5")


def test_the_file_beside_cub_is_watched(tmp_path):
    root, _ = made("cub", tmp_path)
    kind = data.DATASETS.get("cub")
    assert kind(kind.Config(root=root)).watched() == {"../attributes.txt": root.parent / "attributes.txt"}
    (root.parent / "attributes.txt").rename(root / "attributes.txt")
    assert kind(kind.Config(root=root)).watched() == {}


def test_deepfashion_coarse_counts_unknown_as_absent(tmp_path):
    _, dataset = prepared("deepfashion", tmp_path)
    assert dataset.info.attributes == ("a-line", "maxi dress", "red")
    assert dataset.split("train").attributes[:, 0].tolist() == [0, 0, 1, 0, 0]
    assert dataset.split("train").labels.tolist() == [0, 1, 0, 1, 0]
    assert dataset.info.classes == ("Dress", "Tee")


def test_deepfashion_fine_and_its_other_image_folder(tmp_path):
    root, values = made("deepfashion", tmp_path, attributes="fine")
    (root / "Img").mkdir()
    (root / "img").rename(root / "Img" / "img")
    info = data.prepare("deepfashion", values, tmp_path / "a.h5")
    assert info.attributes == ("floral", "long_sleeve")
    (root / "Anno_fine" / "val_attr.txt").write_text("1 1\n")
    with pytest.raises(DataError, match="2 images, 1 rows of attributes"):
        data.prepare("deepfashion", values, tmp_path / "b.h5")


def test_awa2_attributes_belong_to_classes_and_unseen_classes_stay_unseen(tmp_path):
    _, dataset = prepared("awa2", tmp_path)
    assert dataset.info.attribute_level == "class"
    assert all(set(split.labels) == set(range(5)) for split in dataset.splits.values())
    data.prepare("awa2", {"root": str(tmp_path / "awa2"), "image_size": 8, "split": "classes"}, tmp_path / "u.h5")
    unseen = data.open_data(tmp_path / "u.h5")
    classes = [set(unseen.split(s).labels) for s in ("train", "validation", "test")]
    assert classes[2] == {3}
    assert not classes[0] & classes[1]
    bat = dataset.split("test").attributes[dataset.split("test").labels == 1]
    assert bat.tolist() == [[1, 1]] * len(bat)


def test_awa2_holds_out_classes_in_which_attributes_occur_both_ways(tmp_path):
    """Of 20 seen classes, two have attributes that differ from each other in all eight; nearly all others have none."""
    root = tmp_path / "awa2"
    names = [f"c{i:02}" for i in range(22)]
    for name in names:
        for i in range(2):
            picture(root / "JPEGImages" / name / f"{name}_{i}.jpg", (8, 8))
    rows = ["0 0 0 0 0 0 0 0"] * 22
    rows[3], rows[11], rows[12] = "1 1 1 1 0 0 0 0", "0 0 0 0 1 1 1 1", "1 1 1 1 1 1 1 1"
    (root / "classes.txt").write_text("".join(f"{i + 1}\t{n}\n" for i, n in enumerate(names)))
    (root / "predicates.txt").write_text("".join(f"{i + 1}\ta{i}\n" for i in range(8)))
    (root / "predicate-matrix-binary.txt").write_text("\n".join(rows))
    (root / "trainclasses.txt").write_text("\n".join(names[:20]))
    (root / "testclasses.txt").write_text("\n".join(names[20:]))
    data.prepare("awa2", {"root": str(root), "image_size": 8, "split": "classes"}, tmp_path / "a.h5")
    splits = data.open_data(tmp_path / "a.h5").splits
    assert len(set(splits["validation"].labels)) == 2
    for name in ("train", "validation"):
        assert (np.ptp(splits[name].attributes, axis=0) == 1).all(), name


def test_cub_reads_attributes_of_images(tmp_path):
    _, dataset = prepared("cub", tmp_path)
    assert dataset.info.attribute_level == "image"
    assert len(dataset.split("test")) == 4
    assert dataset.split("test").attributes.tolist() == [[0, 1], [1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("celeba", "list_attr_celeba.txt", "-1", "7", r"row \d+ holds 3 values, 3 of -1, 0 and 1"),
        ("celeba", "list_eval_partition.txt", "000003.jpg", "999999.jpg", "lacks 1 image"),
        ("deepfashion", "Eval/list_eval_partition.txt", " val", " dev", "into 'dev'"),
        (
            "awa2",
            "predicate-matrix-binary.txt",
            "0 0\n1 1\n",
            "0 0\n",
            "4 rows for 5 classes: attributes are given per class",
        ),
        ("awa2", "testclasses.txt", "dolphin", "bat", "do not divide"),
        ("cub", "attributes/image_attribute_labels.txt", "12 2 ", "12 9 ", "that there is not"),
        ("cub", "images.txt", "12 ", "13 ", "no class or no split|that there is not"),
    ],
)
def test_wrong_annotations_are_named(name, file, old, new, message, tmp_path):
    root, values = made(name, tmp_path, **({"split": "classes"} if name == "awa2" else {}))
    path = root / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        data.prepare(name, values, tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("name", "victim"), [("celeba", "img_align_celeba/000002.jpg"), ("deepfashion", "img/Dress_3/img_3.jpg")]
)
def test_annotated_images_that_do_not_exist_are_named(name, victim, tmp_path):
    root, values = made(name, tmp_path)
    (root / victim).unlink()
    with pytest.raises(DataError, match=f"1 image.* that do not exist below .*{victim.rpartition('/')[2]}"):
        data.prepare(name, values, tmp_path / "a.h5")


def test_an_unreadable_image_is_named(tmp_path):
    root, values = made("celeba", tmp_path)
    (root / "img_align_celeba" / "000005.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000005\.jpg: not an image\. Repair or replace them\.$"):
        data.prepare("celeba", values, tmp_path / "a.h5")


def test_attributes_of_a_table_that_never_differ_within_a_class_are_class_level(tmp_path):
    lines = ["path,label,striped"]
    for i in range(12):
        picture(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{i % 3},{int(i % 3 == 1)}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="taken as class-level"):
        info = data.prepare("folder", {"table": str(tmp_path / "table.csv"), "image_size": 8}, tmp_path / "a.h5")
    assert info.attribute_level == "class"
