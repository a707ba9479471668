"""Diffusers folders on disk: `config.json`, safetensors and, where vaebench wrote them, the spec.

Pickles are never read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vaebench.core.config import build
from vaebench.core.errors import DataError, MissingPath, MissingWeights
from vaebench.core.files import read_json, write_json
from vaebench.tokenizers.base import TokenizerSpec

SPEC_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


def model_folder(folder: Path | str) -> Path:
    """The folder itself, or `vae/` in it if it is that of a whole pipeline."""
    folder = Path(folder)
    if not (folder / CONFIG_FILE).exists() and (folder / "vae" / CONFIG_FILE).exists():
        return folder / "vae"
    return folder


def folder_name(folder: Path) -> str:
    """What to call the model in this folder; a pipeline's `vae/` is called like the pipeline."""
    return folder.parent.name if folder.name == "vae" else folder.name


def class_name(folder: Path) -> str:
    """The diffusers class of the model in this folder.

    Raises:
        MissingPath: the folder holds no config.json. MissingWeights: it holds no safetensors.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise MissingPath(
            f"{folder} holds no config.json, so it is no diffusers folder.", "Pass the folder that holds it."
        )
    if not any(folder.glob("diffusion_pytorch_model*.safetensors*")):
        raise MissingWeights(
            f"{folder} holds no diffusion_pytorch_model*.safetensors.",
            "Convert the weights with diffusers' save_pretrained (safe_serialization=True); pickles are not read.",
        )
    return str(read_json(folder / CONFIG_FILE).get("_class_name"))


def load_model(folder: Path, model_class: Any) -> Any:
    """The model in this folder as `model_class`, in float32, ready for inference.

    Raises:
        DataError: the weights do not load, or they lack or have tensors that the config does not.
    """
    try:
        model, report = model_class.from_pretrained(
            str(folder),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            torch_dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"The weights in {folder} do not load: {error}.", "Download or convert the folder again."
        ) from error
    wrong = {key: sorted(report[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[key]}
    if wrong:
        listing = "; ".join(f"{key.replace('_', ' ')}: {', '.join(map(str, keys[:4]))}" for key, keys in wrong.items())
        raise DataError(
            f"The weights in {folder} do not fit its config.json: {listing}.", "Download or convert it again."
        )
    return model.eval()


def save_model(model: Any, folder: Path, spec: TokenizerSpec) -> None:
    """Write the model as a diffusers folder, and its spec beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.to_json_string())
    # Where it was loaded from is nobody's business, and would make two equal tokenizers differ.
    config.pop("_name_or_path", None)
    write_json(folder / CONFIG_FILE, config)
    # Written here and not by save_pretrained: safetensors refuses channels-last tensors.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(folder / SPEC_FILE, spec.model_dump(mode="json"))


def read_spec(folder: Path) -> TokenizerSpec | None:
    """The spec that `save_model` wrote, if it did."""
    path = folder / SPEC_FILE
    return build(TokenizerSpec, read_json(path), where=str(path)) if path.exists() else None


def require_spec(folder: Path, expected: TokenizerSpec, found: TokenizerSpec) -> None:
    """Raise DataError unless the weights that were loaded are those the folder's spec was written for."""
    if found != expected:
        raise DataError(
            f"The weights in {folder} are not those that its {SPEC_FILE} was written for.",
            f"Restore the folder, or delete {SPEC_FILE} to load it as a plain diffusers folder.",
        )
