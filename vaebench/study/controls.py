"""The controls of a study, as entries beside its tokenizers."""

from typing import Any

from vaebench.core.config import build
from vaebench.core.errors import ConfigError
from vaebench.study.spec import StudySpec, TokenizerEntry
from vaebench.tokenizers.architecture import AutoencoderConfig, resolve_preset
from vaebench.tokenizers.controls import control_origin


def control_entries(spec: StudySpec) -> list[TokenizerEntry]:
    """The controls that a study asks for, at every size of its networks; a name that it has already stays its own.

    They are reconstructed, probed and scored as tokenizers are; no SiT is trained on them.

    Raises:
        ConfigError: no entry says which network it has, so that there is no size.
    """
    if not spec.controls:
        return []
    sizes = _sizes(spec)
    if not sizes:
        raise ConfigError(
            "No entry says which network it has, so the size of its controls is not known.",
            "Give entries with 'load' their 'network', or leave 'controls' out.",
        )
    found: dict[str, TokenizerEntry] = {}
    for name in spec.controls:
        for f, d in sizes:
            whole = name == "pixels"
            alone = len({f for f, _ in sizes} if whole else sizes) == 1
            label = name if alone else f"{name}-f{f}" + ("" if whole else f"d{d}")
            origin = control_origin(name, f, d)
            found[label] = TokenizerEntry(
                name=label, seeds=spec.seeds[:1], generate={"steps": []}, gallery=False, **origin
            )
    own = {entry.name for entry in spec.tokenizers}
    return [entry for label, entry in found.items() if label not in own]


def _sizes(spec: StudySpec) -> list[tuple[int, int]]:
    """(f, d) of every network that the study names, in its order."""
    networks: list[str | dict[str, Any]] = []
    for entry in spec.tokenizers:
        if entry.load is not None and entry.network is not None:
            networks.append(entry.network)
        elif entry.load is None and entry.init is None:
            networks.append(entry.network or spec.network)
    resolved = [resolve_preset(n if isinstance(n, str) else build(AutoencoderConfig, n, "network")) for n in networks]
    return list(dict.fromkeys((network.f, network.latent_channels) for network in resolved))
