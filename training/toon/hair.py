"""A character's hair: caps, spikes, curls and crests on the head; what hangs is in `tresses`."""

from __future__ import annotations

from dataclasses import dataclass

import skia

from .character import FOREHEAD_HATS, Character
from .hairlines import Hairline, make_cap, see_hairline, trace_hairline
from .ink import Colour, Ink, Part, add_polygon, darken, make_arc
from .look import Look, turn_shadow
from .strands import trace_strands
from .tresses import add_curtain, draw_tresses, has_curtain, shade_strand
from .tufts import TUFTED, add_tufts


@dataclass(frozen=True)
class _Cap:
    """The hair on the skull: see `make_cap`. `closeness` mixes in the skin that shines through."""

    volume: float = 1.1
    lift: float = 0.0
    bumps: float = 0.0
    bump: float = 0.0
    closeness: float = 0.0


_CAPS = {
    "short": _Cap(1.11, 0.02),
    "side-parted": _Cap(1.13, 0.03),
    "wavy": _Cap(1.17, 0.03, 10, 0.09),
    "curly": _Cap(1.12, 0.03),
    "afro": _Cap(1.3, 0.1),
    "spiky": _Cap(1.08, 0.02),
    "mohawk": _Cap(1.035, closeness=0.5),
    "buzz-cut": _Cap(1.04, closeness=0.4),
    "bob": _Cap(1.13, 0.02),
    "pixie": _Cap(1.14, 0.03),
    "long": _Cap(1.11, 0.02),
    "long wavy": _Cap(1.17, 0.03, 8, 0.06),
    "ponytail": _Cap(1.07),
    "bun": _Cap(1.07),
    "pigtails": _Cap(1.08),
    "braids": _Cap(1.08),
}


def covers_ears(character: Character) -> bool:
    """Whether the hair lies over the ears."""
    return has_curtain(character) or character.hair == "afro"


def draw_hair_behind_body(ink: Ink, character: Character, look: Look) -> None:
    """Draw what hangs behind the body."""
    colour = character.colours["hair"]
    with ink.of(Part.HAIR):
        if has_curtain(character):
            path = skia.Path()
            add_curtain(path, character, look, far=True)
            if not path.isEmpty():
                ink.shape(path, darken(colour, 0.8))
        draw_tresses(ink, character, look, "behind the body")


def draw_hair_behind_head(ink: Ink, character: Character, look: Look) -> None:
    """Draw what stands behind the head, but over the body."""
    hat = _find_hat(character)
    with ink.of(Part.HAIR):
        if character.hair in TUFTED:
            path = skia.Path()
            add_tufts(path, character.hair, hat, look, near=False)
            if not path.isEmpty():
                ink.shape(path, darken(character.colours["hair"], 0.86))
        draw_tresses(ink, character, look, "behind the head")


def draw_hair(ink: Ink, character: Character, look: Look) -> None:
    """Draw the hair on the head and what hangs in front of the body."""
    if character.hair == "bald":
        if not character.hat:
            with ink.of(Part.SKIN):
                ink.stroke(make_arc(0, 0, 0.8, 0.8, 222, 30), (255, 255, 255), 0.09, 0.4)
        return
    cap = _CAPS[character.hair]
    colour = character.colours["hair"]
    hat = _find_hat(character)
    path = skia.Path()
    edge = see_hairline(find_hairline(character), look)
    if hat:
        outline = make_cap(edge, min(cap.volume, 1.06))
    else:
        outline = make_cap(edge, find_volume(character), lift=cap.lift, bumps=cap.bumps, bump=cap.bump)
    add_polygon(path, outline)
    if has_curtain(character):
        add_curtain(path, character, look, far=False)
    crest = character.hair == "mohawk"
    if character.hair in TUFTED and not crest:
        add_tufts(path, character.hair, hat, look, near=True)
    if cap.closeness:
        skin = character.colours["skin"]
        colour = tuple(h + (s - h) * cap.closeness for h, s in zip(colour, skin, strict=True))

    strands = trace_strands(character.hair, hat, look, mirrored=character.quirks[1] > 0.5)

    def decorate() -> None:
        ink.stroke(strands, shade_strand(colour), 0.85 * ink.line_width)
        if not hat and not cap.closeness:
            shine = make_arc(0, -cap.lift, 0.86, 0.86, 212, 34)
            shine.addPath(make_arc(0, -cap.lift, 0.86, 0.86, 256, 5))
            ink.stroke(shine, _lighten(colour), 0.085, 0.45)

    with ink.of(Part.HAIR):
        ink.shape(path, colour, shadow=turn_shadow(look), decorate=decorate)
        if crest:
            path = skia.Path()
            add_tufts(path, character.hair, hat, look, near=True)
            if not path.isEmpty():
                ink.shape(path, character.colours["hair"], shadow=turn_shadow(look))
        draw_tresses(ink, character, look, "in front")


def find_volume(character: Character) -> float:
    """How far hair on the skull reaches from the head's centre, in head radii."""
    if character.hair == "bald":
        return 1.0
    return _CAPS[character.hair].volume + 0.04 * (character.quirks[4] - 0.5)


def find_hairline(character: Character) -> Hairline:
    """The hairline of a character's hair."""
    name = character.hair
    if name in ("ponytail", "bun", "pigtails") and character.quirks[0] > 0.6:
        name = "bangs"
    rise = round(0.06 * (character.quirks[0] % 0.6) - 0.01, 2)
    return trace_hairline(name, character.quirks[1] > 0.5, rise)


def _find_hat(character: Character) -> str:
    """The hat that presses the hair down, if any."""
    return character.hat if character.hat in FOREHEAD_HATS else ""


def _lighten(colour: Colour) -> Colour:
    return tuple(value + (255 - value) * 0.55 for value in colour)
