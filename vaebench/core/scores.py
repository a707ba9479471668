"""A score: a number that says what it measures, how sure it is, and by which protocol it was obtained."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import computed_field

from vaebench.core.config import Config, content_hash
from vaebench.core.files import read_json, write_json


class Score(Config):
    """One measured value.

    Attributes:
        metric: name, such as ``gfid``.
        value: the number.
        low, high: bounds of the interval, or None where none was estimated.
        interval: what the interval covers, such as "95% bootstrap over samples".
        n: number of samples behind the value.
        seed: seed of the random draws that enter, or None when none do.
        direction: which way is better.
        protocol: every setting that moves the number.
        detail: which variant this is (attribute, vectorisation ...) and companions such as the trivial baseline.
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    n: int
    seed: int | None = None
    direction: Literal["higher", "lower", "none"]
    protocol: dict[str, Any]
    detail: dict[str, Any] = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def protocol_hash(self) -> str:
        """Scores with different hashes are not comparable."""
        return content_hash({"metric": self.metric, "protocol": self.protocol}, length=10)

    def of_variant(self, variant: str) -> "Score":
        """This score, told from others of its name by a variant; itself where there is none."""
        return self.model_copy(update={"detail": {**self.detail, "variant": variant}}) if variant else self


def left_out(scores: Iterable[Score]) -> dict[str, str]:
    """Attributes that the probes among these scores leave out of their means, and why, in words that follow 'it'."""
    details = (score.detail.get("excluded") for score in scores if score.metric.startswith("probe_"))
    return {name: why for detail in details for name, why in (detail or {}).items()}


def write_scores(path: Path | str, scores: Sequence[Score]) -> None:
    """Write scores as a JSON list."""
    write_json(path, [score.model_dump(mode="json") for score in scores])


def read_scores(path: Path | str) -> list[Score]:
    """Read scores written by :func:`write_scores`."""
    return [Score(**{k: v for k, v in item.items() if k != "protocol_hash"}) for item in read_json(path)]
