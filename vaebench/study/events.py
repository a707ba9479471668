"""What happens in a study, line by line, for programs: ``events.jsonl`` in the study's folder.

Every line is a JSON object with ``time`` (ISO 8601, UTC) and ``event``:

- ``study-started``: engine, host, pid, stages, todo;
- ``stage-started``: stage, kind, attempt, log;
- ``stage-finished``: stage, kind, seconds, peak_bytes (null where nobody measured);
- ``stage-failed``: stage, kind, attempt, error, exit (negative: a signal), retry (seconds until then, or null);
- ``stage-skipped``: stage, because (the stage that failed);
- ``study-finished``: done, failed, skipped.
"""

import datetime
import json
import os
from pathlib import Path
from typing import Any

NAME = "events.jsonl"


class Events:
    """Appends events to a study's file; one process at a time does, which the study's lock ensures."""

    def __init__(self, root: Path) -> None:
        self._path = root / NAME

    def write(self, event: str, **fields: Any) -> None:
        """Append one event, whole: a single write, on a line of its own even after a line that was cut off."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **fields}) + "\n"
        with self._path.open("ab+") as handle:
            if handle.tell() > 0:
                handle.seek(-1, os.SEEK_END)
                line = line if handle.read(1) == b"\n" else "\n" + line
            handle.write(line.encode())


def read_events(root: Path) -> list[dict[str, Any]]:
    """All events of a study, oldest first; lines that a kill cut off are left out."""
    path = root / NAME
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
