"""What a check found: one line each, with what is wrong and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "fail", "note"]


@dataclass(frozen=True)
class Finding:
    """One line of a check. A note is nothing that breaks: a number to look at, or what could not be tried."""

    line: str
    status: Status
    detail: str = ""
    remedy: str = ""

    @property
    def problem(self) -> str:
        """The line as one sentence: what is wrong and how to mend it."""
        return f"{self.detail}: {self.remedy}" if self.remedy else self.detail


class Findings:
    """Collects findings line by line: a line that was tried and has no problem is passed."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self._details: dict[str, str] = {}
        self._problems: dict[str, list[Finding]] = {line: [] for line in lines}

    def expect(self, line: str, holds: bool, problem: str, remedy: str = "") -> bool:
        """Note that this line was tried, and the problem unless it holds."""
        self._details.setdefault(line, "")
        if not holds:
            self._problems[line].append(Finding(line, "fail", problem, remedy))
        return holds

    def tell(self, line: str, detail: str) -> None:
        """What to say of the line where it passes."""
        self._details[line] = detail

    def all(self) -> list[Finding]:
        """Every line in order: its problems, or that it passed, or that an earlier problem kept it from being tried."""
        found: list[Finding] = []
        for line, problems in self._problems.items():
            if problems:
                found += problems
            elif line in self._details:
                found.append(Finding(line, "pass", self._details[line]))
            else:
                found.append(Finding(line, "note", "not tried, because of what is wrong above"))
        return found
