"""Classifier-free guidance (Ho and Salimans 2022), limited to an interval of time (Kynkäänniemi et al. 2024)."""

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.core.errors import ConfigError

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
Velocity = Callable[[Tensor, float], Tensor]


def guided_velocity(
    network: Network,
    labels: Tensor,
    null_label: int,
    scale: float = 1.0,
    interval: tuple[float, float] = (0.0, 1.0),
    channels: int | None = None,
) -> Velocity:
    """v(x, t) = v(x, t, null) + scale (v(x, t, label) - v(x, t, null)) for low <= t <= high, else v(x, t, label).

    All latent channels are guided unless ``channels`` says otherwise. Outside the interval, and for
    scale 1, the network runs once on the batch instead of on a doubled one.

    Args:
        network: (x (N, ...), t (N,), labels (N,)) -> velocity (N, ...).
        labels: class labels, (N,) int64.
        null_label: the label that stands for none.
        scale: 1 is without guidance, 0 without labels.
        interval: [low, high] in SiT time (t = 0 noise, t = 1 data). REPA counts time backwards: its interval (a, b) is
            (1 - b, 1 - a) here.
        channels: guide the first so many channels only: 3 reproduces the published SiT and LightningDiT code, whose CFG
            scales (10.0, 6.7) are not comparable with those of REPA, which guides all.

    Raises:
        ConfigError: the interval is not within [0, 1].
    """
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"Guidance interval {interval} is not within [0, 1].", "Give (low, high) in SiT time.")
    nulls = torch.full_like(labels, null_label)

    def velocity(x: Tensor, t: float) -> Tensor:
        if scale == 1 or not low <= t <= high:
            return network(x, x.new_full((len(x),), t), labels)
        both = network(torch.cat([x, x]), x.new_full((2 * len(x),), t), torch.cat([labels, nulls]))
        conditional, unconditional = both.chunk(2)
        guided = torch.lerp(unconditional, conditional, scale)
        return guided if channels is None else torch.cat([guided[:, :channels], conditional[:, channels:]], dim=1)

    return velocity
