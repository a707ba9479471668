"""A small autoencoder in latent diffusion's layout, written for the tests from its description alone.

Residual blocks (GroupNorm, SiLU, 3 x 3 convolution, twice, and a 1 x 1 shortcut where channels change), single-head
attention of 1 x 1 convolutions, halving by a strided convolution padded right and below, doubling by nearest neighbours
and a convolution. Its parameter names are those of published checkpoints.
"""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Residual(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        if c_in != c_out:
            self.nin_shortcut = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = norm(c)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("ncq,nck->nqk", q, k) / math.sqrt(c), dim=-1)
        return x + self.proj_out(torch.einsum("nqk,nck->ncq", weights, v).reshape(n, c, height, width))


class Resample(nn.Module):
    def __init__(self, c: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.conv = nn.Conv2d(c, c, 3, stride=2) if halve else nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.halve:
            return self.conv(functional.pad(x, (0, 1, 0, 1)))
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    def __init__(self, c: int, attention: bool) -> None:
        super().__init__()
        self.block_1, self.block_2 = Residual(c, c), Residual(c, c)
        self.attn_1 = Attention(c) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


def level(blocks: list[Residual], attention: bool, **resample: Resample) -> nn.Module:
    made = nn.Module()
    made.block = nn.ModuleList(blocks)
    width = blocks[-1].conv2.out_channels
    made.attn = nn.ModuleList(Attention(width) for _ in blocks if attention)
    for name, module in resample.items():
        setattr(made, name, module)
    return made


def through(part: nn.Module, x: Tensor) -> Tensor:
    for i, block in enumerate(part.block):
        x = block(x)
        if len(part.attn):
            x = part.attn[i](x)
    return x


class Encoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], layers: int, z: int, attends: tuple[bool, ...], middle: bool) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        c = widths[0]
        for i, width in enumerate(widths):
            blocks = [Residual(c if j == 0 else width, width) for j in range(layers)]
            last = i == len(widths) - 1
            self.down.append(level(blocks, attends[i], **({} if last else {"downsample": Resample(width, True)})))
            c = width
        self.mid = Middle(c, middle)
        self.norm_out, self.conv_out = norm(c), nn.Conv2d(c, 2 * z, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for part in self.down:
            x = through(part, x)
            x = part.downsample(x) if hasattr(part, "downsample") else x
        return self.conv_out(functional.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], layers: int, z: int, attends: tuple[bool, ...], middle: bool) -> None:
        super().__init__()
        c = widths[-1]
        self.conv_in = nn.Conv2d(z, c, 3, padding=1)
        self.mid = Middle(c, middle)
        parts = []
        for i in reversed(range(len(widths))):
            blocks = [Residual(c if j == 0 else widths[i], widths[i]) for j in range(layers + 1)]
            parts.append(level(blocks, attends[i], **({"upsample": Resample(widths[i], False)} if i else {})))
            c = widths[i]
        self.up = nn.ModuleList(reversed(parts))  # counted from the highest resolution
        self.norm_out, self.conv_out = norm(c), nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for part in reversed(self.up):
            x = through(part, x)
            x = part.upsample(x) if hasattr(part, "upsample") else x
        return self.conv_out(functional.silu(self.norm_out(x)))


class LDMAutoencoder(nn.Module):
    """Encoder, decoder and, where asked for, 1 x 1 convolutions around the latents; random weights from `seed`
    (None: torch's own)."""

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 32, 64),
        layers: int = 1,
        z: int = 6,
        attends: tuple[bool, ...] = (False, False, True),
        middle: bool = True,
        quant: bool = True,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(widths, layers, z, attends, middle)
        self.decoder = Decoder(widths, layers, z, attends, middle)
        if quant:
            self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * z, 2 * z, 1), nn.Conv2d(z, z, 1)
        if seed is None:
            return
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            with torch.no_grad():
                spread = 0.6 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.3
                parameter.normal_(0.0, spread, generator=generator)

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation."""
        h = self.encoder(images)
        mean, logvar = (self.quant_conv(h) if hasattr(self, "quant_conv") else h).chunk(2, dim=1)
        return mean, torch.exp(0.5 * logvar.clamp(-30.0, 20.0))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z) if hasattr(self, "post_quant_conv") else z)


@pytest.fixture
def ldm_autoencoder() -> type[LDMAutoencoder]:
    """The class of the independent autoencoder."""
    return LDMAutoencoder
