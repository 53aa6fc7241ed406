"""What is sewn on clothes of the trunk: collars, hoods, buttons, pockets, lapels, a bib."""

from __future__ import annotations

import skia

from .body import Trunk
from .character import Character
from .ink import Ink, Part, darken, make_blob, make_limb, make_polygon
from .limbs import turn_clockwise
from .outlines import add_outline, outline_trunk, round_corners

OPENINGS = {"shirt": 34.0, "jacket": 30.0, "vest": 36.0, "coat": 28.0, "cardigan": 32.0}
"""Degrees from the breastbone to the edge of an open layer."""

_BRASS = (240, 210, 110)


def decorate_top(ink: Ink, character: Character, trunk: Trunk, hem: float) -> None:
    """Buttons, pockets, bands and strings of a top; clipping them to it is the caller's."""
    colour = character.colours["top"]
    line = ink.outline_colour(colour)
    match character.top:
        case "shirt" if trunk.sees(0, 0.5):
            ink.line(trunk.trace(0, hem, 1.0), line, ink.line_width)
            _draw_buttons(ink, character, trunk, 5, (0.72, 0.48, 0.24, 0.0))
        case "polo shirt" if trunk.sees(0, 0.8):
            ink.line(trunk.trace(0, 0.66, 1.0), line, ink.line_width)
            _draw_buttons(ink, character, trunk, 4, (0.76,))
        case "sweater":
            ink.line(trunk.trace_rim(hem + 0.07), line, ink.line_width)
        case "hoodie":
            ink.line(trunk.trace_rim(hem + 0.07), line, ink.line_width)
            if trunk.sees(0, 0.2):
                pocket = ((-30, 0.34), (-48, 0.02), (48, 0.02), (30, 0.34))
                ink.line([trunk.place(*corner) for corner in pocket], line, ink.line_width)
            string = (246, 246, 246) if sum(colour) < 620 else (130, 130, 140)
            for angle in (-13, 13):
                if trunk.sees(angle, 0.8):
                    ink.line(trunk.trace(angle, 0.62, 0.95), string, 5.5)
        case "dress":
            ink.line(trunk.trace_rim(0.36), darken(colour, 0.62), 11)


def draw_collar(ink: Ink, character: Character, trunk: Trunk) -> None:
    """A shirt's collar, or a hoodie's hood where it lies on the shoulders and on the back."""
    colour = character.colours["top"]
    match character.top:
        case "shirt" | "polo shirt":
            for sign in (-1, 1):
                if trunk.sees(sign * 20, 0.95):
                    wing = ((4, 0.86), (62, 1.09), (60, 0.96), (30, 0.80))
                    ink.shape(make_polygon([trunk.place(sign * a, h) for a, h in wing]), colour)
        case "hoodie":
            for sign in (-1, 1):
                if trunk.sees(sign * 40, 0.95):
                    fold = ((2, 0.86), (40, 0.90), (80, 1.04), (70, 1.14), (30, 1.0))
                    ink.shape(round_corners([trunk.place(sign * a, h) for a, h in fold], 8.0), colour)
            if trunk.sees(180, 0.9):
                bag = (
                    (108, 1.08),
                    (92, 0.98),
                    (114, 0.82),
                    (180, 0.66),
                    (-114, 0.82),
                    (-92, 0.98),
                    (-108, 1.08),
                )
                outline = turn_clockwise([trunk.place(*corner) for corner in bag])
                ink.shape(make_blob(outline), darken(colour, 0.92), shadow=(6.0, 5.0))


def draw_bib(ink: Ink, character: Character, trunk: Trunk, top: skia.Path) -> None:
    """The waist of dungarees, their bib and straps, over the top."""
    colour = character.colours["bottom"]
    line = ink.outline_colour(colour)
    sides = outline_trunk(trunk, [-0.1, 0.0, 0.1, 0.26])
    waist, seams = skia.Path(), skia.Path()
    add_outline(waist, sides)
    for side in (*sides[:2], trunk.trace_rim(0.26)):
        seams.moveTo(*side[0])
        for point in side[1:]:
            seams.lineTo(*point)
    with ink.of(Part.BOTTOM):
        straps = skia.Path()
        for sign in (-1, 1):
            for low, high in (((38, 0.74), (46, 1.06)), ((150, 0.24), (140, 1.06))):
                if trunk.sees(sign * low[0], low[1]):
                    straps.moveTo(*trunk.place(sign * low[0], low[1]))
                    straps.lineTo(*trunk.place(sign * high[0], high[1]))
        with ink.clipped(top):
            ink.stroke(straps, line, 15 + 2 * ink.line_width)
            ink.stroke(straps, colour, 15)
        ink.stroke(seams, line, 2 * ink.line_width)
        ink.fill(waist, colour)
        if trunk.sees(-52, 0.5) or trunk.sees(52, 0.5):
            high = trunk.trace_around(0.76, 48, -48, 5)
            ink.shape(make_polygon([*trunk.trace_around(0.24, -58, 58, 5), *high]), colour)
            # The bib and the waist are one piece.
            ink.fill(
                make_polygon([*trunk.trace_around(0.12, -57, 57, 5), *trunk.trace_around(0.28, 57, -57, 5)]),
                colour,
            )
            for angle in (-38, 38):
                if trunk.sees(angle, 0.7):
                    ink.fill(make_limb([trunk.place(angle, 0.69)], [5]), _BRASS)
        if trunk.sees(0, 0.5):
            pocket = [trunk.place(*p) for p in ((-24, 0.62), (-24, 0.4), (0, 0.34), (24, 0.4), (24, 0.62))]
            ink.line([*pocket, pocket[0]], line, ink.line_width)


def decorate_layer(ink: Ink, character: Character, trunk: Trunk, hem: float) -> None:
    """Pockets, bands and buttons of a layer; clipping them to it is the caller's."""
    kind, line = character.layer, ink.outline_colour(character.colours["layer"])
    if kind == "jacket":
        ink.line(trunk.trace_rim(hem + 0.08), line, ink.line_width)
    if kind in ("jacket", "coat", "vest"):
        height = 0.16 if kind != "coat" else -0.06
        for sign in (-1, 1):
            if trunk.sees(sign * 62, height):
                slit = [trunk.place(sign * 46, height), trunk.place(sign * 74, height + 0.05)]
                ink.line(slit, line, 1.4 * ink.line_width)
    if kind in ("cardigan", "coat"):
        angle = OPENINGS[kind] + 9
        for height in (0.5, 0.3, 0.1, -0.1):
            if height > hem and trunk.sees(angle, height):
                ink.fill(make_limb([trunk.place(angle, height)], [4.5]), line)


def draw_lapels(ink: Ink, character: Character, trunk: Trunk) -> None:
    """The turned edges of a jacket, a coat or an open shirt."""
    if character.layer not in ("jacket", "coat", "shirt"):
        return
    opening = OPENINGS[character.layer]
    low = 0.52 if character.layer == "coat" else 0.74
    lapel = (
        (opening, low),
        (opening + 34, 0.86),
        (opening + 42, 1.08),
        (1.45 * opening, 1.09),
        (opening, 0.92),
    )
    for sign in (-1, 1):
        if trunk.sees(sign * opening, 0.8):
            path = make_polygon([trunk.place(sign * angle, height) for angle, height in lapel])
            ink.shape(path, character.colours["layer"])


def _draw_buttons(
    ink: Ink, character: Character, trunk: Trunk, angle: float, heights: tuple[float, ...]
) -> None:
    colour = ink.outline_colour(character.colours["top"])
    path = skia.Path()
    for height in heights:
        path.addCircle(*trunk.place(angle, height), 4.0)
    ink.fill(path, colour)
