import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from vaebench.core.errors import TooFewSamples
from vaebench.metrics.fidelity import kernel
from vaebench.metrics.fidelity.kernel import kernel_distance, subset_distances


def two_sets(n: int = 150, m: int = 130, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) * 1.2 + 0.2


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, pair by pair."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    within = [np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]) for s in (x, y)]
    return float(sum(within) - 2 * np.mean([k(a, b) for a in x for b in y]))


def test_definition() -> None:
    x, y = two_sets(15, 11)
    assert kernel_distance(x, y, generator=np.random.default_rng(0)).value == pytest.approx(plain(x, y), rel=1e-10)


@pytest.mark.parametrize("block", [16, 1024])
def test_same_subsets_as_torch_fidelity(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK", block)
    x, y = two_sets()
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=7, kid_subset_size=50, rng_seed=3, verbose=False
    )
    draws = np.random.RandomState(3)
    in_x, in_y = np.zeros((7, len(x))), np.zeros((7, len(y)))
    for row in range(7):
        in_x[row, draws.choice(len(x), 50, replace=False)] = 1
        in_y[row, draws.choice(len(y), 50, replace=False)] = 1
    ours = subset_distances(x, y, in_x, in_y)
    assert ours.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-9)


def test_all_samples_as_torch_fidelity() -> None:
    x, y = two_sets(140, 140)
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=1, kid_subset_size=140, verbose=False
    )
    ours = kernel_distance(x, y, generator=np.random.default_rng(0))
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)


def test_unbiased_and_honest_about_its_error() -> None:
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(rng.standard_normal((200, 4)), rng.standard_normal((200, 4)) + 0.3, generator=rng)
        for _ in range(60)
    ]
    values = np.array([one.value for one in found])
    large = kernel_distance(rng.standard_normal((4000, 4)), rng.standard_normal((4000, 4)) + 0.3, generator=rng)
    assert values.mean() == pytest.approx(large.value, abs=3 * values.std() / np.sqrt(60) + 3 * large.standard_error)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(values.std(), rel=0.3)


def test_honest_about_its_error_where_sides_differ_in_size() -> None:
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(2 * rng.standard_normal((750, 4)), rng.standard_normal((150, 4)), generator=rng, subsets=60)
        for _ in range(200)
    ]
    values, errors = (np.array([getattr(one, name) for one in found]) for name in ("value", "standard_error"))
    assert errors.mean() == pytest.approx(values.std(), rel=0.2)
    assert found[0].subset_size == 75


def test_large_sides_are_sampled_and_draws_are_explicit() -> None:
    x, y = two_sets()
    first, again = (
        kernel_distance(x, y, generator=np.random.default_rng(5), max_samples=60, subsets=5) for _ in range(2)
    )
    assert first.value == again.value
    assert (first.subset_size, first.n, first.n_reference) == (30, 60, 60)
    assert first.value != kernel_distance(x, y, generator=np.random.default_rng(6), max_samples=60).value


def test_too_few() -> None:
    x, y = two_sets(5, 5)
    with pytest.raises(TooFewSamples):
        kernel_distance(x[:1], y, generator=np.random.default_rng(0))
    with pytest.raises(TooFewSamples):
        kernel_distance(x, y, generator=np.random.default_rng(0), subset_size=6)
    assert np.isnan(kernel_distance(x, y, generator=np.random.default_rng(0), subset_size=5).standard_error)
