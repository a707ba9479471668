"""Reading a study file: files that it extends, overrides, and paths by name. Gives plain values, checks no setting."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from vaebench.core.config import read_yaml, with_overrides
from vaebench.core.errors import ConfigError, MissingPath, suggest

SHIPPED = Path(str(files("vaebench.study") / "files"))
# Their files shrink the study of the same name until it runs in seconds.
SMOKE = "smoke"


def shipped() -> dict[str, Path]:
    """Study files that come with the package, by name: "paper-table1", and "smoke/paper-table1" to try it out."""
    paths = [*SHIPPED.glob("[!_]*.yaml"), *(SHIPPED / SMOKE).glob("[!_]*.yaml")]
    return {path.relative_to(SHIPPED).with_suffix("").as_posix(): path for path in sorted(paths)}


def read_study(reference: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The values of a study file.

    ``extends`` names files (or studies that ship) that this one starts from, later ones first in rank, the file itself
    above all: mappings are merged key by key, everything else replaces what was there, and where ``name`` becomes
    another, the ``options`` that belonged to the old name go. A text that begins with ``$weights`` (or another name
    under ``paths``) begins with that path. Overrides come before that, so ``-o paths.weights=/big/disk`` moves all.

    Args:
        reference: a file, or the name of a study that ships.
        overrides: dotted, ``a.b=c``.

    Raises:
        MissingPath: neither a file nor a name that ships.
        ConfigError: no valid YAML, files that extend each other in a circle, or a path of unknown name.
    """
    values = with_overrides(_extended(find_study(reference), ()), overrides)
    paths = values.pop("paths", {})
    if not isinstance(paths, Mapping) or not all(isinstance(path, str) for path in paths.values()):
        raise ConfigError("'paths' must map names to paths.", "Such as paths: {weights: /big/disk/weights}.")
    result: dict[str, Any] = _placed(values, paths)
    return result


def find_study(reference: str | Path, beside: Path | None = None) -> Path:
    """The file of a study: a path (also relative to the folder ``beside``), or a name that ships.

    Raises:
        MissingPath: neither; the nearest name is suggested.
    """
    for path in (Path(reference), *([] if beside is None else [beside / reference])):
        if _is_file(path):
            return path
    known = shipped()
    if str(reference) not in known:
        raise MissingPath(f"Study '{reference}' is no file and no study that ships.", suggest(str(reference), known))
    return known[str(reference)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a name
        return False


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one, key by key and all the way down; ``above`` wins."""
    result = dict(below)
    if "name" in above and "name" in below and above["name"] != below["name"]:
        result.pop("options", None)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in above:
        chain = " -> ".join(str(file) for file in (*above, path))
        raise ConfigError(f"Study files extend each other in a circle: {chain}.")
    own = read_yaml(path)
    bases = own.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"'extends' of '{path}' must be a file, or a list of files, not {bases!r}.")
    values: dict[str, Any] = {}
    for base in bases:
        values = merged(values, _extended(find_study(base, path.parent), (*above, path)))
    return merged(values, own)


def _placed(value: Any, paths: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _placed(item, paths) for key, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, paths) for item in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    name, slash, rest = value[1:].partition("/")
    if name not in paths:
        raise ConfigError(f"'{value}' begins with a path of unknown name.", suggest(name, paths))
    return f"{paths[name]}{slash}{rest}"
