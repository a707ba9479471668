"""What an avatar can look like: every factor, its values, how often each is drawn, and what each value implies.

An attribute is a tag of one or more values: an avatar has it when one of its values carries the tag. So the tables
below are the whole definition of the factors, the binary attributes and the class labels.

A factor records what can be seen. Where one choice hides another (no hair colour on a bald head, no eyes behind dark
glasses), the hidden factor takes its first value, "none". Apart from this the factors are independent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Choice:
    """One value of a factor.

    Attributes:
        name: as it is written in the data set's factor.
        weight: relative frequency.
        tags: the attributes that it implies.
        drawing: a part's file below ``avatar_parts`` ("" draws nothing), or a colour "#RRGGBB".
        hides: factors that cannot be seen with it.
        label: class label; values of the factor "top" only.
    """

    name: str
    weight: float
    tags: tuple[str, ...] = ()
    drawing: str = ""
    hides: tuple[str, ...] = ()
    label: str = ""


def _choices(
    *rows: tuple[str, float, str, str], hides: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[Choice, ...]:
    hides = hides or {}
    return tuple(
        Choice(name, weight, tuple(tags.split()), drawing, hides.get(name, ())) for name, weight, tags, drawing in rows
    )


# Class label -> tags of the whole group, factors that it hides, and the group's drawings with tags of their own.
TOPS: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "bald": ("bald", ("hat_colour",), {"no_hair": "", "sides": ""}),
    "short hair": (
        "short_hair",
        ("hat_colour",),
        {"caesar": "", "short_flat": "", "short_round": "", "short_waved": "tousled", "quiff": "tousled"},
    ),
    "bob": ("straight_hair ear_length_hair", ("hat_colour",), {"bob": "", "mia_wallace": "bangs"}),
    "straight hair": (
        "long_hair straight_hair",
        ("hat_colour",),
        {"straight_1": "", "long_not_too_long": "bangs", "straight_strand": "bangs"},
    ),
    "wavy hair": ("long_hair wavy_hair", ("hat_colour",), {"curvy": "bangs", "big_hair": ""}),
    "afro": ("curly_hair", ("hat_colour",), {"fro": "", "fro_band": "", "curly": ""}),
    "braids": ("braids", ("hat_colour",), {"dreads": "long_hair", "twist_long_hair": "long_hair", "cornrows": ""}),
    "shaggy hair": ("tousled ear_length_hair", ("hat_colour",), {"wild": "bangs", "mowgli": "bangs", "shaggy": ""}),
    "headscarf": ("headwear headscarf", ("hair_colour",), {"hijab": "", "turban": ""}),
    "winter hat": (
        "headwear winter_hat",
        ("hair_colour",),
        {"winter_hat_1": "ear_flaps", "winter_hat_2": "ear_flaps", "winter_hat_3": "", "winter_hat_4": ""},
    ),
    "brimmed hat": ("headwear brimmed_hat", ("hair_colour",), {"hat": ""}),
}


def _tops() -> tuple[Choice, ...]:
    tops = []
    for label, (group_tags, hides, drawings) in TOPS.items():
        folder = "top/hat" if "headwear" in group_tags else "top/hair"
        for name, tags in drawings.items():
            hidden = hides
            if name == "no_hair":
                hidden = (*hides, "hair_colour")
            elif name == "hijab":
                hidden = (*hides, "facial_hair", "facial_hair_colour")
            tops.append(
                Choice(
                    "brimmed_hat" if label == "brimmed hat" else name,
                    1 / len(drawings),
                    tuple(f"{group_tags} {tags}".split()),
                    f"{folder}/{name}",
                    hidden,
                    label,
                )
            )
    return tuple(tops)


HAIR = (
    ("none", 0, "", ""),
    ("black", 20, "black_hair", "#2C1B18"),
    ("dark brown", 10, "brown_hair", "#4A312C"),
    ("brown", 14, "brown_hair", "#724133"),
    ("auburn", 11, "red_hair", "#A55728"),
    ("red", 10, "red_hair", "#C93305"),
    ("golden", 14, "blond_hair", "#D6B370"),
    ("platinum", 8, "blond_hair", "#ECDCBF"),
    ("grey", 9, "grey_hair", "#B9B4B4"),
    ("pink", 9, "pink_hair", "#F59797"),
)
BEARD = (
    ("none", 0, "", ""),
    ("black", 30, "dark_facial_hair", "#2C1B18"),
    ("brown", 25, "dark_facial_hair", "#724133"),
    ("red", 20, "red_facial_hair", "#C93305"),
    ("golden", 15, "fair_facial_hair", "#D6B370"),
    ("grey", 10, "fair_facial_hair", "#B9B4B4"),
)
FABRIC = (
    ("black", 14, "dark", "#262E33"),
    ("navy", 12, "dark", "#25557C"),
    ("blue", 13, "blue", "#5199E4"),
    ("grey", 11, "pale", "#929598"),
    ("white", 14, "pale", "#F4F4F4"),
    ("red", 12, "red", "#E0403F"),
    ("pink", 12, "red", "#FF488E"),
    ("green", 12, "green", "#3FA468"),
    ("yellow", 10, "yellow", "#F3CE4B"),
)


def _fabric(garment: str, *shades: str) -> tuple[tuple[str, float, str, str], ...]:
    return tuple(
        (name, weight, f"{shade}_{garment}" if shade in shades else "", colour)
        for name, weight, shade, colour in FABRIC
    )


NO_BEARD_COLOUR = {"none": ("facial_hair_colour",)}
DARK_GLASSES = dict.fromkeys(("kurt", "sunglasses", "wayfarers"), ("eyes",))
CLOTHING = (
    ("crew neck", 20, "shirt", "clothes/shirt_crew_neck"),
    ("v-neck", 15, "shirt v_neck", "clothes/shirt_v_neck"),
    ("scoop neck", 12, "shirt", "clothes/shirt_scoop_neck"),
    ("hoodie", 14, "hoodie", "clothes/hoodie"),
    ("overall", 10, "overall", "clothes/overall"),
    ("collar sweater", 7, "collar", "clothes/collar_sweater"),
    ("blazer", 6, "jacket dark_clothes", "clothes/blazer_shirt"),
    ("blazer and collar", 5, "jacket collar dark_clothes", "clothes/blazer_sweater"),
    ("suit and bow tie", 4, "jacket tie dark_clothes", "clothes/bond_suit"),
    ("suit and tie", 3, "jacket tie dark_clothes", "clothes/shirt_wick"),
)
# Jackets are black or slate whatever is worn below them, of which little shows.
JACKETS = {name: ("clothing_colour",) for name, _, tags, _ in CLOTHING if "jacket" in tags.split()}

FACTORS: dict[str, tuple[Choice, ...]] = {
    "top": _tops(),
    "hair_colour": _choices(*HAIR),
    "hat_colour": _choices(("none", 0, "", ""), *_fabric("headwear", "dark", "pale", "red")),
    "facial_hair": _choices(
        ("none", 58, "", ""),
        ("light beard", 10, "facial_hair beard", "facial_hair/beard_light"),
        ("medium beard", 9, "facial_hair beard", "facial_hair/beard_medium"),
        ("full beard", 9, "facial_hair beard full_beard", "facial_hair/beard_magestic"),
        ("fancy moustache", 7, "facial_hair moustache", "facial_hair/moustache_fancy"),
        ("thick moustache", 7, "facial_hair moustache", "facial_hair/moustache_magnum"),
        hides=NO_BEARD_COLOUR,
    ),
    "facial_hair_colour": _choices(*BEARD),
    "eyewear": _choices(
        ("none", 50, "", ""),
        ("pale frame", 9, "eyeglasses", "accessories/prescription_01"),
        ("dark frame", 10, "eyeglasses", "accessories/prescription_02"),
        ("round", 10, "eyeglasses round_glasses", "accessories/round"),
        ("kurt", 5, "sunglasses white_sunglasses", "accessories/kurt"),
        ("sunglasses", 5, "sunglasses", "accessories/sunglasses"),
        ("wayfarers", 6, "sunglasses", "accessories/wayfarers"),
        ("eyepatch", 5, "eyepatch", "accessories/eyepatch"),
        hides=DARK_GLASSES,
    ),
    "clothing": _choices(*CLOTHING, hides=JACKETS),
    "clothing_colour": _choices(
        ("none", 0, "", "#60ADE6"), *_fabric("clothes", "dark", "pale", "red", "blue", "green", "yellow")
    ),
    "skin": _choices(
        ("pale", 22, "pale_skin", "#FFDBB4"),
        ("light", 22, "", "#EDB98A"),
        ("tanned", 16, "tanned_skin", "#E8985A"),
        ("brown", 14, "dark_skin", "#AE5D29"),
        ("black", 14, "dark_skin very_dark_skin", "#614335"),
        ("yellow", 12, "yellow_skin", "#F8D25C"),
    ),
    "eyes": _choices(
        ("none", 0, "", ""),
        ("open", 24, "", "eyes/default"),
        ("side", 12, "", "eyes/side"),
        ("squint", 12, "squinting", "eyes/squint"),
        ("surprised", 14, "wide_eyes", "eyes/surprised"),
        ("happy", 12, "eyes_closed", "eyes/happy"),
        ("closed", 10, "eyes_closed", "eyes/closed"),
        ("wink", 8, "winking", "eyes/wink"),
        ("hearts", 8, "heart_eyes", "eyes/heart"),
    ),
    "eyebrows": _choices(
        ("thin", 18, "", "eyebrows/default"),
        ("natural", 16, "bushy_eyebrows", "eyebrows/default_natural"),
        ("thin raised", 14, "raised_eyebrows", "eyebrows/raised_excited"),
        ("natural raised", 12, "bushy_eyebrows raised_eyebrows", "eyebrows/raised_excited_natural"),
        ("thin angry", 12, "angry_eyebrows", "eyebrows/angry"),
        ("natural angry", 10, "bushy_eyebrows angry_eyebrows", "eyebrows/angry_natural"),
        ("thin worried", 10, "worried_eyebrows", "eyebrows/sad_concerned"),
        ("unibrow", 8, "bushy_eyebrows unibrow", "eyebrows/unibrow_natural"),
    ),
    "mouth": _choices(
        ("laughing", 18, "smiling mouth_open teeth", "mouth/smile"),
        ("grinning", 12, "smiling mouth_open", "mouth/big_smile"),
        ("smiling", 14, "smiling", "mouth/twinkle"),
        ("tongue", 8, "smiling mouth_open tongue_out", "mouth/tongue"),
        ("serious", 14, "", "mouth/serious"),
        ("sad", 12, "frowning", "mouth/sad"),
        ("screaming", 10, "frowning mouth_open teeth", "mouth/scream_open"),
        ("grimace", 12, "teeth", "mouth/grimace"),
    ),
    "nose": _choices(
        ("default", 40, "", "nose/default"),
        ("small", 30, "small_nose", "nose/small"),
        ("wide", 30, "big_nose", "nose/wide"),
    ),
    "background": _choices(
        ("sky", 16, "blue_background", "#8CC6EE"),
        ("navy", 10, "blue_background dark_background", "#2D4A6E"),
        ("mint", 14, "green_background", "#A5DDB5"),
        ("forest", 10, "green_background dark_background", "#33604A"),
        ("sand", 14, "warm_background", "#EBD6AE"),
        ("coral", 14, "warm_background", "#EE8F7A"),
        ("lilac", 12, "", "#C2AEE3"),
        ("charcoal", 10, "dark_background", "#3B3D44"),
    ),
}

FACTOR_NAMES = tuple(FACTORS)
CLASSES = tuple(TOPS)
ATTRIBUTES = tuple(dict.fromkeys(tag for choices in FACTORS.values() for choice in choices for tag in choice.tags))
LABEL_OF_TOP = np.array([CLASSES.index(choice.label) for choice in FACTORS["top"]], np.int64)

# Per factor: cumulative probabilities of its values, and which attributes each value has.
_SUMS = [np.cumsum([choice.weight for choice in choices]) for choices in FACTORS.values()]
_CUMULATIVE = [sums / sums[-1] for sums in _SUMS]
_TAGS = [np.array([[tag in c.tags for tag in ATTRIBUTES] for c in choices]) for choices in FACTORS.values()]


def choose(uniform: np.ndarray) -> np.ndarray:
    """Values of all factors from uniform numbers.

    Args:
        uniform: float (n, K) in [0, 1), one column per factor.

    Returns:
        int16 (n, K), indices into ``FACTORS``; hidden factors are 0.
    """
    values = np.stack(
        [np.searchsorted(steps, uniform[:, k], side="right") for k, steps in enumerate(_CUMULATIVE)], axis=1
    ).astype(np.int16)
    drawn = values.copy()
    for k, choices in enumerate(FACTORS.values()):
        for index, choice in enumerate(choices):
            for hidden in choice.hides:
                values[drawn[:, k] == index, FACTOR_NAMES.index(hidden)] = 0
    return values


def attributes_of(values: np.ndarray) -> np.ndarray:
    """Binary attributes, uint8 (n, A), of factor values (n, K)."""
    return np.logical_or.reduce([tags[values[:, k]] for k, tags in enumerate(_TAGS)]).astype(np.uint8)
