"""Hugging Face ids of diffusers autoencoders: "owner/name", or "owner/name@revision" to pin a commit, branch or tag."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from vaebench.core.errors import MissingWeights
from vaebench.tokenizers.diffusers_folder import CONFIG_FILE, model_folder

HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
# What a diffusers autoencoder needs; nothing else is fetched, and nothing that could hold a pickle.
HUB_FILES = [CONFIG_FILE, "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model-*.safetensors*"]


def fetch(ref: str) -> tuple[Path, str, str]:
    """The hub's folder of this id in the local cache, fetched first unless offline; its name; and where it is from.

    The last names the commit, so that a result says which weights it had even where the id pinned none. What is asked
    for is what is given: another revision, or a folder without its weights, is an error.

    Raises:
        MissingWeights: neither cached nor to be had, or no safetensors in it.
    """
    match = HUB_ID.fullmatch(ref)
    if match is None:
        raise MissingWeights(f"'{ref}' is no Hugging Face id.", "Write owner/name or owner/name@revision.")
    name, revision = match["id"], match["revision"]
    pinned = f" --revision {revision}" if revision else ""
    remedy = f"Where there is a network, run `hf download {name}{pinned} --local-dir FOLDER`, and pass that folder."
    try:
        folder = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=[*HUB_FILES, *(f"vae/{name}" for name in HUB_FILES)]
            )
        )
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else str(error).partition("\n")[0]
        raise MissingWeights(
            f"There is no folder '{ref}' here, and '{ref}' could not be had from the Hugging Face hub ({why}).", remedy
        ) from error
    if not any(model_folder(folder).glob("*.safetensors")):
        raise MissingWeights(
            f"Of '{ref}' there is no diffusers autoencoder with safetensors in {folder}.",
            f"Either the copy in the cache is not whole, or the id has only other files. {remedy}",
        )
    commit = folder.name if folder.parent.name == "snapshots" else revision
    return folder, name, f"Hugging Face {name}@{commit}" if commit else f"Hugging Face {name}"
