"""A trained SiT on the disk: its weights at every step of `snapshots`, and a card that says what they belong to.

The card, ``sit.json``, holds the network's shape, the interpolant, the latent normalisation and the identity of the
latents and their tokenizer, so that samples are never de-normalised by other numbers or decoded by another tokenizer.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from vaebench.core.config import Config, build
from vaebench.core.errors import MismatchError, MissingPath
from vaebench.core.files import read_json, write_json
from vaebench.generation.interpolants import INTERPOLANTS, Interpolant, InterpolantName
from vaebench.generation.sit import SiT, SiTConfig
from vaebench.latents.match import require_normalisation
from vaebench.tokenizers.base import LatentNormalisation, TokenizerSpec
from vaebench.training.loop import snapshot_path

CARD = "sit.json"


class SiTCard(Config):
    """What a trained SiT is: shape, interpolant, normalisation of its latents, and the tokenizer that made them."""

    network: SiTConfig
    interpolant: InterpolantName
    normalisation: LatentNormalisation
    latents: str
    tokenizer: str
    tokenizer_hash: str

    def require_tokenizer(self, spec: TokenizerSpec) -> None:
        """Raise MismatchError unless `spec` is the tokenizer whose latents the SiT was trained on."""
        if spec.checkpoint_hash != self.tokenizer_hash:
            raise MismatchError(
                f"The SiT was trained on latents of tokenizer '{self.tokenizer}' ({self.tokenizer_hash or 'no hash'}), "
                f"not of '{spec.name}' ({spec.checkpoint_hash or 'no hash'}).",
                "Decode with the tokenizer that made the latents, or train a SiT on latents of this one.",
            )

    def require_normalisation(self, normalisation: LatentNormalisation) -> None:
        """Raise MismatchError unless `normalisation` has the numbers that the SiT was trained with."""
        require_normalisation(self.normalisation, normalisation)


@dataclass(frozen=True)
class TrainedSiT:
    """A network in evaluation mode with its card; `step` is the number of training steps it has seen."""

    network: SiT
    card: SiTCard
    step: int

    @property
    def interpolant(self) -> Interpolant:
        """The interpolant that the network was trained on."""
        return INTERPOLANTS[self.card.interpolant]


def write_card(folder: Path, card: SiTCard) -> None:
    """Write the card, or check that the one in the folder is the same.

    Raises:
        MismatchError: the folder holds the training of another SiT; names what differs.
    """
    path = folder / CARD
    if not path.is_file():
        write_json(path, card.model_dump(mode="json"))
        return
    found = build(SiTCard, read_json(path), str(path))
    different = [
        f"{name} ({getattr(found, name)!r} there, {getattr(card, name)!r} here)"
        for name in SiTCard.model_fields
        if getattr(found, name) != getattr(card, name)
    ]
    if different:
        raise MismatchError(
            f"'{folder}' holds the training of another SiT: they differ in {'; '.join(different)}.",
            "Choose another output folder.",
        )


def load_sit(
    folder: Path | str,
    step: int | None = None,
    *,
    normalisation: LatentNormalisation | None = None,
    tokenizer: TokenizerSpec | None = None,
    device: str | torch.device = "cpu",
) -> TrainedSiT:
    """Load the averaged weights of a training folder.

    Args:
        folder: where `train_sit` has trained.
        step: which snapshot; the last by default.
        normalisation, tokenizer: what the SiT must have been trained with, if given.
        device: where to.

    Raises:
        MissingPath: no SiT there, or none at that step (the message names those there are).
        MismatchError: trained with another normalisation or on another tokenizer's latents.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise MissingPath(f"'{folder}' holds no trained SiT.", "Train one with: vaebench generate LATENTS ...")
    card = build(SiTCard, read_json(folder / CARD), str(folder / CARD))
    if normalisation is not None:
        card.require_normalisation(normalisation)
    if tokenizer is not None:
        card.require_tokenizer(tokenizer)
    found = sorted(
        int(path.parent.name.removeprefix("step_")) for path in folder.glob("snapshots/step_*/sit.safetensors")
    )
    if not found or (step is not None and step not in found):
        raise MissingPath(
            f"'{folder}' has no SiT at {'any step' if step is None else f'step {step}'}; it has {found or 'none'}.",
            "Ask for one of these steps, or finish the training.",
        )
    step = found[-1] if step is None else step
    network = SiT(card.network)
    network.load_state_dict(load_file(snapshot_path(folder, step, "sit")))
    return TrainedSiT(network.to(device).eval().requires_grad_(False), card, step)
