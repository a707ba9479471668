"""Attribute statistics of samples: known laws, and the reader against scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from vaebench.core.errors import TooFewSamples
from vaebench.metrics.fidelity.attributes import CS, attribute_shifts, fit_reader


def shown(n: int, rates: list[float], seed: int, tie: bool = False) -> np.ndarray:
    found = np.random.default_rng(seed).random((n, len(rates))) < rates
    if tie:
        found[:, 1] = found[:, 0]
    return found


def test_shifts_of_known_laws():
    generated, real = shown(20_000, [0.5, 0.5, 0.2], 0), shown(20_000, [0.3, 0.5, 0.2], 1)
    shift, pair = attribute_shifts(generated, real, np.random.default_rng(0), 50)
    assert shift.value == pytest.approx(0.2 / 3, abs=0.01)
    np.testing.assert_allclose(shift.per_item, [0.2, 0, 0], atol=0.015)
    assert pair.value == pytest.approx(pair.floor, abs=0.01)  # independent on both sides
    tied, _ = shown(20_000, [0.5, 0.5, 0.2], 2, tie=True), real
    rates, pairs = attribute_shifts(tied, shown(20_000, [0.5, 0.5, 0.2], 3), np.random.default_rng(0), 50)
    assert rates.value == pytest.approx(rates.floor, abs=0.01)
    assert pairs.value == pytest.approx(1 / 3, abs=0.02)  # one pair of three is now the same attribute
    np.testing.assert_allclose(pairs.per_item[0, 1], 1, atol=0.02)
    assert pairs.low < pairs.value < pairs.high


def independent(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((n, 3)) < [0.4, 0.1, 0.7]


def one_of_five(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.eye(5, dtype=bool)[rng.integers(0, 5, n)]


def rare_within_rare(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((n, 1)) < [0.05, 0.02]


def plain(generated: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Both values by their definition."""
    pairs = np.triu_indices(generated.shape[1], 1)
    shares = np.abs(generated.mean(0) - real.mean(0))
    return shares.mean(), np.abs(np.corrcoef(generated.T) - np.corrcoef(real.T))[pairs].mean()


@pytest.mark.parametrize("law", [independent, one_of_five, rare_within_rare])
def test_floor_is_the_mean_of_equal_laws(law: Callable[[int, np.random.Generator], np.ndarray]):
    rng = np.random.default_rng(0)
    expected = np.mean([plain(law(900, rng), law(600, rng)) for _ in range(2500)], 0)
    found = [attribute_shifts(law(900, rng), law(600, rng), rng, 50) for _ in range(60)]
    for shifts, value in zip(zip(*found, strict=True), expected, strict=True):
        assert np.mean([shift.floor for shift in shifts]) == pytest.approx(value, rel=0.06)


def test_floor_of_different_laws_is_far_below_the_value_and_draws_are_explicit():
    generated, real = shown(400, [0.5, 0.5, 0.2], 0, tie=True), shown(300, [0.2, 0.8, 0.5], 1)
    first, again, other = (attribute_shifts(generated, real, np.random.default_rng(seed), 50) for seed in (0, 0, 1))
    for shift, same, changed in zip(first, again, other, strict=True):
        assert shift.floor < shift.value / 3
        assert (shift.low, shift.high, shift.floor) == (same.low, same.high, same.floor)
        assert shift.floor != changed.floor


@pytest.mark.parametrize("attributes", [12, 40])
@pytest.mark.parametrize("apart", [0.0, 0.2])
def test_interval_holds_the_value_and_covers_its_expectation(attributes: int, apart: float):
    rates = np.linspace(0.15, 0.6, attributes)
    others = rates + apart * np.linspace(-0.5, 1, attributes)
    rng = np.random.default_rng(1)
    found = [
        attribute_shifts(rng.random((150, attributes)) < others, rng.random((100, attributes)) < rates, rng, 60)
        for _ in range(200)
    ]
    for shifts in zip(*found, strict=True):
        assert all(0 <= shift.low <= shift.value <= shift.high for shift in shifts)
        values = [shift.value for shift in shifts]
        assert np.mean([shift.low <= np.mean(values) <= shift.high for shift in shifts]) > 0.9
        # Wider than need be where the differences are chance, but not by far.
        assert np.mean([shift.high - shift.low for shift in shifts]) < 1.8 * 2 * 1.96 * np.std(values)


def test_pair_correlations_are_those_of_numpy():
    generated, real = shown(500, [0.5, 0.3, 0.2], 0), shown(400, [0.5, 0.3, 0.2], 1)
    _, pair = attribute_shifts(generated, real, np.random.default_rng(0), 2)
    expected = np.corrcoef(generated.T) - np.corrcoef(real.T)
    np.testing.assert_allclose(pair.per_item, expected, atol=1e-5)
    assert pair.value == pytest.approx(np.abs(expected[np.triu_indices(3, 1)]).mean(), abs=1e-5)


def test_reader_is_that_of_scikit_learn_and_drops_what_it_cannot_read():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((1200, 8)) * np.arange(1, 9) + 3).astype(np.float32)
    y = np.stack([x[:, 0] > 3, x[:, 1] + 3 * rng.standard_normal(1200) > 3, rng.random(1200) < 0.5], 1)
    y = np.concatenate([y, np.ones((1200, 1), bool)], 1).astype(np.uint8)
    reader = fit_reader(x[:600], y[:600], x[600:], y[600:], ("clear", "noisy", "chance", "constant"))
    assert reader.names == ("clear", "noisy", "chance")
    scaler = StandardScaler().fit(x[:600])
    for a in range(2):
        models = [
            LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(scaler.transform(x[:600]), y[:600, a]) for c in CS
        ]
        even, odd = slice(600, None, 2), slice(601, None, 2)
        best = max(models, key=lambda m: balanced_accuracy_score(y[even, a], m.predict(scaler.transform(x[even]))))
        predicted = best.predict(scaler.transform(x[odd]))
        assert reader.balanced_accuracy[a] == pytest.approx(balanced_accuracy_score(y[odd, a], predicted), abs=0.01)
        assert np.mean(reader.read(x[odd])[:, a] == predicted) > 0.99
    assert reader.readable().names == ("clear",) or reader.readable().names == ("clear", "noisy")
    assert "chance" not in reader.readable(0.6).names


def test_constant_attributes_correlate_with_nothing():
    generated, real = shown(50, [0.5, 0.5, 0.0], 0), shown(40, [0.5, 1.0, 0.3], 1)
    _, pair = attribute_shifts(generated, real, np.random.default_rng(0), 2)
    phi, psi = np.corrcoef(generated[:, :2].T)[0, 1], np.corrcoef(real[:, ::2].T)[0, 1]
    assert pair.per_item[0, 1] == pytest.approx(phi)
    assert pair.per_item[0, 2] == pytest.approx(-psi)
    assert pair.per_item[1, 2] == 0


def test_too_little_is_refused():
    with pytest.raises(TooFewSamples):
        attribute_shifts(shown(1, [0.5, 0.5], 0), shown(9, [0.5, 0.5], 0), np.random.default_rng(0))
    with pytest.raises(TooFewSamples):
        attribute_shifts(shown(9, [0.5], 0), shown(9, [0.5], 0), np.random.default_rng(0))
