"""Fitting 40 attributes x 5 values of C on 20,000 x 512 against scikit-learn's LogisticRegression (lbfgs), in one run.

    python tests/benchmarks/probe.py            # every one of the 200 rival fits
    python tests/benchmarks/probe.py --quick    # rival fits of every eighth attribute, extrapolated, and it says so

Ours is timed before the rival and after each of its values of C; the median counts. Prints seconds, the ratio, and by
how much our losses exceed the rival's at most, both recomputed in float64 from the coefficients.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from vaebench.metrics.probing.logistic import LogisticFit, fit_logistic

CS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def draw(n: int, dimension: int, attributes: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised, correlated features with a falling spectrum; attributes of prevalence 1% to 50%.

    Attributes are noisy, partly nonlinear readings of the features: some easy, some hard, none separable by itself.
    """
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    x = (rng.standard_normal((n, dimension)) * (1 + np.arange(dimension)) ** -0.6) @ rotation
    x += 0.3 * np.tanh(2 * x[:, ::-1])
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    signal = x @ rng.standard_normal((dimension, attributes)).astype(np.float32)
    signal /= signal.std(0)
    signal = signal + rng.permutation(np.linspace(0.15, 0.8, attributes)) * rng.logistic(size=signal.shape)
    cuts = [np.quantile(signal[:, a], 1 - p) for a, p in enumerate(np.geomspace(0.01, 0.5, attributes))]
    return x, (signal > np.array(cuts)).astype(np.uint8)


def loss(x: np.ndarray, y: np.ndarray, weights: np.ndarray, intercept: float, c: float) -> float:
    margins = x @ weights + intercept
    return float(c * (np.logaddexp(0, margins) - y * margins).sum() + weights @ weights / 2)


def timed_fit(x: np.ndarray, y: np.ndarray) -> tuple[float, LogisticFit]:
    start = time.perf_counter()
    fit = fit_logistic(x, y, CS)
    return time.perf_counter() - start, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--attributes", type=int, default=40)
    parser.add_argument(
        "--quick", action="store_true", help="fit every eighth attribute with the rival and extrapolate"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    x, y = draw(arguments.samples, arguments.dim, arguments.attributes)
    chosen = range(0, arguments.attributes, 8 if arguments.quick else 1)
    print(f"{arguments.attributes} attributes x {len(CS)} values of C on {arguments.samples:,} x {arguments.dim}")

    exact = x.astype(np.float64)
    first, fit = timed_fit(x, y)
    ours, rival, excesses = [first], 0.0, []
    for i, c in enumerate(CS):
        start = time.perf_counter()
        models = [LogisticRegression(C=c, max_iter=1000).fit(x, y[:, a]) for a in chosen]
        rival += time.perf_counter() - start
        ours.append(timed_fit(x, y)[0])
        for a, model in zip(chosen, models, strict=True):
            reached = loss(exact, y[:, a], fit.coefficients[i, a], float(fit.intercepts[i, a]), c)
            theirs = loss(exact, y[:, a], model.coef_[0].astype(float), float(model.intercept_[0]), c)
            excesses.append(reached / theirs - 1)
        print(f"  C = {c:g} done", flush=True)
    share = len(chosen) / arguments.attributes
    label = f"extrapolated from {len(chosen)} attributes" if share < 1 else "all fits"
    seconds = float(np.median(ours))
    print(f"ours          {seconds:8.2f} s  median of {len(ours)} ({min(ours):.2f} to {max(ours):.2f})")
    print(f"scikit-learn  {rival / share:8.2f} s  {label}")
    print(f"ratio         {rival / share / seconds:8.1f}")
    print(f"loss over the rival's, relative: {max(excesses):.1e} at most, {np.median(excesses):.1e} in the median")
    print(f"certified gap to the optimum, relative: {fit.gaps.max():.1e} at most")


if __name__ == "__main__":
    main()
