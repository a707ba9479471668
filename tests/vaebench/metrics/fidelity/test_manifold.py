import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_prc import prc_features_to_metric

from vaebench.core.errors import TooFewSamples
from vaebench.metrics.fidelity import manifold
from vaebench.metrics.fidelity.manifold import manifold_scores


def two_sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((250, 8)) * 0.8, rng.standard_normal((300, 8)) + 0.2


@pytest.mark.parametrize("block_bytes", [20_000, 64 * 2**20])
def test_precision_and_recall_as_torch_fidelity(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "BLOCK_BYTES", block_bytes)
    generated, reference = two_sets()
    theirs = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(reference), verbose=False)
    ours = manifold_scores(generated, reference)
    assert ours.precision.mean() == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours.recall.mean() == pytest.approx(theirs["recall"], abs=1e-6)
    assert theirs["precision"] > theirs["recall"]


def test_density_and_coverage_by_definition() -> None:
    generated, reference = two_sets()
    found = manifold_scores(generated, reference, k_density=4)
    radii = NearestNeighbors(n_neighbors=5).fit(reference).kneighbors(reference)[0][:, 4]
    inside = np.linalg.norm(generated[:, None] - reference[None], axis=2) <= radii
    np.testing.assert_allclose(found.density, inside.sum(1) / 4)
    np.testing.assert_array_equal(found.coverage, inside.any(0))


def test_float64_decides_where_float32_cannot() -> None:
    """Distances that differ in the seventh digit, and rounded copies on the very border of balls."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((2, 200, 16))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    generated, reference = directions * (1 + 1e-7 * rng.standard_normal((2, 200, 1)))
    generated = np.concatenate([generated, np.repeat(reference[:20], 3, axis=0)])
    found = manifold_scores(generated, reference)
    own, across, theirs = (
        np.linalg.norm(x[:, None] - y[None], axis=2)
        for x, y in ((reference, reference), (generated, reference), (generated, generated))
    )
    radii = {k: np.sort(own, axis=1)[:, k] * (1 + 1e-9) for k in (3, 5)}
    around = np.sort(theirs, axis=1)[:, 3] * (1 + 1e-9)
    np.testing.assert_array_equal(found.precision, (across <= radii[3]).any(1))
    np.testing.assert_array_equal(found.density, (across <= radii[5]).sum(1) / 5)
    np.testing.assert_array_equal(found.recall, (across <= around[:, None]).any(0))
    np.testing.assert_array_equal(found.coverage, (across <= radii[5]).any(0))


def test_known_cases() -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((100, 3))
    same = manifold_scores(data, data)
    far = manifold_scores(data + 100, data)
    collapsed = manifold_scores(np.repeat(data[:1], 100, axis=0) + 1e-9 * data, data)
    assert same.precision.all()
    assert same.recall.all()
    assert same.coverage.all()
    assert same.density.mean() == pytest.approx(6 / 5, abs=0.01)  # every ball holds its centre and 5 neighbours
    for scores in (far.precision, far.recall, far.density, far.coverage):
        assert not scores.any()
    assert collapsed.precision.all()
    assert collapsed.recall.mean() <= 0.01
    assert collapsed.coverage.mean() < 0.2


def test_too_few() -> None:
    generated, reference = two_sets()
    with pytest.raises(TooFewSamples, match="Neighbour 5"):
        manifold_scores(generated[:5], reference)
