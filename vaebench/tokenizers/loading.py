"""From a reference (folder, registered name, "module:Class", "file.py:Class", hub id) to a tokenizer or a method."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from vaebench.core.config import Config
from vaebench.core.errors import ConfigError, MissingPath, MissingWeights, UnknownName, suggest
from vaebench.core.files import read_json
from vaebench.tokenizers import TOKENIZERS
from vaebench.tokenizers.autoencoder import SPEC_FILE, DiffusersTokenizer
from vaebench.tokenizers.base import Tokenizer
from vaebench.tokenizers.method import Method

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What a diffusers autoencoder needs; nothing else is fetched, and nothing that could hold a pickle.
HUB_FILES = ["config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model-*.safetensors*"]


def load_tokenizer(ref: str | Path, device: str = "cpu", **options: Any) -> Tokenizer:
    """Load a tokenizer, ready for inference in float32.

    Args:
        ref: one of
            - a folder that training wrote (holding `tokenizer/` or `tokenizer.json`);
            - a diffusers folder (`config.json` with safetensors, or a pipeline's folder with `vae/`);
            - the registered name of a ready-made tokenizer;
            - "module:Class" or "path/file.py:Class", a Tokenizer class of your own;
            - a Hugging Face id such as "stabilityai/sd-vae-ft-mse", fetched unless HF_HUB_OFFLINE is set.
        device: where its weights go.
        options: arguments of the class, for a registered name or a class of your own.

    Raises:
        UnknownName, MissingPath, MissingWeights, DataError, ConfigError: with what to do about it.
    """
    text = str(ref)
    path = Path(text).expanduser()
    if path.exists():
        _refuse_options(text, options)
        tokenizer = _load_path(path)
    elif ":" in text:
        tokenizer = _instantiate(text, load_object(text), options)
    elif text in TOKENIZERS:
        tokenizer = _instantiate(text, TOKENIZERS.get(text), options)
    elif HUB_ID.fullmatch(text):
        _refuse_options(text, options)
        tokenizer = DiffusersTokenizer.from_folder(_fetch(text)).with_identity(text, "", f"Hugging Face {text}")
    elif len(path.parts) > 1:
        raise MissingPath(f"Tokenizer folder '{text}' does not exist.")
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
    found = load_object(ref) if ":" in ref else TOKENIZERS.get(ref)
    if not (inspect.isclass(found) and issubclass(found, Method) and found.trainable):
        raise ConfigError(f"'{ref}' is no method that trains a tokenizer.", "`vaebench tokenizers` lists the methods.")
    return found(config)


def load_object(ref: str) -> Any:
    """The object that "module:attribute" or "path/file.py:attribute" names. This runs the module's code."""
    module_name, _, attribute = ref.rpartition(":")
    module = _import_file(Path(module_name)) if module_name.endswith(".py") else _import_module(module_name, ref)
    found = getattr(module, attribute, None)
    if found is None:
        public = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise UnknownName(f"'{module_name}' has no '{attribute}'.", suggest(attribute, public))
    return found


def _load_path(path: Path) -> Tokenizer:
    if path.is_file():
        raise MissingPath(
            f"'{path}' is a file; a tokenizer is a folder.",
            "Convert a checkpoint with diffusers' save_pretrained, or pass path/file.py:Class.",
        )
    folder = path / "tokenizer" if (path / "tokenizer").is_dir() else path
    if (folder / SPEC_FILE).exists():
        # The method that trained it knows how it is stored; without that package a diffusers folder still loads.
        method = read_json(folder / SPEC_FILE).get("method", "")
        found = TOKENIZERS.get(method) if method in TOKENIZERS else None
        if inspect.isclass(found) and issubclass(found, Method):
            return found.load(folder)
    return DiffusersTokenizer.from_folder(folder)


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
        raise ConfigError(f"Tokenizer '{ref}' cannot be made with these options: {error}.") from error
    return found(**options)


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
        raise MissingPath(f"'{path}' cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, ref: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UnknownName(
            f"Module '{name}' of '{ref}' is not installed.", "Install its package, or pass path/to/file.py:Class."
        ) from error


def _fetch(ref: str) -> Path:
    """The hub's folder of this id in the local cache, fetched first unless offline."""
    try:
        return Path(snapshot_download(ref, allow_patterns=[*HUB_FILES, *(f"vae/{name}" for name in HUB_FILES)]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else str(error).partition("\n")[0]
        raise MissingWeights(
            f"There is no folder '{ref}' here, and '{ref}' could not be had from the Hugging Face hub ({why}).",
            f"Where there is a network, run `hf download {ref} --local-dir FOLDER`, and pass that folder.",
        ) from error
