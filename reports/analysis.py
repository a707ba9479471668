"""All statistics of a report as plain tables, for `tables/` and for whoever draws them."""

from dataclasses import dataclass, fields

import pandas as pd

from reports.collect import Results
from reports.convergence import convergence_curves, speedups
from reports.costs import stage_costs
from reports.prediction import HELD_OUT_COLUMNS, Prediction, predict, prediction_table
from reports.published import published
from reports.relation_tables import partial_table, related, relation_table
from reports.relations import TARGETS
from reports.tokenizers import tokenizer_facts
from vaebench.core.errors import MismatchError


@dataclass(frozen=True)
class Analysis:
    """Tables by the name of their file; each is documented where it is made.

    Attributes:
        tokenizers: `reports.tokenizers.tokenizer_facts`.
        relations, partial: `reports.relation_tables.relation_table` and `partial_table`.
        prediction: `reports.prediction.prediction_table`, leaving tokenizers and, with three or more, families out.
        held_out: the predictions behind it.
        convergence, speedup: `reports.convergence.convergence_curves` and `speedups`.
        cost: `reports.costs.stage_costs`.
        published: `reports.published.published`.
    """

    tokenizers: pd.DataFrame
    relations: pd.DataFrame
    partial: pd.DataFrame
    prediction: pd.DataFrame
    held_out: pd.DataFrame
    convergence: pd.DataFrame
    speedup: pd.DataFrame
    cost: pd.DataFrame
    published: pd.DataFrame

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def analyse(
    results: Results, comparison: pd.DataFrame, *, within: float | None = None, force: bool = False
) -> Analysis:
    """Compute every table; relations and prediction are those of the tokenizers that are no controls.

    Args:
        results: what `reports.collect.collect` read.
        comparison: `reports.comparison.compare` of its scores.
        within: margin of 'picked the best or within' in units of gFID; default: the noise of the best one.
        force: let scores of differing protocols share an axis.
    """
    facts, trained, counted = tokenizer_facts(results), results.trained(), results.counted(comparison)
    relations = related(trained, counted, force=force)
    prediction, held_out = _predictions(trained, counted, facts[~facts["label"].isin(results.controls)], within, force)
    return Analysis(
        tokenizers=facts,
        relations=relation_table(trained, relations),
        partial=partial_table(trained, counted, relations, force=force),
        prediction=prediction,
        held_out=held_out,
        convergence=convergence_curves(comparison),
        speedup=speedups(comparison, results.protocols),
        cost=stage_costs(results),
        published=published(),
    )


def _predictions(
    results: Results, comparison: pd.DataFrame, facts: pd.DataFrame, within: float | None, force: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    judged: list[Prediction] = []
    frames = [pd.DataFrame(columns=HELD_OUT_COLUMNS)]
    families = facts["family"].nunique()
    ways = ["tokenizer", "family"] if 3 <= families < len(facts) else ["tokenizer"]
    for target in TARGETS:
        if (comparison["metric"] == target).any():
            for left_out in ways:
                try:
                    found, frame = predict(
                        results, comparison, target=target, within=within, left_out=left_out, force=force
                    )
                except MismatchError as error:
                    budget = ""
                    found = [Prediction("", "", target, budget, left_out, 0, note=error.message)]
                    frame = frames[0]
                judged += found
                frames.append(frame)
    filled = [frame for frame in frames if len(frame)]
    return prediction_table(judged), pd.concat(filled, ignore_index=True) if filled else frames[0]
