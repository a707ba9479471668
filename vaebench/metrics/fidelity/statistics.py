"""Mean and covariance of features in one pass, in double precision, in chunks of any size."""

from dataclasses import dataclass

import numpy as np

from vaebench.core.errors import NumericalError, TooFewSamples

CHUNK = 4096


@dataclass(frozen=True)
class Statistics:
    """First and second moments of n feature vectors.

    Attributes:
        mean: float64 (d,).
        covariance: float64 (d, d), with n - 1 in the denominator, as in every published FID.
        n: number of vectors; None when a file of published statistics does not say.
    """

    mean: np.ndarray
    covariance: np.ndarray
    n: int | None

    @property
    def dimension(self) -> int:
        """Number of features d."""
        return len(self.mean)


class RunningStatistics:
    """Accumulates moments chunk by chunk; accumulators of parts of the data merge into that of the whole.

    The result depends on chunking and order only through rounding (about 1e-15 relative), because every chunk is
    centred on its own mean before it is squared.

    Source: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance (1983).
    """

    def __init__(self, dimension: int) -> None:
        self.n = 0
        self.mean = np.zeros(dimension)
        self.scatter = np.zeros((dimension, dimension))

    def update(self, features: np.ndarray) -> None:
        """Add feature vectors (n, d).

        Raises:
            ValueError: another shape.
            NumericalError: NaN or infinity.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"Expected features (n, {len(self.mean)}), got {features.shape}.")
        if len(features) == 0:
            return
        features = features.astype(np.float64)
        if not np.isfinite(features).all():
            raise NumericalError("Features hold NaN or infinity.")
        mean = features.mean(0)
        features -= mean
        self._add(len(features), mean, features.T @ features)

    def merge(self, other: "RunningStatistics") -> None:
        """Add what another accumulator has seen."""
        if other.n:
            self._add(other.n, other.mean, other.scatter)

    def _add(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        total = self.n + n
        difference = mean - self.mean
        self.scatter += scatter
        self.scatter += np.outer(difference, difference * (self.n * n / total))
        self.mean = self.mean + difference * (n / total)
        self.n = total

    def result(self) -> Statistics:
        """The moments so far.

        Raises:
            TooFewSamples: fewer than two vectors, which have no covariance.
        """
        if self.n < 2:
            raise TooFewSamples(f"A covariance needs at least 2 samples, got {self.n}.")
        return Statistics(self.mean.copy(), self.scatter / (self.n - 1), self.n)


def statistics(features: np.ndarray, chunk: int = CHUNK) -> Statistics:
    """Mean and covariance of features (n, d) of any float type, which may be mapped from a file.

    Raises:
        ValueError, NumericalError, TooFewSamples: as :class:`RunningStatistics`.
    """
    if features.ndim != 2:
        raise ValueError(f"Expected features (n, d), got {features.shape}.")
    running = RunningStatistics(features.shape[1])
    for start in range(0, len(features), chunk):
        running.update(features[start : start + chunk])
    return running.result()
