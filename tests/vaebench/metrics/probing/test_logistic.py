"""The batched logistic regression against scikit-learn's, problem by problem."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vaebench.core.errors import DataError, NumericalError
from vaebench.metrics.probing import logistic, preconditioner, rows, spectrum
from vaebench.metrics.probing.logistic import fit_logistic


def problem(n, d, attributes, seed=0, separable=False, offset=0.0, lowest=0.03):
    """Correlated features and attributes of prevalence ``lowest`` to 0.5."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) @ (rng.standard_normal((d, d)) / np.sqrt(d)) + offset
    signal = (x - x.mean(0)) @ rng.standard_normal((d, attributes))
    signal /= signal.std(0)
    if not separable:
        signal = signal + 0.6 * rng.logistic(size=signal.shape)
    cuts = [np.quantile(signal[:, a], 1 - p) for a, p in enumerate(np.geomspace(lowest, 0.5, attributes))]
    return x, (signal > np.array(cuts)).astype(np.uint8)


def objective(x, y, w, b, c):
    margins = x @ w + b
    return c * (np.logaddexp(0, margins) - y * margins).sum() + w @ w / 2


def reference(x, y, c):
    """Newton's method on centred features (scikit-learn does not centre, which costs it accuracy)."""
    mean = x.mean(0)
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=200).fit(x - mean, y)
    return model.coef_[0], model.intercept_[0] - mean @ model.coef_[0]


def assert_optimal(x, y, fit, excess, difference):
    for i, c in enumerate(fit.cs):
        for a in range(y.shape[1]):
            w, b = reference(x, y[:, a], c)
            best = objective(x, y[:, a], w, b, c)
            ours = objective(x, y[:, a], fit.coefficients[i, a], fit.intercepts[i, a], c)
            assert ours == pytest.approx(fit.losses[i, a], rel=1e-9)
            assert ours <= best * (1 + excess)
            # The certificate holds: the reference is not below our loss by more than the gap.
            assert best >= ours * (1 - fit.gaps[i, a] - 1e-10)
            np.testing.assert_allclose(fit.coefficients[i, a], w, atol=difference * np.abs(w).max())


CASES = {
    "tall": {"n": 600, "d": 25, "attributes": 5},
    "rare": {"n": 800, "d": 20, "attributes": 4, "lowest": 0.005},
    "wide": {"n": 120, "d": 300, "attributes": 4},
    "square": {"n": 150, "d": 150, "attributes": 3},
    "separable": {"n": 300, "d": 40, "attributes": 4, "separable": True},
    "offset": {"n": 500, "d": 30, "attributes": 3, "offset": 40.0},
    "one feature": {"n": 200, "d": 1, "attributes": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_scikit_learn(case):
    x, y = problem(**CASES[case])
    cs = [1e-3, 1e-1, 10.0]
    fit = fit_logistic(x, y, cs, tolerance=1e-10)
    assert fit.converged
    assert fit.coefficients.shape == (3, y.shape[1], x.shape[1])
    assert_optimal(x, y, fit, excess=1e-9, difference=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_default_tolerance_is_certified(case):
    x, y = problem(**CASES[case], seed=1)
    fit = fit_logistic(x, y, [1e-2, 1.0, 100.0])
    assert fit.converged
    assert fit.gaps.max() <= 5e-5
    assert_optimal(x, y, fit, excess=5e-5, difference=0.05)


def test_float32_input_and_spatial_shape():
    x, y = problem(400, 24, 3)
    spatial = x.reshape(400, 6, 2, 2).astype(np.float32)
    fit = fit_logistic(spatial, y, [0.1], tolerance=1e-9)
    assert_optimal(spatial.reshape(400, 24).astype(np.float64), y, fit, excess=1e-8, difference=1e-3)


def test_preconditioner_of_a_problem_is_its_inverse_hessian_when_it_sees_all_rows():
    x, y = problem(90, 12, 2)
    x -= x.mean(0)
    source = rows.Rows(x)
    objective_ = logistic.Objective(source, y, np.array([2.0]), spectrum.spectrum_of(source), torch.float64)
    approximate = preconditioner.Preconditioner(objective_)
    points, columns = (
        0.3 * torch.randn(13, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        torch.arange(2),
    )
    objective_.evaluate(points, columns)
    approximate.refine(points, columns)
    product = objective_.hessian(points, columns)
    vectors = torch.randn(13, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    back, _ = product(approximate(vectors, columns), columns)
    torch.testing.assert_close(back, vectors, atol=1e-4, rtol=1e-4)


def test_gradient_and_hessian_match_automatic_differentiation():
    x, y = problem(70, 5, 2)
    x -= x.mean(0)
    source, cs = rows.Rows(x), np.array([0.5, 3.0])
    objective_ = logistic.Objective(source, y, cs, spectrum.spectrum_of(source), torch.float64)
    points = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    columns = torch.arange(4)
    evaluation = objective_.evaluate(points, columns)
    product = objective_.hessian(points, columns)
    vectors = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    images, changes = product(vectors, columns)
    features = torch.from_numpy(x)
    for k in range(4):
        labels, c = torch.from_numpy(y[:, k % 2]).double(), cs[k // 2]

        def value(point, labels=labels, c=c):
            margins = features @ point[:-1] + point[-1]
            return (
                c * (torch.logaddexp(margins, torch.zeros_like(margins)) - labels * margins).sum()
                + point[:-1].square().sum() / 2
            )

        assert evaluation.value[k] == pytest.approx(float(value(points[:, k])), rel=1e-12)
        torch.testing.assert_close(evaluation.gradient[:, k], torch.func.grad(value)(points[:, k]))
        torch.testing.assert_close(images[:, k], torch.func.hessian(value)(points[:, k]) @ vectors[:, k])
        assert changes[k] == pytest.approx(float((features @ vectors[:-1, k] + vectors[-1, k]).abs().max()))


def test_sketched_spectrum_gives_the_same_optimum(monkeypatch):
    monkeypatch.setattr(spectrum, "FULL_WIDTH", 20)
    monkeypatch.setattr(spectrum, "SKETCH_RANK", 15)
    x, y = problem(400, 60, 3)
    assert_optimal(x, y, fit_logistic(x, y, [0.01, 1.0], tolerance=1e-9), excess=1e-8, difference=1e-3)


def test_blocks_and_groups_do_not_change_the_optimum(monkeypatch, tmp_path):
    x, y = problem(500, 30, 4)
    whole = fit_logistic(x, y, [0.01, 1.0], tolerance=1e-10)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(rows, "BLOCK_ELEMENTS", 3000)
    monkeypatch.setattr(rows, "CACHE_BYTES", 0)
    monkeypatch.setattr(logistic, "SOLVER_BYTES", 1)
    parts = fit_logistic(np.load(tmp_path / "x.npy", mmap_mode="r"), y, [0.01, 1.0], tolerance=1e-10)
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, atol=1e-4)
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-9)


def test_blocks_are_bounded_by_what_is_read_not_by_what_is_left(monkeypatch):
    class Counted:
        shape = (1000, 4, 5, 5)
        most = 0

        def __getitem__(self, index):
            values = np.zeros((index.stop - index.start, *self.shape[1:]), np.float32)
            self.most = max(self.most, values.size)
            return values

    monkeypatch.setattr(rows, "BLOCK_ELEMENTS", 3000)
    source = Counted()
    pooled = rows.Rows(source, lambda block: block.flatten(2).mean(2), 4)
    assert sum(len(block) for _, block in pooled.blocks()) == 1000
    assert source.most <= 3000


def test_gap_is_honest_when_cut_short():
    x, y = problem(400, 50, 3, separable=True)
    fit = fit_logistic(x, y, [100.0], max_passes=3)
    assert not fit.converged
    for a in range(3):
        best = objective(x, y[:, a], *reference(x, y[:, a], 100.0), 100.0)
        assert best >= fit.losses[0, a] * (1 - fit.gaps[0, a])


def test_mean_and_std_of_large_offset():
    values = np.random.default_rng(0).standard_normal((1000, 3)) * 1e-3 + 1e4
    source = rows.Rows(values)
    mean, std = source.mean_and_std()
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, values.std(0), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x, y[:-1]), DataError, "rows"),
        (lambda x, y: (x, y * 2), DataError, "0 or 1"),
        (lambda x, y: (x, y * 0), DataError, "one class only"),
        (lambda x, y: (np.where(x == x[3, 2], np.nan, x), y), NumericalError, "NaN"),
        (lambda x, y: (np.where(x == x[3, 2], np.inf, x), y), NumericalError, "NaN"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        fit_logistic(*change(*problem(60, 5, 2)), [1.0])


def test_bad_penalty():
    with pytest.raises(DataError, match="C must be"):
        fit_logistic(*problem(60, 5, 2), [1.0, 0.0])
