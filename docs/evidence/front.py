"""Where the front page takes its results from: what the evidence's scripts put between two of its comments."""

from pathlib import Path

FRONT = Path(__file__).parents[2] / "README.md"


def fill(begin: str, text: str, end: str) -> None:
    """Put a text between two comments of the front page.

    Raises:
        SystemExit: it does not have them.
    """
    before, first, rest = FRONT.read_text().partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise SystemExit(f"{FRONT} has no place for this: {begin} and {end}")
    FRONT.write_text(f"{before}{begin}\n{text}\n{end}{after}")
