"""``vaebench doctor``."""

from typing import Annotated

import typer


def doctor(
    section: Annotated[
        list[str] | None,
        typer.Option("--section", help="Only this: versions, devices, extras, weights, plug-ins, caches. Repeatable."),
    ] = None,
) -> None:
    """Say what is here and what is missing: versions, devices, extras, weights, plug-ins, caches and free disk.

    "missing" is only needed for some work, "PROBLEM" will be in the way of any; then the exit code is 2.

    Example: vaebench doctor --section weights
    """
    from vaebench.core.errors import UnknownName, VaebenchError, suggest
    from vaebench.diagnosis import SECTIONS, diagnose

    for name in section or []:
        if name not in SECTIONS:
            raise UnknownName(f"Unknown section '{name}'.", suggest(name, SECTIONS))
    checks = [check for check in diagnose() if not section or check.section in section]
    width = max((min(len(check.name), 32) for check in checks), default=0)
    for name in SECTIONS:
        own = [check for check in checks if check.section == name]
        if own:
            print(f"{name}")
        for check in own:
            word = "PROBLEM" if check.status == "problem" else check.status
            print(f"  {word:<7}  {check.name:<{width}}  {check.detail}".rstrip())
            if check.remedy:
                print(f"  {'':<7}  {'':<{width}}  -> {check.remedy}")
    problems = sum(check.status == "problem" for check in checks)
    if problems:
        raise VaebenchError(f"{problems} problem{'s'[: problems > 1]} above.")
