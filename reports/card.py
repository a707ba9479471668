"""The card of one tokenizer: all that was measured of it, and where it stands among tokenizers measured elsewhere.

It stands beside another only in scores of the same protocol on the same data; how many had the score by another
protocol is said and nothing is made of them.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from reports.collect import Results, Stage, collect
from reports.comparison import compare
from reports.formats import markdown_text
from reports.names import ARROWS, GROUPS, OTHER, listed, metric_name, metric_order, number
from vaebench.core.errors import DataError
from vaebench.core.files import atomic_write, read_json

PICTURES = ("originals.png", "reconstructions.png")


@dataclass(frozen=True)
class Rival:
    """Another tokenizer's value of a score and its interval, as `reports.comparison.compare` has them."""

    label: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """One score of the card.

    Attributes:
        metric, vectorisation: which score; ``label`` is how it is printed, under ``group``.
        arrow: which way is better; empty where neither is.
        value, low, high, n, baseline: as in the score; ``baseline`` is the trivial predictor's.
        rivals: those measured by the same protocol on the same data.
        rank: 1 where no rival is better; None without rivals or a better way.
        level: rivals whose intervals overlap this one.
        elsewhere: tokenizers that have the score by another protocol or on other data.
    """

    metric: str
    vectorisation: str
    label: str
    group: str
    digits: int
    arrow: str
    direction: str
    value: float
    low: float | None
    high: float | None
    n: int
    baseline: float | None
    rivals: tuple[Rival, ...] = ()
    rank: int | None = None
    level: tuple[str, ...] = ()
    elsewhere: int = 0

    @property
    def standing(self) -> str:
        """In words: '2 of 7, level with a and b', or what there is instead."""
        if self.rank is None:
            other = f"{self.elsewhere} measured otherwise" if self.elsewhere else ""
            return other if not self.rivals else f"beside {len(self.rivals)}"
        said = f"{self.rank} of {len(self.rivals) + 1}"
        return f"{said}, level with {listed(list(self.level))}" if self.level else said


@dataclass(frozen=True)
class Card:
    """Everything on a card.

    Attributes:
        facts: name, f, d, source, checkpoint hash, data and so on, in the order shown.
        lines: scores, grouped as in reports.
        missing: score -> why it is not there.
        among: labels of the tokenizers it was set beside.
        pictures: originals and reconstructions, where they were made.
    """

    facts: Mapping[str, str]
    lines: tuple[Line, ...]
    missing: Mapping[str, str]
    among: tuple[str, ...]
    pictures: tuple[Path, ...]

    def groups(self) -> list[tuple[str, list[Line]]]:
        """Lines by group, groups in their order."""
        return [(name, lines) for name in GROUPS if (lines := [line for line in self.lines if line.group == name])]


def make_card(folder: Path, facts: Mapping[str, str], among: Sequence[Path] = ()) -> Card:
    """The card of the tokenizer that was measured in ``folder``, beside those of the study folders ``among``.

    Raises:
        MissingPath, DataError: a folder that is no study folder, or one where nothing has been measured yet.
    """
    own = collect([folder])
    scores = _means(own)
    if scores.empty:
        raise DataError(f"Nothing has been measured in '{folder}' yet.")
    data = {_data_of(stage) for stage in own.studies[0].of_kind("extract", "reconstruct")}
    others = collect(list(among)) if among else None
    table = _means(others) if others is not None else scores.iloc[:0]
    known = {(study.name, stage.tokenizer): _data_of(stage)
             for study in (others.studies if others is not None else ())
             for stage in study.of_kind("extract", "reconstruct")}  # fmt: skip
    same = [known.get(pair) in data for pair in zip(table["study"], table["tokenizer"], strict=True)]
    lines = tuple(_line(row, table, same) for _, row in scores.iterrows())
    stages = {stage.kind: stage for stage in own.studies[0].stages}
    pictures = [stages["reconstruct"].image(name) for name in PICTURES] if "reconstruct" in stages else []
    return Card(
        facts=facts,
        lines=tuple(sorted(lines, key=lambda line: (GROUPS.index(line.group), metric_order(line.metric)))),
        missing=_missing(stages),
        among=tuple(dict.fromkeys(table["label"][same])),
        pictures=tuple(picture for picture in pictures if picture is not None),
    )


def write_card(card: Card, folder: Path) -> Path:
    """Write ``card.md`` and ``card.html``, which needs no other file; returns the path of the latter."""
    for name, text in (("card.md", markdown(card)), ("card.html", html(card))):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / "card.html"


def markdown(card: Card) -> str:
    """The card as Markdown."""
    parts = [f"# {markdown_text(card.facts['name'])}", "", "| | |", "|---|---|"]
    parts += [f"| {key} | {markdown_text(text)} |" for key, text in card.facts.items() if text]
    for group, lines in card.groups():
        parts += ["", f"## {group}", "", "| score | value | 95 % interval | n | trivial | standing |"]
        parts += ["|---|--:|--:|--:|--:|---|"]
        parts += [
            f"| {markdown_text(line.label)} {line.arrow} | {number(line.value, line.digits)} | {interval(line)} | "
            f"{line.n} | {number(line.baseline, line.digits) if line.baseline is not None else ''} | "
            f"{markdown_text(line.standing)} |"
            for line in lines
        ]
    if card.among:
        parts += ["", f"Beside: {', '.join(map(markdown_text, card.among))}. " + EXPLANATION]
    if card.missing:
        parts += ["", "## Not available", ""]
        parts += [f"- {markdown_text(name)}: {markdown_text(why)}" for name, why in card.missing.items()]
    return "\n".join(parts) + "\n"


def html(card: Card) -> str:
    """The card as one HTML page without scripts or requests; every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.globals |= {"number": number, "interval": interval, "strip": strip, "explanation": EXPLANATION}
    pictures = [(path.stem, base64.b64encode(path.read_bytes()).decode()) for path in card.pictures]
    return environment.get_template("card.html.j2").render(card=card, pictures=pictures)


EXPLANATION = (
    "A standing counts only tokenizers with the same protocol on the same data, by the value; 'level' names those "
    "whose 95 % intervals overlap, which is a rougher test than one of the difference."
)


def interval(line: Line) -> str:
    """'0.56 to 0.58', or nothing."""
    if line.low is None or line.high is None:
        return ""
    return f"{number(line.low, line.digits)} to {number(line.high, line.digits)}"


def strip(line: Line, width: float = 160.0) -> dict[str, Any]:
    """Where dots go on a strip of this width, the better side on the right."""
    bounds = [b for b in (line.low, line.high) if b is not None]
    values = [line.value, *bounds, *(rival.value for rival in line.rivals)]
    low, high = min(values), max(values)

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(6 + (width - 12) * (1 - share if line.direction == "lower" else share), 1)

    ends = sorted(map(place, bounds)) if len(bounds) == 2 else [place(line.value)] * 2
    rivals = [(rival.label, rival.value, place(rival.value)) for rival in line.rivals]
    return {"own": place(line.value), "low": ends[0], "high": ends[1], "rivals": rivals}


def _means(results: Results) -> pd.DataFrame:
    """One row per tokenizer and score (not of single attributes, not of samples), as `reports.comparison.compare`."""
    table = results.scores
    return compare(table[(table["attribute"] == "") & table["kind"].isin(["reconstruct", "probe", "score"])])


def _line(row: Any, table: pd.DataFrame, same: Sequence[bool]) -> Line:
    score = (table["metric"] == row["metric"]) & (table["vectorisation"] == row["vectorisation"])
    comparable = score & (table["protocol_hash"] == row["protocol_hash"]) & pd.Series(same, table.index, dtype=bool)
    rivals = tuple(
        Rival(other["label"], float(other["value"]), _bound(other["low"]), _bound(other["high"]))
        for _, other in table[comparable].iterrows()
    )
    low, high, value, name = _bound(row["low"]), _bound(row["high"]), float(row["value"]), metric_name(row["metric"])
    rank: int | None = None
    level: tuple[str, ...] = ()
    if rivals and row["direction"] != "none":
        sign = 1 if row["direction"] == "higher" else -1
        rank = 1 + sum(sign * rival.value > sign * value for rival in rivals)
        level = tuple(rival.label for rival in rivals if _overlap(low, high, rival))
    return Line(
        metric=row["metric"],
        vectorisation=row["vectorisation"],
        label=name.label + (f" ({row['vectorisation']})" if row["vectorisation"] else ""),
        group=name.group if name.group in GROUPS else OTHER,
        digits=name.digits,
        arrow=ARROWS[row["direction"]],
        direction=row["direction"],
        value=value,
        low=low,
        high=high,
        n=int(row["n"]),
        baseline=_bound(row["baseline"]),
        rivals=rivals,
        rank=rank,
        level=level,
        elsewhere=len(set(table["label"][score & ~comparable])),
    )


def _overlap(low: float | None, high: float | None, rival: Rival) -> bool:
    if low is None or high is None or rival.low is None or rival.high is None:
        return False
    return low <= rival.high and rival.low <= high


def _bound(value: Any) -> float | None:
    return None if pd.isna(value) or not math.isfinite(value) else float(value)


def _data_of(stage: Stage) -> str:
    """Identity of the data that a stage worked on."""
    record = read_json(stage.folder / "stage.json")
    return str(record["inputs"].get("data", ""))


def _missing(stages: Mapping[str, Stage]) -> dict[str, str]:
    missing: dict[str, str] = {}
    if "score" in stages and stages["score"].complete:
        missing |= read_json(stages["score"].folder / "notes.json")["not_available"]
    if "probe" not in stages:
        missing["probes"] = "needs attributes"
    return missing
