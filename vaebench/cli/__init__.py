"""Floor 7: the command line. Modules here import typer and nothing heavy; work is imported inside each command."""

import os
from signal import SIG_IGN, SIGINT, getsignal, signal
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``vaebench`` command. Interrupted while it still imports, it ends at once and without a
    traceback, since there is nothing to be saved."""
    before = getsignal(SIGINT)
    if before is not SIG_IGN:
        signal(SIGINT, _leave)
    from vaebench.cli.app import main as run

    signal(SIGINT, before)
    run()


def _leave(*_: Any) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)
