"""From a reference (folder, registered name, "module:Class", "file.py:Class", hub id) to a tokenizer or a method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from vaebench.core.config import Config, plain_float
from vaebench.core.errors import ConfigError, DataError, MissingPath, UnknownName, suggest
from vaebench.core.files import read_json
from vaebench.core.plugins import load_object
from vaebench.tokenizers import TOKENIZERS, means_path
from vaebench.tokenizers.autoencoder import DiffusersTokenizer
from vaebench.tokenizers.base import Tokenizer
from vaebench.tokenizers.convert import CHECKPOINTS, convert_checkpoint
from vaebench.tokenizers.deterministic import DETERMINISTIC, DeterministicTokenizer
from vaebench.tokenizers.diffusers_folder import SPEC_FILE, class_name, model_folder
from vaebench.tokenizers.hub import HUB_ID, fetch
from vaebench.tokenizers.method import FittedMethod, Method


def load_tokenizer(ref: str | Path, device: str = "cpu", **options: Any) -> Tokenizer:
    """Load a tokenizer, ready for inference in float32.

    Args:
        ref: one of
            - a folder that training wrote (holding `tokenizer/` or `tokenizer.json`);
            - a diffusers folder (`config.json` with safetensors, or a pipeline's folder with `vae/`) of an
              AutoencoderKL, AutoencoderDC, AutoencoderTiny or AutoencoderRAE;
            - a checkpoint of latent diffusion's layout (.ckpt, .pt, .safetensors), with the option `stats` for its file
              of latent statistics: "vavae.pt?stats=latents_stats.pt" (see `vaebench.tokenizers.convert`);
            - the registered name of a ready-made tokenizer, with options if it takes any: "dct?f=16&d=32"; it wins
              over a folder of that name which holds no tokenizer;
            - "module:Class" or "path/file.py:Class", a Tokenizer class of your own;
            - a Hugging Face id such as "stabilityai/sd-vae-ft-mse", or "id@revision", fetched unless HF_HUB_OFFLINE
              is set.
        device: where its weights go.
        options: arguments of the class, for a registered name or a class of your own.

    Raises:
        UnknownName, MissingPath, MissingWeights, DataError, ConfigError: with what to do about it.
    """
    tokenizer: Tokenizer
    text = str(ref)
    path = Path(text).expanduser()
    if "?" in text and not path.exists():
        text, given = _with_options(text)
        path, options = Path(text).expanduser(), {**given, **options}
    if path.is_file() and path.suffix in CHECKPOINTS:
        tokenizer = _load_checkpoint(path, options)
    elif means_path(text):
        _refuse_options(text, options)
        tokenizer = _load_path(path)
    elif ":" in text:
        tokenizer = _instantiate(text, load_object(text), options)
    elif text in TOKENIZERS:
        tokenizer = _instantiate(text, TOKENIZERS.get(text), options)
    elif HUB_ID.fullmatch(text):
        _refuse_options(text, options)
        folder, name, source = fetch(text)
        tokenizer = load_diffusers(folder).with_identity(name, "", source)
    elif len(path.parts) > 1 or path.suffix in CHECKPOINTS:
        raise MissingPath(f"Tokenizer '{text}' does not exist.")
    else:
        raise UnknownName(
            f"Unknown tokenizer '{text}': neither a folder here nor a registered name.",
            suggest(text, TOKENIZERS.names()),
        )
    return tokenizer.to(device)


def load_method(ref: str, config: Config | Mapping[str, Any] | None = None) -> Method:
    """The method of this registered name, "module:Class" or "path/file.py:Class", configured.

    Raises:
        UnknownName: no such name (with the nearest). ConfigError: it cannot be trained, or its settings are wrong.
    """
    found = TOKENIZERS.get(ref)
    if not (
        inspect.isclass(found) and issubclass(found, Method) and (found.trainable or issubclass(found, FittedMethod))
    ):
        raise ConfigError(f"'{ref}' is no method that trains a tokenizer.", "`vaebench tokenizers` lists the methods.")
    return found(config)


def load_diffusers(folder: Path) -> DiffusersTokenizer | DeterministicTokenizer:
    """The tokenizer in this diffusers folder, by the class that its config.json names.

    Raises:
        MissingPath, MissingWeights, DataError, MissingDependency: with what to do about it.
    """
    kind = class_name(model_folder(folder))
    if kind == "AutoencoderKL":
        return DiffusersTokenizer.from_folder(folder)
    if kind not in DETERMINISTIC:
        raise DataError(
            f"{folder} is a diffusers {kind}; vaebench reads AutoencoderKL, {', '.join(DETERMINISTIC)}.",
            "Wrap it in a Tokenizer class of your own and pass it as path/file.py:Class.",
        )
    return DETERMINISTIC[kind].load(folder)


def _load_path(path: Path) -> Tokenizer:
    if path.is_file():
        raise MissingPath(
            f"'{path}' is a file; a tokenizer is a folder, or a checkpoint ({', '.join(CHECKPOINTS)}).",
            "Pass the folder, or path/file.py:Class.",
        )
    # A stage keeps its tokenizer in a folder of that name; in a diffusers pipeline it is one of text, beside `vae/`.
    pipeline = (path / "model_index.json").is_file() or (path / "vae").is_dir()
    folder = path / "tokenizer" if (path / "tokenizer").is_dir() and not pipeline else path
    if (folder / SPEC_FILE).exists():
        # Whoever made it knows how it is stored; without that package a diffusers folder still loads.
        method = read_json(folder / SPEC_FILE).get("method", "")
        found = TOKENIZERS.get(method) if method in TOKENIZERS else None
        if inspect.isclass(found) and (issubclass(found, Method) or says_how_to_load(found)):
            return found.load(folder)
    return load_diffusers(folder)


def says_how_to_load(found: type) -> TypeGuard[type[Tokenizer]]:
    """Whether this is a Tokenizer class that defines `load`."""
    return issubclass(found, Tokenizer) and getattr(found.load, "__func__", None) is not Tokenizer.load.__func__  # type: ignore[attr-defined]


def _load_checkpoint(path: Path, options: Mapping[str, Any]) -> DiffusersTokenizer:
    unknown = sorted(set(options) - {"stats", "norm_groups"})
    if unknown:
        raise ConfigError(
            f"A checkpoint takes no option '{unknown[0]}'.", suggest(unknown[0], ["stats", "norm_groups"])
        )
    return convert_checkpoint(path, **options).tokenizer


def _with_options(ref: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of "name?key=value&key=value"; values are read as YAML scalars.

    Raises:
        ConfigError: an option without a value, or with one that is no YAML.
    """
    name, _, query = ref.partition("?")
    options: dict[str, Any] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise ConfigError(f"'{part}' in '{ref}' is no option.", "Write name?key=value&key=value.")
        try:
            options[key] = yaml.safe_load(plain_float(value))
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of '{key}' in '{ref}' is not valid YAML.") from error
    return name, options


def _refuse_options(ref: str, options: Mapping[str, Any]) -> None:
    if options:
        raise ConfigError(
            f"Tokenizer '{ref}' is loaded from a folder and takes no options ({', '.join(options)}).",
            "Options belong to registered tokenizers and to classes of your own.",
        )


def _instantiate(ref: str, found: Any, options: Mapping[str, Any]) -> Tokenizer:
    if inspect.isclass(found) and issubclass(found, Method):
        raise ConfigError(
            f"'{ref}' is a method that trains a tokenizer, not a trained tokenizer.",
            f"Run `vaebench train {ref} ...` and pass the folder that it writes.",
        )
    if not (inspect.isclass(found) and issubclass(found, Tokenizer)):
        raise ConfigError(f"'{ref}' is not a Tokenizer class.", "Derive it from vaebench.tokenizers.base.Tokenizer.")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f"Tokenizer class '{ref}' does not define {missing}.", "Define what the contract asks for.")
    try:
        inspect.signature(found).bind(**options)
    except TypeError as error:
        given = ", ".join(options) or "none"
        raise ConfigError(
            f"Tokenizer '{ref}' cannot be made with these options ({given}): {error}.",
            f"Write them as {ref}?name=value&name=value.",
        ) from error
    return found(**options)
