"""The key layout of latent diffusion's autoencoders (CompVis `AutoencoderKL`), which VA-VAE and REPA-E keep.

    encoder.conv_in, encoder.down.i.block.j.{norm1,conv1,norm2,conv2,nin_shortcut}, encoder.down.i.attn.j.{norm,q,k,v,
    proj_out}, encoder.down.i.downsample.conv, encoder.mid.{block_1,attn_1,block_2}, encoder.norm_out, encoder.conv_out,
    quant_conv, post_quant_conv, and decoder.up.i likewise, i = 0 being the highest resolution in both.

diffusers counts the decoder's blocks in the order they run, so i becomes levels - 1 - i, and its attention has linear
layers where latent diffusion has 1 x 1 convolutions. Pure functions on names, shapes and tensors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from vaebench.core.errors import DataError

# diffusers' name, latent diffusion's name; {} is the level in latent diffusion's count.
_BLOCKS = [
    (r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r"encoder.down.{}.block.\2."),
    (r"encoder\.down_blocks\.(\d+)\.attentions\.(\d+)\.", r"encoder.down.{}.attn.\2."),
    (r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.conv\.", r"encoder.down.{}.downsample.conv."),
    (r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.", r"decoder.up.{}.block.\2."),
    (r"decoder\.up_blocks\.(\d+)\.attentions\.(\d+)\.", r"decoder.up.{}.attn.\2."),
    (r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.conv\.", r"decoder.up.{}.upsample.conv."),
]
_PARTS = [
    ("mid_block.resnets.0.", "mid.block_1."),
    ("mid_block.resnets.1.", "mid.block_2."),
    ("mid_block.attentions.0.", "mid.attn_1."),
    ("conv_norm_out.", "norm_out."),
    ("conv_shortcut.", "nin_shortcut."),
    ("group_norm.", "norm."),
    ("to_q.", "q."),
    ("to_k.", "k."),
    ("to_v.", "v."),
    ("to_out.0.", "proj_out."),
]
# What training keeps beside the autoencoder: discriminator and LPIPS, VA-VAE's teacher and projection, Lightning's EMA.
TRAINING_ONLY = ("loss.", "discriminator.", "foundation_model.", "linear_proj.", "model_ema.")
SHOWN = 8


def ldm_name(key: str, levels: int) -> str:
    """Latent diffusion's name of diffusers' parameter `key` in an autoencoder of this many resolutions.

    >>> ldm_name("decoder.up_blocks.0.resnets.2.conv_shortcut.weight", 4)
    'decoder.up.3.block.2.nin_shortcut.weight'
    """
    for pattern, name in _BLOCKS:
        match = re.match(pattern, key)
        if match:
            level = int(match[1]) if key.startswith("encoder.") else levels - 1 - int(match[1])
            key = match.expand(name.format(level)) + key[match.end() :]
            break
    for theirs, ours in _PARTS:
        key = key.replace(theirs, ours)
    return key


def autoencoder_tensors(
    state: Mapping[str, Tensor], source: str, leave_out: tuple[str, ...] = ()
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the autoencoder without the prefix they may have in a larger model, and the names left out.

    Left out is what belongs to another model (beside a prefix such as "first_stage_model."), `TRAINING_ONLY`, and what
    begins with `leave_out`. Anything else must fit: a misspelt part must not be lost in silence.

    Raises:
        DataError: no autoencoder of this layout among them, or several.
    """
    ending = "encoder.conv_in.weight"
    prefixes = [key.removesuffix(ending) for key in state if key == ending or key.endswith("." + ending)]
    diffusers_layout = any("down_blocks." in key for key in state)
    if len(prefixes) != 1 or diffusers_layout:
        what = f"several autoencoders ({', '.join(prefixes)})" if len(prefixes) > 1 else "no autoencoder"
        raise DataError(
            f"{source} holds {'one in the layout of diffusers' if diffusers_layout else what}, not one in the layout "
            f"of latent diffusion; its keys are such as {', '.join(sorted(state)[:4])}.",
            "Put the file as diffusion_pytorch_model.safetensors into a folder with its config.json, and load that."
            if diffusers_layout
            else "Save the state dictionary of the autoencoder alone.",
        )
    prefix = prefixes[0]
    other = tuple(prefix + name for name in (*TRAINING_ONLY, *leave_out))
    own = [key for key in state if key.startswith(prefix) and not key.startswith(other)]
    return {key.removeprefix(prefix): state[key] for key in own}, sorted(set(state) - set(own))


def infer_config(state: Mapping[str, Tensor], norm_groups: int = 32) -> dict[str, Any]:
    """The arguments of diffusers' AutoencoderKL by the shapes of an autoencoder in latent diffusion's layout.

    The number of groups of the normalisation leaves no trace in the shapes; latent diffusion always has 32.

    Raises:
        DataError: a tensor that the architecture is read from is not there, or its encoder gives no mean and variance.
    """
    levels = 1 + max((int(m[1]) for key in state if (m := re.match(r"encoder\.down\.(\d+)\.", key))), default=-1)
    needed = ["encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight"]
    needed += [f"encoder.down.{i}.block.0.conv1.weight" for i in range(max(levels, 1))]
    absent = [key for key in needed if key not in state]
    if absent:
        raise DataError(
            f"The architecture cannot be read from the weights, because {', '.join(absent[:SHOWN])} are not there.",
            "Take the whole checkpoint, with encoder and decoder, in latent diffusion's layout.",
        )
    channels = tuple(state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels))
    latent = state["decoder.conv_in.weight"].shape[1]
    if state["encoder.conv_out.weight"].shape[0] != 2 * latent:
        raise DataError(
            f"The encoder gives {state['encoder.conv_out.weight'].shape[0]} channels and the decoder takes {latent}: a "
            "posterior has twice as many (mean and variance).",
            "Only KL autoencoders are converted; wrap another kind in a Tokenizer class of your own.",
        )
    odd = [c for c in channels if c % norm_groups]
    if odd:
        raise DataError(
            f"Blocks of {', '.join(map(str, odd))} channels do not divide into {norm_groups} groups.",
            "Give the number of groups of its GroupNorm as norm_groups.",
        )
    attends = [any(key.startswith(f"encoder.down.{i}.attn.") for key in state) for i in range(levels)]
    return {
        "in_channels": state["encoder.conv_in.weight"].shape[1],
        "out_channels": state["decoder.conv_out.weight"].shape[0],
        "down_block_types": tuple("AttnDownEncoderBlock2D" if a else "DownEncoderBlock2D" for a in attends),
        "up_block_types": tuple("AttnUpDecoderBlock2D" if a else "UpDecoderBlock2D" for a in reversed(attends)),
        "block_out_channels": channels,
        "layers_per_block": len({m[1] for key in state if (m := re.match(r"encoder\.down\.0\.block\.(\d+)\.", key))}),
        "latent_channels": latent,
        "norm_num_groups": norm_groups,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in state,
        "use_quant_conv": "quant_conv.weight" in state,
        "use_post_quant_conv": "post_quant_conv.weight" in state,
        "sample_size": 256,
        "scaling_factor": 1.0,
    }


def to_diffusers(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> AutoencoderKL:
    """diffusers' AutoencoderKL of this config with these weights in latent diffusion's layout, in float32.

    Raises:
        DataError: a tensor is missing, unexpected, of another shape, or holds more than float32 can; all are listed.
    """
    with torch.device("meta"):
        autoencoder = AutoencoderKL(**config)
    levels = len(config["block_out_channels"])
    expected = {ldm_name(key, levels): (key, tensor.shape) for key, tensor in autoencoder.state_dict().items()}
    problems = _difference(state, {name: tuple(shape) for name, (_, shape) in expected.items()})
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        blocks = ", ".join(map(str, config["block_out_channels"]))
        raise DataError(
            f"The weights of {source} do not fit the autoencoder that their shapes suggest (blocks of {blocks} "
            f"channels, {config['layers_per_block']} layers each, d={config['latent_channels']}):\n  "
            + "\n  ".join(problems[:SHOWN])
            + more
            + "\n",
            "Nothing was converted. Tensors that only training needs can be left out by the beginning of their names "
            "(--leave-out).",
        )
    tensors = {key: _lossless(name, state[name]).reshape(shape) for name, (key, shape) in expected.items()}
    autoencoder.load_state_dict(tensors, strict=True, assign=True)
    return autoencoder.eval()


def _difference(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One line for every tensor that does not fit, with the nearest name among those left over on the other side."""
    missing, unexpected = [k for k in expected if k not in state], [k for k in state if k not in expected]

    def nearest(name: str, others: list[str]) -> str:
        near = difflib.get_close_matches(name, others, n=1, cutoff=0.8)
        return f" (nearest: {near[0]})" if near else ""

    lines = [f"missing     {name}{nearest(name, unexpected)}" for name in missing]
    lines += [f"unexpected  {name} {tuple(state[name].shape)}{nearest(name, missing)}" for name in unexpected]
    for name, shape in expected.items():
        if name not in state:
            continue
        given = tuple(state[name].shape)
        if given not in (shape, (*shape, 1, 1) if len(shape) == 2 else shape):
            lines.append(f"shape       {name} is {given}, expected {shape}")
    return lines


def _lossless(name: str, tensor: Tensor) -> Tensor:
    """The tensor in float32.

    Raises:
        DataError: some values are not the same in float32.
    """
    single = tensor.to(torch.float32)
    if tensor.dtype != torch.float32 and not torch.equal(single.to(tensor.dtype), tensor):
        raise DataError(
            f"'{name}' is {tensor.dtype} and holds values that float32 cannot.", "Save the checkpoint in float32."
        )
    return single.contiguous()
