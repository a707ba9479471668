"""Teachers by short names: which timm model each one is, and how it is fed.

Every teacher has the input size at which an image gives 16 x 16 patches, the latent grid of f16 at 256 pixels: 224 for
patches of 14, 256 for patches of 16 (REPA's choice too). Another grid is resampled by the method that uses it.
Resize and normalisation are the model's own. Importing this module loads nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Teacher:
    """A row of the table.

    Attributes:
        model: timm's name; its weights are ``timm/<model>`` on the Hugging Face hub.
        input_size: side in pixels.
        summary: one line.
        normalise, resample, antialias: options of `TimmConfig` where they are not its defaults.
    """

    model: str
    input_size: int
    summary: str
    normalise: str = "model"
    resample: str = "bicubic"
    antialias: bool = True


_SIZES = {"s": "small", "b": "base", "l": "large"}

TEACHERS: dict[str, Teacher] = {
    "dinov2": Teacher("vit_large_patch14_dinov2.lvd142m", 224, "class token of DINOv2 ViT-L/14, of FD-DINOv2"),
    **{
        f"dinov2-{key}": Teacher(f"vit_{size}_patch14_dinov2.lvd142m", 224, f"DINOv2 ViT-{key.upper()}/14")
        for key, size in _SIZES.items()
    },
    **{
        f"dinov2-{key}-reg": Teacher(
            f"vit_{size}_patch14_reg4_dinov2.lvd142m", 224, f"DINOv2 ViT-{key.upper()}/14 with registers"
        )
        for key, size in _SIZES.items()
    },
    "dinov2-l-va-vae": Teacher(
        "vit_large_patch14_dinov2.lvd142m",
        224,
        "DINOv2 ViT-L/14 as VA-VAE feeds it: bilinear, not antialiased, [-1, 1] without ImageNet's mean and deviation",
        normalise="half",
        resample="bilinear",
        antialias=False,
    ),
    **{
        f"dinov3-{key}": Teacher(f"vit_{size}_patch16_dinov3.lvd1689m", 256, f"DINOv3 ViT-{key.upper()}/16")
        for key, size in _SIZES.items()
    },
    "siglip-b": Teacher("vit_base_patch16_siglip_256.webli", 256, "SigLIP ViT-B/16"),
    "siglip-l": Teacher("vit_large_patch16_siglip_256.webli", 256, "SigLIP ViT-L/16"),
    "siglip2-b": Teacher("vit_base_patch16_siglip_256.v2_webli", 256, "SigLIP 2 ViT-B/16"),
    "siglip2-l": Teacher("vit_large_patch16_siglip_256.v2_webli", 256, "SigLIP 2 ViT-L/16"),
    # OpenAI trained with the fast GELU; timm's names without "quickgelu" run the same weights with the exact one.
    "clip-b": Teacher("vit_base_patch16_clip_quickgelu_224.openai", 256, "OpenAI's CLIP ViT-B/16"),
    "clip-l": Teacher("vit_large_patch14_clip_quickgelu_224.openai", 224, "OpenAI's CLIP ViT-L/14"),
    "mae-b": Teacher("vit_base_patch16_224.mae", 256, "MAE ViT-B/16"),
    "mae-l": Teacher("vit_large_patch16_224.mae", 256, "MAE ViT-L/16"),
    "mae-h": Teacher("vit_huge_patch14_224.mae", 224, "MAE ViT-H/14"),
    "i-jepa-h": Teacher("vit_huge_patch14_gap_224.in1k_ijepa", 224, "I-JEPA ViT-H/14, ImageNet-1k"),
}
