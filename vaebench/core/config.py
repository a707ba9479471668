"""Typed configuration: pydantic models that refuse unknown keys, YAML files, and dotted overrides ``a.b=c``."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vaebench.core.errors import ConfigError, MissingPath, suggest


class Config(BaseModel):
    """Base of every configuration: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


C = TypeVar("C", bound=Config)


def content_hash(value: Any, length: int = 16) -> str:
    """Hexadecimal hash of a value's canonical JSON; models are dumped first."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot enter a content hash.")


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping (safe loader).

    Raises:
        MissingPath: no such file.
        ConfigError: not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        value = yaml.safe_load(path.read_text())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingPath(f"Configuration file '{path}' does not exist.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"'{path}' must hold a mapping of keys to values, not a {type(value).__name__}.")
    return value


def dump_yaml(value: Any) -> str:
    """A configuration (or plain value) as YAML text, keys in their order of definition."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply overrides of the form ``a.b=c``; the right side is read as YAML, so ``steps=10`` is a number.

    Raises:
        ConfigError: an override without "=", or one that reaches into something that is no mapping.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(
                f"Override '{override}' is not of the form key=value.", "Write -o a.b=c, such as -o steps=100."
            )
        *parents, last = path.strip().split(".")
        node = result
        for depth, parent in enumerate(parents):
            child = node.get(parent)
            if child is not None and not isinstance(child, Mapping):
                reached = ".".join(parents[: depth + 1])
                raise ConfigError(f"Override '{override}': '{reached}' is {child!r}, which has no keys of its own.")
            node[parent] = dict(child or {})
            node = node[parent]
        try:
            node[last] = yaml.safe_load(plain_float(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"Override '{override}': the value is not valid YAML.") from error
    return result


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name, {"a": {"b": 1}} as {"a.b": 1}; an empty group stays a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def plain_float(text: str) -> str:
    """The text as YAML reads it right: of 1e-4, which has no point, YAML 1.1 makes text."""
    try:
        return repr(float(text)) if "e" in text.lower() and text.strip()[-1:].isdigit() else text
    except ValueError:
        return text


def build(model: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Validate values into a configuration.

    Args:
        model: the configuration class.
        values: plain values, as from YAML.
        where: what is being configured, for the message.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type or value out of range; every fault is named.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        faults = [_fault(model, item) for item in error.errors()]
        place = f" in {where}" if where else ""
        raise ConfigError(f"Configuration{place} is not valid: " + "; ".join(faults)) from error


def refuse_elsewhere(values: Mapping[str, Any], where: str, places: Mapping[str, str]) -> None:
    """Refuse settings that would be replaced, since they are made in another place.

    Args:
        values: settings as given.
        where: their group, for the message.
        places: setting -> where it is made.

    Raises:
        ConfigError: one of them is there.
    """
    for key in places:
        if key in values:
            raise ConfigError(f"'{key}' in {where} would do nothing.", f"Set {places[key]} instead.")


def _fault(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    location = [part for part in item["loc"] if isinstance(part, str | int)]
    name = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        return f"unknown key '{name}'. {suggest(str(location[-1]), _keys(model, location[:-1]))}"
    if item["type"] == "missing":
        return f"'{name}' is missing"
    return f"'{name}': {item['msg'].lower()}, got {item['input']!r}" if name else item["msg"]


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    for part in path:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        for candidate in _models(model.model_fields[part].annotation):
            model = candidate
            break
    return list(model.model_fields)


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


def load(
    model: type[C], file: Path | str | None = None, overrides: Iterable[str] = (), where: str = "", **values: Any
) -> C:
    """Defaults, then a YAML file, then keyword values that are not None, then dotted overrides."""
    merged = read_yaml(file) if file is not None else {}
    merged.update({key: value for key, value in values.items() if value is not None})
    return build(model, with_overrides(merged, overrides), where or (str(file) if file is not None else ""))
