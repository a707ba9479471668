"""Avatars: determinism, attributes that follow from factors, and pictures that show what the factors say."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import vaebench.data as data
from vaebench.core.errors import ConfigError, DataError, MissingDependency
from vaebench.data import avatar_parts
from vaebench.data.avatar_factors import ATTRIBUTES, CLASSES, FACTOR_NAMES, FACTORS, attributes_of, choose
from vaebench.data.avatars import NUISANCE, avatar_svg, draw_avatars, plan_samples
from vaebench.data.base import SPLITS

SMALL = {"train": 70, "validation": 10, "test": 20}


@pytest.fixture(scope="module")
def population():
    return plan_samples(np.arange(20_000), seed=0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("avatars") / "avatars.h5"
    return data.prepare("avatars", SMALL, path, workers=2), data.open_data(path)


def neutral(**values: str) -> np.ndarray:
    """Factor values by name; what is not named takes the second value, which is never "none"."""
    return np.array(
        [[c.name for c in choices].index(values[name]) if name in values else 1 for name, choices in FACTORS.items()]
    )


def still(n: int) -> np.ndarray:
    """Nuisance at its centre, without light."""
    fixed = {"scale": 1.0, "brightness": 1.0}
    return np.tile([fixed.get(name, 0.0) for name in NUISANCE], (n, 1)).astype(np.float32)


def test_enough_factors_attributes_and_classes():
    assert len(FACTORS) >= 13
    assert len(ATTRIBUTES) >= 40
    assert 8 <= len(CLASSES) <= 12


def test_prevalence_within_bounds(population):
    share = population.attributes.mean(axis=0)
    assert share.min() > 0.03
    assert share.max() < 0.97


def test_no_two_attributes_are_the_same(population):
    assert len(np.unique(population.attributes.T, axis=0)) == len(ATTRIBUTES)


def test_classes_are_balanced(population):
    counts = np.bincount(population.labels, minlength=len(CLASSES))
    assert counts.min() > 0.9 * len(population.ids) / len(CLASSES)
    assert counts.max() < 1.1 * len(population.ids) / len(CLASSES)


def test_every_value_of_every_factor_occurs(population):
    for k, (name, choices) in enumerate(FACTORS.items()):
        assert set(np.unique(population.factors[:, k])) == set(range(len(choices))), name


def test_a_sample_depends_on_seed_and_id_alone(population):
    ids = np.array([17, 3, 17_000])
    some = plan_samples(ids, seed=0)
    for name in ("factors", "nuisance", "labels", "attributes"):
        np.testing.assert_array_equal(getattr(some, name), getattr(population, name)[ids])
    assert not np.array_equal(plan_samples(ids, seed=1).nuisance, some.nuisance)


def test_nuisance_is_continuous_and_within_range(population):
    low, high = np.array(list(NUISANCE.values())).T
    assert (population.nuisance >= low - 1e-6).all()
    assert (population.nuisance <= high + 1e-6).all()
    assert len(np.unique(population.nuisance[:, 0])) > 0.99 * len(population.ids)


def test_hidden_factors_are_none():
    column = {name: k for k, name in enumerate(FACTOR_NAMES)}
    values = choose(np.random.default_rng(0).random((5000, len(FACTORS))))

    def names(factor):
        return np.array([c.name for c in FACTORS[factor]])[values[:, column[factor]]]

    def check(hidden, where):
        assert (names(hidden)[where] == "none").all()
        assert (names(hidden)[~where] != "none").all()

    check("facial_hair_colour", names("facial_hair") == "none")
    check("eyes", np.isin(names("eyewear"), ["kurt", "sunglasses", "wayfarers"]))
    hats = np.array(["headwear" in c.tags for c in FACTORS["top"]])[values[:, column["top"]]]
    check("hat_colour", ~hats)
    check("hair_colour", hats | (names("top") == "no_hair"))


def test_uniform_extremes_give_valid_values():
    for value in (0.0, np.nextafter(1.0, 0.0)):
        values = choose(np.full((1, len(FACTORS)), value))[0]
        for choices, index in zip(FACTORS.values(), values, strict=True):
            assert 0 <= index < len(choices)


def test_attributes_follow_from_the_tables():
    values = neutral(top="no_hair", eyewear="sunglasses", mouth="sad", skin="pale")
    having = {name for name, has in zip(ATTRIBUTES, attributes_of(values[None])[0], strict=True) if has}
    assert {"bald", "sunglasses", "frowning", "pale_skin"} <= having
    assert not having & {"eyeglasses", "smiling", "dark_skin", "long_hair", "headwear"}


def test_every_drawing_is_simplified_svg():
    for choices in FACTORS.values():
        for choice in choices:
            if "/" not in choice.drawing:
                continue
            folder, _, name = choice.drawing.rpartition("/")
            text = avatar_parts.part(folder, name)
            assert "filter=" not in text
            ids = set(re.findall(r' id="([^"]+)"', text))
            assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= ids, "a reference leads nowhere"


def test_document_is_well_formed_and_ids_are_unique(population):
    for i in range(200):
        text, _ = avatar_svg(population.factors[i], population.nuisance[i], "head")
        ids = [e.get("id") for e in ET.fromstring(text).iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        assert "{" not in text


def test_agrees_with_the_package_drawing():
    """The simplified drawing looks like python-avatars' own, rasterised by the same rasteriser."""
    import io

    import python_avatars as pa
    import resvg_py
    from PIL import Image

    values = neutral(
        top="short_flat", hair_colour="auburn", facial_hair="none", eyewear="none", clothing="v-neck",
        clothing_colour="red", skin="light", eyes="open", eyebrows="thin", mouth="laughing", nose="default",
        background="sky",
    )  # fmt: skip
    ours, mask = draw_avatars(values[None], still(1), 128, "bust")
    theirs = pa.Avatar(
        top=pa.HairType.SHORT_FLAT, hair_color="#A55728", clothing=pa.ClothingType.SHIRT_V_NECK,
        clothing_color="#E0403F", skin_color="#EDB98A", mouth=pa.MouthType.SMILE,
    ).render()  # fmt: skip
    theirs = re.sub(r'width="264px" height="280px" viewBox="[^"]*"', 'viewBox="7 2 250 250"', theirs, count=1)
    png = resvg_py.svg_to_bytes(svg_string=theirs, width=128, height=128, background="#8CC6EE")
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float32).transpose(2, 0, 1)
    # Edges differ, where the package leaves a grey fringe; areas do not.
    assert np.abs(ours[0].astype(np.float32) - picture).mean() < 0.6
    assert 0.3 < mask.mean() < 0.9


@pytest.mark.parametrize("top", [c.name for c in FACTORS["top"]])
def test_colour_of_hair_or_hat_reaches_the_picture(top):
    if top == "no_hair":
        return
    hat = "headwear" in next(c.tags for c in FACTORS["top"] if c.name == top)
    factor, colours = ("hat_colour", ("green", "pink")) if hat else ("hair_colour", ("black", "pink"))
    values = np.stack([neutral(top=top, **{factor: colour}) for colour in colours])
    images, _ = draw_avatars(values, still(2), 64)
    changed = np.abs(images[0].astype(int) - images[1]).max(axis=0) > 60
    assert changed.mean() > (0.004 if top == "sides" else 0.02)


@pytest.mark.parametrize("top", [c.name for c in FACTORS["top"]])
@pytest.mark.parametrize(("factor", "value"), [("facial_hair", "medium beard"), ("eyewear", "round")])
def test_beard_and_glasses_show_under_every_top(top, factor, value):
    if factor in next(c.hides for c in FACTORS["top"] if c.name == top):
        return
    values = np.stack([neutral(top=top, facial_hair="none", eyewear="none"), neutral(top=top, **{factor: value})])
    images, _ = draw_avatars(values, still(2), 64)
    assert (np.abs(images[0].astype(int) - images[1]).max(axis=0) > 60).sum() > 25


@pytest.mark.parametrize("factor", [name for name in FACTOR_NAMES if name != "hat_colour"])
def test_every_value_looks_different(factor):
    values = []
    for choice in FACTORS[factor]:
        # A red beard and plain clothes, so that the colours of both can be seen.
        given = {"top": "short_flat", "facial_hair": "medium beard", "eyewear": "none", factor: choice.name}
        values.append(neutral(**given))
    seen = np.array([choice.weight > 0 for choice in FACTORS[factor]])
    images, _ = draw_avatars(np.stack(values), still(len(values)), 64)
    images = images[seen].astype(int)
    distances = np.abs(images[:, None] - images[None]).max(axis=2).sum(axis=(2, 3))
    assert distances[~np.eye(len(images), dtype=bool)].min() > 30


def test_mask_is_the_person(prepared):
    _, dataset = prepared
    split = dataset.splits["train"]
    masks = split.masks(slice(None))
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 1}
    assert (masks[:, 32, 32] == 1).all(), "the middle is a face"
    assert 1 - masks[:, :4].mean() > 0.02
    # Where the mask is 0 nothing but the background and the light on it is seen: smooth, hence low variance.
    images = split.images(slice(None)).astype(np.float32)
    outside = [images[i][:, masks[i] == 0].std() for i in range(20)]
    inside = [images[i][:, masks[i] == 1].std() for i in range(20)]
    assert np.mean(outside) < np.mean(inside)


@pytest.mark.parametrize("size", [1, 16, 37, 128])
@pytest.mark.parametrize("framing", ["head", "bust"])
def test_any_size(population, size, framing):
    images, masks = draw_avatars(population.factors[:3], population.nuisance[:3], size, framing)
    assert images.shape == (3, 3, size, size)
    assert masks.shape == (3, size, size)


def test_prepared_file(prepared):
    info, dataset = prepared
    assert dataset.info == info
    assert info.attribute_level == "image"
    assert len(info.fingerprint) == 32
    assert [len(dataset.splits[name]) for name in SPLITS] == list(SMALL.values())
    ids = np.concatenate([split.ids for split in dataset.splits.values()])
    assert len(np.unique(ids)) == len(ids)
    for split in dataset.splits.values():
        assert split.nuisance.dtype == np.float32
        assert split.attributes.dtype == np.uint8
        assert split.factors.dtype == np.int16
        np.testing.assert_array_equal(attributes_of(split.factors), split.attributes)


def test_no_image_occurs_twice(prepared):
    _, dataset = prepared
    images = np.concatenate([split.in_memory() for split in dataset.splits.values()])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_same_bytes_for_any_number_of_workers(prepared, tmp_path):
    info, dataset = prepared
    again = data.prepare("avatars", SMALL, tmp_path / "one.h5", workers=1)
    assert again == info
    for name in SPLITS:
        other = data.open_data(tmp_path / "one.h5").splits[name]
        np.testing.assert_array_equal(dataset.splits[name].in_memory(), other.in_memory())
        np.testing.assert_array_equal(dataset.splits[name].masks(slice(None)), other.masks(slice(None)))


def test_drawing_order_does_not_matter(prepared):
    _, dataset = prepared
    split = dataset.splits["train"]
    rows = np.array([40, 2, 69, 3])
    images, masks = draw_avatars(split.factors[rows], split.nuisance[rows], 64)
    np.testing.assert_array_equal(images, split.images(rows))
    np.testing.assert_array_equal(masks, split.masks(rows))


def test_fingerprint_follows_the_content(prepared, tmp_path):
    info, _ = prepared
    other = data.prepare("avatars", {**SMALL, "seed": 1}, tmp_path / "a.h5")
    bust = data.prepare("avatars", {**SMALL, "framing": "bust"}, tmp_path / "b.h5")
    assert len({info.fingerprint, other.fingerprint, bust.fingerprint}) == 3


def test_without_masks(tmp_path):
    data.prepare("avatars", {"train": 2, "validation": 0, "test": 1, "masks": False}, tmp_path / "a.h5")
    dataset = data.open_data(tmp_path / "a.h5")
    assert dataset.splits["train"].masks(slice(None)) is None
    assert dataset.splits["validation"].in_memory().shape == (0, 3, 64, 64)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": -3}, "image_size"),
        ({"train": -1}, "train"),
        ({"framing": "feet"}, "framing"),
        ({"image_sise": 64}, "image_size"),
    ],
)
def test_bad_configuration(values, named, tmp_path):
    with pytest.raises(ConfigError, match=named):
        data.prepare("avatars", values, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_no_images_at_all(tmp_path):
    with pytest.raises(DataError, match="no images"):
        data.prepare("avatars", {"train": 0, "validation": 0, "test": 0}, tmp_path / "a.h5")


def test_unknown_part():
    with pytest.raises(MissingDependency, match="no part"):
        avatar_parts.part("top/hair", "bowl_cut")


@pytest.mark.parametrize("svg", ["<svg", "<svg><g>{hair}</g></svg>"])
def test_odd_svg(svg):
    with pytest.raises(DataError):
        avatar_parts.compile_part(svg, "x-")
