"""Neighbours, LNC, class probes, mixtures, uniformity and iFID: known answers and independent implementations."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gaussian_kde
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.data.base import DataInfo
from vaebench.metrics import base
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.separability.classes import ClassProbe
from vaebench.metrics.separability.consistency import LNC, ceiling, chance, consistency
from vaebench.metrics.separability.gmm import GMM
from vaebench.metrics.separability.ifid import IFID, choose, slerp
from vaebench.metrics.separability.neighbours import nearest_neighbours
from vaebench.metrics.separability.uniformity import Evenness, Uniformity, evenness


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def inputs(latents: np.ndarray, labels: np.ndarray | None = None, classes: int = 0, **more) -> MetricInputs:
    third = len(latents) // 3
    parts = (slice(0, third), slice(third, 2 * third), slice(2 * third, None))
    splits = [LatentSplit(latents[p], labels=None if labels is None else labels[p]) for p in parts]
    d = latents.shape[1]
    info = DataInfo("toy", 8, classes=tuple(map(str, range(classes))))
    return MetricInputs(*splits, info, np.zeros(d), np.ones(d), **more)


def clusters(n: int = 300, spread: float = 0.1, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % classes
    centres = 3 * noise(classes, 4, 2, 2, seed=9)
    return centres[labels] + spread * noise(n, 4, 2, 2), labels


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("own", [True, False])
def test_neighbours_are_scikit_learns(distance, own):
    bank, queries = noise(3000, 20) + 5, noise(100, 20, seed=1) + 5
    search = NearestNeighbors(n_neighbors=7, algorithm="brute", metric=distance).fit(bank.astype(np.float64))
    if own:
        expected = search.kneighbors()[1]
        np.testing.assert_array_equal(nearest_neighbours(bank, k=7, distance=distance), expected)
    else:
        expected = search.kneighbors(queries.astype(np.float64))[1]
        np.testing.assert_array_equal(nearest_neighbours(queries, bank, k=7, distance=distance), expected)


def test_neighbours_where_float32_cannot_tell():
    line = np.arange(50, dtype=np.float64)[:, None] * 1e-7 + 1e3  # an offset that swallows the differences in float32
    found = nearest_neighbours(line, k=2)
    assert [set(row) for row in found[1:-1]] == [{i - 1, i + 1} for i in range(1, 49)]
    same = np.ones((40, 3))
    assert nearest_neighbours(same, k=3)[10].tolist() == [0, 1, 2]  # ties by index


def test_neighbours_refuse_what_has_none():
    with pytest.raises(TooFewSamples, match="5 neighbours"):
        nearest_neighbours(noise(5, 3), k=5)
    with pytest.raises(NumericalError, match="NaN"):
        nearest_neighbours(np.full((5, 3), np.nan), k=1)
    with pytest.raises(NumericalError, match="length zero"):
        nearest_neighbours(np.zeros((5, 3)), k=1, distance="cosine")


def test_separate_clusters_are_consistent_and_random_labels_are_at_chance():
    latents, labels = clusters()
    scores = {(s.metric, s.detail["variant"]): s for s in LNC().run(inputs(latents, labels, 3), 0)}
    assert scores["lnc_whole_image", "k=5"].value == 1
    shuffled = np.random.default_rng(0).permutation(labels)
    score = LNC().run(inputs(noise(900, 4, 2, 2), np.tile(shuffled, 3), 3), 0)[0]
    assert score.low <= score.detail["baseline"] <= score.high
    assert ceiling(np.array([0, 0, 1]), 5) == pytest.approx((0.2 + 0.2 + 0) / 3)
    assert chance(np.array([0, 0, 1, 1])) == pytest.approx(1 / 3)


def test_foreground_of_masks_is_what_counts_and_empty_masks_are_dropped():
    latents, labels = clusters(n=120, spread=0.01)
    latents[:, :, 1] = 100 * noise(120, 4, 2)  # the lower half is noise
    masks = np.zeros((120, 8, 8), np.uint8)
    masks[:, :4] = 1
    masks[80] = 0
    base = inputs(latents, labels, 3)
    test = LatentSplit(latents[80:], labels=labels[80:], masks=lambda rows: masks[80:][rows])
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    scores = {s.metric: s for s in LNC({"ks": [5]}).run(MetricInputs(**{**fields, "test": test}), 0)}
    assert scores["lnc"].value == 1
    assert scores["lnc"].detail["empty_masks"] == 1
    assert scores["lnc"].n == 39
    assert scores["lnc_whole_image"].value < 0.8


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_consistency_does_not_mind_rotation_and_scale(seed, scale):
    rng = np.random.default_rng(seed)
    vectors, labels = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    rotation, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    np.testing.assert_allclose(consistency(vectors, labels, 4), consistency(scale * vectors @ rotation, labels, 4))


@pytest.mark.slow
def test_interval_of_consistency_covers_the_truth():
    """LNC depends on n through its bank, so the truth is the mean over many data sets of the same size."""
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, 300)
        latents = (rng.standard_normal((300, 4)) + np.eye(4)[labels])[:, :, None, None].astype(np.float32)
        split = LatentSplit(latents, labels=labels)
        prepared = MetricInputs(
            split, split, split, DataInfo("toy", 8, classes=("a", "b", "c")), np.zeros(4), np.ones(4)
        )
        found.append(LNC({"ks": [5], "center": False}).run(prepared, seed)[0])
    truth = np.mean([score.value for score in found])
    covered = np.mean([score.low <= truth <= score.high for score in found])
    assert 0.9 <= covered <= 0.99


def test_class_probe_reads_what_is_linear_and_neighbours_what_is_not():
    latents, labels = clusters()
    scores = {(s.metric, s.detail["vectorisation"]): s for s in ClassProbe().run(inputs(latents, labels, 3), 0)}
    assert scores["class_linear_accuracy", "flattened"].value == 1
    assert scores["class_nonlinear_gap", "flattened"].value == 0
    x = np.random.default_rng(0).choice([-1.0, 1.0], (1200, 2, 1, 1))
    xor = ((x[:, 0, 0, 0] * x[:, 1, 0, 0]) > 0).astype(np.int64)
    x = (x + 0.1 * np.random.default_rng(1).standard_normal(x.shape)).astype(np.float32)
    scores = {s.metric: s for s in ClassProbe({"poolings": ["mean"]}).run(inputs(x, xor, 2), 0)}
    assert scores["class_linear_accuracy"].value < 0.6
    assert scores["class_neighbour_accuracy"].value > 0.98
    assert scores["class_nonlinear_gap"].low > 0.3
    scaled = (x[:, :, 0, 0] - x[:400, :, 0, 0].mean(0)) / x[:400, :, 0, 0].std(0)
    reference = KNeighborsClassifier(10).fit(scaled[:400], xor[:400]).score(scaled[800:], xor[800:])
    assert scores["class_neighbour_accuracy"].value == pytest.approx(reference, abs=0.01)


def test_more_classes_than_samples_are_refused():
    with pytest.raises(TooFewSamples, match="train no classifier"):
        ClassProbe().run(inputs(noise(30, 2, 2, 2), np.arange(30), 30), 0)
    with pytest.raises(TooFewSamples, match="needs more than"):
        LNC().run(inputs(noise(18, 2, 2, 2), np.arange(18) % 2, 2), 0)


def test_one_gaussian_has_its_entropy_and_clusters_need_their_number():
    dimension = 4
    gaussian = noise(9000, dimension, 1, 1)
    config = {"dimension": dimension, "components": [1, 4], "per_component": 20}
    one, four = GMM(config).run(inputs(gaussian), 0)
    assert one.value == pytest.approx(dimension / 2 * np.log(2 * np.pi * np.e), abs=0.08)
    assert four.value == pytest.approx(one.value, abs=0.05)
    assert one.detail["explained_variance"] == pytest.approx(1)
    assert "note" not in one.detail
    latents, _ = clusters(n=3000, classes=4)
    one, four = GMM({**config, "components": [1, 4]}).run(inputs(latents), 0)
    assert four.value < one.value - 1
    with pytest.raises(TooFewSamples, match="20 for each of 50"):
        GMM({"dimension": 2}).run(inputs(noise(90, 3, 1, 1)), 0)


def test_explained_variance_is_that_of_all_rows_in_any_order(monkeypatch):
    """In blocks of 100 rows that lie far apart, which is most of the variance."""
    latents = noise(900, 6, 1, 1) * np.array([5, 4, 1, 1, 1, 1], np.float32)[:, None, None]
    latents[:, 0, 0, 0] += 10 * (np.arange(900) // 100 % 3)
    monkeypatch.setattr(base, "BLOCK_BYTES", 100 * 6 * 4)
    config = {"dimension": 2, "components": [1]}
    eigenvalues = np.linalg.eigvalsh(np.cov(latents[:300].reshape(300, -1).T))
    expected = eigenvalues[-2:].sum() / eigenvalues.sum()
    order = np.random.default_rng(0).permutation(300)
    for rows in (latents, latents[np.r_[order, 300:900]]):
        (score,) = GMM(config).run(inputs(rows), 0)
        assert score.detail["explained_variance"] == pytest.approx(expected, rel=1e-6)
    (score,) = GMM(config).run(inputs(noise(900, 6, 1, 1)), 0)
    assert score.detail["note"].startswith("2 components explain 3")


def test_mixtures_of_latents_with_dead_channels_are_those_of_the_others():
    latents = noise(900, 4, 1, 1)
    padded = np.concatenate([latents, np.zeros((900, 2, 1, 1), np.float32)], 1)
    (alive,) = GMM({"dimension": 4, "components": [2]}).run(inputs(latents), 0)
    (dead,) = GMM({"dimension": 6, "components": [2]}).run(inputs(padded), 0)
    assert dead.protocol["dimension"] == alive.protocol["dimension"] == 4
    assert dead.value == pytest.approx(alive.value, rel=1e-3)


def test_evenness_of_known_points():
    points = noise(200, 2).astype(np.float64)
    density = gaussian_kde(points.T)(points.T)
    found = evenness(points)
    assert found.density_cv == pytest.approx(density.std() / density.mean())
    pairs = np.abs(density[:, None] - density).sum() / (2 * 200**2 * density.mean())
    assert found.density_gini == pytest.approx(pairs)  # Gini as the mean difference of all pairs
    share = density / density.sum()
    assert found.density_entropy == pytest.approx(-(share * np.log2(share)).sum() / np.log2(200))
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = evenness(np.stack([np.cos(angle), np.sin(angle)], 1))
    assert circle.density_cv == pytest.approx(0, abs=1e-6)
    assert circle.density_entropy == pytest.approx(1)
    with pytest.raises(NumericalError, match="on a line"):
        evenness(np.stack([angle, angle], 1))


def test_uniformity_prefers_even_latents():
    config = {"points": 150, "maps": ["pca"], "repeats": 3}
    even = np.random.default_rng(0).uniform(-1, 1, (900, 2, 2, 2)).astype(np.float32)
    lumpy = noise(900, 2, 2, 2) ** 3
    first, second = (Evenness(*(s.value for s in Uniformity(config).run(inputs(part), 0))) for part in (even, lumpy))
    assert first.density_cv < second.density_cv
    assert first.density_gini < second.density_gini
    assert first.density_entropy > second.density_entropy
    tsne = Uniformity({**config, "maps": ["tsne"], "iterations": 250}).run(inputs(even), 0)
    assert all(score.low < score.value < score.high for score in tsne)
    with pytest.raises(TooFewSamples, match="100 latents"):
        Uniformity().run(inputs(even[:60]), 0)
    with pytest.raises(DataError, match="flip=false"):
        Uniformity({"flip": True}).run(inputs(even), 0)


def test_half_of_the_points_may_be_of_mirrored_images():
    """An encoder that returns what it sees: of images bright on their left only, mirrored ones are dark there."""
    images = np.zeros((200, 3, 2, 2), np.uint8)
    images[..., 0] = 200
    pixels = images.astype(np.float32) + np.random.default_rng(0).random((200, 3, 2, 2), np.float32)
    split = LatentSplit(pixels, images=images.__getitem__)
    prepared = MetricInputs(
        split, split, split, DataInfo("toy", 2), np.zeros(3), np.ones(3),
        encode=lambda seen: seen.astype(np.float32), decode=lambda z: z,
    )  # fmt: skip
    points = {}
    for flip in (False, True):
        metric, seen = Uniformity({"points": 100, "maps": ["pca"], "flip": flip}), []
        watched = dataclasses.replace(prepared, encode=lambda x, seen=seen: seen.append(x) or x.astype(np.float32))
        points[flip] = metric._points(watched, 100, "pca", 0, 0)
        assert len(seen) == flip
        if flip:
            assert seen[0].shape == (50, 3, 2, 2)
            assert (seen[0][..., 1] == 200).all()
    assert points[True].shape == points[False].shape == (100, 2)


def test_slerp_stays_on_the_sphere_and_is_straight_between_parallels():
    x, y = noise(5, 8).astype(np.float64), noise(5, 8, seed=1).astype(np.float64)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    mixed = slerp(x, y, 0.5)
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1)
    np.testing.assert_allclose(mixed, (x + y) / np.linalg.norm(x + y, axis=1, keepdims=True))
    np.testing.assert_allclose(slerp(x, x, 0.3), x)
    np.testing.assert_allclose(slerp(x, y, 0.0), x)


def test_candidates_are_drawn_by_their_distance():
    queries, bank = np.zeros((20_000, 1)), np.array([[0.0], [1.0], [2.0]])
    drawn = choose(queries, bank, np.tile([0, 1, 2], (20_000, 1)), np.random.default_rng(0))
    expected = np.exp([0.0, -1.0, -4.0]) / np.exp([0.0, -1.0, -4.0]).sum()
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, expected, atol=0.01)


def test_ifid_is_small_where_the_space_between_neighbours_decodes():
    """Latents are the images' own pixels: neighbours that are alike mix to an image alike, others do not."""
    rng = np.random.default_rng(0)

    def score(images: np.ndarray) -> float:
        latents = images.astype(np.float32) / 127.5 - 1
        prepared = inputs(
            latents, encode=None, decode=lambda z: z, fid_features=lambda x: x.reshape(len(x), -1).astype(np.float32)
        )
        test = LatentSplit(latents[200:], images=lambda rows: images[200:][rows])
        fields = {name: getattr(prepared, name) for name in prepared.__dataclass_fields__}
        (found,) = IFID({"mix": "linear"}).run(MetricInputs(**{**fields, "test": test}), 0)
        assert found.low <= found.value <= found.high
        return found.value

    flat = np.repeat(rng.integers(0, 256, (300, 3, 1, 1)), 4, 2).repeat(4, 3).astype(np.uint8)
    assert score(flat) < 0.5 * score(rng.integers(0, 256, (300, 3, 4, 4)).astype(np.uint8))
