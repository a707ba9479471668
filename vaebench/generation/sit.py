"""SiT: the Scalable Interpolant Transformer (Ma et al. 2024), on the adaLN-Zero blocks of DiT (Peebles and Xie 2023).

With RMS norm, SwiGLU and rotary positions the same network is LightningDiT (Yao, Yang and Wang 2025), a second backbone
to see whether a finding belongs to the latents or to SiT.

The network maps a noisy latent, its time and a class label to a velocity. It holds no loss, no interpolant, no guidance
and no randomness in its forward pass: those are functions around it. Written to be fast: one matrix product gives the
modulation of all blocks, one gives query, key and value, attention never materialises its matrix, and what is left
between the products is fused (`vaebench.generation.fused`).
"""

import math
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn

from vaebench.core.config import Config, build
from vaebench.core.errors import UnknownName, suggest
from vaebench.core.products import linear
from vaebench.generation.fused import gated_sum, gelu_mlp, modulated_norm

_FREQUENCIES = 256
_MAX_PERIOD = 10_000.0


class SiTConfig(Config):
    """Shape of a SiT. Channels, grid and classes come from the latents, the rest from a preset."""

    width: int = Field(
        default=384, gt=0, description="Channels of a token; a multiple of 4 (position embedding) and of heads."
    )
    depth: int = Field(default=12, gt=0, description="Number of transformer blocks.")
    heads: int = Field(default=6, gt=0)
    mlp_ratio: int = Field(default=4, gt=0)
    norm: Literal["layer", "rms"] = Field(
        default="layer", description="layer: LayerNorm without parameters (SiT); rms: RMSNorm with a learned scale."
    )
    mlp: Literal["gelu", "swiglu"] = Field(
        default="gelu", description="swiglu: gated by SiLU, two thirds as wide so that it costs the same."
    )
    rope: bool = Field(
        default=False, description="Rotate queries and keys by row and column, beside the sine-cosine positions."
    )
    qk_norm: bool = Field(default=False, description="RMS norm of queries and keys, against diverging attention.")
    patch: int = Field(default=2, gt=0, description="Side of the square of latent positions that becomes one token.")
    in_channels: int = Field(default=4, gt=0, description="Latent channels d.")
    grid: tuple[int, int] = Field(default=(32, 32), description="Height and width of the latents.")
    num_classes: int = Field(
        default=1000, gt=0, description="Class labels 0..num_classes-1; num_classes is the null label."
    )
    tap: int | None = Field(
        default=None, ge=1, description="Return the tokens after this many blocks (REPA taps after 8)."
    )

    @model_validator(mode="after")
    def _fits(self) -> "SiTConfig":
        if self.width % 4 or self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of 4 and of heads {self.heads}")
        if self.rope and self.width // self.heads % 4:
            raise ValueError(f"rope needs heads of a multiple of 4 channels, not {self.width // self.heads}")
        if any(side <= 0 or side % self.patch for side in self.grid):
            raise ValueError(f"patch {self.patch} does not divide the latent grid {self.grid}")
        if self.tap is not None and self.tap > self.depth:
            raise ValueError(f"tap {self.tap} lies beyond the last of {self.depth} blocks")
        return self

    @property
    def tokens(self) -> int:
        """Length of the token sequence."""
        return (self.grid[0] // self.patch) * (self.grid[1] // self.patch)

    @property
    def mlp_width(self) -> int:
        """Hidden width of the MLP."""
        return self.mlp_ratio * self.width if self.mlp == "gelu" else 2 * self.mlp_ratio * self.width // 3

    @property
    def null_label(self) -> int:
        """The label that stands for "no label", of classifier-free guidance."""
        return self.num_classes


_SIZES: dict[str, dict[str, int]] = {
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}

_LIGHTNING: dict[str, Any] = {"norm": "rms", "mlp": "swiglu", "rope": True}

PRESETS: dict[str, dict[str, Any]] = {
    # For the embedded study: latents of 4 x 4 x 32 on two CPU cores.
    "nano": {"width": 128, "depth": 6, "heads": 4, "patch": 1},
    "lightning-nano": {"width": 128, "depth": 6, "heads": 4, "patch": 1, **_LIGHTNING},
    **{f"SiT-{name}/{patch}": {**size, "patch": patch} for name, size in _SIZES.items() for patch in (1, 2, 4, 8)},
    **{
        f"LightningDiT-{name}/{patch}": {**size, "patch": patch, **_LIGHTNING}
        for name, size in _SIZES.items()
        for patch in (1, 2)
    },
}


# What nobody chooses of a SiT's shape, and what decides it.
_DECIDED = {
    "in_channels": "the latents",
    "grid": "the latents",
    "num_classes": "the number of classes",
    "tap": "the block that REPA aligns",
}


def _chosen(overrides: dict[str, int | bool | str]) -> dict[str, int | bool | str]:
    for name, what in _DECIDED.items():
        if name in overrides:
            raise ValueError(f"'{name}' follows from {what} and cannot be replaced")
    return overrides


Overrides = Annotated[dict[str, int | bool | str], AfterValidator(_chosen)]
"""Values of `SiTConfig` that a configuration may put in place of a preset's."""


def sit_config(preset: str, in_channels: int, grid: tuple[int, int], num_classes: int, **overrides: Any) -> SiTConfig:
    """The preset of that name (PRESETS) for latents in_channels x grid with num_classes labels; overrides win.

    Raises:
        UnknownName: no such preset.
        ConfigError: the shape does not fit together.
    """
    if preset not in PRESETS:
        raise UnknownName(f"Unknown SiT preset '{preset}'.", suggest(preset, PRESETS))
    shape = {"in_channels": in_channels, "grid": grid, "num_classes": num_classes}
    return build(SiTConfig, {**PRESETS[preset], **shape, **overrides}, f"SiT preset '{preset}'")


def sincos_positions(width: int, grid: tuple[int, int]) -> Tensor:
    """Fixed 2-D sine-cosine position embedding, (h * w, width), tokens row by row.

    [sin(x f), cos(x f), sin(y f), cos(y f)] with f_i = 10000^(-i / (width / 4)): the column x first, as in DiT and MAE.
    """
    frequencies = _MAX_PERIOD ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (x, y)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1).float()


def rotary_angles(head_width: int, grid: tuple[int, int]) -> Tensor:
    """Angles by which pairs of channels of a head are rotated, (h * w, head_width / 2), tokens row by row.

    The first half of the pairs turns by the row y f, the second by the column x f, with f_i = 10000^(-i / (head_width /
    4)) (Su et al. 2021, in two axes as in LightningDiT).
    """
    quarter = head_width // 4
    frequencies = _MAX_PERIOD ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    return torch.cat([axis.reshape(-1, 1) * frequencies for axis in (y, x)], dim=1).float()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate adjacent pairs of channels of x (..., T, D) by angles whose cosine and sine are (T, D / 2)."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


def time_features(t: Tensor) -> Tensor:
    """[cos(t f), sin(t f)], (N, 256), with f_i = 10000^(-i / 128); t in [0, 1] is not scaled."""
    half = _FREQUENCIES // 2
    frequencies = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(_MAX_PERIOD) / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


def drop_labels(labels: Tensor, uniform: Tensor, probability: float, null_label: int) -> Tensor:
    """Labels (N,), the null label where `uniform` (N,), drawn from U(0, 1) by the caller, is below the probability."""
    return torch.where(uniform < probability, null_label, labels)


class Block(nn.Module):
    """Pre-norm attention and MLP, each shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, config: SiTConfig):
        super().__init__()
        width, self.heads, self.gated = config.width, config.heads, config.mlp == "swiglu"
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.expand = nn.Linear(width, (2 if self.gated else 1) * config.mlp_width)
        self.contract = nn.Linear(config.mlp_width, width)
        self.norms = nn.ModuleList(_norm(width) for _ in range(2)) if config.norm == "rms" else None
        self.qk_norms = nn.ModuleList(_norm(width // self.heads) for _ in range(2)) if config.qk_norm else None

    def attention(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        n, tokens, width = x.shape
        # Split first, transpose after: the gradients then stack straight into the layout of qkv, without a copy.
        parts = linear(x, self.qkv).view(n, tokens, 3, self.heads, width // self.heads).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        if self.qk_norms is not None:
            query, key = self.qk_norms[0](query), self.qk_norms[1](key)
        if rotation is not None:
            query, key = rotate(query, *rotation).to(value.dtype), rotate(key, *rotation).to(value.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return linear(mixed.transpose(1, 2).reshape(n, tokens, width), self.projection)

    def mlp(self, x: Tensor) -> Tensor:
        if self.gated:
            gate, hidden = linear(x, self.expand).chunk(2, dim=-1)
            return linear(F.silu(gate) * hidden, self.contract)
        return gelu_mlp(x, self.expand, self.contract)

    def forward(
        self, x: Tensor, modulation: tuple[Tensor, ...], rotation: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """x (N, T, D); modulation: shift, scale, gate of the attention, then of the MLP, each (N, 1, D); rotation:
        cosine and sine of `rotary_angles`."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        first, second = (None, None) if self.norms is None else self.norms
        x = gated_sum(x, gate, self.attention(_modulated(x, shift, scale, first), rotation))
        return gated_sum(x, mlp_gate, self.mlp(_modulated(x, mlp_shift, mlp_scale, second)))


def _norm(width: int) -> nn.RMSNorm:
    return nn.RMSNorm(width, eps=1e-6)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, norm: nn.Module | None) -> Tensor:
    return modulated_norm(x, shift, scale) if norm is None else norm(x) * (1 + scale) + shift


class SiTOutput(NamedTuple):
    """velocity (N, d, h, w) and, where the config names a tap, the tokens (N, T, D) after that block."""

    velocity: Tensor
    tokens: Tensor | None


class SiT(nn.Module):
    """forward(x (N, d, h, w), t (N,) in [0, 1] with t = 1 data, labels (N,) int64) -> SiTOutput.

    Initialised from `generator` as published: Xavier-uniform linear layers (the patch embedding on its flattened view)
    with zero biases, label table and time MLP N(0, 0.02), and zero modulation and output, so the first velocity is 0.
    """

    positions: Tensor
    angles: Tensor | None

    def __init__(self, config: SiTConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        width, patch_values = config.width, config.patch**2 * config.in_channels
        self.patches = nn.Linear(patch_values, width)
        self.time = nn.Sequential(nn.Linear(_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Embedding(config.num_classes + 1, width)
        # The published network has one adaLN layer per block; stacked, they are one matrix product and two for the end.
        self.modulation = nn.Linear(width, (6 * config.depth + 2) * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = _norm(width) if config.norm == "rms" else None
        self.output = nn.Linear(width, patch_values)
        grid = (config.grid[0] // config.patch, config.grid[1] // config.patch)
        self.register_buffer("positions", sincos_positions(width, grid), persistent=False)
        angles = rotary_angles(width // config.heads, grid) if config.rope else None
        self.register_buffer("angles", angles, persistent=False)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the published initialisation."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)
        for weight in (self.labels.weight, *(p for p in self.time.parameters() if p.ndim == 2)):
            nn.init.normal_(weight, std=0.02, generator=generator)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)

    def patchify(self, x: Tensor) -> Tensor:
        """Latents (N, d, h, w) to patches (N, T, d p p), tokens row by row, values in the order (d, row, column)."""
        n, d, h, w = x.shape
        p = self.config.patch
        return x.view(n, d, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, d * p * p)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Patches (N, T, p p d), values in the published order (row, column, d), to latents (N, d, h, w)."""
        (h, w), p, d = self.config.grid, self.config.patch, self.config.in_channels
        return patches.view(-1, h // p, w // p, p, p, d).permute(0, 5, 1, 3, 2, 4).reshape(-1, d, h, w)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> SiTOutput:
        tokens, tapped, (shift, scale) = self._run(x, t, labels, self.config.depth)
        return SiTOutput(self.unpatchify(linear(_modulated(tokens, shift, scale, self.norm), self.output)), tapped)

    def tapped(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The tokens at the config's tap, as in `forward`, without the blocks behind it."""
        if self.config.tap is None:
            raise ValueError("This SiT has no tap.")
        return self._run(x, t, labels, self.config.tap)[0]

    def _run(
        self, x: Tensor, t: Tensor, labels: Tensor, depth: int
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        condition = F.silu(self.time(time_features(t)) + self.labels(labels))
        # unbind, not slices: its backward is one stack, where every slice would fill a gradient of the whole.
        modulation = linear(condition, self.modulation).view(len(x), -1, 1, self.config.width).unbind(1)
        tokens, tapped = linear(self.patchify(x), self.patches) + self.positions, None
        rotation = None if self.angles is None else (self.angles.cos(), self.angles.sin())
        for index, block in islice(enumerate(self.blocks), depth):
            tokens = block(tokens, modulation[6 * index : 6 * index + 6], rotation)
            if index + 1 == self.config.tap:
                tapped = tokens
        return tokens, tapped, modulation[-2:]


def forward_flops(config: SiTConfig, batch: int = 1, count: Literal["all", "linear"] = "all") -> int:
    """Floating-point operations of the matrix products of one forward pass (a multiply-add is two).

    "linear" leaves out the two products of attention, which cost 4 T^2 D a block and sample.
    """
    width, tokens, values = config.width, config.tokens, config.patch**2 * config.in_channels
    products = 2 if config.mlp == "gelu" else 3
    block = tokens * width * (4 * width + products * config.mlp_width)
    if count == "all":
        block += 2 * tokens**2 * width
    condition = width * (_FREQUENCIES + width) + width**2 * (6 * config.depth + 2)
    return 2 * batch * (config.depth * block + 2 * tokens * values * width + condition)


def training_flops(config: SiTConfig, batch: int, count: Literal["all", "linear"] = "all") -> int:
    """Operations of one training step: three forward passes' worth (backward takes two products for each)."""
    return 3 * forward_flops(config, batch, count)
