"""Bootstrap intervals against resampling written out, and the hierarchical one by what it must do."""

import numpy as np
import pytest
from scipy import stats

from reports.statistics import bootstrap, hierarchical_bootstrap
from reports.statistics.resampling import weights


@pytest.mark.parametrize("ties", [False, True])
def test_every_resample_is_scipys_coefficient_of_the_repeated_points(ties: bool) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 7))
    if ties:
        x, y = np.round(x), np.round(2 * y)
    drawn: dict[str, list[float]] = {"pearson": [], "spearman": [], "kendall": []}
    for row in weights(7, 0)[:400].astype(int):
        a, b = np.repeat(x, row), np.repeat(y, row)
        if np.ptp(a) > 0 and np.ptp(b) > 0:
            drawn["pearson"].append(stats.pearsonr(a, b).statistic)
            drawn["spearman"].append(stats.spearmanr(a, b).statistic)
            drawn["kendall"].append(stats.kendalltau(a, b).statistic)
    ours = _first(400, x, y)
    for name, values in drawn.items():
        assert ours[name] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9), name


def _first(rows: int, x: np.ndarray, y: np.ndarray) -> dict[str, tuple[float, float]]:
    whole = weights(len(x), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.statistics.resampling.weights", lambda n, seed: whole[:rows])
        found = bootstrap(x, y)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [2, 3, 4])
def test_below_five_points_there_is_none(n: int) -> None:
    values = np.arange(n, dtype=float)
    assert bootstrap(values, values**2) is None
    assert hierarchical_bootstrap([values] * n, [values] * n, [True] * n) is None


def _study(n: int, k: int, noise: float, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=n)
    xs = [c + noise * rng.normal(size=k) for c in centre]
    ys = [c + 0.5 * rng.normal() + noise * rng.normal(size=k) for c in centre]
    return xs, ys


def test_without_a_second_seed_there_is_no_hierarchy() -> None:
    xs, ys = _study(8, 1, 0.3, 0)
    assert hierarchical_bootstrap(xs, ys, [True] * 8) is None


def test_seeds_that_agree_leave_the_ordinary_bootstrap() -> None:
    xs, ys = _study(12, 3, 0.0, 1)
    ordinary = bootstrap(np.array([x[0] for x in xs]), np.array([y[0] for y in ys]))
    assert ordinary is not None
    for paired in (True, False):
        assert hierarchical_bootstrap(xs, ys, [paired] * 12) == pytest.approx(ordinary["pearson"], abs=0.02)


def test_seeds_that_differ_widen_it_and_uneven_seeds_are_welcome() -> None:
    quiet, loud = _study(12, 3, 0.0, 1), _study(12, 3, 1.0, 1)
    narrow = hierarchical_bootstrap(*quiet, [False] * 12)
    wide = hierarchical_bootstrap(*loud, [False] * 12)
    assert narrow is not None
    assert wide is not None
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
    xs = [x[: 1 + i % 3] for i, x in enumerate(loud[0])]
    uneven = hierarchical_bootstrap(xs, loud[1], [False] * 12)
    assert uneven is not None
    assert -1 <= uneven[0] < uneven[1] <= 1


def test_paired_seeds_are_drawn_together() -> None:
    """All differences come from seeds, and x equals y in each: paired draws must give r = 1."""
    rng = np.random.default_rng(3)
    xs = [rng.normal(size=4) for _ in range(6)]
    assert hierarchical_bootstrap(xs, xs, [True] * 6) == pytest.approx((1, 1))
    apart = hierarchical_bootstrap(xs, xs, [False] * 6)
    assert apart is not None
    assert apart[0] < 0.9


def test_agrees_with_resampling_written_out() -> None:
    xs, ys = _study(8, 3, 0.5, 4)
    rng = np.random.default_rng(9)
    values = []
    for _ in range(3000):
        a, b = [], []
        for i in rng.integers(0, 8, 8):
            seeds = rng.integers(0, 3, 3)
            a.append(xs[i][seeds].mean())
            b.append(ys[i][seeds].mean())
        values.append(np.corrcoef(a, b)[0, 1])
    ours = hierarchical_bootstrap(xs, ys, [True] * 8)
    assert ours == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.05)
