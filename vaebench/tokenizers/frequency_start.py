"""A start for convolutional autoencoders: the encoder begins as the lowest spatial frequencies of its patches.

With weights drawn at random an autoencoder first learns what every image transform knows: that neighbouring pixels are
alike. Gradient descent finds the components one after the other, the weak ones last, and the decoder chases codes that
keep moving. So the encoder gets them from the start: each of its d latents is one coefficient of the discrete cosine
transform of an f x f patch, in luminance or one of two differences of colour, in the order of what natural images hold
(amplitude as 1 / frequency), scaled to about unit variance, with little noise. It is exact but for the last norm, and
from there everything is trained.

It works where residual branches begin as zero, which leaves the encoder a chain of convolutions:

    conv_in, centre tap       a p x p patch to its own DCT, as many coefficients as there are channels
    downsampling, 2 x 2 taps  coefficients of four patches to those of the patch of twice their side
    last of the two, or 1 x 1 each coefficient x twice, as +x and -x, in one group of the last norm: its mean is zero,
                              and channels that hold constants keep its variance near the same for every image
    SiLU and conv_out         silu(x) - silu(-x) = x
"""

import math
from itertools import product
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

# Orthonormal directions of colour (luminance, red-blue, green-magenta) and their amplitude in natural images.
COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
AMPLITUDES = (1.0, 0.35, 0.35)
# Standard deviation of pixels on the [-1, 1] scale that unit variance of the latents is reckoned with.
CONTRAST = 0.35
# Channels that hold constants hold +-2, twice the deviation of those that hold coefficients.
CONSTANT = 2.0
LOGVAR = -5.0


@torch.no_grad()
def start_with_frequencies(autoencoder: AutoencoderKL, patch_size: int) -> None:
    """Put the encoder to the lowest frequencies, and attention everywhere to zero; the decoder keeps its other weights.

    Residual blocks must begin as zero (`zero_residuals`). Latents that the last norm has no room for (more than half
    its channels) keep their weights, but for their noise.
    """
    for module in autoencoder.modules():
        if isinstance(module, Attention):
            _zero(module.to_out[0])
    encoder = autoencoder.encoder
    chain = _chain(encoder)
    basis, side = torch.eye(3 * patch_size**2, dtype=torch.float64), patch_size
    for conv in chain[:-1]:
        basis, side = _set(conv, basis, side, conv.out_channels)
    last: Any = chain[-1]
    norm = encoder.conv_norm_out
    d, groups, size = int(autoencoder.config["latent_channels"]), norm.num_groups, norm.num_channels // norm.num_groups
    final = side * last.stride[0]
    count = min(d, groups * (size // 2), 3 * final**2)
    _set(last, basis, side, count)

    # Coefficient j at channels place[j] (+) and place[j] + 1 (-), spread evenly over the groups.
    latent = torch.arange(count)
    place = latent % groups * size + 2 * (latent // groups)
    weight = last.weight[:count] * _scales(final, count)[:, None, None, None]
    last.weight.zero_()
    last.weight[place], last.weight[place + 1] = weight, -weight
    free = torch.ones(norm.num_channels, dtype=torch.bool)
    free[place] = free[place + 1] = False
    last.bias[free] = CONSTANT * (1 - 2 * (torch.arange(norm.num_channels) % size % 2).float())[free]
    variance = torch.where(free, CONSTANT**2, 1.0).view(groups, size).mean(1).repeat_interleave(size)
    _ends(autoencoder, place, variance[place].sqrt())


def _chain(encoder: Any) -> list[nn.Conv2d]:
    """The convolutions that an image passes while residual branches are zero, up to the last norm."""
    chain = [encoder.conv_in]
    for block in encoder.down_blocks:
        chain += [resnet.conv_shortcut for resnet in block.resnets if resnet.conv_shortcut is not None]
        chain += [sampler.conv for sampler in block.downsamplers or ()]
    return chain


def _set(conv: nn.Conv2d, basis: Tensor, side: int, count: int) -> tuple[Tensor, int]:
    """Make ``conv`` compute the lowest frequencies from the coefficients of ``basis`` (rows over 3 x side x side).

    Returns what its output channels then are coefficients of, and the side of the patch.
    """
    _zero(conv)
    strided, width = conv.stride[0] == 2, len(basis)
    wanted = frequencies(2 * side if strided else side, count)
    if not strided:
        # What is not yet frequencies (pixels, before conv_in) becomes them; what is stays.
        weight, tap = wanted @ basis.T, conv.kernel_size[0] // 2
        conv.weight[: len(wanted), :width, tap, tap] = weight.to(conv.weight)
        return weight @ basis, side
    quarters = wanted.view(-1, 3, 2, side, 2, side)
    made = torch.zeros_like(quarters)
    for a, b in product(range(2), repeat=2):
        weight = quarters[:, :, a, :, b].flatten(1) @ basis.T
        conv.weight[: len(wanted), :width, a, b] = weight.to(conv.weight)
        made[:, :, a, :, b] = (weight @ basis).view(-1, 3, side, side)
    return made.flatten(1), 2 * side


def _ends(autoencoder: AutoencoderKL, place: Tensor, gain: Tensor) -> None:
    """conv_out takes +x from -x and undoes the norm; the log-variance is constant; 1 x 1 quant convolutions pass on."""
    conv: Any = autoencoder.encoder.conv_out
    d = int(autoencoder.config["latent_channels"])
    latent = torch.arange(len(place))
    conv.weight[latent], conv.bias[latent] = 0.0, 0.0
    conv.weight[latent, place, 1, 1], conv.weight[latent, place + 1, 1, 1] = gain, -gain
    conv.weight[d:], conv.bias[d:] = 0.0, LOGVAR
    for quant in (autoencoder.quant_conv, autoencoder.post_quant_conv):
        if quant is not None:
            _zero(quant)
            quant.weight[:, :, 0, 0] = torch.eye(quant.out_channels)


def frequencies(side: int, count: int) -> Tensor:
    """The first ``count`` (or all 3 side²) patterns in the order of expected amplitude: orthonormal rows over
    3 x side x side pixels, float64."""
    k, x = torch.arange(side, dtype=torch.float64), torch.arange(side, dtype=torch.float64) + 0.5
    wave = torch.cos(math.pi * k[:, None] * x / side) * math.sqrt(2 / side)
    wave[0] /= math.sqrt(2)
    colours = nn.functional.normalize(torch.tensor(COLOURS, dtype=torch.float64), dim=1)
    patterns = torch.einsum("kc,uy,vx->kuvcyx", colours, wave, wave).reshape(3 * side**2, -1)
    return patterns[_order(side)[:count]]


def _amplitudes(side: int) -> Tensor:
    """Expected amplitude of each pattern (colour, row frequency, column frequency), flattened."""
    k = torch.arange(side, dtype=torch.float64)
    return (torch.tensor(AMPLITUDES)[:, None, None] / (0.5 + torch.hypot(k[:, None], k))).flatten()


def _order(side: int) -> Tensor:
    return torch.sort(_amplitudes(side), descending=True, stable=True).indices


def _scales(side: int, count: int) -> Tensor:
    """What makes coefficients of patches of this side unit variance, about: their deviation grows with the side."""
    return (1 / (side * CONTRAST * _amplitudes(side)[_order(side)[:count]])).float()


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
