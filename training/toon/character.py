"""Who is drawn: the attributes of a character, how one is made up and how one is changed.

A character is data. How it looks is the drawing's business, how it is told the captions'.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

Colour = tuple[float, float, float]

PERSONS = ("young man", "young woman", "boy", "girl", "man", "woman", "old man", "old woman")
BUILDS = ("average", "slim", "round", "broad")
FACES = ("round", "oval", "square")
EYE_SIZES = ("large", "small")

SKINS: dict[str, Colour] = {
    "light": (252, 220, 194),
    "fair": (245, 205, 175),
    "tan": (222, 170, 124),
    "brown": (160, 106, 72),
    "dark": (104, 68, 48),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (42, 38, 46),
    "dark brown": (78, 50, 38),
    "brown": (128, 80, 48),
    "blonde": (238, 198, 100),
    "red": (192, 84, 44),
    "grey": (158, 158, 164),
    "white": (232, 232, 234),
    "blue": (74, 124, 214),
    "pink": (240, 134, 178),
    "green": (92, 168, 96),
}
EYE_COLOURS: dict[str, Colour] = {
    "brown": (110, 64, 30),
    "blue": (66, 132, 214),
    "green": (70, 150, 84),
    "grey": (120, 132, 146),
}
CLOTH_COLOURS: dict[str, Colour] = {
    "white": (246, 246, 246),
    "black": (48, 48, 54),
    "grey": (150, 152, 158),
    "red": (206, 52, 50),
    "orange": (238, 140, 48),
    "yellow": (246, 208, 72),
    "green": (76, 156, 80),
    "teal": (50, 160, 160),
    "blue": (62, 110, 206),
    "navy": (40, 52, 104),
    "purple": (130, 74, 176),
    "pink": (240, 148, 178),
    "brown": (120, 76, 46),
    "beige": (222, 200, 164),
}
JEANS_COLOURS: dict[str, Colour] = {
    "blue": (72, 112, 176),
    "dark blue": (46, 66, 112),
    "light blue": (136, 176, 216),
    "black": (54, 54, 62),
}

HAIR_STYLES = (
    "short", "side-parted", "wavy", "curly", "afro", "spiky", "mohawk", "buzz-cut", "bald",
    "bob", "pixie", "long", "long wavy", "ponytail", "bun", "pigtails", "braids",
)  # fmt: skip
BEARDS = ("", "beard", "short beard", "moustache", "goatee")
GLASSES = ("", "glasses", "round glasses", "sunglasses")
HATS = ("", "beanie", "cap", "straw hat", "headband", "top hat")
TOPS = ("t-shirt", "shirt", "polo shirt", "sweater", "turtleneck", "hoodie", "tank top", "dress")
LAYERS = ("", "shirt", "jacket", "vest", "coat", "cardigan")
"""What is worn open over the top; an open "shirt" in plaid is the "plaid shirt" of captions."""
BOTTOMS = ("jeans", "trousers", "shorts", "skirt", "long skirt", "leggings", "dungarees")
SHOES = ("sneakers", "boots", "shoes", "sandals")
ACCESSORIES = ("", "scarf", "tie", "backpack", "bow tie")
PATTERNS = ("plain", "striped", "plaid", "polka-dot")

EXPRESSIONS = ("neutral", "happy", "sad", "surprised", "angry")
"""What a face shows: it belongs to a picture, not to a character."""

FOREHEAD_HATS = ("beanie", "cap", "straw hat", "top hat")
_BULKY_HAIR = ("afro", "mohawk", "bun", "spiky")


@dataclass(frozen=True, kw_only=True)
class Character:
    """Everything that stays the same from picture to picture.

    `colours` has the exact RGB of each thing that has a colour (a jittered form of the named
    one): skin, hair, eyes, hat, top, layer, bottom, shoes, accessory. `quirks` are numbers from
    0 to 1 that drawings may read for what has no name: how a fringe falls, how thick brows are.
    """

    person: str
    build: str
    skin: str
    face: str
    eye_colour: str
    eye_size: str
    hair: str
    hair_colour: str
    beard: str
    glasses: str
    hat: str
    hat_colour: str
    top: str
    top_colour: str
    top_pattern: str
    layer: str
    layer_colour: str
    layer_pattern: str
    bottom: str
    bottom_colour: str
    shoes: str
    shoes_colour: str
    accessory: str
    accessory_colour: str
    colours: dict[str, Colour]
    quirks: tuple[float, ...]

    @property
    def is_child(self) -> bool:
        return self.person in ("boy", "girl")

    @property
    def is_old(self) -> bool:
        return self.person.startswith("old")

    @property
    def is_female(self) -> bool:
        return self.person.endswith("woman") or self.person == "girl"

    @property
    def wears_skirt(self) -> bool:
        """Whether the legs come out of one garment."""
        return self.top == "dress" or self.bottom in ("skirt", "long skirt")


COLOURED = {
    "skin": "skin",
    "hair": "hair_colour",
    "eyes": "eye_colour",
    "hat": "hat_colour",
    "top": "top_colour",
    "layer": "layer_colour",
    "bottom": "bottom_colour",
    "shoes": "shoes_colour",
    "accessory": "accessory_colour",
}
"""The key of `Character.colours` -> the attribute that names the colour."""


def make_character(rng: random.Random) -> Character:
    """A character at random, of things that go together."""
    person = rng.choices(PERSONS, [4, 4, 2.5, 2.5, 2, 2, 1.4, 1.4])[0]
    child, old = person in ("boy", "girl"), person.startswith("old")
    female = person.endswith("woman") or person == "girl"
    hair = _choose_hair(rng, female, child)
    natural = ["grey", "white"] if old else ["black", "dark brown", "brown", "blonde", "red"]
    dyed = not old and rng.random() < 0.12
    hair_colour = rng.choice(["blue", "pink", "green"] if dyed else natural)
    beard = "" if female or child else rng.choices(BEARDS, [5, 2, 1.2, 1, 0.8])[0]
    hat = "" if hair in _BULKY_HAIR else rng.choices(HATS, [7, 1, 1, 0.7, 0.6, 0.4])[0]
    top = rng.choices(TOPS, [4, 2, 1.2, 2, 1, 2, 1, 2.2 if female else 0])[0]
    layered = top in ("t-shirt", "tank top", "shirt", "turtleneck") and rng.random() < 0.5
    layer = rng.choices(LAYERS[1:], [3, 2, 1, 1, 1])[0] if layered else ""
    if top == "shirt" and layer == "shirt":
        layer = "vest"
    bottom = rng.choices(BOTTOMS, [4, 2.5, 2, *((2, 1, 1) if female else (0, 0, 0.3)), 0.8])[0]
    if top == "dress":
        bottom = "leggings"
    top_pattern = rng.choices(PATTERNS, [6, 1.6, 0.8, 0.8])[0]
    if top == "turtleneck" or top == "tank top":
        top_pattern = rng.choices(PATTERNS, [6, 1.5, 0, 0])[0]
    layer_pattern = rng.choices(PATTERNS, [1, 0.3, 4, 0])[0] if layer == "shirt" else "plain"
    accessory = rng.choices(ACCESSORIES, [8, 1, 0.7 if top == "shirt" and not layer else 0, 0.7, 0.3])[0]
    if accessory == "bow tie" and top != "shirt":
        accessory = ""
    cloth = list(CLOTH_COLOURS)
    top_colour = rng.choice(cloth)
    made = Character(
        person=person,
        build=rng.choices(BUILDS, [5, 2, 2, 1.2])[0] if not child else rng.choices(BUILDS, [5, 2, 2, 0])[0],
        skin=rng.choice(list(SKINS)),
        face=rng.choice(FACES),
        eye_colour=rng.choice(list(EYE_COLOURS)),
        eye_size=rng.choice(EYE_SIZES),
        hair=hair,
        hair_colour=hair_colour,
        beard=beard,
        glasses=rng.choices(GLASSES, [8 if old else 16, 2, 1.5, 0.8])[0],
        hat=hat,
        hat_colour=rng.choice(cloth),
        top=top,
        top_colour=top_colour,
        top_pattern=top_pattern,
        layer=layer,
        layer_colour=rng.choice([colour for colour in cloth if colour != top_colour]),
        layer_pattern=layer_pattern,
        bottom=bottom,
        bottom_colour=rng.choice(list(_bottom_colours(bottom))),
        shoes=rng.choices(SHOES, [3, 2, 2, 0.8])[0],
        shoes_colour=rng.choice(["white", "black", "brown", "brown", "red", "blue", "grey", "green", "pink"]),
        accessory=accessory,
        accessory_colour=rng.choice([colour for colour in cloth if colour != top_colour]),
        colours={},
        quirks=tuple(round(rng.random(), 4) for _ in range(8)),
    )
    return replace(made, colours={key: jitter_colour(made, key, rng) for key in COLOURED})


def change_character(character: Character, rng: random.Random) -> tuple[Character, str]:
    """The same character with one attribute changed, and that attribute's name.

    Only what makes a visible difference is changed, and into what goes together with the rest.
    """
    while True:
        other = make_character(rng)
        name = rng.choice(_CHANGEABLE)
        changed = apply_change(character, name, getattr(other, name), rng)
        if changed is not None:
            return changed, name


def apply_change(character: Character, name: str, value: Any, rng: random.Random) -> Character | None:
    """The character with the attribute set to `value`; None where that would show no difference
    or would not go together with the rest."""
    if getattr(character, name) == value or not _goes_together(character, name, value):
        return None
    changed = replace(character, **{name: value})
    touched = [key for key, attribute in COLOURED.items() if attribute == name]
    if name == "bottom" and character.bottom_colour not in _bottom_colours(value):
        changed = replace(changed, bottom_colour=rng.choice(list(_bottom_colours(value))))
        touched = ["bottom"]
    elif name == "bottom":
        touched = ["bottom"]
    elif name == "layer":
        changed = replace(changed, layer_pattern="plaid" if value == "shirt" else "plain")
    if touched:
        fresh = {key: jitter_colour(changed, key, rng) for key in touched}
        changed = replace(changed, colours=character.colours | fresh)
    return changed


def jitter_colour(character: Character, key: str, rng: random.Random) -> Colour:
    """An RGB near the named colour of `key`."""
    name = getattr(character, COLOURED[key])
    palette = {
        "skin": SKINS,
        "hair": HAIR_COLOURS,
        "eyes": EYE_COLOURS,
        "bottom": _bottom_colours(character.bottom),
    }.get(key, CLOTH_COLOURS)
    reach = 5 if key == "skin" else 9
    red, green, blue = (min(255.0, max(0.0, value + rng.uniform(-reach, reach))) for value in palette[name])
    return (round(red), round(green), round(blue))


_CHANGEABLE = (
    "skin", "hair", "hair_colour", "beard", "glasses", "hat", "hat_colour", "top", "top_colour",
    "top_pattern", "layer", "layer_colour", "bottom", "bottom_colour", "shoes", "shoes_colour", "accessory",
)  # fmt: skip


def _goes_together(character: Character, name: str, value: str) -> bool:
    female = character.is_female
    match name:
        case "hair":
            if value in _BULKY_HAIR and character.hat:
                return False
            women = ("bob", "pixie", "ponytail", "bun", "pigtails", "braids")
            men = ("buzz-cut", "bald", "mohawk", "spiky", "side-parted")
            return value not in (men if female else women)
        case "hair_colour":
            return character.hair != "bald"
        case "beard":
            return not female and not character.is_child
        case "hat":
            return character.hair not in _BULKY_HAIR
        case "hat_colour":
            return bool(character.hat)
        case "top":
            return (value != "dress" and character.top != "dress") and not (
                character.layer and value not in ("t-shirt", "tank top", "turtleneck")
            )
        case "top_pattern":
            return character.top not in ("turtleneck", "tank top")
        case "layer":
            return character.top in ("t-shirt", "tank top", "turtleneck")
        case "layer_colour":
            return bool(character.layer) and value != character.top_colour
        case "top_colour":
            return not character.layer or value != character.layer_colour
        case "bottom":
            return character.top != "dress" and (female or value not in ("skirt", "long skirt"))
        case "bottom_colour":
            return character.top != "dress" and value in _bottom_colours(character.bottom)
        case "accessory":
            return value in ("", "scarf", "backpack") or character.top == "shirt"
    return True


def _bottom_colours(bottom: str) -> dict[str, Colour]:
    return JEANS_COLOURS if bottom in ("jeans", "dungarees") else CLOTH_COLOURS


def _choose_hair(rng: random.Random, female: bool, child: bool) -> str:
    if female:
        styles = {
            "short": 0.7, "wavy": 1, "curly": 1.4, "afro": 1, "bob": 1.8, "pixie": 1, "long": 2,
            "long wavy": 1.6, "ponytail": 2, "bun": 1.4, "pigtails": 1.2, "braids": 1.3,
        }  # fmt: skip
    else:
        styles = {
            "short": 2.4, "side-parted": 2, "wavy": 2.4, "curly": 2, "afro": 1, "spiky": 1.5, "mohawk": 0.8,
            "buzz-cut": 1.2, "bald": 0 if child else 0.9, "long": 0.8, "long wavy": 0.6,
        }  # fmt: skip
    return rng.choices(list(styles), list(styles.values()))[0]
