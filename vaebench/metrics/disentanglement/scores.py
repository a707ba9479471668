"""MIG, modularity, InfoMEC and SAP as scores: of every vectorisation, with factors or attributes as targets."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from vaebench.core.config import Config
from vaebench.core.errors import DataError
from vaebench.core.scores import Score
from vaebench.core.seeds import numpy_generator
from vaebench.metrics.base import Metric, MetricInputs
from vaebench.metrics.disentanglement.codes import Codes, Targets, Vectorisation, targets, vectorise
from vaebench.metrics.disentanglement.information import (
    BINS,
    Information,
    active_codes,
    bias,
    counted_information,
    discretise,
    explained,
    infomec,
    jackknife_error,
    mig,
    modularity,
    neighbour_information,
)
from vaebench.metrics.disentanglement.sap import correlation_gaps, predictability
from vaebench.metrics.intervals import bootstrap_mean, half_width

LATENTS = "posterior mean, normalised by training statistics"


class CodesConfig(Config):
    """What all disentanglement scores take.

    Attributes:
        vectorisations: see `vaebench.metrics.disentanglement.codes`.
        components: of the vectorisation ``pca``.
        samples: rows of each split at most; disentanglement_lib takes 10,000 for training and 5,000 for testing.
    """

    vectorisations: tuple[Vectorisation, ...] = ("pooled", "pca")
    components: int = Field(16, ge=2)
    samples: int = Field(10_000, ge=10)


class CodesMetric(Metric):
    """A metric on codes and targets. Subclasses write ``of_codes``: numbers for one set of codes."""

    Config = CodesConfig
    needs_one_of = ("factors", "attributes")
    choices = frozenset({"vectorisations", "components"})

    def run(self, inputs: MetricInputs, seed: int) -> list[Score]:
        found = targets(inputs, self.config.samples)
        scores: list[Score] = []
        for how in self.config.vectorisations:
            parts = [
                self.of_codes(codes, found, seed)
                for codes in vectorise(inputs, how, self.config.samples, self.config.components)
            ]
            scores += [self._together(how, found, group, seed) for group in zip(*parts, strict=True)]
        return scores

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list["Number"]:
        """The numbers for one set of codes."""
        raise NotImplementedError

    def _together(self, how: str, found: Targets, parts: tuple["Number", ...], seed: int) -> Score:
        """One score from the number of every position (of one, where codes are of the whole latent)."""
        first = parts[0]
        protocol = {
            "latents": LATENTS,
            "vectorisation": how,
            **({"components": self.config.components} if how == "pca" else {}),
            "targets": found.kind,
            "names": list(found.names),
            **found.drawn,
            **first.protocol,
        }
        detail: dict[str, Any] = {"vectorisation": how, "excluded": found.excluded, **first.detail}
        low, high, interval = first.low, first.high, first.interval
        if len(parts) > 1:
            values = [part.value for part in parts]
            detail = {"vectorisation": how, "excluded": found.excluded, "best_position": int(np.argmax(values))}
            detail |= next(({"note": part.detail["note"]} for part in parts if "note" in part.detail), {})
            bounds = [(part.low, part.high) for part in parts]
            known = all(a is not None and b is not None for a, b in bounds)
            low, high = np.mean(np.array(bounds, float), 0) if known else (None, None)
            interval = f"{interval}; mean of the positions' bounds" if known else None
        return self.score(
            first.metric, float(np.mean([part.value for part in parts])), "higher", first.n, seed=seed,
            low=low, high=high, interval=interval, protocol=protocol, detail=detail,
        )  # fmt: skip


class Number:
    """One number of a metric: name, value, n, bounds and what they cover, protocol and detail."""

    def __init__(
        self, metric: str, value: float, n: int, low: float | None = None, high: float | None = None,
        interval: str | None = None, protocol: Mapping[str, Any] | None = None, detail: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.metric, self.value, self.n, self.low, self.high, self.interval = metric, value, n, low, high, interval
        self.protocol, self.detail = dict(protocol or {}), dict(detail or {})


class CountedConfig(CodesConfig):
    """As `CodesConfig`. ``bins`` of every code; ``groups`` of samples that the jackknife leaves out."""

    vectorisations: tuple[Vectorisation, ...] = ("pooled", "flattened", "pca")
    bins: int = Field(BINS, ge=2)
    groups: int = Field(10, ge=2)


class _Counted(CodesMetric):
    Config = CountedConfig

    def information(self, codes: Codes, found: Targets, seed: int) -> Information:
        order = numpy_generator(seed, self.name, "groups").permutation(len(codes.train))
        binned = discretise(codes.train, self.config.bins)
        return counted_information(binned, found.train, order % self.config.groups, self.config.bins)

    def number(
        self, metric: str, statistic: Callable[[np.ndarray, np.ndarray], float], known: Information, n: int,
        detail: Mapping[str, Any],
    ) -> Number:  # fmt: skip
        """A statistic of information and entropies, with its jackknife interval if it is defined without each group."""
        value = statistic(known.values, known.entropies)
        pairs = zip(known.without, known.entropies_without, strict=True)
        without = np.array([statistic(*pair) for pair in pairs])
        if np.isnan(without).any():
            note = f"no interval: a factor is constant without one of {self.config.groups} groups of samples"
            return Number(metric, value, n, protocol={"split": "train"}, detail={**detail, "note": note})
        half = half_width(jackknife_error(without), self.config.groups)
        interval = "95% by Student's t, jackknife over groups of samples"
        return Number(metric, value, n, value - half, value + half, interval, {"split": "train"}, detail)


class MIG(_Counted):
    """Mutual information gap."""

    name = "mig"
    version = 3
    summary = "gap between the two codes that know most of a factor (Chen et al. 2018)"

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        if codes.width < 2:
            raise DataError("MIG needs at least two codes.", "Use another vectorisation.")
        known = self.information(codes, found, seed)
        gap = mig(known.values, known.entropies)
        chance = bias(self.config.bins, found.sizes(), len(codes.train)) / known.entropies
        detail = {
            "per_factor": dict(zip(found.names, np.round(gap.per_factor, 6).tolist(), strict=True)),
            "counting_bias": float(chance.mean()),
        }
        return [
            self.number(
                "mig", lambda m, h: mig(m, h).value if np.all(h > 0) else np.nan, known, len(codes.train), detail
            )
        ]


class Modularity(_Counted):
    """Modularity."""

    name = "modularity"
    version = 3
    summary = "whether a code knows of one factor only (Ridgeway and Mozer 2018)"

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        known = self.information(codes, found, seed)
        return [self.number("modularity", lambda m, _: modularity(m)[0], known, len(codes.train), {})]


class InfoMECConfig(CodesConfig):
    """As `CodesConfig`, and for InfoMEC.

    Attributes:
        samples: of training rows; fewer than for counting, as neighbours are dearer.
        neighbours: of the estimate of mutual information.
        active: rule of active codes, see `active_codes`.
        held_out: InfoE on the test split; False scores the rows it was fitted on, as published, which is optimistic and
            has the name "infoe_in_sample".
        c: inverse strength of the L2 penalty of InfoE's regression, next to none; without any, as published, there is
            no optimum where codes separate the values.
        groups: disjoint groups of samples, whose own values give the interval.
    """

    samples: int = Field(3000, ge=20)
    neighbours: int = Field(10, ge=1)
    active: Literal["range", "iqr"] = "range"
    held_out: bool = True
    c: float = Field(1e3, gt=0)
    groups: int = Field(5, ge=2)


class InfoMECMetric(CodesMetric):
    """InfoM, InfoC and InfoE."""

    name = "infomec"
    version = 3
    summary = "modularity, compactness and explicitness by nearest-neighbour information (Hsu et al. 2023)"
    Config = InfoMECConfig

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        cfg = self.config
        active = active_codes(codes.train, cfg.active)
        if active.sum() < 2 or len(found.names) < 2:
            raise DataError(
                f"InfoM and InfoC need two factors and two active codes, not {len(found.names)} and {active.sum()}."
            )
        train, everything = codes.train[:, active], np.ones(int(active.sum()), bool)

        def both(rows: np.ndarray) -> tuple[float, float]:
            columns = [
                neighbour_information(
                    train[rows], found.train[rows, k], numpy_generator(seed, self.name, "ties", name), cfg.neighbours
                )
                for k, name in enumerate(found.names)
            ]
            entropies = []
            for column in found.train[rows].T:
                share = np.bincount(column)[np.bincount(column) > 0] / len(rows)
                entropies.append(-np.sum(share * np.log(share)))
            result = infomec(np.stack(columns, 1), np.array(entropies), everything)
            return result.modularity, result.compactness

        n = len(train)
        values = both(np.arange(n))
        member = numpy_generator(seed, self.name, "groups").permutation(n) % cfg.groups
        parts = [np.flatnonzero(member == group) for group in range(cfg.groups)]
        detail: dict[str, Any] = {"active": int(active.sum()), "width": codes.width}
        bounds, interval = np.full((2, 2), None), None
        if any(np.ptp(column) == 0 for rows in parts for column in found.train[rows].T):
            detail["note"] = f"no interval: a factor is constant in one of {cfg.groups} groups of samples"
        else:
            # Estimates from a G-th of the samples have about G times the variance of that from all.
            errors = np.std([both(rows) for rows in parts], axis=0, ddof=1) / np.sqrt(cfg.groups)
            halves = [half_width(error, cfg.groups) for error in errors]
            bounds = np.stack([np.subtract(values, halves), np.add(values, halves)], 1)
            interval = "95% by Student's t, from the spread over disjoint groups of samples"
        numbers = [
            Number(name, value, n, low, high, interval, {"split": "train"}, detail)
            for name, value, (low, high) in zip(("infom", "infoc"), values, bounds.tolist(), strict=True)
        ]
        return [*numbers, self._explicitness(codes, found, seed)]

    def _explicitness(self, codes: Codes, found: Targets, seed: int) -> Number:
        cfg = self.config
        test, values = (codes.test, found.test) if cfg.held_out else (codes.train, found.train)
        lows, highs, found_values = [], [], []
        for k, name in enumerate(found.names):
            losses, constant = explained(codes.train, found.train[:, k], test, values[:, k], cfg.c)
            gains = 1 - losses / constant
            low, high = bootstrap_mean(gains, numpy_generator(seed, self.name, "bootstrap", name), resamples=200)
            found_values.append(float(gains.mean()))
            lows.append(low)
            highs.append(high)
        value = float(np.mean(found_values))
        # Factors are scored on the same images: as if fully dependent, the interval is too wide, never too narrow.
        return Number(
            "infoe" if cfg.held_out else "infoe_in_sample", value, len(test),
            float(np.mean(lows)), float(np.mean(highs)),
            "95% bootstrap over images, classifiers fixed; mean of the factors' bounds",
            {"split": "test" if cfg.held_out else "train (in sample, as published)"},
            {"per_factor": dict(zip(found.names, np.round(found_values, 5).tolist(), strict=True))},
        )  # fmt: skip


class SAPConfig(CodesConfig):
    """As `CodesConfig`. ``c`` of the support vector machines, 0.01 as published."""

    c: float = Field(0.01, gt=0)


class SAP(CodesMetric):
    """Separated attribute predictability; of factors that are continuous, by squared correlation, as "sap_r2"."""

    name = "sap"
    version = 2
    summary = "gap between the two codes that predict a factor best (Kumar et al. 2018)"
    Config = SAPConfig

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        result = predictability(codes.train, found.train, codes.test, found.test, self.config.c)
        gaps = result.first.astype(np.float64) - result.second
        low, high = bootstrap_mean(gaps.mean(1), numpy_generator(seed, self.name, "bootstrap"))
        detail = {"per_factor": dict(zip(found.names, np.round(gaps.mean(0), 5).tolist(), strict=True))}
        interval = "95% bootstrap over test images, classifiers and the two best codes fixed"
        number = Number(
            "sap", result.value, len(codes.test), float(low), float(high), interval, {"split": "test"}, detail
        )
        return [number, *([self._continuous(codes, found, seed)] if found.continuous else [])]

    def _continuous(self, codes: Codes, found: Targets, seed: int) -> Number:
        y = np.stack(list(found.continuous.values()), 1).astype(np.float64)
        generator = numpy_generator(seed, self.name, "bootstrap", "continuous")
        gaps, (low, high) = correlation_gaps(codes.test.astype(np.float64), y, generator)
        return Number(
            "sap_r2", float(gaps.mean()), len(y), low, high,
            "95% bootstrap over test images, the two best codes fixed",
            {"split": "test", "names": list(found.continuous)},
            {"per_factor": dict(zip(found.continuous, np.round(gaps, 5).tolist(), strict=True))},
        )  # fmt: skip
