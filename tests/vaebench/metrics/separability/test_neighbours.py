"""Exact neighbours against distances of all pairs in float64."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebench.core.errors import DataError
from vaebench.metrics.separability import neighbours
from vaebench.metrics.separability.neighbours import nearest_neighbours


def by_all_pairs(queries: np.ndarray, bank: np.ndarray | None, k: int, distance: str) -> np.ndarray:
    first, second = (np.asarray(x, np.float64) for x in (queries, queries if bank is None else bank))
    if distance == "cosine":
        first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    squares = ((first[:, None] - second) ** 2).sum(-1)
    if bank is None:
        np.fill_diagonal(squares, np.inf)
    return np.lexsort((np.broadcast_to(np.arange(squares.shape[1]), squares.shape), squares), axis=1)[:, :k]


def vectors(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6)).astype(np.float32)
    if kind == "duplicates":
        x = x[rng.integers(0, max(2, n // 10), n)]
    elif kind == "shrinking":  # every block holds nearer vectors than those before it
        x *= np.linspace(1, 0.01, n, dtype=np.float32)[:, None]
    elif kind == "far":  # norms that float32 products cannot resolve
        x += 3000
    return x


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", ["plain", "duplicates", "shrinking", "far"])
@pytest.mark.parametrize(("n", "k", "small"), [(40, 39, 2**27), (150, 3, 2**27), (300, 7, 2**27), (300, 7, 0)])
def test_neighbours_are_those_of_all_pairs(monkeypatch, kind, distance, n, k, small):
    monkeypatch.setattr(neighbours, "BLOCK", 64)
    monkeypatch.setattr(neighbours, "FIRST", 16)
    monkeypatch.setattr(neighbours, "SMALL", small)
    x = vectors(kind, n, 0)
    np.testing.assert_array_equal(nearest_neighbours(x, k=k, distance=distance), by_all_pairs(x, None, k, distance))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["plain", "duplicates", "shrinking"]), st.integers(5, 200))
def test_neighbours_in_a_bank(seed, kind, n):
    bank, queries = vectors(kind, n, seed), vectors("plain", 30, seed + 1)
    np.testing.assert_array_equal(nearest_neighbours(queries, bank, k=5), by_all_pairs(queries, bank, 5, "euclidean"))


@pytest.mark.parametrize("own", [False, True])
def test_neighbours_of_latents_that_do_not_stay_in_memory(monkeypatch, tmp_path, own):
    monkeypatch.setattr(neighbours, "PREPARED_BYTES", 0)
    monkeypatch.setattr(neighbours, "LARGE_BLOCK", 64)
    bank, queries = vectors("plain", 300, 0).reshape(300, 2, 3), vectors("duplicates", 150, 1).reshape(150, 2, 3)
    with h5py.File(tmp_path / "latents.h5", "w") as file:
        sides = [file.create_dataset(name, data=x) for name, x in (("queries", queries), ("bank", bank))]
        found = nearest_neighbours(sides[0], None if own else sides[1], k=5)
    first, second = queries.reshape(150, 6), bank.reshape(300, 6)
    np.testing.assert_array_equal(found, by_all_pairs(first, None if own else second, 5, "euclidean"))


def test_keys_are_ordered_as_their_bounds():
    bounds = np.array([-np.inf, -3.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, np.inf], np.float32)
    keys = neighbours._packed(bounds, np.arange(8)[::-1])
    assert (np.diff(keys.astype(object)) > 0).all()
    back, numbers = neighbours._unpacked(keys)
    np.testing.assert_array_equal(back, bounds)
    assert numbers.tolist() == list(range(8))[::-1]


def test_sides_of_different_width_are_refused():
    x = vectors("plain", 10, 0)
    with pytest.raises(DataError, match="cannot be compared"):
        nearest_neighbours(x, x[:, :3], k=1)
