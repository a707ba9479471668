"""One lazy registry for every kind of plug-in.

A target is an object or the text "module:attribute", imported only when it is asked for, so that listing what exists
costs nothing. Packages outside vaebench enter through an entry-point group of the same shape.
"""

import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from vaebench.core.errors import UnknownName, VaebenchError, suggest


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
        except (ImportError, AttributeError) as error:
            raise VaebenchError(
                f"'{self.name}' of package {self.package} points at {self.target}, which cannot be imported: {error}.",
                "Reinstall or correct that package.",
            ) from error


class Registry:
    """Names of one kind (data sets, networks, tokenizers ...). Collisions raise, misspellings suggest."""

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
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
        if self._entry_points_read:
            return
        self._entry_points_read = True
        for point in entry_points(group=self.group):
            package = point.dist.name if point.dist is not None else point.module.partition(".")[0]
            self.register(point.name, point.value, package=package)

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
        """The object registered under ``name``.

        Raises:
            UnknownName: no such name; the remedy is the nearest one.
        """
        if name not in self:
            raise UnknownName(f"Unknown {self.kind} '{name}'.", suggest(name, self._entries))
        return self._entries[name].load()
