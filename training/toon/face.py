"""A character's face: eyes, brows, nose, mouth and cheeks in five expressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import skia

from .character import Character
from .ink import Colour, Ink, Part, Point, darken, make_arc, make_curve, make_oval, make_polygon
from .look import Look

EYE_AROUND, EYE_HEIGHT, EYE_DISTANCE = 27, 0.04, 0.93
BEARDS_AROUND_MOUTH = ("beard", "short beard", "goatee")
_CIRCLE = [(math.cos(2 * math.pi * i / 28), math.sin(2 * math.pi * i / 28)) for i in range(28)]
_INK: Colour = (34, 22, 30)
_WHITE: Colour = (253, 253, 253)
_MOUTH: Colour = (118, 34, 44)
_LIPS: Colour = (206, 120, 108)
_TONGUE: Colour = (226, 106, 108)


@dataclass(frozen=True)
class _Mood:
    """How an expression moves a face. Heights in head radii.

    lid      how far the upper lid hangs down into the eye, as a share of the eye's half height
    slant    how much lower the lid's inner end is than its outer end, as a share of that too
    cheek    how far the lower lid is pushed up, likewise
    open     the eye's height and width over their usual ones
    brow     how far the brows are raised
    frown    how much lower the brows' inner ends are than their middle
    arch     how much the brows are bent
    """

    lid: float = 0.22
    slant: float = 0.0
    cheek: float = 0.0
    open: float = 1.0
    brow: float = 0.0
    frown: float = 0.0
    arch: float = 0.05


_MOODS = {
    "neutral": _Mood(),
    "happy": _Mood(lid=0.1, cheek=0.42, brow=0.05, arch=0.08),
    "sad": _Mood(lid=0.42, slant=-0.5, brow=0.03, frown=-0.16, arch=0.0),
    "surprised": _Mood(lid=0.0, open=1.16, brow=0.14, arch=0.1),
    "angry": _Mood(lid=0.42, slant=0.6, cheek=0.15, brow=-0.07, frown=0.17, arch=0.0),
}


def draw_face(ink: Ink, character: Character, look: Look, expression: str) -> None:
    """Draw all of a face but its beard and its glasses, as far as it is turned to the viewer."""
    mood = _MOODS[expression]
    _draw_cheeks(ink, character, look, expression)
    if character.is_old:
        _draw_wrinkles(ink, character, look)
    for side in (-1, 1):
        _draw_eye(ink, character, look, mood, side)
        _draw_brow(ink, character, look, mood, side)
    _draw_nose(ink, character, look)
    if character.beard not in BEARDS_AROUND_MOUTH:
        draw_mouth(ink, character, look, expression)


def narrow(depth: float) -> float:
    """How wide a thing on the face is seen that lies at `depth`, as a share of its width."""
    return max(0.0, depth) ** 0.6


def keep_in_sight(around: float, look: Look) -> float:
    """The place nearest to `around` that is not beyond the edge of the face."""
    seen = (around + look.yaw + 180) % 360 - 180
    return around + min(max(seen, -84), 84) - seen


def _draw_eye(ink: Ink, character: Character, look: Look, mood: _Mood, side: int) -> None:
    x, y, depth = look.place(side * EYE_AROUND, EYE_HEIGHT, EYE_DISTANCE)
    if depth < 0.14:
        return
    large = character.eye_size == "large"
    half_width = (0.19 if large else 0.135) * narrow(depth / EYE_DISTANCE) * mood.open
    half_height = (0.265 if large else 0.18) * mood.open
    inner = -side
    low_end = inner if mood.slant > 0 else -inner

    def cut(u: float, v: float) -> Point:
        """A place in the eye, in its half width and height, moved to where the lids leave it."""
        lid = mood.lid - 1 + 0.25 * u * u + 0.45 * abs(mood.slant) * (1 + low_end * u)
        under = v if v < 0 else v * (1 - mood.cheek)
        return x + u * half_width, y + max(under, min(lid, 0.3)) * half_height

    rim = [cut(u, v) for u, v in _CIRCLE]
    white = make_polygon(rim)
    size = 0.68 if large else 0.72
    if mood.open > 1:
        size *= 0.82
    gaze = 0.14 * look.aside, 0.06 - 0.12 * look.raised

    def disc(share: float, step: int = 1) -> skia.Path:
        return make_polygon(
            [cut(gaze[0] + u * size * share, gaze[1] + v * size * share) for u, v in _CIRCLE[::step]]
        )

    iris = character.colours["eyes"]
    line = ink.line_width
    with ink.of(Part.EYES):
        ink.stroke(white, _INK, 1.1 * line)
        ink.fill(white, _WHITE)
        ink.fill(disc(1.0), darken(iris, 0.55))
        ink.fill(disc(0.86), iris)
        ink.fill(disc(0.48, 2), (20, 14, 22))
        shine_x, shine_y = cut(gaze[0] - 0.26, gaze[1] - 0.3)
        ink.fill(make_oval(shine_x, shine_y, 0.2 * half_width, 0.17 * half_height), _WHITE)
        lashes = [cut(-1.0, -0.12)] + [cut(u, v) for u, v in _CIRCLE[15:28]] + [cut(1.0, -0.12)]
        ink.stroke(make_curve(lashes), _INK, max(1.9 * line, 0.055))
        if character.is_female and depth > 0.4:
            corner = cut(-inner * 0.92, -0.35)
            out = -inner * half_width
            for up, far in ((0.42, 0.42), (0.1, 0.5)):
                ink.line(
                    [corner, (corner[0] + out * far, corner[1] - half_height * up)],
                    _INK,
                    max(1.3 * line, 0.04),
                )


def _draw_brow(ink: Ink, character: Character, look: Look, mood: _Mood, side: int) -> None:
    _, _, depth = look.place(side * 27, 0.42, 0.93)
    if depth < 0.02:
        return
    base = (0.425 if character.eye_size == "large" else 0.35) + mood.brow
    points = []
    ends = [keep_in_sight(side * around, look) for around in (12, 43)]
    for share in (0.0, 0.33, 0.67, 1.0):
        around = ends[0] + (ends[1] - ends[0]) * share
        height = base - mood.frown * (0.5 - share) * 1.0 + mood.arch * (1 - (2 * share - 0.9) ** 2) - 0.03
        x, y, _ = look.place(around, height, 0.94)
        points.append((x, y))
    thickness = 0.055 + 0.035 * character.quirks[2] + (0.0 if character.is_female else 0.025)
    colour = brow_colour(character)
    with ink.of(Part.HAIR):
        ink.stroke(make_curve(points), colour, max(thickness, 1.6 * ink.line_width))


def brow_colour(character: Character) -> Colour:
    """The colour of brows: a darker shade of the hair's."""
    colour = character.colours["hair"]
    return darken(colour, 0.62 if sum(colour) > 300 else 0.75)


def _draw_nose(ink: Ink, character: Character, look: Look) -> None:
    x, y, depth = look.place(0, -0.2, 1.02)
    if depth < -0.3:
        return
    skin = character.colours["skin"]
    aside = look.aside
    with ink.of(Part.SKIN):
        half_width, half_height = 0.105, 0.085
        ink.fill(
            make_oval(x, y, half_width, half_height), (skin[0] * 0.96, skin[1] * 0.86, skin[2] * 0.84), 0.45
        )
        share = abs(aside)
        start, end = 15 - 75 * share, 165 - 45 * share
        if aside < 0:
            start, end = 180 - end, 180 - start
        arc = make_arc(x, y, half_width, half_height, start, end - start)
        ink.stroke(arc, darken(skin, 0.52), 1.05 * ink.line_width)


def _draw_cheeks(ink: Ink, character: Character, look: Look, expression: str) -> None:
    strength = 0.24 if character.is_child or character.is_female else 0.12
    if expression == "happy":
        strength += 0.1
    if expression == "angry":
        strength = 0.2
    with ink.of(Part.SKIN):
        for side in (-1, 1):
            x, y, depth = look.place(side * 38, -0.34, 0.9)
            if depth > 0.1:
                blush = make_oval(x, y, 0.17 * narrow(depth), 0.1)
                ink.fill(blush, (236, 92, 92), strength)


def _draw_wrinkles(ink: Ink, character: Character, look: Look) -> None:
    colour, width = darken(character.colours["skin"], 0.66), 0.8 * ink.line_width
    with ink.of(Part.SKIN):
        for side in (-1, 1):
            if look.place(side * 45, 0, 0.93)[2] < 0.15:
                continue
            for height, rise in ((-0.04, 0.07), (-0.1, -0.02)):
                ink.line(
                    [look.place(side * 46, height, 0.94)[:2], look.place(side * 53, height + rise, 0.94)[:2]],
                    colour,
                    width,
                )
            fold = [look.place(side * a, h, 0.93)[:2] for a, h in ((17, -0.3), (25, -0.4), (28, -0.52))]
            ink.stroke(make_curve(fold), colour, width)
            bag = [look.place(side * a, h, 0.94)[:2] for a, h in ((16, -0.24), (25, -0.3), (35, -0.26))]
            ink.stroke(make_curve(bag), colour, width)


def place_on_muzzle(look: Look, around: float, height: float) -> Point:
    """Where a place about the mouth is seen; the head is narrower there than elsewhere."""
    x, y, _ = look.place(around, height, 0.9 - 0.00024 * around * around)
    return x, y


def see_muzzle(look: Look) -> tuple[float, float]:
    """The places about the mouth, in degrees around the head, between which it is in sight."""
    places = range(-45, 46, 5)
    across = [place_on_muzzle(look, around, -0.5)[0] for around in places]
    if look.aside >= 0:
        return -45.0, float(places[across.index(max(across))])
    return float(places[across.index(min(across))]), 45.0


def draw_mouth(ink: Ink, character: Character, look: Look, expression: str) -> None:
    """Draw the mouth of an expression."""
    if look.place(0, -0.55, 0.9)[2] < -0.25:
        return
    size = 30 * (0.88 + 0.24 * character.quirks[3])

    first, last = see_muzzle(look)

    def at(around: float, rise: float) -> Point:
        """A place on the mouth: degrees around the head, height over the middle of the mouth."""
        return place_on_muzzle(look, around, -0.56 + rise)

    def trace(width: float, rise: Callable[[float], float]) -> list[Point]:
        """A line from corner (-1) to corner (1), as far as it is in sight."""
        points = []
        for step in range(-6, 7):
            around = min(max(size * width * step / 6, first), last)
            share = around / (size * width)
            points.append(at(around, rise(min(1.0, max(-1.0, share)))))
        return points

    line = max(1.25 * ink.line_width, 0.038)
    lips: Colour = (150, 48, 60) if character.is_female else _INK
    teeth: list[Point] = []
    tongue = None
    with ink.of(Part.MOUTH):
        if expression in ("neutral", "sad"):
            bend = 0.035 if expression == "neutral" else -0.11
            curve = make_curve(trace(0.62, lambda t: bend * (t * t - 0.2)))
            if character.beard in ("beard", "short beard"):
                ink.stroke(curve, _LIPS, 2.6 * line)
            ink.stroke(curve, lips, line)
            return
        if expression == "happy":
            upper = trace(1.0, lambda t: 0.07 * t * t + 0.02)
            lower = trace(1.0, lambda t: 0.09 - 0.31 * (1 - t * t))
            teeth = trace(1.0, lambda t: 0.07 * t * t + 0.02 - 0.075 * (1 - t**4))
            tongue = make_oval(*at(0.0, -0.17), 0.13 * max(0.35, look.facing), 0.07)
        elif expression == "surprised":
            upper = trace(0.42, lambda t: 0.15 * math.sqrt(1 - t * t))
            lower = trace(0.42, lambda t: -0.17 * math.sqrt(1 - t * t))
            tongue = make_oval(*at(0.0, -0.13), 0.09 * max(0.35, look.facing), 0.05)
        else:
            upper = trace(0.85, lambda t: 0.09 - 0.12 * t * t)
            teeth = lower = trace(0.85, lambda t: -0.1 - 0.06 * t * t + 0.04 * t**8)
        mouth = make_polygon(upper + lower[::-1])
        ink.stroke(mouth, lips, 2 * line)
        ink.fill(mouth, _MOUTH)
        if tongue is not None:
            with ink.clipped(mouth):
                ink.fill(tongue, _TONGUE)
        if teeth:
            ink.fill(make_polygon(upper + teeth[::-1]), _WHITE)
        if expression == "angry":
            ink.line(trace(0.85, lambda t: -0.005 - 0.09 * t * t), lips, 0.6 * line)
            for index in (4, 6, 8):
                ink.line([upper[index], lower[index]], lips, 0.6 * line)
