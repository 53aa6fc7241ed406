"""A character's hat: beanie, cap, straw hat, top hat, headband."""

from __future__ import annotations

import math

import numpy as np
import skia

from .character import Character
from .hair import find_volume
from .hairlines import find_hat_line, make_cap, see_hairline
from .ink import Colour, Ink, Part, Point, add_polygon, darken, make_curve, make_oval, make_polygon
from .look import Look, turn_shadow

_VISOR = 0.07
"""The thickness of a cap's visor, in head radii."""


def draw_hat_behind(ink: Ink, character: Character, look: Look) -> None:
    """Draw what of a hat lies behind the head: the visor of a cap that is seen from the back."""
    if character.hat == "cap" and look.facing < 0:
        with ink.of(Part.HAT):
            _draw_visor(ink, character.colours["hat"], look)


def draw_hat(ink: Ink, character: Character, look: Look) -> None:
    """Draw the hat that a character wears, if any."""
    colour = character.colours["hat"]
    with ink.of(Part.HAT):
        match character.hat:
            case "beanie":
                _draw_beanie(ink, character, look, colour)
            case "cap":
                _draw_cap(ink, character, look, colour)
            case "straw hat":
                _draw_brimmed(ink, look, colour, brim=1.72, height=1.3, taper=0.78, straw=True)
            case "top hat":
                _draw_brimmed(ink, look, colour, brim=1.3, height=1.72, taper=1.03, straw=False)
            case "headband":
                _draw_headband(ink, character, look, colour)


def _band(hat: str, look: Look, low: float, high: float, distance: float) -> list[Point]:
    lower = see_hairline(find_hat_line(hat, low), look, distance)
    upper = see_hairline(find_hat_line(hat, high), look, distance)
    return [*lower, *reversed(upper)]


def _draw_beanie(ink: Ink, character: Character, look: Look, colour: Colour) -> None:
    shadow = turn_shadow(look)
    if character.quirks[6] > 0.5:
        x, y, _ = look.place(0, 1.36, 0.0)
        ink.shape(make_oval(x, y, 0.24, 0.22), darken(colour, 0.9), shadow=shadow)
    dome = make_cap(see_hairline(find_hat_line("beanie", 0.1), look, 1.08), 1.13, lift=0.12, rim=0.1)
    ribs = skia.Path()
    for around in range(-180, 180, 30):
        rib = [look.place(around, h, d) for h, d in ((0.3, 1.08), (0.8, 0.88), (1.16, 0.35))]
        if min(point[2] for point in rib) > -0.05 and rib[0][2] > 0.15:
            ribs.addPath(make_curve([point[:2] for point in rib]))
    ink.shape(
        make_polygon(dome),
        colour,
        shadow=shadow,
        decorate=lambda: ink.stroke(ribs, darken(colour, 0.82), 0.8 * ink.line_width),
    )
    band = make_polygon(_band("beanie", look, -0.02, 0.25, 1.125))
    folds = skia.Path()
    line = find_hat_line("beanie")
    for around in range(-180, 180, 15):
        height = float(np.interp(around, *line))
        low, high = look.place(around, height, 1.11), look.place(around, height + 0.22, 1.07)
        if low[2] > 0.1:
            folds.moveTo(*low[:2])
            folds.lineTo(*high[:2])
    ink.shape(
        band,
        darken(colour, 0.92),
        shadow=shadow,
        decorate=lambda: ink.stroke(folds, darken(colour, 0.7), 0.8 * ink.line_width),
    )


def _draw_cap(ink: Ink, character: Character, look: Look, colour: Colour) -> None:
    dome = make_cap(see_hairline(find_hat_line("cap"), look, 1.1), 1.14, lift=0.08, rim=0.1)
    seams = skia.Path()
    for around in (-150, -90, -30, 30, 90, 150):
        seam = [look.place(around, h, d) for h, d in ((0.25, 1.1), (0.8, 0.85), (1.2, 0.1))]
        if seam[0][2] > 0.0:
            seams.addPath(make_curve([point[:2] for point in seam]))
    ink.shape(
        make_polygon(dome),
        colour,
        shadow=turn_shadow(look),
        decorate=lambda: ink.stroke(seams, darken(colour, 0.75), 0.8 * ink.line_width),
    )
    x, y, _ = look.place(0, 1.22, 0.0)
    ink.shape(make_oval(x, y, 0.08, 0.05), colour)
    x, y, depth = look.place(180, 0.16, 1.08)
    if depth > 0.3 and character.hair != "bald":
        with ink.of(Part.HAIR):
            gap = make_oval(x, y, 0.3 * depth, 0.14)
            ink.shape(gap, darken(character.colours["hair"], 0.9))
    if look.facing >= 0:
        _draw_visor(ink, colour, look)


def _draw_visor(ink: Ink, colour: Colour, look: Look) -> None:
    line = find_hat_line("cap")
    inner, outer = [], []
    for step in range(-12, 13):
        share = step / 12
        height = float(np.interp(56 * share, *line))
        reach = math.cos(math.radians(90 * share)) ** 0.7
        inner.append(look.place(56 * share, height + 0.05 * reach, 1.04)[:2])
        sag = (0.17 + 0.25 * share * share) * reach
        outer.append(look.place((56 - 14 * reach) * share, height - sag, 1.06 + 0.58 * reach)[:2])
    path, shade = skia.Path(), darken(colour, 0.85)
    add_polygon(path, inner[:13] + outer[12::-1])
    add_polygon(path, inner[12:] + outer[:11:-1])
    # A visor is seen from its side as well: it has a thickness.
    ink.stroke(path, ink.outline_colour(shade), 2 * ink.line_width + _VISOR)
    ink.stroke(path, shade, _VISOR)
    ink.fill(path, shade)


def _draw_brimmed(
    ink: Ink, look: Look, colour: Colour, *, brim: float, height: float, taper: float, straw: bool
) -> None:
    """A hat with a flat brim around: heights and widths in head radii, `taper` the width of its
    top over that of its foot."""
    shadow = turn_shadow(look)
    x, y, _ = look.place(0, 0.66, 0.0)
    tilt = -look.nod * look.aside
    depth = min(0.3, max(0.1, 0.13 - 0.3 * look.raised * look.facing))
    foot = 0.86
    with ink.moved(x, y, tilt):
        rim = make_oval(0, 0, brim, brim * depth)
        rings = skia.Path()
        if straw:
            for share in (0.72, 0.86):
                rings.addOval(
                    skia.Rect(-brim * share, -brim * depth * share, brim * share, brim * depth * share)
                )
        ink.shape(
            rim,
            colour,
            shadow=(shadow[0], 0.05),
            decorate=lambda: ink.stroke(rings, darken(colour, 0.82), 0.8 * ink.line_width),
        )
        top = -(height - 0.66)
        head = foot * taper
        crown = skia.Path()
        crown.moveTo(-foot, 0)
        if straw:
            crown.cubicTo(-head, top * 0.6, -head, top, -head * 0.45, top)
            crown.quadTo(0, top + 0.07, head * 0.45, top)
            crown.cubicTo(head, top, head, top * 0.6, foot, 0)
        else:
            crown.lineTo(-head, top)
            crown.quadTo(0, top - 0.14, head, top)
            crown.lineTo(foot, 0)
        crown.quadTo(0, foot * depth * 2, -foot, 0)
        crown.close()
        ribbon = skia.Path()
        low, high = foot * depth, foot * depth - 0.22
        add_polygon(ribbon, _arch(foot * 1.1, low + 0.02, 0.0) + _arch(foot * 1.1, high, -0.24)[::-1])
        band = (172, 52, 48) if straw else ((120, 44, 60) if sum(colour) < 240 else darken(colour, 0.5))
        ink.shape(crown, colour, shadow=shadow, decorate=lambda: ink.fill(ribbon, band))


def _arch(half_width: float, middle: float, ends: float) -> list[Point]:
    """Points of a flat arch from left to right."""
    return [(half_width * t / 8, middle + (ends - middle) * (t / 8) ** 2) for t in range(-8, 9)]


def _draw_headband(ink: Ink, character: Character, look: Look, colour: Colour) -> None:
    distance = find_volume(character) + 0.015
    band = make_polygon(_band("headband", look, 0.0, 0.2, distance))
    ink.shape(band, colour, shadow=turn_shadow(look))
