"""The attributes of characters as numbers: what networks learn to read off pictures and captions.

An answer is the index of a value in `ATTRIBUTES`, or `NONE` where there is nothing to tell: a
character without a hat has no colour of hat, and a picture from behind does not show the eyes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from . import character as vocabulary
from .character import COLOURED, Character
from .ink import Part

if TYPE_CHECKING:
    # Processes that draw need the answers and no torch: what is done to tensors imports it itself.
    import torch

NONE = -1
"""The answer where there is none."""

_CLOTH = tuple(vocabulary.CLOTH_COLOURS)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "person": vocabulary.PERSONS,
    "build": vocabulary.BUILDS,
    "skin": tuple(vocabulary.SKINS),
    "face": vocabulary.FACES,
    "eye_colour": tuple(vocabulary.EYE_COLOURS),
    "eye_size": vocabulary.EYE_SIZES,
    "hair": vocabulary.HAIR_STYLES,
    "hair_colour": tuple(vocabulary.HAIR_COLOURS),
    "beard": vocabulary.BEARDS,
    "glasses": vocabulary.GLASSES,
    "hat": vocabulary.HATS,
    "hat_colour": _CLOTH,
    "top": vocabulary.TOPS,
    "top_colour": _CLOTH,
    "top_pattern": vocabulary.PATTERNS,
    "layer": vocabulary.LAYERS,
    "layer_colour": _CLOTH,
    "layer_pattern": vocabulary.PATTERNS,
    "bottom": vocabulary.BOTTOMS,
    "bottom_colour": tuple(dict.fromkeys((*_CLOTH, *vocabulary.JEANS_COLOURS))),
    "shoes": vocabulary.SHOES,
    "shoes_colour": _CLOTH,
    "accessory": vocabulary.ACCESSORIES,
    "accessory_colour": _CLOTH,
}
"""Attribute -> the values it can have, in the order of `Character`'s fields."""

NAMES = tuple(ATTRIBUTES)
COLOUR_KEYS = tuple(COLOURED)
"""The things that have a colour, in the order of `read_colours`."""

LEAST_SHARE = 0.0004
"""The share of a picture's pixels from which on a part can be made out: 15 pixels of 192 x 192."""

_OWNERS = {
    "hat_colour": "hat",
    "layer_colour": "layer",
    "layer_pattern": "layer",
    "accessory_colour": "accessory",
}

_FACE = (Part.EYES, Part.MOUTH, Part.GLASSES, Part.BEARD)
SHOWN_BY: dict[str, tuple[Part, ...]] = {
    "skin": (Part.SKIN,),
    "face": _FACE,
    "eye_colour": (Part.EYES,),
    "eye_size": (Part.EYES,),
    "hair": (Part.HAIR,),
    "hair_colour": (Part.HAIR,),
    "beard": _FACE,
    "glasses": _FACE,
    "hat": (Part.HAT,),
    "hat_colour": (Part.HAT,),
    "top": (Part.TOP,),
    "top_colour": (Part.TOP,),
    "top_pattern": (Part.TOP,),
    "layer": (Part.LAYER,),
    "layer_colour": (Part.LAYER,),
    "layer_pattern": (Part.LAYER,),
    "bottom": (Part.BOTTOM,),
    "bottom_colour": (Part.BOTTOM,),
    "shoes": (Part.SHOES,),
    "shoes_colour": (Part.SHOES,),
    "accessory": (Part.ACCESSORY,),
    "accessory_colour": (Part.ACCESSORY,),
}
"""Attribute -> the parts of which one shows it; others every picture shows."""

_LACK_SHOWN_BY: dict[str, tuple[str, tuple[Part, ...]]] = {
    "hair": ("bald", (Part.SKIN,)),
    "hat": ("", (*_FACE, Part.HAIR)),
    "layer": ("", (Part.TOP,)),
    "accessory": ("", (Part.TOP, Part.LAYER)),
}
"""Attribute -> the value that is a lack of the thing, and the parts of which one shows the lack."""


def answer_attributes(character: Character) -> NDArray[numpy.int64]:
    """The answers for a character, one for each of `NAMES`."""
    return numpy.array([answer_attribute(character, name) for name in NAMES])


def answer_attribute(character: Character, name: str) -> int:
    """The answer for one attribute of a character."""
    owner = _OWNERS.get(name)
    lacks = (owner is not None and not getattr(character, owner)) or (
        name == "hair_colour" and character.hair == "bald"
    )
    return NONE if lacks else ATTRIBUTES[name].index(getattr(character, name))


def read_colours(character: Character) -> NDArray[numpy.float32]:
    """The exact colours of a character's things, (9, 3), from -1 to 1."""
    colours = [character.colours[key] for key in COLOUR_KEYS]
    return numpy.array(colours, numpy.float32) / 127.5 - 1


def measure_parts(parts: torch.Tensor) -> torch.Tensor:
    """The share of each part, (n, 13), in maps of parts (n, height, width), whole numbers."""
    import torch

    return torch.stack([(parts == part).float().mean(dim=(1, 2)) for part in Part], dim=1)


def hide_unseen(answers: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The answers (n, len(NAMES)) that pictures with these shares of parts (n, 13) show; else NONE."""
    import torch

    seen = shares >= LEAST_SHARE
    shown = torch.ones_like(answers, dtype=torch.bool)
    for name, parts in SHOWN_BY.items():
        shown[:, NAMES.index(name)] = seen[:, list(parts)].any(dim=1)
    for name, (value, parts) in _LACK_SHOWN_BY.items():
        column = NAMES.index(name)
        lacks = answers[:, column] == ATTRIBUTES[name].index(value)
        shown[:, column] |= lacks & seen[:, list(parts)].any(dim=1)
    return torch.where(shown, answers, NONE)


def find_shown_colours(answers: torch.Tensor) -> torch.Tensor:
    """Which of `COLOUR_KEYS` are shown, (n, 9), where these answers (n, len(NAMES)) are."""
    return answers[:, [NAMES.index(COLOURED[key]) for key in COLOUR_KEYS]] != NONE


def tell_apart(answers: torch.Tensor) -> torch.Tensor:
    """Which two pictures show different characters, (n, n): what both show differs somewhere."""
    first, second = answers[:, None], answers[None, :]
    return ((first != second) & (first != NONE) & (second != NONE)).any(dim=2)
