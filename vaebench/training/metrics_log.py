"""The curves of a run: ``metrics.jsonl`` (one JSON object per logged step) and, if wanted, TensorBoard."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebench.core.errors import import_optional
from vaebench.core.files import atomic_write


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file in order; a last line cut short by a killed process is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class MetricsLog:
    """Appends rows ``{"step": ..., name: value ...}``; `rewind` makes file and TensorBoard agree with a checkpoint.

    Rows hold nothing that depends on the clock, so an interrupted run and an uninterrupted one write the same file.
    """

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self._path = folder / "metrics.jsonl"
        self._boards = folder / "tb" if tensorboard else None
        self._file: Any = None
        self._board: Any = None

    def rewind(self, step: int) -> None:
        """Drop every row after ``step`` and go on from there."""
        self.close()
        kept = [row for row in read_metrics(self._path) if row["step"] <= step]
        with atomic_write(self._path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a")
        if self._boards is not None:
            summary = import_optional("torch.utils.tensorboard", "tensorboard")
            self._board = summary.SummaryWriter(str(self._boards), purge_step=step + 1)

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Put every row on the disk; the loop does so before each checkpoint, so that none is lost."""
        os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close both writers."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
        self._file = self._board = None
