"""A character's head: skull, ears and neckline of the hair, put together with face, hair and hat."""

from __future__ import annotations

from .character import Character
from .ink import Ink, Part, make_oval
from .look import Look

__all__ = ["Look", "draw_head", "draw_head_behind"]


def draw_head_behind(ink: Ink, character: Character, look: Look) -> None:
    """Draw what of a head lies behind the body: long hair seen from the front."""
    if character.hair in ("long", "long wavy") and look.facing > 0:
        with ink.moved(look.x, look.y, look.roll, look.radius), ink.of(Part.HAIR):
            ink.shape(make_oval(0, 0.4, 1.15, 1.5), character.colours["hair"])


def draw_head(ink: Ink, character: Character, look: Look, expression: str) -> None:
    """Draw a head over the body, all but what `draw_head_behind` drew.

    `expression` is one of `character.EXPRESSIONS`.
    """
    with ink.moved(look.x, look.y, look.roll, look.radius):
        with ink.of(Part.HAIR):
            ink.shape(make_oval(0, -0.08, 1.08, 1.08), character.colours["hair"])
        if look.facing > -0.3:
            with ink.of(Part.SKIN):
                ink.fill(make_oval(0.3 * look.aside, 0.2, 0.9, 0.8), character.colours["skin"])
        with ink.of(Part.EYES):
            for around in (-27, 27):
                x, y, depth = look.place(around, 0.04, 0.93)
                if depth > 0.1:
                    ink.fill(make_oval(x, y, 0.2 * depth, 0.25), (255, 255, 255))
                    ink.fill(make_oval(x, y, 0.12 * depth, 0.15), character.colours["eyes"])
