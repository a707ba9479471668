"""The claim's evidence: its figures and every number in its text, from the committed tables alone.

    python docs/evidence/claim/render.py --collect avatars runs/avatars-claim   # the tables, out of a finished study
    python docs/evidence/claim/render.py       # figures, README.md, and the finding on the front page

`README.md` is `README.md.j2` with numbers put in; a test renders it anew and compares.
"""

import argparse
import json
import shutil
import tarfile
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from scipy.stats import spearmanr

from reports.figures import INK, PALETTE, SOFT, STYLE
from reports.labels import label_points
from reports.names import GENERATION, MINUS, label_of, metric_name
from reports.statistics import PartialCorrelation, fisher_interval, holm, partial_correlation
from reports.statistics.checks import pearson, ranks
from vaebench.study.index import read_index
from vaebench.study.slim import slim

HERE = Path(__file__).parent
CLAIMED, REAL, OWN = "probe_macro_f1 [flattened]", "gfid", "gfid_vs_reconstructions"
GROUPS = {
    "plain KL": ("kl-vae",),
    "direct alignment": ("va-vae",),
    "alignment behind a mapper": ("send-vae",),
    "disentangling": ("beta-vae", "beta-tcvae", "factor-vae"),
    "other objectives": ("eq-vae", "se-vae", "l-detok", "e2e-vae"),
    "control": ("pca-patches", "random-projection"),
}
FRONT, BEGIN, END = (
    HERE.parents[2] / "README.md",
    "<!-- finding of the claim's study -->",
    "<!-- end of the finding -->",
)
LARGEST = 16 * 1024
"""Bytes of a stage's file beyond which the archive of the study leaves it out."""
MEASURES = (
    "gfid", "gfid_vs_reconstructions", "kid", "precision", "recall", "density", "coverage",
    "attribute_shift", "attribute_pair_shift",
)  # fmt: skip
PER_SEED = ("gfid", "gfid_vs_reconstructions", "psnr", "rfid", "probe_macro_f1")
KEEP = ["label", "metric", "vectorisation", "budget", "value", "low", "high", "interval", "seeds", "n", "direction"]


class Study:
    """Committed tables of one study, and the numbers that the text takes from them.

    A score is named by metric and, in brackets, vectorisation or variant, as in 'probe_macro_f1 [flattened]'; one of
    samples is that of the leading budget unless another is named. Correlations are over tokenizers, means over seeds.
    """

    def __init__(self, name: str) -> None:
        self.folder = HERE / name
        self.comparison = pd.read_csv(self.folder / "comparison.csv", keep_default_na=False, na_values=[""])
        for column in ("vectorisation", "budget"):
            self.comparison[column] = self.comparison[column].fillna("")
        facts = pd.read_csv(self.folder / "tokenizers.csv").set_index("label")
        self.families: dict[str, str] = facts["family"].to_dict()
        self.dimension: dict[str, float] = facts["latent_dim"].to_dict()
        self.runs = pd.read_csv(self.folder / "runs.csv").fillna({"vectorisation": ""})
        self.predictions = pd.read_csv(self.folder / "prediction.csv")
        self.costs = pd.read_csv(self.folder / "cost.csv")
        self._cells: dict[tuple[str, str], pd.DataFrame] = {}
        self._tested: dict[tuple[str, str], pd.DataFrame] = {}

    @cached_property
    def index(self) -> dict[str, Any]:
        """Machine, versions and the study as it was run."""
        found: dict[str, Any] = json.loads((self.folder / "index.json").read_text())
        return found

    @cached_property
    def labels(self) -> list[str]:
        """Tokenizers of which everything is done, in the study's order."""
        sampled = self.runs[self.runs["metric"] == REAL].groupby("label").size()
        done = {str(label) for label in sampled.index[sampled > 1]} & set(self.cells("effective_rank").index)
        return [label for label in self.families if label in done]

    def trained(self) -> list[str]:
        """Without the controls, which nobody trained."""
        return [label for label in self.labels if self.families[label].partition("?")[0] not in GROUPS["control"]]

    def same_size(self) -> list[str]:
        """Trained ones with as many latent dimensions as most have."""
        usual = pd.Series(self.dimension).mode()[0]
        return [label for label in self.trained() if self.dimension[label] == usual]

    def labels_of(self, over: str) -> list[str]:
        """'all', 'trained' or 'same size'."""
        return {"all": self.labels, "trained": self.trained(), "same size": self.same_size()}[over]

    @property
    def n(self) -> int:
        """Evaluated tokenizers."""
        return len(self.labels)

    @property
    def several(self) -> list[str]:
        """Tokenizers with more than one training seed."""
        seeds = self.runs[self.runs["metric"] == "psnr"].groupby("label")["seed"].nunique()
        return [str(label) for label in seeds.index[seeds > 1]]

    def cells(self, score: str, budget: str = "") -> pd.DataFrame:
        """value, low, high by label."""
        if (score, budget) in self._cells:
            return self._cells[score, budget]
        metric, _, variant = score.partition(" [")
        table = self.comparison
        rows = table[(table["metric"] == metric) & (table["vectorisation"] == variant.rstrip("]"))]
        if metric_name(metric).group == GENERATION or (rows["budget"] != "").any():
            rows = rows[rows["budget"] == (budget or self.budget)]
        if rows.empty:
            raise KeyError(f"{score} is not in {self.folder / 'comparison.csv'}")
        return self._cells.setdefault((score, budget), rows.set_index("label")[["value", "low", "high"]])

    @cached_property
    def budget(self) -> str:
        """The budget without guidance that all tokenizers have."""
        rows = self.comparison[(self.comparison["metric"] == REAL) & (self.comparison["vectorisation"] == "")]
        return str(rows["budget"].value_counts().idxmax())

    def scores(self) -> list[str]:
        """Every score of tokenizers and latents that varies."""
        rows = self.comparison[self.comparison["budget"] == ""]
        keys = rows[["metric", "vectorisation"]].drop_duplicates().itertuples(index=False)
        names = [f"{m} [{v}]" if v else str(m) for m, v in keys if metric_name(m).group != GENERATION]
        return [name for name in names if self._complete(name)]

    def _complete(self, score: str) -> bool:
        values = self.cells(score)["value"].reindex(self.labels)
        return bool(values.notna().all() and np.ptp(values) > 0)

    def pair(self, score: str, target: str, over: str = "all", budget: str = "") -> tuple[np.ndarray, np.ndarray]:
        """x and y over the tokenizers that have both."""
        x, y = self.cells(score)["value"], self.cells(target, budget)["value"]
        labels = [label for label in self.labels_of(over) if label in x.index and label in y.index]
        return x[labels].to_numpy(float), y[labels].to_numpy(float)

    def coefficient(self, score: str, target: str, over: str = "all", budget: str = "") -> tuple[float, float, float]:
        """Spearman's rho with its 95% interval (Bonett and Wright 2000)."""
        x, y = self.pair(score, target, over, budget)
        value = pearson(ranks(x), ranks(y))
        return value, *fisher_interval(value, len(x), kind="spearman")

    def rho(self, score: str, target: str = REAL, over: str = "all", budget: str = "") -> str:
        """Spearman's rho with its 95% interval."""
        return interval(*self.coefficient(score, target, over, budget))

    def family(self, target: str, over: str = "all") -> pd.DataFrame:
        """Spearman's rho of every score with a target: value, low, high, p and p by Holm, the strongest first."""
        if (target, over) in self._tested:
            return self._tested[target, over]
        scores = [s for s in self.scores() if np.ptp(self.pair(s, target, over)[0]) > 0]
        pairs = [self.pair(score, target, over) for score in scores]
        p = [float(spearmanr(x, y).pvalue) for x, y in pairs]
        table = pd.DataFrame([self.coefficient(s, target, over) for s in scores], columns=["value", "low", "high"])
        table = table.assign(score=scores, p=p, holm=holm(p))
        order = table["value"].abs().sort_values(ascending=False, kind="stable").index
        return self._tested.setdefault((target, over), table.loc[order].set_index("score"))

    def strongest(self, target: str, over: str, most: int = 5) -> list[str]:
        """Scores that go most with a target, the probe's own repetition with other penalties left out."""
        return [str(s) for s in self.family(target, over).index if not str(s).startswith("attribute_")][:most]

    def holm(self, score: str, target: str = REAL, over: str = "all") -> str:
        """P of rho by Student's t, adjusted by Holm over all scores against this target."""
        return p_text(float(self.family(target, over)["holm"][score]))

    def partial_value(
        self, score: str, target: str, held: tuple[str, ...], over: str, budget: str = ""
    ) -> PartialCorrelation:
        """Correlation of ranks with the ranks of others held fixed; 'latent_dim' may be one of them."""
        labels = self.labels_of(over)
        known = {name: self.dimension if name == "latent_dim" else self.cells(name)["value"] for name in held}
        columns = [ranks(np.array([values[label] for label in labels])) for values in known.values()]
        x, y = self.pair(score, target, over, budget)
        return partial_correlation(ranks(x), ranks(y), np.column_stack(columns))

    def partial(
        self, score: str, target: str = REAL, held: tuple[str, ...] = ("psnr", "rfid"), over: str = "all"
    ) -> str:
        """Spearman's rho with others held fixed."""
        found = self.partial_value(score, target, tuple(held), over)
        low, high = (np.nan if bound is None else bound for bound in (found.low, found.high))
        return interval(found.value, low, high)

    def value(self, label: str, score: str, digits: int = 0, budget: str = "") -> str:
        """A score of one tokenizer with its interval."""
        row = self.cells(score, budget).loc[label]
        return interval(row["value"], row["low"], row["high"], digits)

    def ordered(self, score: str, over: str = "all") -> list[str]:
        """Labels, smallest value first."""
        return [str(x) for x in self.cells(score)["value"].reindex(self.labels_of(over)).sort_values().index]

    def sampling_spread(self, metric: str = REAL) -> str:
        """Root mean square difference between two sampling seeds of one SiT, over sqrt(2): a standard deviation."""
        spread = self._spread(metric, ["label", "seed"])
        return text(spread, 1)

    def training_spread(self, metric: str = REAL) -> str:
        """Pooled standard deviation over training seeds, of means over sampling seeds."""
        means = self.measured(metric).groupby("label")
        variances = means.var(ddof=1)[means.count() > 1]
        return text(float(np.sqrt(variances.mean())), 1)

    def tokenizer_spread(self, metric: str = REAL) -> str:
        """Standard deviation between trained tokenizers of the same size."""
        return text(float(self.cells(metric)["value"][self.same_size()].std(ddof=1)), 1)

    def _spread(self, metric: str, by: list[str]) -> float:
        rows = self.runs[(self.runs["metric"] == metric) & (self.runs["vectorisation"] == "")]
        rows = rows[rows["budget"] == self.budget] if metric_name(metric).group == GENERATION else rows
        groups = rows.groupby(by)["value"]
        return float(np.sqrt(groups.var(ddof=1)[groups.count() > 1].mean()))

    def models(self) -> list[str]:
        """What predicts held-out tokenizers, without the constant."""
        return [str(model) for model in self.predictions["model"].unique() if model != "constant"]

    def prediction(self, model: str, target: str = REAL, left_out: str = "tokenizer") -> pd.Series:
        """A row of the table of held-out predictions."""
        t = self.predictions
        return t[(t["model"] == model) & (t["target"] == target) & (t["left_out"] == left_out)].iloc[0]

    def r2(self, model: str, target: str = REAL, left_out: str = "tokenizer") -> str:
        """R^2 of held-out tokenizers with its interval."""
        row = self.prediction(model, target, left_out)
        return interval(row["r2"], row["low"], row["high"])

    def among(self, *labels: str) -> str:
        """Those of these tokenizers that are done, in words."""
        return ", ".join(label for label in labels if label in self.labels)

    def along(self, score: str, labels: tuple[str, ...], digits: int = 0) -> str:
        """Values of several tokenizers."""
        values = self.cells(score)["value"]
        return ", ".join(text(float(values[label]), digits) for label in labels)

    def probes(self) -> list[str]:
        """Every number of the probes."""
        return [score for score in self.scores() if score.startswith("probe_")]

    def negative(self, scores: list[str], target: str, over: str) -> list[str]:
        """Those whose interval of rho lies below 0."""
        return [s for s in scores if self.coefficient(s, target, over)[2] < 0]

    def lowest(self, scores: list[str], target: str, over: str) -> str:
        """The most negative rho, and of which score."""
        score = min(scores, key=lambda s: self.coefficient(s, target, over)[0])
        return f"{self.rho(score, target, over)} ({named(score)})"

    def highest(self, scores: tuple[str, ...]) -> float:
        """Largest value of any of these over trained tokenizers."""
        return max(float(self.cells(score)["value"][self.trained()].max()) for score in scores)

    def direction(self, measure: str) -> str:
        """'lower' or 'higher', whichever is better."""
        return str(self.comparison[self.comparison["metric"] == measure]["direction"].iloc[0])

    def measured(self, score: str, budget: str = "") -> pd.Series:
        """A score by (label, training seed), the mean over sampling seeds."""
        metric, _, variant = score.partition(" [")
        rows = self.runs[(self.runs["metric"] == metric) & (self.runs["vectorisation"] == variant.rstrip("]"))]
        rows = rows[rows["budget"] == budget] if budget else rows
        return rows.groupby(["label", "seed"])["value"].mean()

    def settings(self) -> list[tuple[str, str]]:
        """(variant, budget) of everything that was generated, the study's own network first."""
        rows = self.runs[self.runs["metric"] == REAL]
        return sorted(set(zip(rows["vectorisation"], rows["budget"], strict=True)))

    @staticmethod
    def said(setting: tuple[str, str]) -> str:
        """Network, steps and guidance in words."""
        variant, budget = setting
        steps, cfg, _ = (part.partition("=")[2] for part in budget.split())
        guidance = "no guidance" if float(cfg) == 1 else f"guidance {cfg}"
        return f"{f'{variant}, ' if variant else ''}{int(steps):,} steps, {guidance}"

    def generated(self, target: str, setting: tuple[str, str]) -> pd.Series:
        """A measure of samples by (label, training seed)."""
        variant, budget = setting
        return self.measured(f"{target} [{variant}]" if variant else target, budget)

    def mean_of(self, setting: tuple[str, str]) -> tuple[float, int]:
        """Mean gFID to real images, and over how many tokenizers."""
        values = self.generated(REAL, setting)
        return float(values.mean()), len(values)

    def mean_over(self, other: "Study") -> float:
        """Mean gFID here, with the leading budget, of the tokenizers that another study has too."""
        return float(self.generated(REAL, ("", self.budget))[other.measured("psnr").index].mean())

    def agreement(self, other: "Study", setting: tuple[str, str], target: str = REAL) -> str:
        """Spearman's rho of a target here and, with another setting, there, over the same trained tokenizers."""
        there = other.generated(target, setting)
        return shared_rho(self.generated(target, ("", self.budget)), there)

    def within(self, score: str, target: str, setting: tuple[str, str]) -> str:
        """Spearman's rho of a score and a target over what was generated with one setting."""
        return shared_rho(self.measured(score), self.generated(target, setting))

    def across(self, other: "Study", target: str) -> str:
        """Spearman's rho of a target here and there, over the trained tokenizers of both."""
        labels = [label for label in self.trained() if label in other.trained()]
        return shared_rho(self.cells(target)["value"][labels], other.cells(target)["value"][labels])

    def seeds_said(self) -> str:
        """How many tokenizers have more than one training seed, and what that moves gFID by."""
        if not self.several:
            return "One for each tokenizer so far: no interval here covers training."
        return (
            f"{len(self.several)} of {self.n} tokenizers have several; between them gFID differs by a standard "
            f"deviation of {self.training_spread()}, between tokenizers of the same size by {self.tokenizer_spread()}. "
            "The others have one, and their intervals do not cover training."
        )

    def machine(self) -> str:
        """Processors, cores and version of torch."""
        machines, versions = self.index["machines"], self.index["versions"]
        names = [machine["cpu"].replace("(R)", "").replace(" Processor", "") for machine in machines]
        return (
            f"{machines[-1]['cores']} cores of an {' and, later, an '.join(names)}, {machines[-1]['memory_gib']} GiB, "
            f"torch {versions['torch']}, {self.index['created'][:10]}"
        )

    def hours(self, *kinds: str) -> str:
        """Recorded hours of stages, of these kinds or all."""
        rows = self.costs if not kinds else self.costs[self.costs["kind"].isin(kinds)]
        return text(rows["seconds"].sum() / 3600, 1)


def shared_rho(x: pd.Series, y: pd.Series) -> str:
    """Spearman's rho with its interval over what both name."""
    both = pd.concat([x, y], axis=1, join="inner")
    value = pearson(ranks(both.iloc[:, 0].to_numpy()), ranks(both.iloc[:, 1].to_numpy()))
    return interval(value, *fisher_interval(value, len(both), kind="spearman"))


def text(value: float, digits: int = 2) -> str:
    """A number with a true minus sign, and none before zero."""
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", MINUS)


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """value [low, high]."""
    return f"{text(value, digits)} [{text(low, digits)}, {text(high, digits)}]"


def p_text(p: float) -> str:
    """p to two digits, or below 0.001."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def named(score: str) -> str:
    """A score as the reports call it."""
    metric, _, variant = score.partition(" [")
    return f"{label_of(metric)}{f' ({variant[:-1]})' if variant else ''}"


def main_figure(study: Study) -> Figure:
    """What the paper claims to predict generation, and plain reconstruction, against both gFIDs."""
    columns = (CLAIMED, "psnr")
    rows = (REAL, OWN)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 8.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex="col", sharey="row")
        for i, target in enumerate(rows):
            for j, score in enumerate(columns):
                _panel(panels[i, j], study, score, target)
        for axes, score in zip(panels[1], columns, strict=True):
            axes.set_xlabel(named(score), color=INK)
        for axes, target in zip(panels[:, 0], rows, strict=True):
            axes.set_ylabel(f"{label_of(target)}, lower is better", color=INK)
        handles = [
            Line2D([], [], marker="o", linestyle="", color=colour, label=name)
            for name, colour in zip(GROUPS, PALETTE, strict=False)
            if name != "control"
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        for axes, (i, j) in ((panels[i, j], (i, j)) for i in range(2) for j in range(2)):
            points = _points(study, columns[j], rows[i])
            label_points(figure, axes, points, lambda label: _colour(study, label), _taken(figure, axes), True)
    return figure


def _panel(axes: Axes, study: Study, score: str, target: str) -> None:
    points = _points(study, score, target)
    for label, row in points.iterrows():
        colour = _colour(study, str(label))
        bars = [[[row[axis] - row[f"{axis}_low"]], [row[f"{axis}_high"] - row[axis]]] for axis in "xy"]
        axes.errorbar(
            row["x"], row["y"], xerr=bars[0], yerr=bars[1], fmt="o", color=colour, ecolor=(colour, 0.45),
            elinewidth=0.8, markersize=5, markeredgewidth=0,
        )  # fmt: skip
    axes.set_title(f"ρ = {study.rho(score, target, 'trained')}", fontsize=9.5, fontweight="normal")
    axes.margins(0.12)


def _points(study: Study, score: str, target: str) -> pd.DataFrame:
    """Trained tokenizers: a random projection is so far off that the others would be one spot."""
    x, y = study.cells(score).loc[study.trained()], study.cells(target).loc[study.trained()]
    parts = {f"{axis}{end}": table[column] for axis, table in (("x", x), ("y", y))
             for end, column in (("", "value"), ("_low", "low"), ("_high", "high"))}  # fmt: skip
    return pd.DataFrame(parts, index=x.index).astype(float)


def _colour(study: Study, label: str) -> str:
    family = study.families[label].partition("?")[0]
    return PALETTE[next(i for i, members in enumerate(GROUPS.values()) if family in members)]


def _taken(figure: Figure, axes: Axes) -> Bbox:
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    return Bbox.from_bounds(frame.x0, frame.y0, 0, 0)


def forest_figure(study: Study, most: int = 24) -> Figure:
    """Spearman's rho of the leading scores with both gFIDs, over trained tokenizers, with 95% intervals."""
    tables = {target: study.family(target, "trained") for target in (REAL, OWN)}
    shown = _leading(tables[REAL], tables[OWN], most)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 1.3 + 0.27 * len(shown)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (target, table) in zip(panels, tables.items(), strict=True):
            for place, score in enumerate(reversed(shown)):
                row = table.loc[score]
                strong = row["holm"] < 0.05
                colour = PALETTE[4] if score == CLAIMED else PALETTE[0]
                axes.plot(
                    [row["low"], row["high"]], [place] * 2, color=colour, linewidth=1.6, alpha=0.9 if strong else 0.4
                )
                axes.plot(row["value"], place, "o", color=colour, markersize=5.5,
                          markerfacecolor=colour if strong else "white")  # fmt: skip
            axes.axvline(0, color=SOFT, linewidth=0.8)
            axes.set_xlim(-1.02, 1.02)
            axes.set_title(f"ρ with {label_of(target)}", fontsize=9.5)
            axes.grid(axis="y", visible=False)
        panels[0].set_yticks(range(len(shown)), [named(score) for score in reversed(shown)], color=INK, fontsize=8)
        for tick, score in zip(panels[0].get_yticklabels(), reversed(shown), strict=True):
            tick.set_fontweight("bold" if score == CLAIMED else "normal")
        figure.supxlabel(
            "left of 0: more of the score, better generation. Filled: p < 0.05, adjusted by Holm over all scores.",
            fontsize=8.5, color=SOFT,
        )  # fmt: skip
    return figure


def _leading(real: pd.DataFrame, own: pd.DataFrame, most: int) -> list[str]:
    """One variant per metric, the one that goes most with either target; the claimed score and PSNR always."""
    strength = np.maximum(real["value"].abs(), own["value"].abs().reindex(real.index))
    ordered = strength.sort_values(ascending=False, kind="stable").index
    # Scores of the metric `attribute-probe` are the probe's once more, with other penalties.
    ordered = [score for score in ordered if not score.startswith("attribute_")]
    metrics: dict[str, str] = {CLAIMED.partition(" [")[0]: CLAIMED, "psnr": "psnr", "rfid": "rfid"}
    for score in ordered:
        metrics.setdefault(str(score).partition(" [")[0], str(score))
    chosen = [s for s in ordered if s in set(metrics.values())]
    kept = set(chosen[:most]) | {CLAIMED, "psnr", "rfid"}
    return sorted(kept, key=lambda score: (float(real["value"][score]), score))


def write_figure(figure: Figure, name: str) -> None:
    """As PNG and SVG beside the text."""
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure)
        figure.savefig(HERE / f"{name}.png", dpi=160, facecolor="white", metadata={"Software": None})
        figure.savefig(HERE / f"{name}.svg", facecolor="white", metadata={"Date": None})


def studies() -> dict[str, Study]:
    """The studies whose tables are here, by folder."""
    return {path.parent.name: Study(path.parent.name) for path in sorted(HERE.glob("*/comparison.csv"))}


def environment() -> jinja2.Environment:
    """Templates beside this file; a name that is not known is an error."""
    loader = jinja2.FileSystemLoader(HERE)
    made = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    made.globals |= {**studies(), "named": named, "text": text, "zip": zip, "claimed": CLAIMED, "measures": MEASURES}
    return made


def render() -> str:
    """The text of README.md."""
    return environment().get_template("README.md.j2").render(finding=sentence())


def sentence() -> str:
    """The finding in one sentence, which the front page quotes."""
    return environment().get_template("finding.md.j2").render().strip()


def collect(name: str, run: Path) -> None:
    """Take the tables out of a finished study, small: scores without those per attribute, six significant digits."""
    import reports

    target = HERE / name
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        reports.make_report([run], folder, formats=["csv"])
        tables = Path(folder) / "tables"
        comparison = pd.read_csv(tables / "comparison.csv", keep_default_na=False)
        _write(comparison[comparison["attribute"] == ""][KEEP], target / "comparison.csv")
        runs = pd.read_csv(tables / "scores.csv", keep_default_na=False)
        runs = runs[(runs["attribute"] == "") & runs["metric"].isin(PER_SEED)]
        _write(runs[["label", "seed", "stage", "metric", "vectorisation", "budget", "value"]], target / "runs.csv")
        costs = pd.read_csv(tables / "cost.csv").groupby("kind", as_index=False)["seconds"].sum()
        _write(costs, target / "cost.csv")
        for table in ("prediction", "tokenizers"):
            _write(pd.read_csv(tables / f"{table}.csv"), target / f"{table}.csv")
        shutil.copyfile(tables / "protocols.json", target / "protocols.json")
    index = read_index(run)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(target / "study.tar.xz", "w:xz") as archive:
        slim(run, index, Path(folder) / run.name, LARGEST)
        for path in Path(folder).rglob("stage.json"):  # where the inputs lay is nobody else's business
            path.write_text(path.read_text().replace(f"{run.resolve()}/", ""))
        archive.add(Path(folder) / run.name, run.name)
    index.pop("stages")
    earlier = json.loads((target / "index.json").read_text()) if (target / "index.json").exists() else {}
    machines = earlier.get("machines", [earlier["machine"]] if earlier else [])
    index["machines"] = machines + [index["machine"]] * (index["machine"] not in machines)
    (target / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def _write(table: pd.DataFrame, path: Path) -> None:
    numbers = {
        name: pd.to_numeric(table[name], errors="coerce").map(lambda value: float(f"{value:.6g}"))
        for name in ("value", "low", "high", "seconds", "r2", "spearman", "kendall", "regret", "within")
        if name in table
    }
    table.assign(**numbers).to_csv(path, index=False)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", nargs=2, metavar=("NAME", "RUN"), help="copy the tables of a finished study")
    given = parser.parse_args()
    if given.collect:
        collect(given.collect[0], Path(given.collect[1]))
        return
    for name, study in studies().items():
        if name == "budgets":  # too few for a picture
            continue
        write_figure(main_figure(study), f"{name}-main")
        write_figure(forest_figure(study), f"{name}-scores")
    (HERE / "README.md").write_text(render())
    before, _, rest = FRONT.read_text().partition(BEGIN)
    FRONT.write_text(f"{before}{BEGIN}\n{sentence()}.\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
