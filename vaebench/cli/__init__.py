"""Floor 7: the command line. Modules here import typer and nothing heavy; work is imported inside each command."""

from vaebench.cli.app import main

__all__ = ["main"]
