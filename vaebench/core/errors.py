"""Errors that a user can act on: each names the cause and, where there is one, the remedy.

The command line prints them without a traceback and ends with exit code 2.
"""

import difflib
import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType


class VaebenchError(Exception):
    """Base of every error that stems from input, environment or data rather than from a fault in vaebench."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy


class UnknownName(VaebenchError):
    """A name that no registry entry, option or column carries."""


class ConfigError(VaebenchError):
    """A configuration with an unknown key, a wrong type or a value out of range."""


class PluginError(VaebenchError):
    """Code from outside that cannot be imported or does not keep the contract."""


class MissingPath(VaebenchError):
    """A file or folder that is not there."""


class MissingWeights(VaebenchError):
    """Pretrained weights that are neither given, nor installed, nor cached."""


class MissingDependency(VaebenchError):
    """An optional package that this call needs."""


class DataError(VaebenchError):
    """Images, labels or attributes that cannot be used as they are."""


class LatentFileError(VaebenchError):
    """A latent file that is truncated, foreign, incomplete or holds unusable numbers."""


class MismatchError(VaebenchError):
    """Two artefacts that do not belong together; the message names both sides."""


class TooFewSamples(VaebenchError):
    """Fewer samples than the estimator needs."""


class NumericalError(VaebenchError):
    """NaN, infinity or a diverged optimisation."""


class NoSpace(VaebenchError):
    """Not enough room on the disk."""


class NoMemory(VaebenchError):
    """Not enough memory, of the machine, of a limit, or of a GPU."""


class NotWritable(VaebenchError):
    """A folder that may not be written to."""


def some(names: Sequence[object], separator: str = ", ", most: int = 5) -> str:
    """'a, b' or, of more than ``most``, 'a, b, c, d, e and n more', for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(map(str, names[:most])) + more


def suggest(name: str, options: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest option, or all of them when none is near."""
    options = sorted(options)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(options)}." if options else "None are registered."


def import_optional(module: str, extra: str) -> ModuleType:
    """Import a module of an optional dependency.

    Raises:
        MissingDependency: the package is not installed; the remedy names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise MissingDependency(
            f"'{missing}' is not installed, and this needs it.", f"Install it: pip install 'vaebench[{extra}]'"
        ) from error
