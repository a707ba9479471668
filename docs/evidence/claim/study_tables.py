"""The committed tables of one study, and the numbers that the text of the evidence takes from them."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from reports.held_out import (
    Kind,
    bootstrap_of,
    held_out,
    lowest_by_pairs,
    mean_of_others,
    pair_margins,
    r_squared,
    rank_agreement,
)
from reports.names import GENERATION, MINUS, RECONSTRUCTION, label_of, metric_name
from reports.statistics import PartialCorrelation, fisher_interval, holm, partial_correlation
from reports.statistics.checks import pearson, ranks

HERE = Path(__file__).parent
CLAIMED, REAL, OWN = "probe_macro_f1 [flattened]", "gfid", "gfid_vs_reconstructions"
CONTROLS = ("pca-patches", "random-projection")
MEASURES = (
    REAL, OWN, "kid", "precision", "recall", "density", "coverage", "attribute_shift", "attribute_pair_shift",
)  # fmt: skip
PER_SEED = (REAL, OWN, "psnr", "rfid", "probe_macro_f1", "attribute_shift")
"""Metrics of which `runs.csv` keeps every seed."""
KEEP = ["label", "metric", "vectorisation", "budget", "value", "low", "high", "direction"]
"""Columns of `comparison.csv`."""
AGAIN = "attribute_"
"""Scores of the metric `attribute-probe` begin so: the probe's once more, with other penalties, and left out here."""
FEWEST = 6
"""Tokenizers below which a correlation is given without an interval: its formula means nothing there."""


class Setting(NamedTuple):
    """How was generated: variant (the second backbone; '' for the study's own) and budget, as the tables have them."""

    variant: str
    budget: str

    @property
    def parts(self) -> dict[str, float]:
        """steps, cfg and nfe."""
        return {key: float(value) for key, value in (part.split("=") for part in self.budget.split())}

    def __str__(self) -> str:
        guidance = "no guidance" if self.parts["cfg"] == 1 else f"guidance {self.parts['cfg']:g}"
        return f"{f'{self.variant}, ' if self.variant else ''}{self.parts['steps']:,.0f} steps, {guidance}"


class Rho(NamedTuple):
    """Spearman's rho over n tokenizers, with its 95% interval (Bonett and Wright 2000)."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return interval(*self[:3]) if self.n >= FEWEST else f"{text(self.value)} (n = {self.n})"


class Study:
    """The tables in one folder.

    A score is named by metric and, in brackets, vectorisation or variant, as in 'probe_macro_f1 [flattened]'; one of
    samples is that of the leading budget. Correlations are over tokenizers, whose values are means over training seeds.
    `over` is 'all', 'trained' (without controls) or 'same size' (trained, with as many latent numbers as most have).
    """

    def __init__(self, name: str) -> None:
        self.folder = HERE / name
        self.comparison = pd.read_csv(self.folder / "comparison.csv", keep_default_na=False, na_values=[""])
        self.comparison = self.comparison.fillna({"vectorisation": "", "budget": ""})
        self.runs = pd.read_csv(self.folder / "runs.csv").fillna({"vectorisation": "", "budget": ""})
        facts = pd.read_csv(self.folder / "tokenizers.csv").set_index("label")
        self.families: dict[str, str] = facts["family"].str.partition("?")[0].to_dict()
        self.dimension: pd.Series = facts["latent_dim"]
        self.costs = pd.read_csv(self.folder / "cost.csv").set_index("kind")["seconds"]
        self.index: dict[str, Any] = json.loads((self.folder / "index.json").read_text())
        self.config: dict[str, Any] = self.index["config"]
        self._cells: dict[str, pd.DataFrame] = {}
        self._tested: dict[tuple[str, str], pd.DataFrame] = {}

    @cached_property
    def settings(self) -> list[Setting]:
        """Everything that was generated: the study's own network first, and of one network the leading budget first."""
        rows = self.runs[self.runs["metric"] == REAL]
        found = {Setting(*pair) for pair in zip(rows["vectorisation"], rows["budget"], strict=True)}
        return sorted(found, key=lambda s: (s.variant, abs(s.parts["cfg"] - 1), -s.parts["steps"]))

    @property
    def leading(self) -> Setting:
        """No guidance, most steps."""
        return self.settings[0]

    @cached_property
    def labels(self) -> list[str]:
        """Tokenizers of which everything is done, in the study's order."""
        rows = self.runs[self._of(self.runs, REAL, self.leading)]
        draws = rows.groupby(["label", "seed"]).size().groupby("label").min()
        done = set(draws.index[draws == draws.max()])
        scored = self.comparison["metric"] == "effective_rank"
        if scored.any():  # else this study leaves latent scores to another
            done &= set(self.comparison.loc[scored, "label"])
        return [label for label in self.families if label in done]

    @property
    def left(self) -> list[str]:
        """What the study asks for and these tables lack: tokenizers, and second backbones on those that are there."""
        entries = [entry for entry in self.config["tokenizers"] if entry.get("evaluate", True)]
        runs = self.runs[self.runs["metric"] == REAL]
        there = set(zip(runs["label"], runs["vectorisation"], strict=True))
        lacking = [entry["name"] for entry in entries if entry["name"] not in self.labels]
        return lacking + [
            f"{backbone} on {entry['name']}"
            for entry in entries
            for backbone in entry.get("backbones", ())
            if entry["name"] in self.labels and (entry["name"], backbone) not in there
        ]

    @cached_property
    def trained(self) -> list[str]:
        """Without the controls, which nobody trained."""
        return [label for label in self.labels if self.families[label] not in CONTROLS]

    @cached_property
    def same_size(self) -> list[str]:
        """Trained ones with as many latent numbers as most have."""
        usual = self.dimension[self.trained].mode()[0]
        return [label for label in self.trained if self.dimension[label] == usual]

    def over(self, name: str) -> list[str]:
        """Labels of 'all', 'trained' or 'same size'."""
        return {"all": self.labels, "trained": self.trained, "same size": self.same_size}[name]

    @cached_property
    def several(self) -> list[str]:
        """Tokenizers with more than one training seed."""
        seeds = self.measured("psnr").groupby("label").size()
        return [label for label in self.trained if seeds[label] > 1]

    @property
    def attributes(self) -> int:
        """How many attributes the probe reads."""
        protocols = json.loads((self.folder / "protocols.json").read_text())
        return next(len(p["protocol"]["attributes"]) for p in protocols.values() if p["metric"] == "probe_macro_f1")

    @property
    def measures(self) -> list[str]:
        """Measures of generation that this study has."""
        return [measure for measure in MEASURES if (self.comparison["metric"] == measure).any()]

    def scores(self, over: str = "trained") -> list[str]:
        """Scores of tokenizers and latents that all of these have, and that differ among them."""
        rows = self.comparison[self.comparison["budget"] == ""]
        keys = rows[["metric", "vectorisation"]].drop_duplicates().itertuples(index=False)
        names = [f"{m} [{v}]" if v else str(m) for m, v in keys if metric_name(m).group != GENERATION]
        return [name for name in names if not name.startswith(AGAIN) and self.complete(name, over)]

    def complete(self, score: str, over: str) -> bool:
        """Whether all of these tokenizers have a score, and not all the same."""
        try:
            values = self.cells(score)["value"].reindex(self.over(over))
        except KeyError:
            return False
        return bool(values.notna().all() and np.ptp(values) > 0)

    def cells(self, score: str) -> pd.DataFrame:
        """value, low, high by label."""
        if score not in self._cells:
            rows = self.comparison[self._of(self.comparison, score, self.leading)]
            if rows.empty:
                raise KeyError(f"{score} is not in {self.folder / 'comparison.csv'}")
            self._cells[score] = rows.set_index("label")[["value", "low", "high"]]
        return self._cells[score]

    @staticmethod
    def _of(table: pd.DataFrame, score: str, setting: Setting) -> pd.Series:
        """Which rows are of a score; where it is one of samples, with that setting."""
        metric, _, variant = score.partition(" [")
        generated = metric_name(metric).group == GENERATION
        found = (table["metric"] == metric) & (table["budget"] == (setting.budget if generated else ""))
        return found & (table["vectorisation"] == (setting.variant if generated else variant.rstrip("]")))

    def column(self, score: str, over: str) -> np.ndarray:
        """One value for each of these tokenizers."""
        return self.cells(score)["value"].loc[self.over(over)].to_numpy(float)

    def measured(self, score: str, setting: Setting | None = None) -> pd.Series:
        """A score by (label, training seed), the mean over sampling seeds."""
        rows = self.runs[self._of(self.runs, score, setting or self.leading)]
        return rows.groupby(["label", "seed"])["value"].mean()

    # Correlations

    def rho(self, score: str, target: str = REAL, over: str = "all") -> Rho:
        """Spearman's rho of two scores."""
        return spearman(self.column(score, over), self.column(target, over))

    def rho_if_known(self, score: str, target: str, over: str) -> str:
        """Spearman's rho, or a dash where the score lacks or does not differ."""
        return str(self.rho(score, target, over)) if self.complete(score, over) else "\N{EM DASH}"

    def partial_correlation(self, score: str, target: str, held: Sequence[str], over: str) -> PartialCorrelation:
        """Correlation of ranks with the ranks of others held fixed; 'latent_dim' may be one of them."""
        columns = [self.dimension[self.over(over)] if h == "latent_dim" else self.column(h, over) for h in held]
        z = np.column_stack([ranks(np.asarray(column, float)) for column in columns])
        x, y = (ranks(self.column(name, over)) for name in (score, target))
        return partial_correlation(x, y, z, kind="spearman")

    def partial(self, score: str, target: str, held: Sequence[str], over: str) -> str:
        """Spearman's rho with others held fixed."""
        found = self.partial_correlation(score, target, held, over)
        return interval(found.value, *(np.nan if bound is None else bound for bound in (found.low, found.high)))

    def tested(self, target: str, over: str) -> pd.DataFrame:
        """Spearman's rho of every score with a target: value, low, high, n, p and p by Holm, the strongest first."""
        if (target, over) not in self._tested:
            names = self.scores(over)
            p = [float(spearmanr(self.column(s, over), self.column(target, over)).pvalue) for s in names]
            table = pd.DataFrame([self.rho(s, target, over) for s in names], index=names).assign(p=p, holm=holm(p))
            order = table["value"].abs().sort_values(ascending=False, kind="stable").index
            self._tested[target, over] = table.loc[order]
        return self._tested[target, over]

    def strongest(self, target: str, most: int = 4) -> list[str]:
        """Scores that go most with a target over trained ones, then those that go most with it among equals."""
        tables = [self.tested(target, over) for over in ("trained", "same size")]
        return list(dict.fromkeys(str(score) for table in tables for score in table.index[:most]))

    def holm(self, score: str, target: str, over: str) -> str:
        """P of rho by Student's t, adjusted by Holm over all scores against this target."""
        p = float(self.tested(target, over)["holm"][score])
        return "< 0.001" if p < 0.001 else f"{p:.2g}"

    def probes(self, over: str) -> list[str]:
        """Every number of the probes."""
        return [score for score in self.scores(over) if score.startswith("probe_")]

    def negative(self, target: str, over: str) -> int:
        """How many numbers of the probes have an interval of rho below 0."""
        return sum(self.rho(score, target, over).high < 0 for score in self.probes(over))

    def lowest(self, target: str, over: str) -> str:
        """The most negative rho of the probes' numbers, and of which."""
        found = {score: self.rho(score, target, over) for score in self.probes(over)}
        score = min(found, key=lambda name: found[name].value)
        return f"{found[score]} ({named(score)})"

    # Values

    def value(self, label: str, score: str, digits: int = 0) -> str:
        """A score of one tokenizer with its interval."""
        return interval(*self.cells(score).loc[label], digits)

    def values(self, score: str, labels: Sequence[str], digits: int = 0) -> str:
        """A score of several tokenizers."""
        return ", ".join(text(float(self.cells(score)["value"][label]), digits) for label in labels)

    def span(self, score: str, over: str, digits: int) -> str:
        """Smallest and largest value, in words."""
        values = self.column(score, over)
        return f"{text(values.min(), digits)} to {text(values.max(), digits)}"

    def ordered(self, score: str) -> list[str]:
        """All labels, smallest value first."""
        return [str(label) for label in self.cells(score)["value"][self.labels].sort_values(kind="stable").index]

    def largest(self, scores: Sequence[str]) -> float:
        """Largest value of any of these over trained tokenizers."""
        return max(float(self.column(score, "trained").max()) for score in scores)

    def direction(self, measure: str) -> str:
        """'lower' or 'higher', whichever is better."""
        return str(self.comparison.loc[self.comparison["metric"] == measure, "direction"].iloc[0])

    # Seeds

    def sampling_spread(self) -> float:
        """Standard deviation of gFID between sampling seeds of one SiT, pooled."""
        rows = self.runs[self._of(self.runs, REAL, self.leading)].groupby(["label", "seed"])["value"]
        return float(np.sqrt(rows.var(ddof=1)[rows.count() > 1].mean()))

    def training_spread(self, score: str = REAL) -> float:
        """Standard deviation between training seeds, of means over sampling seeds, pooled over tokenizers."""
        return float(np.sqrt(self.measured(score)[self.several].groupby("label").var(ddof=1).mean()))

    def tokenizer_spread(self, score: str = REAL, without: str = "") -> float:
        """Standard deviation between trained tokenizers of the same size."""
        labels = [label for label in self.same_size if label != without]
        return float(self.cells(score)["value"][labels].std(ddof=1))

    def seed_table(self, score: str) -> pd.DataFrame:
        """A row per tokenizer that has several training seeds, a column per seed."""
        return self.measured(score)[self.several].unstack("seed")

    def seed_agreement(self) -> str:
        """Spearman's rho of gFID between every two training seeds."""
        table = self.seed_table(REAL)
        pairs = [(a, b) for i, a in enumerate(table) for b in list(table)[i + 1 :]]
        return ", ".join(text(spearman(table[a], table[b]).value) for a, b in pairs)

    def rho_by_seed(self) -> str:
        """Spearman's rho of the probe and gFID within every training seed."""
        x, y = self.seed_table(CLAIMED), self.seed_table(REAL)
        return ", ".join(text(spearman(x[seed], y[seed]).value) for seed in x)

    def rho_of_first_seed(self, over: str) -> Rho:
        """Spearman's rho of the probe and gFID where every tokenizer is taken with its first training seed only."""
        x, y = (self.measured(score).groupby("label").first() for score in (CLAIMED, REAL))
        return spearman(x[self.over(over)], y[self.over(over)])

    # Other settings, other data

    def agreement(self, other: "Study", setting: Setting) -> Rho:
        """Spearman's rho of gFID here and, with another setting, there: over what both trained, by training seed."""
        return spearman(*shared(self.measured(REAL), other.generated(REAL, setting)))

    def generated(self, target: str, setting: Setting) -> pd.Series:
        """A measure of samples of trained tokenizers by (label, training seed)."""
        values = self.measured(target, setting)
        return values[values.index.get_level_values("label").isin(self.trained)]

    def with_probe(self, runs: pd.Series) -> Rho:
        """Spearman's rho of the probe and of a measure by (label, training seed)."""
        return spearman(*shared(self.measured(CLAIMED), runs))

    def across(self, other: "Study", target: str) -> Rho:
        """Spearman's rho of a target here and there, over what both trained."""
        return spearman(*shared(*(s.cells(target)["value"][s.trained] for s in (self, other))))

    def apart(self, other: "Study", score: str) -> float:
        """Largest difference of a score between the same tokenizer and training seed here and there."""
        here, there = shared(self.measured(score), other.measured(score))
        return float((here - there).abs().max())

    # Prediction

    def models(self) -> dict[str, tuple[Kind, list[str]]]:
        """What predicts a tokenizer left out: kind of model and its inputs."""
        latent = [s for s in self.scores("trained") if metric_name(s.partition(" [")[0]).group != RECONSTRUCTION]
        return {
            "all latent scores, ridge": ("ridge", latent),
            "the probe alone": ("line", [CLAIMED]),
            "rFID alone": ("line", ["rfid"]),
            "PSNR alone": ("line", ["psnr"]),
        }

    def predicted(self, model: str, target: str, over: str, left_out: str) -> str:
        """R^2 of values of tokenizers (or whole families) left out, 1 - squared error / that of the others' mean.

        With a 95% bootstrap over tokenizers of the predictions as they are.
        """
        kind, scores = self.models()[model]
        labels, y = np.array(self.over(over)), self.column(target, over)
        groups = labels if left_out == "tokenizer" else np.array([self.families[label] for label in labels])
        x = np.column_stack([self.column(score, over) for score in scores])
        guess, mean = held_out(x, y, groups, kind), mean_of_others(y, groups)
        bounds = bootstrap_of(lambda rows: r_squared(y[rows], guess[rows], mean[rows]), len(y))
        return interval(r_squared(y, guess, mean), *bounds)

    def picked(self, model: str, target: str, over: str) -> str:
        """The tokenizer that a model says is best, its place, its regret, and Kendall's tau of its order.

        By models fitted to all but two, each of which says who of the two is better; none where R^2 is not above 0.
        """
        kind, scores = self.models()[model]
        labels, y = np.array(self.over(over)), self.column(target, over)
        x = np.column_stack([self.column(score, over) for score in scores])
        margins = pair_margins(x, y, labels, labels, kind)
        agreement = f"\N{GREEK SMALL LETTER TAU} = {text(rank_agreement(y, margins))}"
        if r_squared(y, held_out(x, y, labels, kind), mean_of_others(y, labels)) <= 0:
            return f"none, {agreement}"
        winner = lowest_by_pairs(margins)
        place = int((y < y[winner]).sum()) + 1
        return f"{labels[winner]}, place {place}, regret {text(y[winner] - y.min(), 0)}, {agreement}"

    def regret_of_chance(self, target: str, over: str) -> float:
        """Mean regret of a tokenizer drawn at random."""
        return float((self.column(target, over) - self.column(target, over).min()).mean())

    # Machine

    def machine(self) -> str:
        """Processors, cores, memory and version of torch."""
        machines = self.index["machines"]
        names = [machine["cpu"].replace("(R)", "").replace(" Processor", "") for machine in machines]
        return (
            f"{machines[-1]['cores']} cores of an {' and, later, an '.join(names)}, {machines[-1]['memory_gib']} GiB, "
            f"torch {self.index['versions']['torch']}, finished on {self.index['created'][:10]}"
        )

    def hours(self, *kinds: str) -> str:
        """Recorded hours of stages, of these kinds or all."""
        return text(float((self.costs[list(kinds)] if kinds else self.costs).sum()) / 3600, 1)


def spearman(x: Any, y: Any) -> Rho:
    """Spearman's rho of paired values."""
    value = pearson(ranks(np.asarray(x, float)), ranks(np.asarray(y, float)))
    return Rho(value, *fisher_interval(value, len(x), kind="spearman"), len(x))


def shared(x: pd.Series, y: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The values of what both name, in one order."""
    both = x.index.intersection(y.index)
    return x[both], y[both]


def text(value: float, digits: int = 2) -> str:
    """A number with a true minus sign, and none before zero."""
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", MINUS)


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """value [low, high]."""
    return f"{text(value, digits)} [{text(low, digits)}, {text(high, digits)}]"


def named(score: str) -> str:
    """A score as the reports call it."""
    metric, _, variant = score.partition(" [")
    return label_of(metric, variant.rstrip("]"))
