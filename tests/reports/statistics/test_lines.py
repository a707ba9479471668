"""The band of a fitted line against statsmodels."""

import numpy as np
import statsmodels.api as sm

from reports.statistics import fit_band


def test_the_band_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(40, 3, 8)
    y = 5 - 0.7 * x + rng.normal(size=8)
    at = np.linspace(30, 50, 7)
    fitted = sm.OLS(y, sm.add_constant(x)).fit().get_prediction(sm.add_constant(at))
    line, low, high = fit_band(x, y, at)
    np.testing.assert_allclose(line, fitted.predicted_mean)
    np.testing.assert_allclose(np.stack([low, high], 1), fitted.conf_int(alpha=0.05))
