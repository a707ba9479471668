"""Exact nearest neighbours against scikit-learn's brute force, in one run, and whether they agree.

    python tests/benchmarks/neighbours.py                   # 10,000 x 512, as the codes of a tokenizer
    python tests/benchmarks/neighbours.py --samples 50000 --dim 64

The two take turns, and the best of --repeats is taken, in seconds of wall time and (second) of processor time: on a
machine that others use too, the latter are the more reliable. The last line searches a bank for other queries, where no
product serves both directions.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from sklearn.neighbors import NearestNeighbors

from vaebench.metrics.separability.neighbours import nearest_neighbours


def best_times(functions: list[Callable[[], np.ndarray]], repeats: int) -> list[tuple[float, float, np.ndarray]]:
    """Least wall and processor seconds of each, and its value, run in turns."""
    found = [(np.inf, np.inf, np.empty(0))] * len(functions)
    for _ in range(repeats):
        for i, function in enumerate(functions):
            wall, processor = time.perf_counter(), time.process_time()
            value = function()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            found[i] = min(found[i][0], wall), min(found[i][1], processor), value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * arguments.samples, arguments.dim), dtype=np.float32)
    x *= (1 + np.arange(arguments.dim, dtype=np.float32)) ** -0.25
    x, bank = np.split(x, 2)
    k = arguments.neighbours
    print(f"{k} neighbours of {arguments.samples:,} x {arguments.dim:,} float32 vectors")
    for name, distance, others in (
        ("euclidean, among themselves", "euclidean", None),
        ("cosine, among themselves", "cosine", None),
        ("euclidean, in a bank of as many others", "euclidean", bank),
    ):

        def ours(distance=distance, others=others) -> np.ndarray:
            return nearest_neighbours(x, others, k=k, distance=distance)

        def theirs(distance=distance, others=others) -> np.ndarray:
            search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=distance)
            return search.fit(x).kneighbors()[1] if others is None else search.fit(others).kneighbors(x)[1]

        (wall, busy, found), (their_wall, their_busy, expected) = best_times([ours, theirs], arguments.repeats)
        print(
            f"  {name:39s} vaebench {wall:5.2f} s ({busy:5.2f})   "
            f"scikit-learn {their_wall:5.2f} s ({their_busy:5.2f})"
            f"   {their_wall / wall:4.1f} x ({their_busy / busy:4.1f} x)   "
            f"same neighbours {100 * (found == expected).mean():.4f}%"
        )


if __name__ == "__main__":
    main()
