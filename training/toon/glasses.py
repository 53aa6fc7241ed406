"""A character's glasses: frames, lenses and temples."""

from __future__ import annotations

import skia

from .character import Character
from .face import EYE_AROUND, EYE_HEIGHT, narrow
from .ink import Colour, Ink, Part, Point, make_curve
from .look import Look

_FRAMES: tuple[Colour, ...] = ((38, 34, 42), (104, 58, 34), (38, 34, 42), (150, 44, 52))
_LENSES = {"glasses": (0.27, 0.27), "round glasses": (0.285, 0.285), "sunglasses": (0.3, 0.24)}
_DARK: Colour = (40, 42, 54)


def draw_glasses(ink: Ink, character: Character, look: Look) -> None:
    """Draw the glasses that a character wears."""
    half_width, half_height = _LENSES[character.glasses]
    dark = character.glasses == "sunglasses"
    colour = _DARK if dark else _FRAMES[int(character.quirks[6] * 3.999)]
    width = max(1.35 * ink.line_width, 0.05)
    lenses, bars = skia.Path(), skia.Path()
    inner: dict[int, Point] = {}
    for side in (-1, 1):
        x, y, depth = look.place(side * EYE_AROUND, EYE_HEIGHT, 0.96)
        if depth < 0.1:
            continue
        across = half_width * narrow(depth)
        box = skia.Rect(x - across, y - half_height, x + across, y + half_height)
        if character.glasses == "round glasses":
            lenses.addOval(box)
        else:
            lenses.addRoundRect(box, 0.35 * across, 0.35 * half_height)
        inner[side] = (x - side * across, y - 0.06)
        hinge = (x + side * across, y - 0.08)
        temple = [look.place(side * around, 0.08, 1.03) for around in (62, 76, 88)]
        if temple[-1][2] > 0.0 and temple[0][2] > -0.2:
            bars.addPath(make_curve([hinge, *(point[:2] for point in temple)]))
    if not inner:
        return
    x, y, _ = look.place(0, 0.06, 0.99)
    ends = [inner.get(-1, (x, y)), inner.get(1, (x, y))]
    bars.addPath(make_curve([ends[0], ((ends[0][0] + ends[1][0] + 2 * x) / 4, y - 0.04), ends[1]]))
    with ink.of(Part.GLASSES):
        ink.stroke(bars, colour, width)
        if dark:
            ink.fill(lenses, _DARK)
            with ink.clipped(lenses):
                for side in inner:
                    x, y, depth = look.place(side * EYE_AROUND, EYE_HEIGHT, 0.96)
                    across = half_width * narrow(depth)
                    ink.line(
                        [(x - across * 0.7, y + 0.06), (x + across * 0.1, y - 0.22)],
                        (255, 255, 255),
                        0.08,
                        0.28,
                    )
        else:
            ink.fill(lenses, (235, 246, 255), 0.2)
        ink.stroke(lenses, colour, width)
