"""Held-out models against scikit-learn, and that what is judged enters no choice."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import linear_model

from reports import held_out
from reports.held_out import Kind

KINDS: tuple[Kind, ...] = ("ridge", "elastic net", "line")


def draw(tokenizers: int = 8, seeds: int = 2, columns: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(tokenizers + columns)
    centre = rng.normal(size=(tokenizers, columns))
    x = np.repeat(centre, seeds, axis=0) + 0.1 * rng.normal(size=(tokenizers * seeds, columns))
    y = x @ np.arange(columns) + 0.2 * rng.normal(size=len(x)) + 50
    return x, y, np.repeat([f"t{i}" for i in range(tokenizers)], seeds)


@pytest.mark.parametrize("columns", [2, 30])
def test_ridge_is_scikit_learns_for_every_penalty(columns: int) -> None:
    x, y, _ = draw(columns=columns)
    unseen = np.random.default_rng(1).normal(size=(3, columns))
    penalties = np.array([0.01, 1.0, 100.0])
    ours = held_out.ridge(x, y, unseen, penalties)
    for penalty, predicted in zip(penalties, ours, strict=True):
        theirs = linear_model.Ridge(alpha=penalty, solver="svd").fit(x, y).predict(unseen)
        assert predicted == pytest.approx(theirs, abs=1e-8)


def test_elastic_net_is_scikit_learns_for_every_penalty() -> None:
    x, y, _ = draw()
    unseen = np.random.default_rng(1).normal(size=(3, 5))
    penalties = np.array([1.0, 0.1, 0.01])
    for penalty, predicted in zip(penalties, held_out.elastic_net(x, y, unseen, penalties), strict=True):
        theirs = linear_model.ElasticNet(alpha=penalty, l1_ratio=0.5, tol=1e-9, max_iter=100_000).fit(x, y)
        assert predicted == pytest.approx(theirs.predict(unseen), abs=0.02)


def test_nested_choice_is_scikit_learns_grid_search() -> None:
    x, y, groups = draw()
    ours = held_out.held_out(x, y, groups, "ridge")
    for group in np.unique(groups):
        train, test = groups != group, groups == group
        a, b = held_out.standardised_by(x[train], x[test])
        inner = groups[train]
        folds = [(np.flatnonzero(inner != g), np.flatnonzero(inner == g)) for g in np.unique(inner)]
        penalties = held_out.PENALTIES * train.sum()
        # Groups are of one size, so the mean over folds of mean squared errors ranks penalties as their sum does.
        search = linear_model.RidgeCV(penalties, cv=folds, scoring="neg_mean_squared_error").fit(a, y[train])
        assert ours[test] == pytest.approx(search.predict(b), abs=1e-8)


def test_line_is_least_squares_on_the_others() -> None:
    x, y, groups = draw(columns=1)
    ours = held_out.held_out(x, y, groups, "line")
    for group in np.unique(groups):
        slope, intercept = np.polyfit(x[groups != group, 0], y[groups != group], 1)
        assert ours[groups == group] == pytest.approx(slope * x[groups == group, 0] + intercept)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_moves_no_prediction_of_its_own(kind: Kind) -> None:
    """All seeds of a tokenizer are left out together: its measured values may be anything."""
    x, y, groups = draw()
    changed = np.where(groups == "t3", 1e3, y)
    before, after = (held_out.held_out(x, values, groups, kind) for values in (y, changed))
    assert after[groups == "t3"] == pytest.approx(before[groups == "t3"], abs=1e-9)
    assert after[groups != "t3"] != pytest.approx(before[groups != "t3"], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_units_and_constant_columns_do_not_matter(kind: Kind) -> None:
    x, y, groups = draw()
    plain = held_out.held_out(x, y, groups, kind)
    other = np.column_stack([x * 10.0 ** np.arange(-2, 3) + 7, np.full(len(x), 0.1)])
    assert held_out.held_out(other, y, groups, kind) == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_constant_columns_leave_the_mean_of_the_others(kind: Kind) -> None:
    _, y, groups = draw()
    constant = np.ones((len(y), 2))
    assert held_out.held_out(constant, y, groups, kind) == pytest.approx(held_out.mean_of_others(y, groups))


@pytest.mark.parametrize(("kind", "least"), [("ridge", 0.9), ("elastic net", 0.9)])
def test_a_linear_truth_is_found_and_noise_is_not(kind: Kind, least: float) -> None:
    x, y, groups = draw(12, 2, 4)
    baseline = held_out.mean_of_others(y, groups)
    assert held_out.r_squared(y, held_out.held_out(x, y, groups, kind), baseline) > least
    found = []
    for seed in range(4):
        noise = np.repeat(np.random.default_rng(seed).normal(size=12), 2)
        constant = held_out.mean_of_others(noise, groups)
        found.append(held_out.r_squared(noise, held_out.held_out(x, noise, groups, kind), constant))
    assert np.median(found) < 0.2, "scores that know nothing predict nothing"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-100, 100), min_size=3, max_size=12, unique=True))
def test_r_squared_is_zero_for_the_constant_and_one_for_the_truth(values: list[float]) -> None:
    y = np.array(values)
    if np.ptp(y) < 1e-6:
        return
    baseline = held_out.mean_of_others(y, np.arange(len(y)))
    assert held_out.r_squared(y, baseline, baseline) == 0
    assert held_out.r_squared(y, y, baseline) == 1


def test_bootstrap_of_a_mean_is_near_its_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=60)
    low, high = held_out.bootstrap_of(lambda rows: float(values[rows].mean()), 60)
    half = 1.96 * values.std(ddof=1) / np.sqrt(60)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


@pytest.mark.parametrize("kind", ["ridge", "elastic net", "line"])
def test_pairs_are_left_out_of_every_choice(kind: Kind) -> None:
    """As if the two were one group; tokenizers with several rows count with their means."""
    rng = np.random.default_rng(11)
    labels = np.array(["a", "a", "b", "c", "c", "d", "e", "f"])
    x = rng.normal(size=(8, 1 if kind == "line" else 4))
    y = x[:, 0] + rng.normal(size=8)
    margins = held_out.pair_margins(x, y, labels, labels, kind)
    names = list(dict.fromkeys(labels))
    for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
        predicted = held_out.held_out(x, y, np.where(labels == other, one, labels), kind)
        expected = predicted[labels == one].mean() - predicted[labels == other].mean()
        assert margins[i, j] == pytest.approx(expected)
        assert margins[j, i] == -margins[i, j]
    assert not margins.diagonal().any()


def test_tokenizers_of_a_family_are_compared_without_it() -> None:
    rng = np.random.default_rng(12)
    labels, families = np.array(list("abcdefgh")), np.array(list("ppqqrrss"))
    x, y = rng.normal(size=(8, 3)), rng.normal(size=8)
    margins = held_out.pair_margins(x, y, labels, families, "ridge")
    alone = held_out.held_out(x, y, families, "ridge")
    assert margins[0, 1] == pytest.approx(alone[0] - alone[1])
    both = held_out.held_out(x, y, np.where(families == "q", "p", families), "ridge")
    assert margins[0, 3] == pytest.approx(both[0] - both[3])


@pytest.mark.parametrize(("kind", "columns"), [("ridge", 5), ("line", 1)])
def test_noise_is_ranked_neither_forwards_nor_backwards(kind: Kind, columns: int) -> None:
    """Where values predicted one at a time rank noise backwards, pairs agree with it half of the time."""
    rng, n = np.random.default_rng(13), 7
    groups, upper = np.arange(n), np.triu_indices(n, 1)
    single, pairs = [], []
    for _ in range(300):
        x, y = rng.normal(size=(n, columns)), rng.normal(size=n)
        single.append(stats.kendalltau(y, held_out.held_out(x, y, groups, kind)).statistic)
        margins = held_out.pair_margins(x, y, groups, groups, kind)
        pairs.append(np.mean(np.sign(y[:, None] - y)[upper] * np.sign(margins)[upper]))
    assert np.mean(single) < -0.2
    assert abs(np.mean(pairs)) < 3 * np.std(pairs) / math.sqrt(len(pairs))
