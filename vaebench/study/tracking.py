"""A study on Weights & Biases (extra ``vaebench[wandb]``): a run for each stage that is done, with curves and scores.

It is told by whom runs the study, after each stage, so it works with every engine and is part of no result. It never
stops a study: where W&B fails, that is said once and the study goes on.
"""

import sys
from pathlib import Path
from typing import Any

from vaebench.core.errors import import_optional
from vaebench.core.scores import Score, read_scores
from vaebench.training.metrics_log import read_metrics


class WandbLog:
    """Tells W&B of stages.

    Args:
        project: of W&B.
        study: name of the study, the group of its runs.
        root: the study's folder; W&B's own files go to ``wandb`` in it.

    Raises:
        MissingDependency: the package is not installed.
    """

    def __init__(self, project: str, study: str, root: Path) -> None:
        self._wandb = import_optional("wandb", "wandb")
        self._project, self._study, self._root = project, study, root
        self._failed = False

    def stage(self, node: Any, folder: Path) -> None:
        """Make, or make again, the run of a complete stage. Its id is the stage's hash, so there is only ever one."""
        if self._failed:
            return
        try:
            self._tell(node, folder)
        except Exception as error:  # of a service that no result depends on
            self._failed = True
            print(f"Weights & Biases is told nothing more ({type(error).__name__}: {error}).", file=sys.stderr)

    def _tell(self, node: Any, folder: Path) -> None:
        run = self._wandb.init(
            project=self._project, group=self._study, name=node.id, id=node.hash, job_type=node.kind, resume="allow",
            config=node.config.model_dump(mode="json"), dir=str(self._root),
        )  # fmt: skip
        try:
            for row in read_metrics(folder / "metrics.jsonl"):
                run.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])
            for score in read_scores(folder / "scores.json"):
                run.summary[_label(score)] = score.value
        finally:
            run.finish()


def _label(score: Score) -> str:
    """The metric, and what of its detail tells it from others of that metric."""
    return "/".join([score.metric, *(value for value in score.detail.values() if isinstance(value, str))])
