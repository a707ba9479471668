"""Per-channel moments of latents in one pass, float64, with memory that does not grow."""

import numpy as np

from vaebench.latents.schema import Statistics

# Elements converted to float64 at a time. Fixed, so that the rounding never depends on who calls.
_ELEMENTS = 2**20


class LatentStatistics:
    """Streaming moments of the law of z = mean + std * eps over rows and positions, one set per channel.

    Chunks are combined by Chan, Golub and LeVeque's pairwise update, which does not cancel as sums of squares do.
    """

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)  # sum of squared deviations of the posterior means
        self._noise = np.zeros(channels)  # sum of std^2

    def update(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Add posterior means and standard deviations, both (n, d, h, w)."""
        rows = max(1, _ELEMENTS // max(1, mean[:1].size))
        for start in range(0, len(mean), rows):
            self._add(mean[start : start + rows].astype(np.float64), std[start : start + rows].astype(np.float64))

    def _add(self, mean: np.ndarray, std: np.ndarray) -> None:
        axes = (0, 2, 3)
        count = mean.size // mean.shape[1]
        centre = mean.mean(axes)
        delta = centre - self._mean
        total = self._count + count
        self._squares += np.square(mean - centre[:, None, None]).sum(axes) + delta**2 * self._count * count / total
        self._noise += np.square(std).sum(axes)
        self._mean += delta * count / total
        self._count = total

    def result(self) -> Statistics:
        """The moments of everything added so far."""
        variance = self._squares / self._count
        return Statistics(
            mean=tuple(self._mean.tolist()),
            std=tuple(np.sqrt(variance + self._noise / self._count).tolist()),
            std_of_means=tuple(np.sqrt(variance).tolist()),
        )
