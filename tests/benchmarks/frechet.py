"""Fréchet distance against scipy.linalg.sqrtm and torch-fidelity 0.4, in one run; statistics are not timed.

    python tests/benchmarks/frechet.py                      # 50,000 x 2048 features, as for a full FID
    python tests/benchmarks/frechet.py --features 5000 --dim 512

Prints seconds, ratios and relative differences, for covariances of full rank and for rank-deficient ones.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_statistics_to_metric

from vaebench.metrics.fidelity.frechet import frechet_distance
from vaebench.metrics.fidelity.statistics import RunningStatistics, Statistics

CHUNK = 5000


def draw(n: int, dimension: int, seed: int) -> Iterator[np.ndarray]:
    """Chunks of n correlated, rectified features; variances fall as those of networks do."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(0).standard_normal((dimension, dimension)) / np.sqrt(dimension)
    scale = (1.0 + np.arange(dimension)) ** -0.5
    for start in range(0, n, CHUNK):
        hidden = rng.standard_normal((min(CHUNK, n - start), dimension)) * scale
        yield np.maximum(hidden @ shared + 0.02 * seed * hidden + 0.05, 0.0)


def draw_statistics(n: int, dimension: int, seed: int) -> Statistics:
    running = RunningStatistics(dimension)
    for chunk in draw(n, dimension, seed):
        running.update(chunk)
    return running.result()


def by_singular_values(first: np.ndarray, second: np.ndarray) -> float:
    """The distance of few samples without covariances, which no square root of a rounded zero can spoil."""
    mean_1, mean_2 = first.mean(0), second.mean(0)
    factor_1, factor_2 = ((x - m) / np.sqrt(len(x) - 1) for x, m in ((first, mean_1), (second, mean_2)))
    overlap = np.linalg.svd(factor_1 @ factor_2.T, compute_uv=False).sum()
    return float(((mean_1 - mean_2) ** 2).sum() + (factor_1**2).sum() + (factor_2**2).sum() - 2 * overlap)


def by_square_root(first: Statistics, second: Statistics) -> float:
    """The formula as the first implementations have it."""
    difference = first.mean - second.mean
    root = np.real(sqrtm(first.covariance @ second.covariance))
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return float(difference @ difference + traces - 2 * np.trace(root))


def by_torch_fidelity(first: Statistics, second: Statistics) -> float:
    sides = [{"mu": side.mean, "sigma": side.covariance} for side in (first, second)]
    return float(fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"])


def best_time(function: Callable[[Statistics, Statistics], float], sides: list[Statistics], repeats: int) -> tuple:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = function(*sides)
        seconds.append(time.perf_counter() - start)
    return min(seconds), value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=50_000, help="feature vectors a side")
    parser.add_argument("--dim", type=int, default=2048, help="features per vector")
    parser.add_argument("--repeats", type=int, default=2, help="runs of ours and torch-fidelity's; the best counts")
    parser.add_argument("--no-sqrtm", action="store_true", help="leave out the slowest")
    arguments = parser.parse_args()
    if "OPENBLAS_CORETYPE" in os.environ:
        print("OPENBLAS_CORETYPE is set: unset it, it decides which matrix kernels are timed.")
    for title, n in (("full rank", arguments.features), ("rank-deficient", arguments.dim // 2)):
        sides = [draw_statistics(n, arguments.dim, seed) for seed in (1, 2)]
        rows = [("vaebench", *best_time(frechet_distance, sides, arguments.repeats))]
        rows.append(("torch-fidelity", *best_time(by_torch_fidelity, sides, arguments.repeats)))
        if not arguments.no_sqrtm:
            rows.append(("scipy sqrtm", *best_time(by_square_root, sides, 1)))
        print(f"\n{title}: {n:,} x {arguments.dim:,} features a side")
        ours, value = rows[0][1:]
        for name, seconds, other in rows:
            print(
                f"  {name:15s}{seconds:8.2f} s  {seconds / ours:6.1f} x ours   distance {other:.9g}   "
                f"relative difference {abs(other - value) / abs(value):.1e}"
            )
        if n <= arguments.dim:
            exact = by_singular_values(*(np.concatenate(list(draw(n, arguments.dim, seed))) for seed in (1, 2)))
            print(
                "  against the singular values of the samples: "
                + ", ".join(f"{name} {abs(other / exact - 1):.1e}" for name, _, other in rows)
            )


if __name__ == "__main__":
    main()
