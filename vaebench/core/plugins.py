"""Code from outside: how it is named, loaded and told apart from what it was before.

A reference is "module:attribute" or "path/file.py:attribute". A plug-in file is Python that the user names and that
registers what it defines. Either is run when it is named, and only then. The hash of such code is part of the identity
of every result that it had a hand in, so that a changed plug-in is noticed; code that ships with vaebench needs none,
because its stages carry versions.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from vaebench.core.errors import MissingPath, PluginError, UnknownName, VaebenchError, suggest

GROUPS = ("tokenizers", "datasets", "metrics", "networks", "samplers")
"""What a plug-in may bring; an installed package's entry-point group is ``vaebench.`` and one of these."""

_FILES: list[Path] = []


def is_reference(name: str) -> bool:
    """Whether this names code ("module:attribute", "path/file.py:attribute") and not a registered entry."""
    return ":" in name


def load_object(ref: str) -> Any:
    """The object that "module:attribute" or "path/file.py:attribute" names. This runs the module's code.

    Raises:
        MissingPath: no such file. UnknownName: no such module or attribute. PluginError: it cannot be imported.
    """
    module_name, _, attribute = ref.rpartition(":")
    module = _import_file(Path(module_name)) if module_name.endswith(".py") else _import_module(module_name, ref)
    found = getattr(module, attribute, None)
    if found is None:
        public = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise UnknownName(f"'{module_name}' has no '{attribute}'.", suggest(attribute, public))
    return found


def load_plugins(files: Iterable[Path | str]) -> None:
    """Run plug-in files, each once; what they register is known from then on.

    Raises:
        MissingPath: no such file. PluginError: one cannot be imported.
    """
    for file in files:
        path = Path(file).expanduser().resolve()
        _import_file(path)
        if path not in _FILES:
            _FILES.append(path)


def plugin_files() -> list[str]:
    """The plug-in files that were loaded, as absolute paths, for processes that carry out a part of the work."""
    return [str(path) for path in _FILES]


def code_of(target: Any) -> str:
    """Hash of the code that a registered target stands for; empty for what ships with vaebench.

    Args:
        target: "module:attribute", "path/file.py:attribute", or an object.

    Returns:
        of a file, the hash of its content; of a module in a package, of every Python file of that package; empty where
        there is no file, as for what is typed at a prompt.
    """
    if isinstance(target, str):
        module = target.rpartition(":")[0]
        if module.endswith(".py"):
            return _hash_files((Path(module).expanduser().resolve(),))
    else:
        module = getattr(target, "__module__", "")
    top = module.partition(".")[0]
    if top == "vaebench" or not top or top in _own_packages():
        return ""
    return _hash_files(_files_of(top, module))


def code_outside() -> dict[str, str]:
    """Hashes of all code that did not come with vaebench and could take part: installed plug-ins and plug-in files."""
    found = {str(path): _hash_files((path,)) for path in _FILES}
    points = entry_points()  # read once: it looks at every installed package
    for group in GROUPS:
        for point in points.select(group=f"vaebench.{group}"):
            if point.dist is None or point.dist.name != "vaebench":
                found[f"{group} {point.name}"] = code_of(point.value)
    return {name: code for name, code in found.items() if code}


@functools.cache
def _own_packages() -> frozenset[str]:
    """Top-level packages that the distribution vaebench itself brings and enters like a stranger's."""
    points = entry_points(group="vaebench.tokenizers")
    return frozenset(p.value.partition(".")[0] for p in points if p.dist is not None and p.dist.name == "vaebench")


def _files_of(top: str, module: str) -> tuple[Path, ...]:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a script, which has a file all the same
        spec = None
    if spec is not None and spec.submodule_search_locations and spec.has_location:
        folders = [Path(place) for place in spec.submodule_search_locations]
        return tuple(sorted(file for folder in folders for file in folder.rglob("*.py")))
    own = getattr(sys.modules.get(module), "__file__", None) or (spec.origin if spec is not None else None)
    return (Path(own),) if own and Path(own).is_file() else ()


def _hash_files(files: tuple[Path, ...]) -> str:
    """Hash of the contents in this order; names of folders do not count, so that it is the same on another machine."""
    if not files:
        return ""
    digest = hashlib.sha256()
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise MissingPath(f"Python file '{file}' cannot be read: {error}.") from error
        digest.update(f"{file.name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _import_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise MissingPath(f"Python file '{path}' does not exist.")
    # One module per file, so that a second load gives the same classes; found by pickle and dataclasses under its name.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingPath(f"'{path}' cannot be imported as Python.", "A plug-in is a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, VaebenchError) or not isinstance(error, Exception):
            raise
        raise _broken(str(path), error) from error
    return module


def _import_module(name: str, ref: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        raise UnknownName(
            f"Module '{name}' of '{ref}' is not installed.", "Install its package, or pass path/to/file.py:Class."
        ) from error
    except (VaebenchError, KeyboardInterrupt):
        raise
    except Exception as error:  # a stranger's module may raise anything
        raise _broken(name, error) from error


def _broken(what: str, error: Exception) -> PluginError:
    """The error of code that cannot be imported, with the line where it went wrong."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})"
    return PluginError(f"'{what}' cannot be imported: {type(error).__name__}: {error}{place}.", "Mend that file.")
