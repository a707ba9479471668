"""Do these artefacts belong together? If not, an error that names both sides."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaebench.core.errors import MismatchError
from vaebench.tokenizers.base import LatentNormalisation, TokenizerSpec

if TYPE_CHECKING:
    from vaebench.latents.file import LatentFile

ASPECTS = ("tokenizer", "normalisation", "data", "transform")


def differences(left: Any, right: Any, name: str = "") -> list[str]:
    """Where two plain values differ, as "a.b: <left> and <right>", leaf by leaf."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys = dict.fromkeys([*left, *right])
        return [
            line
            for key in keys
            for line in differences(left.get(key), right.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if left == right else [f"{name}: {_short(left)} and {_short(right)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _sides(latents: "LatentFile") -> dict[str, Any]:
    identity = latents.info.identity()
    # One file per split, and only training latents need flips: neither makes two files strangers.
    del identity["data"]["split"], identity["transform"]["flip"]
    return identity


def require_match(a: "LatentFile", b: "LatentFile", on: Sequence[str] = ASPECTS) -> None:
    """Check that two latent files come from the same tokenizer, data and transform (splits and flips may differ).

    Args:
        a, b: the latent files.
        on: aspects that must agree, among tokenizer, normalisation (the tokenizer's published one), data, transform.

    Raises:
        MismatchError: they do not; names both files, both tokenizers and data sets, and every value that differs.
    """
    left, right = _sides(a), _sides(b)
    found = [line for aspect in on for line in differences(left[aspect], right[aspect], aspect)]
    if found:
        raise MismatchError(
            f"Latents of different origin: {_describe(a)} and {_describe(b)} differ in {'; '.join(found)}.",
            "Extract both with the same tokenizer from the same data.",
        )


def require_tokenizer(latents: "LatentFile", spec: TokenizerSpec) -> None:
    """Check that latents were made by this tokenizer, weights and published normalisation included.

    Raises:
        MismatchError: they were not; names both tokenizers.
    """
    wanted = latents.info.model_copy(update={"tokenizer": spec}).identity()
    stored = latents.info.identity()
    aspects = ("tokenizer", "normalisation")
    found = [line for aspect in aspects for line in differences(stored[aspect], wanted[aspect], aspect)]
    if found:
        raise MismatchError(
            f"{_describe(latents)} were not made by tokenizer '{spec.name}': they differ in {'; '.join(found)}.",
            "Use the tokenizer that made these latents, or extract them again.",
        )


def require_normalisation(used: LatentNormalisation, offered: LatentNormalisation) -> None:
    """Check that latents are de-normalised by the numbers that normalised them; only shift and scale count.

    Raises:
        MismatchError: they differ; names the source of each.
    """
    if (used.shift, used.scale) != (offered.shift, offered.scale):
        raise MismatchError(
            f"Two latent normalisations: {used.source} (shift {_short(used.shift)}, scale {_short(used.scale)}) and "
            f"{offered.source} (shift {_short(offered.shift)}, scale {_short(offered.scale)}).",
            "De-normalise with the normalisation that the model was trained with.",
        )


def _describe(latents: "LatentFile") -> str:
    info = latents.info
    return f"'{latents.path}' (tokenizer '{info.tokenizer.name}', data '{info.data.get('name')}', split {info.split})"
