"""What it took: recorded wall seconds of every stage, and scoring set against training diffusion models."""

from dataclasses import dataclass

import pandas as pd

from reports.collect import Results, Stage

COLUMNS = {
    "study": "str", "label": "str", "tokenizer": "str", "seed": "Int64", "kind": "str", "budget": "str",
    "seconds": "float64", "machine": "str",
}  # fmt: skip
SCORING = ("extract", "probe", "score")
RECONSTRUCTING = ("reconstruct",)
GENERATING = ("extract", "sit", "generate")


@dataclass(frozen=True)
class Spent:
    """Seconds of scoring all tokenizers against seconds of training and sampling a SiT for each; NaN where unrecorded.

    Attributes:
        scoring: of the stages that the predictor needs.
        generating: of extraction, SiT training and sampling at one budget.
    """

    scoring: float
    generating: float

    @property
    def share(self) -> float:
        """Of the time of generating that scoring takes."""
        return self.scoring / self.generating if self.generating > 0 else float("nan")


def computed_on(stage: Stage) -> str:
    """Processor or GPU, threads and processes of a stage in words; empty where it did not record them."""
    machine = stage.recorded("machine")
    if not machine:
        return ""
    model = f" ({machine['cpu_model']})" if machine.get("cpu_model") else ""
    counts = [f"{machine[kind]} {kind if machine[kind] != 1 else one}"
              for kind, one in (("threads", "thread"), ("processes", "process")) if machine.get(kind)]  # fmt: skip
    return ", ".join([machine.get("gpu") or f"{machine.get('cpu', '')}{model}", *counts])


def stage_costs(results: Results) -> pd.DataFrame:
    """One row per complete stage of a compared tokenizer that recorded its wall time.

    Seconds are those of the machine that ran it, with whatever shared that machine; compare within one `machine`.
    """
    rows = [
        {
            "study": study.name, "label": results.labels[study.name, stage.tokenizer], "tokenizer": stage.tokenizer,
            "seed": stage.seed, "kind": stage.kind, "budget": stage.budget_label, "seconds": float(stage.seconds),
            "machine": computed_on(stage),
        }
        for study in results.studies
        for stage in study.stages
        if stage.complete and stage.seconds is not None and (study.name, stage.tokenizer) in results.labels
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def spent(costs: pd.DataFrame, labels: list[str], budget: str, kinds: tuple[str, ...]) -> Spent:
    """What scoring these tokenizers (stages of `kinds`) took, and what generating with each at `budget` took."""
    own = costs[costs["label"].isin(labels) & costs["budget"].isin(["", budget])]
    generating = own[own["kind"].isin(GENERATING)]
    complete = all(set(generating.loc[generating["kind"] == kind, "label"]) == set(labels) for kind in GENERATING[1:])
    scoring = own.loc[own["kind"].isin(kinds), "seconds"]
    known = not kinds or len(scoring) > 0
    return Spent(
        float(scoring.sum()) if known else float("nan"),
        float(generating["seconds"].sum()) if complete else float("nan"),
    )
