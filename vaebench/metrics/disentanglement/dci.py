"""DCI: disentanglement, completeness and informativeness (Eastwood and Williams 2018).

R (D, K) holds how important code j is for predicting factor k. With p = R_j / sum_k R_jk and q = R_k / sum_j R_jk,

    disentanglement  sum_j (sum_k R_jk / sum R) (1 - H_K(p_j))         entropies to the base K, so in [0, 1]
    completeness     sum_k (sum_j R_jk / sum R) (1 - H_D(q_k))         to the base D
    informativeness  test accuracy of the models (disentanglement_lib; the paper gives the error)

Importances are the gain of gradient-boosted trees (LightGBM, for scikit-learn's boosting would take hours on flattened
latents), or the sum over values of |weights| of an L1-penalised logistic regression on standardised codes.
"""

from typing import Any, Literal

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from vaebench.core.errors import TooFewSamples, import_optional
from vaebench.core.seeds import numpy_generator, seed_of
from vaebench.metrics.disentanglement.codes import Codes, Targets, Vectorisation, require_finite
from vaebench.metrics.disentanglement.scores import CodesConfig, CodesMetric, Number
from vaebench.metrics.intervals import bootstrap_mean, half_width
from vaebench.metrics.probing.threads import workers

Importance = Literal["boosting", "l1"]


def concentration(importances: np.ndarray) -> float:
    """Mean over rows of 1 - entropy to the base of their length, weighted by the rows' sums; R (rows, columns) >= 0.

    Rows of R give disentanglement, columns (R transposed) completeness. A dead row has weight 0; with one column every
    row is concentrated.
    """
    total = importances.sum()
    if total <= 0:
        return 0.0
    rows = importances.sum(1, keepdims=True)
    share = np.divide(importances, rows, out=np.zeros_like(importances), where=rows > 0)
    logs = np.log(np.where(share > 0, share, 1))
    base = np.log(importances.shape[1]) if importances.shape[1] > 1 else 1.0
    return float(np.sum(rows[:, 0] / total * (1 + (share * logs).sum(1) / base)))


def boosted(
    train: np.ndarray, factor: np.ndarray, test: np.ndarray, rounds: int, leaves: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Total gain of every code (D,) and predictions on the test rows, of gradient-boosted trees for one factor.

    On one thread: trees are so many and so small that threads which share one wait for each other most of the time.
    """
    lightgbm = import_optional("lightgbm", "boosting")
    model = lightgbm.LGBMClassifier(
        n_estimators=rounds, num_leaves=leaves, learning_rate=0.1, importance_type="gain", random_state=seed,
        deterministic=True, force_col_wise=True, min_child_samples=5, max_bin=63, verbose=-1, n_jobs=1,
    )  # fmt: skip
    model.fit(train, factor)
    return np.asarray(model.feature_importances_, np.float64), np.asarray(model.predict(test))


def sparse_linear(
    train: np.ndarray, factor: np.ndarray, test: np.ndarray, c: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sum over values of |weights| of every code (D,) and predictions, of an L1-penalised logistic regression."""
    mean, std = train.mean(0), train.std(0)
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 0)
    model = LogisticRegression(l1_ratio=1.0, solver="saga", C=c, max_iter=200, tol=1e-3, random_state=seed)
    model.fit((train - mean) * scale, factor)
    return np.abs(model.coef_).sum(0).astype(np.float64), np.asarray(model.predict((test - mean) * scale))


class DCIConfig(CodesConfig):
    """As `CodesConfig`, and for DCI.

    Attributes:
        importances: where importances come from; each is a protocol of its own.
        rounds, leaves: boosting rounds and leaves of a tree.
        c: inverse strength of the L1 penalty.
        samples: of each split at most.
        groups: disjoint groups of training samples, whose own importances give the interval.
    """

    vectorisations: tuple[Vectorisation, ...] = ("pooled",)
    samples: int = Field(10_000, ge=10)
    importances: tuple[Importance, ...] = ("boosting",)
    rounds: int = Field(50, ge=1)
    leaves: int = Field(8, ge=2)
    c: float = Field(0.1, gt=0)
    groups: int = Field(5, ge=3)


class DCI(CodesMetric):
    """Disentanglement, completeness, informativeness."""

    name = "dci"
    version = 3
    summary = "disentanglement, completeness and informativeness from importances (Eastwood and Williams 2018)"
    Config = DCIConfig
    choices = CodesMetric.choices | {"importances", "rounds", "leaves", "c"}

    def of_codes(self, codes: Codes, found: Targets, seed: int) -> list[Number]:
        numbers: list[Number] = []
        for kind in self.config.importances:
            numbers += self._of_kind(kind, codes, found, seed)
        return numbers

    def _of_kind(self, kind: Importance, codes: Codes, found: Targets, seed: int) -> list[Number]:
        cfg = self.config
        for part in (codes.train, codes.test):
            require_finite(part)
        right = np.empty((len(codes.test), len(found.names)))
        for k, name in enumerate(found.names):
            if len(np.unique(found.train[:, k])) > len(found.train) / 2:
                raise TooFewSamples(f"'{name}' has as many values as half of its {len(found.train)} samples.")
        everyone = np.arange(len(codes.train))
        importances = np.empty((codes.width, len(found.names)))
        with workers() as pool:
            fits = pool.map(
                lambda k: self._fit(kind, codes, found, k, everyone, codes.test, seed), range(len(found.names))
            )
            for k, (column, predicted) in enumerate(fits):
                importances[:, k], right[:, k] = column, predicted == found.test[:, k]
        low, high = bootstrap_mean(right.mean(1), numpy_generator(seed, self.name, kind, "bootstrap"))
        majority = [
            float(np.mean(found.test[:, k] == np.bincount(found.train[:, k]).argmax())) for k in range(len(found.names))
        ]
        settings = {"rounds": cfg.rounds, "leaves": cfg.leaves} if kind == "boosting" else {"c": cfg.c}
        protocol = {"importances": kind, **settings}
        detail: dict[str, Any] = {"variant": kind, "width": codes.width}
        n = len(codes.train)
        whole = np.array([concentration(importances), concentration(importances.T)])
        halves = self._spread(kind, codes, found, seed)
        interval = None if halves is None else "95% by Student's t, from the spread over disjoint groups of samples"
        why = f"no interval: a factor is constant in one of {cfg.groups} groups of samples"
        own = {**detail, **({"note": why} if halves is None else {})}
        bounds = np.full((2, 2), None) if halves is None else np.stack([whole - halves, whole + halves], 1)
        return [
            *(
                Number(f"dci_{name}", float(value), n, low_, high_, interval, protocol, own)
                for name, value, (low_, high_) in zip(
                    ("disentanglement", "completeness"), whole, bounds.tolist(), strict=True
                )
            ),
            Number(
                "dci_informativeness", float(right.mean()), len(codes.test), float(low), float(high),
                "95% bootstrap over test images, models fixed", {**protocol, "split": "test"},
                {**detail, "baseline": float(np.mean(majority))},
            ),
        ]  # fmt: skip

    def _fit(
        self, kind: Importance, codes: Codes, found: Targets, k: int, rows: np.ndarray, test: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Importances (D,) for a factor from these training rows, and predictions on test codes."""
        cfg, own = self.config, seed_of(seed, self.name, found.names[k]) % 2**31
        train, factor = codes.train[rows], found.train[rows, k]
        if kind == "boosting":
            return boosted(train, factor, test, cfg.rounds, cfg.leaves, own)
        return sparse_linear(train, factor, test, cfg.c, own)

    def _spread(self, kind: Importance, codes: Codes, found: Targets, seed: int) -> np.ndarray | None:
        """Half widths of the intervals of disentanglement and completeness (2,), or None where groups are too small.

        Models of a G-th of the samples each, together as dear as the score itself; their scores have about G times the
        variance of that from all samples.
        """
        groups = self.config.groups
        member = numpy_generator(seed, self.name, "groups").permutation(len(codes.train)) % groups
        parts = [np.flatnonzero(member == group) for group in range(groups)]
        if any(len(np.unique(column)) < 2 for rows in parts for column in found.train[rows].T):
            return None
        jobs = [(rows, k) for rows in parts for k in range(len(found.names))]
        with workers() as pool:
            fits = pool.map(lambda job: self._fit(kind, codes, found, job[1], job[0], codes.test[:1], seed)[0], jobs)
            columns = np.stack(list(fits)).reshape(groups, len(found.names), codes.width)
        values = [(concentration(own.T), concentration(own)) for own in columns]
        errors = np.std(values, axis=0, ddof=1) / np.sqrt(groups)
        return np.array([half_width(error, groups) for error in errors])
