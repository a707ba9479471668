"""Statistics of a handful of points, on arrays: correlation, resampling, confounders, power, measurement error."""

from reports.statistics.correlation import (
    Coefficient,
    Correlation,
    caution,
    correlate,
    correlate_many,
    fisher_interval,
    leave_one_out,
)
from reports.statistics.detection import critical_r, detectable_r, power
from reports.statistics.lines import fit_band
from reports.statistics.multiplicity import benjamini_hochberg, holm
from reports.statistics.noise import Disattenuation, disattenuate, pooled_covariance, seed_interval, standard_error
from reports.statistics.partial import PartialCorrelation, partial_correlation
from reports.statistics.resampling import bootstrap, hierarchical_bootstrap

__all__ = [
    "Coefficient",
    "Correlation",
    "Disattenuation",
    "PartialCorrelation",
    "benjamini_hochberg",
    "bootstrap",
    "caution",
    "correlate",
    "correlate_many",
    "critical_r",
    "detectable_r",
    "disattenuate",
    "fisher_interval",
    "fit_band",
    "hierarchical_bootstrap",
    "holm",
    "leave_one_out",
    "partial_correlation",
    "pooled_covariance",
    "power",
    "seed_interval",
    "standard_error",
]
