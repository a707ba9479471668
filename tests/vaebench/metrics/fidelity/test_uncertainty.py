import numpy as np
import pytest

from vaebench.metrics.fidelity.frechet import frechet_from_samples
from vaebench.metrics.fidelity.statistics import statistics
from vaebench.metrics.fidelity.uncertainty import frechet_interval, influence


def draw(rng: np.random.Generator, n: int, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((n, d)) * np.linspace(0.5, 1.5, d) + 0.3, rng.gamma(2.0, size=(n, d)) / 1.4


def test_influence_is_the_derivative() -> None:
    a, b = draw(np.random.default_rng(0), 4000)
    of_a, of_b = influence(a, b, statistics(a), statistics(b))
    assert of_a.mean() == pytest.approx(0, abs=1e-10)
    value = frechet_from_samples(a, b)
    # One more copy of a sample moves the weight 1 / (n + 1) onto it.
    for row in (0, 17, 300):
        more_a = frechet_from_samples(np.concatenate([a, a[row : row + 1]]), b)
        more_b = frechet_from_samples(a, np.concatenate([b, b[row : row + 1]]))
        assert 4001 * (more_a - value) == pytest.approx(of_a[row], rel=0.02, abs=0.02)
        assert 4001 * (more_b - value) == pytest.approx(of_b[row], rel=0.02, abs=0.02)


def test_linear_and_full_bootstrap_agree_and_match_the_true_spread() -> None:
    rng = np.random.default_rng(0)
    a, b = draw(rng, 1500)
    value = frechet_from_samples(a, b)
    widths = {}
    for method, resamples in (("linear", 2000), ("full", 400)):
        low, high = frechet_interval(a, b, value, generator=rng, resamples=resamples, method=method)  # type: ignore[arg-type]
        assert low < value < high
        widths[method] = high - low
    truth = np.std([frechet_from_samples(*draw(rng, 1500)) for _ in range(200)]) * 2 * 1.96
    assert widths["linear"] == pytest.approx(widths["full"], rel=0.2)
    assert widths["linear"] == pytest.approx(truth, rel=0.25)


def test_sides_of_the_same_images_move_together() -> None:
    rng = np.random.default_rng(0)

    def pairs() -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((600, 16))
        return 0.9 * x + 0.1 * rng.standard_normal(x.shape), x

    a, b = pairs()
    value = frechet_from_samples(a, b)
    truth = np.std([frechet_from_samples(*pairs()) for _ in range(300)]) * 2 * 1.96
    for method, resamples in (("linear", 2000), ("full", 300)):
        low, high = frechet_interval(
            a,
            b,
            value,
            generator=rng,
            resamples=resamples,
            paired=True,
            method=method,  # type: ignore[arg-type]
        )
        assert low < value < high
        assert high - low == pytest.approx(truth, rel=0.25)
    low, high = frechet_interval(a, b, value, generator=rng)
    assert high - low > 5 * truth
    with pytest.raises(ValueError, match="Paired"):
        frechet_interval(a, b[:-1], value, generator=rng, paired=True)


def test_reference_as_given_narrows_the_interval() -> None:
    a, b = draw(np.random.default_rng(0), 800)
    value = frechet_from_samples(a, b)
    both = frechet_interval(a, b, value, generator=np.random.default_rng(1))
    one = frechet_interval(a, b, value, generator=np.random.default_rng(1), resample_reference=False)
    assert one[1] - one[0] < both[1] - both[0]
    assert both == frechet_interval(a, b, value, generator=np.random.default_rng(1))


def test_degenerate_features_give_finite_intervals() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 40)), rng.standard_normal((30, 40))
    a[:, :5] = b[:, :5] = 0
    low, high = frechet_interval(a, b, frechet_from_samples(a, b), generator=rng)
    assert 0 <= low < high < np.inf
    constant = np.zeros((5, 3))
    assert frechet_interval(constant, constant, 0.0, generator=rng) == (0.0, 0.0)
