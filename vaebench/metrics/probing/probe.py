"""Attribute probes: how well a linear classifier reads attributes from latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from vaebench.core.config import Config
from vaebench.core.errors import DataError, NumericalError
from vaebench.metrics.probing import metrics
from vaebench.metrics.probing.features import Features, Vectorisation, fit_features
from vaebench.metrics.probing.logistic import LogisticFit, fit_logistic
from vaebench.metrics.probing.rows import ArrayLike

RARE = 10
CONFIDENCE = 0.95
CHUNK_ELEMENTS = 2**20


class ProbeConfig(Config):
    """Settings of a probe.

    Attributes:
        vectorisation: ``flattened`` (as in the paper), ``pooled`` (mean over positions) or ``pca``.
        components: principal components kept by ``pca``.
        cs: inverse penalty strengths to choose from, on standardised features.
        select: what chooses C on the validation split, per attribute; ties go to the stronger penalty.
        threshold: ``half`` predicts an attribute where its probability exceeds 0.5; ``validation`` takes the threshold
            that maximises the metric at hand (F1, balanced accuracy) on the validation split.
        top_k: attributes named per image for the recall of DeepFashion.
        resamples: bootstrap resamples of the test split.
        tolerance: certified relative gap of each fit to its optimum.
    """

    vectorisation: Vectorisation = "flattened"
    components: int = Field(64, ge=1)
    cs: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    select: Literal["log-loss", "average-precision"] = "log-loss"
    threshold: Literal["half", "validation"] = "half"
    top_k: int = Field(5, ge=1)
    resamples: int = Field(1000, ge=20)
    tolerance: float = Field(5e-5, gt=0)

    @field_validator("cs")
    @classmethod
    def _positive(cls, cs: tuple[float, ...]) -> tuple[float, ...]:
        if not cs or min(cs) <= 0:
            raise ValueError("C must be one or more positive numbers")
        return tuple(sorted(set(cs)))


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval and what a trivial predictor reaches."""

    value: float
    low: float
    high: float
    baseline: float


@dataclass(frozen=True)
class MetricResult:
    """A metric averaged over attributes and, where it has one, its value per attribute."""

    mean: Estimate
    per_attribute: dict[str, Estimate]


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found on the test split.

    Attributes:
        config: the settings.
        attributes: names of the attributes that were probed.
        excluded: name -> reason of those that were not.
        metrics: ``macro_f1``, ``average_precision``, ``balanced_accuracy``, ``top{k}_recall`` -> result.
        chosen_c: (A,) penalty chosen per attribute.
        validation_losses: (|C|, A) mean log-loss on the validation split.
        logits: (n_test, A) float32 of the chosen classifiers.
        samples: (train, validation, test).
        width: number of features.
        gap: largest certified relative gap of the chosen fits to their optimum.
        attribute_level: "image" or "class".
        notes: what a reader of the numbers should know.
    """

    config: ProbeConfig
    attributes: tuple[str, ...]
    excluded: dict[str, str]
    metrics: dict[str, MetricResult]
    chosen_c: np.ndarray
    validation_losses: np.ndarray
    logits: np.ndarray
    samples: tuple[int, int, int]
    width: int
    gap: float
    attribute_level: str
    notes: tuple[str, ...]


Split = tuple[ArrayLike, np.ndarray]


def probe(
    train: Split,
    validation: Split,
    test: Split,
    config: ProbeConfig,
    generator: np.random.Generator,
    *,
    attributes: Sequence[str] | None = None,
    attribute_level: Literal["image", "class"] = "image",
    device: str = "cpu",
) -> ProbeResult:
    """Fit one L2-penalised logistic regression per attribute on latents and score it on the test split.

    Features are vectorised and standardised on the training split; C is chosen per attribute on the validation split;
    the chosen classifiers, fitted on the training split, are scored once on the test split. Intervals are bootstrap
    quantiles over test samples at fixed classifiers, less the bootstrap's bias (mean of the resamples minus value); all
    metrics and attributes share the resamples. They leave out the variation between training splits. Baselines:
    naming every image positive (F1, the best constant predictor), prevalence (average precision), 0.5 (balanced
    accuracy), ranking by training prevalence (top-k recall).

    Send-VAE (arXiv 2601.05823) probes flattened latents and reports F1; it leaves penalty, splits and threshold open.

    Args:
        train, validation, test: (latents (n, d, h, w) or (n, d), attributes (n, A) in {0, 1}). Latents may be NumPy
            arrays, memory maps or HDF5 data sets.
        config: settings.
        generator: draws the resamples.
        attributes: A names; numbers by default.
        attribute_level: "class" if all images of a class share their attributes.
        device: torch device of the fit. It needs float64, so that "mps" stands for "cpu".

    Raises:
        DataError: shapes that do not agree; no attribute with both classes in every split.
        NumericalError: NaN, infinity or constant latents.
        TooFewSamples: fewer than two training samples, or too few for the principal components.
    """
    device = "cpu" if device == "mps" else device
    splits = {"train": train, "validation": validation, "test": test}
    names = _attribute_names(splits, attributes)
    excluded = {name: reason for a, name in enumerate(names) if (reason := _unusable(splits, a))}
    kept = [a for a, name in enumerate(names) if name not in excluded]
    if not kept:
        reasons = "; ".join(f"'{name}' {reason}" for name, reason in list(excluded.items())[:5])
        raise DataError(f"No attribute can be probed: {reasons}.", "Use larger splits or other attributes.")
    y_train, y_validation, y_test = (np.asarray(y)[:, kept].astype(np.uint8) for _, y in splits.values())
    names = tuple(names[a] for a in kept)

    features = fit_features(train[0], config.vectorisation, config.components, device)
    fit = fit_logistic(features.rows(train[0], device), y_train, config.cs, tolerance=config.tolerance, device=device)
    on_validation = _logits(features, validation[0], fit.coefficients, fit.intercepts, "validation", device)
    losses = (np.logaddexp(0, on_validation) - y_validation * on_validation).mean(1)
    if config.select == "log-loss":
        chosen = losses.argmin(0)
    else:
        ones = np.ones((len(y_validation), 1), np.float32)
        chosen = np.stack([metrics.average_precision(m, y_validation, ones)[:, 0] for m in on_validation]).argmax(0)
    each = np.arange(len(names))
    coefficients, intercepts = fit.coefficients[chosen, each], fit.intercepts[chosen, each]
    logits = _logits(features, test[0], coefficients[None], intercepts[None], "test", device)[0]

    thresholds = {metric: np.zeros(len(names)) for metric in ("f1", "balanced_accuracy")}
    if config.threshold == "validation":
        best = on_validation[chosen, :, each].T
        thresholds = {metric: metrics.best_thresholds(best, y_validation, metric) for metric in thresholds}
    return ProbeResult(
        config=config,
        attributes=names,
        excluded=excluded,
        metrics=_measure(logits, y_test, y_train.mean(0), thresholds, names, config, generator),
        chosen_c=fit.cs[chosen],
        validation_losses=losses,
        logits=logits,
        samples=(len(y_train), len(y_validation), len(y_test)),
        width=features.width,
        gap=float(fit.gaps[chosen, each].max()),
        attribute_level=attribute_level,
        notes=_notes(fit, chosen, names, excluded, y_test, features, config, attribute_level),
    )


def _attribute_names(splits: dict[str, Split], attributes: Sequence[str] | None) -> tuple[str, ...]:
    widths = set()
    for name, (latents, y) in splits.items():
        if np.ndim(y) != 2 or len(y) != latents.shape[0]:
            raise DataError(f"The {name} split has {latents.shape[0]} latents and attributes of shape {np.shape(y)}.")
        if not np.isin(y, (0, 1)).all():
            raise DataError(f"Attributes of the {name} split must be 0 or 1.")
        widths.add((tuple(latents.shape[1:]), np.shape(y)[1]))
    if len(widths) > 1:
        raise DataError(f"The splits differ in latent shape or number of attributes: {sorted(widths)}.")
    count = widths.pop()[1]
    if attributes is not None and len(attributes) != count:
        raise DataError(f"{len(attributes)} attribute names for {count} attributes.")
    return tuple(attributes) if attributes is not None else tuple(str(a) for a in range(count))


def _unusable(splits: dict[str, Split], attribute: int) -> str:
    for name, (_, y) in splits.items():
        column = np.asarray(y[:, attribute])
        if len(column) == 0 or column.min() == column.max():
            return f"has one class only in the {name} split"
    return ""


def _logits(
    features: Features, latents: ArrayLike, coefficients: np.ndarray, intercepts: np.ndarray, split: str, device: str
) -> np.ndarray:
    """Margins (|C|, n, A) float32."""
    count, attributes, width = coefficients.shape
    weights = torch.from_numpy(coefficients.reshape(-1, width).T).to(device, torch.float32)
    bias = torch.from_numpy(intercepts.reshape(-1)).to(device, torch.float32)
    result = np.empty((count, latents.shape[0], attributes), np.float32)
    for rows, block in features.rows(latents, device).blocks(columns=weights.shape[1]):
        margins = torch.addmm(bias, block, weights).reshape(-1, count, attributes)
        result[:, rows] = margins.transpose(0, 1).cpu().numpy()
    if not np.isfinite(result).all():
        raise NumericalError(f"The latents of the {split} split hold NaN or infinity.", "Extract the latents again.")
    return result


def _measure(
    logits: np.ndarray,
    y: np.ndarray,
    train_prevalence: np.ndarray,
    thresholds: dict[str, np.ndarray],
    names: tuple[str, ...],
    config: ProbeConfig,
    generator: np.random.Generator,
) -> dict[str, MetricResult]:
    n, prevalence = len(y), y.mean(0)
    predicted = {metric: (logits > cut).astype(np.uint8) for metric, cut in thresholds.items()}
    ones = np.ones((n, 1), np.float32)
    k = config.top_k
    per_attribute: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]] = {
        "macro_f1": (lambda counts: metrics.f1(predicted["f1"], y, counts), 2 * prevalence / (1 + prevalence)),
        "average_precision": (lambda counts: metrics.average_precision(logits, y, counts), prevalence),
        "balanced_accuracy": (
            lambda counts: metrics.balanced_accuracy(predicted["balanced_accuracy"], y, counts),
            np.full(len(names), 0.5),
        ),
    }
    draws: dict[str, list[np.ndarray]] = {name: [] for name in (*per_attribute, "top_k")}
    step = max(CHUNK_ELEMENTS // n, 1)
    for start in range(0, config.resamples, step):
        counts = metrics.bootstrap_counts(n, min(step, config.resamples - start), generator)
        for name, (measure, _) in per_attribute.items():
            draws[name].append(measure(counts))
        draws["top_k"].append(metrics.top_k_recall(logits, y, counts, k))

    results = {}
    for name, (measure, baseline) in per_attribute.items():
        value, resampled = measure(ones)[:, 0], np.concatenate(draws[name], axis=1)
        each = zip(names, value, resampled, baseline, strict=True)
        mean = _estimate(value.mean(), np.nanmean(resampled, axis=0), baseline.mean())
        results[name] = MetricResult(mean, {a: _estimate(v, r, b) for a, v, r, b in each})
    recall = metrics.top_k_recall(logits, y, ones, k)[0]
    trivial = metrics.top_k_recall(train_prevalence, y, ones, k)[0]
    results[f"top{k}_recall"] = MetricResult(_estimate(recall, np.concatenate(draws["top_k"]), trivial), {})
    return results


def _estimate(value: float, resampled: np.ndarray, baseline: float) -> Estimate:
    # Resamples repeat positives, which inflates average precision; the quantiles are freed of that bias, without which
    # the narrow interval of a mean over attributes may not even hold its value.
    low, high = np.nanquantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) + value - np.nanmean(resampled)
    return Estimate(float(value), float(low), float(high), float(baseline))


def _notes(
    fit: LogisticFit,
    chosen: np.ndarray,
    names: tuple[str, ...],
    excluded: dict[str, str],
    y_test: np.ndarray,
    features: Features,
    config: ProbeConfig,
    attribute_level: str,
) -> tuple[str, ...]:
    notes = [f"Attribute '{name}' was left out: it {reason}." for name, reason in excluded.items()]
    for edge, word in ((0, "smallest"), (len(fit.cs) - 1, "largest")):
        there = [name for name, c in zip(names, chosen, strict=True) if c == edge]
        if there and len(fit.cs) > 1:
            notes.append(
                f"The {word} C ({fit.cs[edge]:g}) was chosen for {_list(there)}; the best one may lie beyond the grid."
            )
    rare = [name for name, positives in zip(names, y_test.sum(0), strict=True) if positives < RARE]
    if rare:
        notes.append(f"Fewer than {RARE} test images are positive for {_list(rare)}; their intervals are unreliable.")
    if features.constant:
        notes.append(f"{features.constant} latent features do not vary on the training split and were set to zero.")
    if features.width < config.components and config.vectorisation == "pca":
        notes.append(
            f"The latents have {features.width} principal components only, {config.components} were asked for."
        )
    gap = float(fit.gaps[chosen, np.arange(len(names))].max())
    if gap > config.tolerance:
        notes.append(f"A fit stopped at a certified relative gap of {gap:.1e}, above {config.tolerance:.1e}.")
    if attribute_level == "class":
        notes.append(
            "Attributes are given per class: on splits that share classes the probe measures class recognition, and "
            "images of a class are not independent, so that the intervals are too narrow."
        )
    return tuple(notes)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
