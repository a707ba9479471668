"""Small stand-ins for the data and weights of the paper's studies, in their true formats on the disk."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from vaebench.tokenizers.architecture import AutoencoderConfig
from vaebench.tokenizers.autoencoder import build_autoencoder

SIDE = 72
TEACHERS = (
    "vit_base_patch14_dinov2.lvd142m", "vit_base_patch16_224.mae", "vit_base_patch16_clip_224.openai",
    "vit_huge_patch14_gap_224.in1k_ijepa", "vit_base_patch16_siglip_256.webli", "vit_base_patch16_dinov3.lvd1689m",
)  # fmt: skip
TINY_TEACHER = "test_vit.r160_in1k"


def make_data(root: Path) -> None:
    """ImageNet, CelebA, DeepFashion and AwA2, a few images each. Attributes show as the colour of the image."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for name in ("n01440764", "n01443537", "n01484850", "n01491361"):
            for index in range(count):
                _picture(root / "imagenet" / split / name / f"{name}_{index}.JPEG", rng, rng.integers(0, 2, 3))
    _celeba(root / "celeba", rng)
    _deepfashion(root / "deepfashion", rng)
    _awa2(root / "Animals_with_Attributes2", rng)


def make_weights(root: Path) -> None:
    """Tokenizers as diffusers folders, teachers as timm's safetensors, VGG's features as torchvision's file."""
    import timm
    from torchvision.models import vgg16

    root.mkdir(parents=True)
    for seed, (name, channels, f) in enumerate((
        ("va-vae-f16d32", 32, 16), ("e2e-va-vae-f16d32", 32, 16), ("in-vae-f16d32", 32, 16), ("in-vae-f16d16", 16, 16),
        ("in-vae-f16d64", 64, 16), ("sd-vae-ft-mse", 4, 8),
    )):  # fmt: skip
        shape = AutoencoderConfig(
            block_out_channels=(16, 16), latent_channels=channels, patch_size=f // 2, layers_per_block=1,
            norm_num_groups=8, mid_attention=False,
        )  # fmt: skip
        build_autoencoder(shape, torch.Generator().manual_seed(seed)).save(root / name)
    for name in (*TEACHERS, "reference"):
        state = timm.create_model(TINY_TEACHER, pretrained=False).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, root / f"{name}.safetensors")
    features = vgg16(weights=None).features.state_dict()
    torch.save({f"features.{key}": value for key, value in features.items()}, root / "vgg16-397923af.pth")


def _picture(path: Path, rng: np.random.Generator, attributes: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = 60 + 130 * np.resize(attributes, 3)
    pixels = rng.normal(colour, 25, (SIDE, SIDE + 8, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def _values(rng: np.random.Generator, count: int) -> np.ndarray:
    """Three attributes of which each image has some."""
    return rng.integers(0, 2, (count, 3))


def _celeba(root: Path, rng: np.random.Generator) -> None:
    parts = [0] * 64 + [1] * 40 + [2] * 40
    names, values = [f"{index:06}.jpg" for index in range(1, len(parts) + 1)], _values(rng, len(parts))
    for name, value in zip(names, values, strict=True):
        _picture(root / "img_align_celeba" / name, rng, value)
    signs = [" ".join("1" if v else "-1" for v in value) for value in values]
    lines = "".join(f"{name} {sign}\n" for name, sign in zip(names, signs, strict=True))
    (root / "list_attr_celeba.txt").write_text(f"{len(names)}\nMale Smiling Young\n{lines}")
    (root / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True)))


def _deepfashion(root: Path, rng: np.random.Generator) -> None:
    parts = ["train"] * 64 + ["val"] * 40 + ["test"] * 40
    paths, values = [f"img/Dress_{i}/img_{i}.jpg" for i in range(len(parts))], _values(rng, len(parts))
    for path, value in zip(paths, values, strict=True):
        _picture(root / path, rng, value)
    categories = [f"{path} {index % 2 + 1}" for index, path in enumerate(paths)]
    files = {
        "Anno_coarse/list_attr_cloth.txt": ("attribute_name attribute_type", ["a-line 3", "maxi dress 2", "red 1"]),
        "Anno_coarse/list_attr_img.txt": (
            "image_name attribute_labels",
            [f"{p} {' '.join('1' if v else '-1' for v in value)}" for p, value in zip(paths, values, strict=True)],
        ),
        "Anno_coarse/list_category_cloth.txt": ("category_name category_type", ["Dress 3", "Tee 1"]),
        "Anno_coarse/list_category_img.txt": ("image_name category_label", categories),
        "Eval/list_eval_partition.txt": (
            "image_name evaluation_status", [f"{p} {part}" for p, part in zip(paths, parts, strict=True)],
        ),
    }  # fmt: skip
    for name, (header, lines) in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join([str(len(lines)), header, *lines, ""]))


def _awa2(root: Path, rng: np.random.Generator) -> None:
    names = ("antelope", "bat", "cow", "dolphin", "elk", "fox", "gnu", "hare")
    matrix = {name: (index & 1, index >> 1 & 1, index >> 2) for index, name in enumerate(names)}
    for name, values in matrix.items():
        for index in range(50):
            _picture(root / "JPEGImages" / name / f"{name}_{index}.jpg", rng, np.array(values))
    (root / "classes.txt").write_text("".join(f"{i + 1}\t{name}\n" for i, name in enumerate(matrix)))
    (root / "predicates.txt").write_text("1\tblack\n2\tflies\n3\thooves\n")
    rows = "".join(f"{' '.join(map(str, values))}\n" for values in matrix.values())
    (root / "predicate-matrix-binary.txt").write_text(rows)
    (root / "trainclasses.txt").write_text("\n".join(names[:3] + names[5:]))
    (root / "testclasses.txt").write_text("\n".join(names[3:5]))
