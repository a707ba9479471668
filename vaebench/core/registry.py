"""One lazy registry for every kind of plug-in.

A target is an object or the text "module:attribute", imported only when it is asked for, so that listing what exists
costs nothing. Code from outside enters by three routes: an installed package's entry-point group of the same shape; a
plug-in file that calls `register`; and a reference, "module:attribute" or "path/file.py:attribute", in place of a name.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar

from vaebench.core.errors import PluginError, UnknownName, VaebenchError, suggest
from vaebench.core.plugins import GROUPS, code_of, is_reference, load_object

T = TypeVar("T")

# By group without "vaebench.": what was registered before its registry was made or asked.
_PENDING: dict[str, list[tuple[str, Any, str]]] = {}


def register(group: str, name: str, *, summary: str = "") -> Callable[[T], T]:
    """Decorator by which a plug-in file registers what it defines, as an installed package does by an entry point.

    Args:
        group: "tokenizers" (methods too), "datasets", "metrics", "networks" (teachers, FID extractors), "samplers".
        name: how commands and study files call it.
        summary: one line for lists; default: the first line of the docstring.

    Raises:
        UnknownName: no such group.
    """
    if group not in GROUPS:
        raise UnknownName(f"Unknown plug-in group '{group}'.", suggest(group, GROUPS))

    def enter(target: T) -> T:
        told = summary or getattr(target, "summary", "") or (inspect.getdoc(target) or "").partition("\n")[0]
        _PENDING.setdefault(group, []).append((name, target, told))
        return target

    return enter


@dataclass(frozen=True)
class Entry:
    """A registered name: where it comes from and, when known without importing it, what it is."""

    name: str
    target: Any
    package: str
    summary: str = ""

    def load(self) -> Any:
        """Import and return the registered object.

        Raises:
            VaebenchError: the target's module or attribute cannot be imported.
        """
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except VaebenchError:
            raise
        except Exception as error:  # a stranger's module may raise anything; a fault of ours keeps its traceback
            if self.package == "vaebench" and not isinstance(error, ImportError | AttributeError):
                raise
            raise PluginError(
                f"'{self.name}' of package {self.package} points at {self.target}, which cannot be imported: "
                f"{type(error).__name__}: {error}.",
                "Reinstall or correct that package.",
            ) from error

    def about(self) -> str:
        """One line for lists. What comes from outside is imported for it, and a failure is that line."""
        if self.summary or self.package == "vaebench":
            return self.summary
        try:
            found = self.load()
        except VaebenchError as error:
            return f"BROKEN: {error.message}"
        return str(getattr(found, "summary", "") or (inspect.getdoc(found) or "").partition("\n")[0])


class Registry:
    """Names of one kind (data sets, networks, tokenizers ...). Collisions raise, misspellings suggest.

    Args:
        kind: what an entry is called in messages.
        group: entry-point group.
        contract: "module:Class" that what comes from outside must derive from; None where the loader checks.
        attributes: what such a class must set.
    """

    def __init__(self, kind: str, group: str, contract: str | None = None, attributes: Sequence[str] = ()) -> None:
        self.kind = kind
        self.group = group
        self._contract, self._attributes = contract, tuple(attributes)
        self._entries: dict[str, Entry] = {}
        self._entry_points_read = False

    def register(self, name: str, target: Any, *, summary: str = "", package: str = "vaebench") -> None:
        """Add a name.

        Raises:
            VaebenchError: the name is taken by another target.
        """
        taken = self._entries.get(name)
        if taken is not None and taken.target != target:
            raise VaebenchError(
                f"Two packages register the {self.kind} '{name}': {taken.package} ({taken.target}) and "
                f"{package} ({target}).",
                "Rename or uninstall one of them.",
            )
        self._entries[name] = Entry(name, target, package, summary)

    def _read_entry_points(self) -> None:
        # What is taken is refused each time that somebody asks, so that no later call finds half of the names.
        group = self.group.removeprefix("vaebench.")
        for name, target, summary in _PENDING.get(group, []):
            self.register(name, target, summary=summary, package=_home(target))
        _PENDING.pop(group, None)
        if self._entry_points_read:
            return
        for point in entry_points(group=self.group):
            package = point.dist.name if point.dist is not None else point.module.partition(".")[0]
            self.register(point.name, point.value, package=package)
        self._entry_points_read = True

    def entries(self) -> list[Entry]:
        """Every entry, sorted by name."""
        self._read_entry_points()
        return [self._entries[name] for name in sorted(self._entries)]

    def names(self) -> list[str]:
        """Every name, sorted."""
        return [entry.name for entry in self.entries()]

    def __contains__(self, name: object) -> bool:
        self._read_entry_points()
        return name in self._entries

    def get(self, name: str) -> Any:
        """The object registered under ``name``, or that a reference names.

        Raises:
            UnknownName: no such name; the remedy is the nearest one.
            PluginError: it comes from outside and does not keep the contract.
        """
        if name in self:
            found = self._entries[name].load()
        elif is_reference(name):
            found = load_object(name)
        else:
            raise UnknownName(f"Unknown {self.kind} '{name}'.", suggest(name, self._entries))
        if self._contract is not None:
            self._require_contract(name, found)
        return found

    def code(self, name: str) -> str:
        """Hash of the code behind a name or reference; empty for what ships with vaebench. See `code_of`.

        Raises:
            UnknownName: no such name.
        """
        if name in self:
            return code_of(self._entries[name].target)
        if is_reference(name):
            return code_of(name)
        raise UnknownName(f"Unknown {self.kind} '{name}'.", suggest(name, self._entries))

    def _require_contract(self, name: str, found: Any) -> None:
        module, _, attribute = str(self._contract).partition(":")
        if getattr(found, "__module__", "").partition(".")[0] == "vaebench":
            return
        base = getattr(importlib.import_module(module), attribute)
        if not (inspect.isclass(found) and issubclass(found, base)):
            raise PluginError(f"'{name}' is no {self.kind} class.", f"Derive it from {module}.{attribute}.")
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        missing += [attribute for attribute in self._attributes if not hasattr(found, attribute)]
        if missing:
            raise PluginError(
                f"{self.kind.capitalize()} class '{name}' does not define {', '.join(missing)}.",
                f"Define what the contract asks for: {module}.{attribute}.",
            )


def _home(target: Any) -> str:
    """Where a registered object comes from, for lists: its file or its module."""
    try:
        return inspect.getfile(target).rpartition("/")[2]
    except (TypeError, OSError):
        return str(getattr(target, "__module__", "unknown"))
