"""Probe results as scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaebench.core.scores import Score
from vaebench.metrics.probing.probe import CONFIDENCE, Estimate, ProbeResult


def scores(result: ProbeResult, seed: int | None = None, protocol: Mapping[str, Any] | None = None) -> list[Score]:
    """One score per metric and one per metric and attribute.

    Args:
        result: from :func:`vaebench.metrics.probing.probe.probe`.
        seed: seed of the generator that drew the resamples.
        protocol: what the probe cannot know and moves the numbers: data, split, transform, posterior mean or sample.
    """
    config, (train, validation, test) = result.config, result.samples
    settings = {
        **(protocol or {}),
        "classifier": "logistic regression, L2 penalty, unpenalised intercept",
        "vectorisation": config.vectorisation,
        "components": config.components if config.vectorisation == "pca" else None,
        "standardisation": "mean and standard deviation of the training split",
        "cs": list(config.cs),
        "select": f"validation {config.select}, per attribute",
        "threshold": config.threshold,
        "tolerance": config.tolerance,
        "attributes": list(result.attributes),
        "attribute_level": result.attribute_level,
        "train_samples": train,
        "validation_samples": validation,
        "test_samples": test,
    }
    interval = f"{100 * CONFIDENCE:g}% bias-centred bootstrap over test samples, classifiers fixed"

    def score(metric: str, attribute: str | None, estimate: Estimate) -> Score:
        detail: dict[str, Any] = {
            "vectorisation": config.vectorisation,
            "attribute": attribute,
            "baseline": estimate.baseline,
        }
        if attribute is None:
            detail.update(width=result.width, gap=result.gap, resamples=config.resamples, notes=list(result.notes))
            if result.excluded:
                detail["excluded"] = dict(result.excluded)
        elif attribute in result.attributes:
            detail["c"] = float(result.chosen_c[result.attributes.index(attribute)])
        return Score(
            metric=f"probe_{metric}",
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            interval=interval,
            n=test,
            seed=seed,
            direction="higher",
            protocol=settings,
            detail=detail,
        )

    found = []
    for metric, outcome in result.metrics.items():
        found.append(score(metric, None, outcome.mean))
        found.extend(score(metric, attribute, estimate) for attribute, estimate in outcome.per_attribute.items())
    return found
