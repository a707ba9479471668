"""Factor sets from files in their published layout, with pictures of one pixel that say where they belong; and the
embedded look-alike."""

import struct

import h5py
import numpy as np
import pytest
from scipy.io import savemat

import vaebench.data as data
from vaebench.core.errors import ConfigError, DataError, MissingPath
from vaebench.data.factor_sets import MPI3D, DSprites, Shapes3DPublished
from vaebench.data.shapes3d import SIZES, draw_shapes

SMALL = {"image_size": 8, "train": 40, "validation": 5, "test": 10}


def grid_values(sizes: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), 1)


def dsprites(root):
    factors = grid_values(tuple(DSprites.grid.values()))
    np.savez(root / "d.npz", imgs=(factors[:, 0] == 2).astype(np.uint8).reshape(-1, 1, 1))
    return root / "d.npz", lambda pixel, factors: pixel == 255 * (factors[0] == 2)


def shapes3d(root):
    factors = grid_values(tuple(Shapes3DPublished.grid.values()))
    with h5py.File(root / "3dshapes.h5", "w") as file:
        file["images"] = factors[:, [0, 4, 5]].astype(np.uint8).reshape(-1, 1, 1, 3)
    return root / "3dshapes.h5", lambda pixel, factors: pixel == factors[0]


def mpi3d(root):
    factors = grid_values(tuple(MPI3D.grid.values()))
    np.savez(root / "mpi3d_toy.npz", images=factors[:, [5, 6, 0]].astype(np.uint8).reshape(-1, 1, 1, 3))
    return root / "mpi3d_toy.npz", lambda pixel, factors: pixel == factors[5]


def cars3d(root):
    for car in range(183):
        image = np.zeros((1, 1, 3, 24, 4), np.uint8)
        image[0, 0] = (np.arange(24)[:, None] + 30 * np.arange(4)).astype(np.uint8)
        savemat(root / f"car_{car:03}_mesh.mat", {"im": image})
    return root, lambda pixel, factors: pixel == factors[1] + 30 * factors[0]


def smallnorb(root):
    rng = np.random.default_rng(0)
    for part, instances in (
        ("5x46789x9x18x6x2x96x96-training", (4, 6, 7, 8, 9)),
        ("5x01235x9x18x6x2x96x96-testing", (0, 1, 2, 3, 5)),
    ):
        facts = np.array([
            (category, instance, elevation, 2 * azimuth, light)
            for category in range(5) for instance in instances for elevation in range(9)
            for azimuth in range(18) for light in range(6)
        ])  # fmt: skip
        facts = rng.permutation(facts)
        pixels = np.stack([facts[:, 1] * 10 + facts[:, 2], np.full(len(facts), 255)], 1)
        for kind, magic, array in (
            ("dat", 0x1E3D4C55, pixels.astype(np.uint8).reshape(-1, 2, 1, 1)),
            ("cat", 0x1E3D4C54, facts[:, 0].astype("<i4")),
            ("info", 0x1E3D4C54, facts[:, 1:].astype("<i4")),
        ):
            shape = list(array.shape) + [1] * (3 - array.ndim)
            header = struct.pack(f"<ii{len(shape)}i", magic, array.ndim, *shape)
            (root / f"smallnorb-{part}-{kind}.mat").write_bytes(header + array.tobytes())
    return root, lambda pixel, factors: pixel == factors[1] * 10 + factors[2]


MAKERS = {"dsprites": dsprites, "3dshapes": shapes3d, "mpi3d": mpi3d, "cars3d": cars3d, "smallnorb": smallnorb}


@pytest.mark.parametrize("name", MAKERS)
def test_pictures_belong_to_their_factors(name, tmp_path):
    root, belongs = MAKERS[name](tmp_path)
    data.prepare(name, {"root": str(root), **SMALL}, tmp_path / "a.h5")
    dataset = data.open_data(tmp_path / "a.h5")
    assert {split: len(dataset.split(split)) for split in dataset.splits} == {"train": 40, "validation": 5, "test": 10}
    for split in dataset.splits.values():
        for image, factors in zip(split.images(slice(None)), split.factors, strict=True):
            assert belongs(image[0, 0, 0], factors), (image[:, 0, 0], factors)
    assert len(dataset.info.factors) == dataset.split("train").factors.shape[1]


@pytest.mark.parametrize("name", MAKERS)
def test_missing_or_foreign_files_are_refused(name, tmp_path):
    with pytest.raises(MissingPath, match=r"http.*'root'"):
        data.prepare(name, {"root": str(tmp_path / "nowhere"), **SMALL}, tmp_path / "a.h5")
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=f"is not the published {name}"):
        data.prepare(name, {"root": str(foreign), **SMALL}, tmp_path / "a.h5")
    np.savez(tmp_path / "short.npz", imgs=np.zeros((3, 1, 1), np.uint8), images=np.zeros((3, 1, 1, 3), np.uint8))
    with pytest.raises(DataError):
        data.prepare(name, {"root": str(tmp_path / "short.npz"), **SMALL}, tmp_path / "a.h5")


def test_the_look_alike_has_every_combination_once(tmp_path):
    options = {"image_size": 16, "subset": [2, 2, 2, 2, 4, 2], "train": 0, "validation": 0, "test": 0}
    info = data.prepare("shapes3d", options, tmp_path / "a.h5")
    split = data.open_data(tmp_path / "a.h5").split("train")
    assert len(split) == len(np.unique(split.factors, axis=0)) == 128
    assert [len(factor.values) for factor in info.factors] == [2, 2, 2, 2, 4, 2]
    assert len(np.unique(split.images(slice(None)).reshape(128, -1), axis=0)) == 128
    assert (split.attributes.sum(1) == 6).all()


def test_each_factor_changes_what_it_names():
    base = np.array([[0, 3, 6, 3, 2, 7]])
    image, mask = (part[0] for part in draw_shapes(base, 48))
    for factor, value in enumerate((5, 8, 1, 7, 0, 12)):
        changed = base.copy()
        changed[0, factor] = value
        other, other_mask = (part[0] for part in draw_shapes(changed, 48))
        moved = np.abs(image.astype(int) - other).max(0) > 8
        if factor == 2:  # the object's hue: nothing but the object
            assert moved[mask == 1].mean() > 0.9
            assert not moved[mask == 0].any()
        elif factor == 0:  # the floor is below, and not the object
            assert not moved[mask == 1].any()
            assert moved[-1].all()
            assert not moved[0].any()
        elif factor == 1:
            assert moved[0].all()
            assert not moved[-1].any()
        elif factor == 3:
            assert other_mask.sum() > 1.3 * mask.sum()
        assert moved.any()


def test_the_look_alike_asks_for_no_more_than_there_is(tmp_path):
    assert np.prod(SIZES) == 480_000
    with pytest.raises(ConfigError, match="the grid has 64"):
        data.prepare("shapes3d", {"subset": [2] * 6, "train": 60, "validation": 5, "test": 5}, tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="must lie between"):
        data.prepare("shapes3d", {"subset": [11, 2, 2, 2, 2, 2]}, tmp_path / "a.h5")


def test_published_files_are_not_read_whole(tmp_path, monkeypatch):
    root, _ = dsprites(tmp_path)
    largest = 0
    frombuffer = np.frombuffer

    def watched(content, *args, **kwargs):
        nonlocal largest
        largest = max(largest, len(content))
        return frombuffer(content, *args, **kwargs)

    monkeypatch.setattr(np, "frombuffer", watched)
    data.prepare("dsprites", {"root": str(root), **SMALL}, tmp_path / "a.h5")
    assert 0 < largest <= 4096


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    root, _ = dsprites(tmp_path)
    whole = root.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is not the published dsprites"):
        data.prepare("dsprites", {"root": str(tmp_path / "cut.npz"), **SMALL}, tmp_path / "a.h5")


def test_hues_change_no_light(tmp_path):
    """Colours are put over light and shade found once, so a pixel's brightness is its hue's times that of another."""
    factors = np.array([[0, 0, 0, 3, 1, 4], [5, 5, 5, 3, 1, 4]])
    (red, cyan), masks = draw_shapes(factors, 24)
    assert (masks[0] == masks[1]).all()
    np.testing.assert_allclose(red[0].astype(int), cyan[1].astype(int), atol=1)
    np.testing.assert_allclose(red[1].astype(int), cyan[0].astype(int), atol=1)
