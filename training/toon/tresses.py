"""Hair that hangs: curtains of long hair, ponytails, pigtails, braids and buns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import skia

from .character import FOREHEAD_HATS, Character
from .ink import Colour, Ink, Point, add_polygon, darken, make_limb, make_oval
from .look import Look, turn_shadow

Where = Literal["behind the body", "behind the head", "in front"]


@dataclass(frozen=True)
class _Curtain:
    """Hair that hangs around the head from one place around it to the other.

    start     degrees from the nose where it begins
    bottom    the height where it ends
    top_at    its distance from the head's axis at the top, `bottom_at` at its end, and `swell` more
              between them
    waves     how many waves its edges have, of `wave` head radii
    locks     how many degrees wide the locks at its end are, `lock` head radii long
    """

    start: float
    bottom: float
    top_at: float
    bottom_at: float
    swell: float = 0.0
    waves: float = 0.0
    wave: float = 0.0
    locks: float = 30.0
    lock: float = 0.08


_CURTAINS = {
    "wavy": _Curtain(76, -0.52, 1.1, 1.02, swell=0.16, waves=1.5, wave=0.05, locks=26, lock=0.14),
    "bob": _Curtain(68, -0.84, 1.1, 1.0, swell=0.14, locks=45, lock=0.05),
    "long": _Curtain(66, -1.85, 1.08, 1.12, swell=0.05, locks=24, lock=0.12),
    "long wavy": _Curtain(68, -1.7, 1.14, 1.25, swell=0.1, waves=2.5, wave=0.075, locks=30, lock=0.16),
}
_TOP = 0.3
_FORWARD = 14.0
"""Degrees by which the ends of hair lie nearer to the face than where it begins."""


def shade_strand(colour: Colour) -> Colour:
    """The colour of lines in hair: darker than the hair, or lighter than black."""
    if sum(colour) < 240:
        return tuple(value + 42 for value in colour)
    return darken(colour, 0.7)


def has_curtain(character: Character) -> bool:
    """Whether hair hangs all around the head but the face."""
    return character.hair in _CURTAINS


def add_curtain(path: skia.Path, character: Character, look: Look, *, far: bool) -> None:
    """Add to a path what hangs on the side of the head that is turned to the viewer, or on the
    `far` one."""
    curtain = _CURTAINS[character.hair]
    middle = (180 + look.yaw + 180) % 360 - 180
    half = 180 - curtain.start
    for shift in (-360, 0, 360):
        if far:
            first, last = max(middle - half + shift, 90.0), min(middle + half + shift, 270.0)
        else:
            first, last = max(middle - half + shift, -90.0), min(middle + half + shift, 90.0)
        if last - first > 1:
            add_polygon(path, _trace_curtain(curtain, character, look, first, last))


def _trace_curtain(
    curtain: _Curtain, character: Character, look: Look, first: float, last: float
) -> list[Point]:
    length = 1 + 0.16 * (character.quirks[5] - 0.5)
    top = 0.0 if character.hat in FOREHEAD_HATS else _TOP
    bottom = top + (curtain.bottom - top) * length
    count = max(4, round((last - first) / 4) + 1)
    # Beside the face the hair falls forward, towards the shoulders.
    forward_first = 0.0 if first in (-90.0, 90.0) else _FORWARD
    forward_last = 0.0 if last in (90.0, 270.0) else _FORWARD
    seen = np.linspace(first - forward_first, last + forward_last, count)
    around = seen - look.yaw
    lobes = np.abs(np.sin(np.radians(around) * 180 / curtain.locks / 2))
    # Straight hair ends in points, waves in round locks.
    ends = lobes if curtain.waves else 1 - lobes
    pieces = 17 if curtain.waves else 9
    steps = np.linspace(0, 1, pieces)
    all_seen = np.concatenate(
        (seen, last + forward_last * steps[::-1] ** 1.5, first - forward_first * steps**1.5)
    )
    share = np.concatenate((np.ones(count), steps[::-1], steps))
    lowest = np.concatenate(
        (
            bottom - curtain.lock * ends,
            np.full(pieces, bottom - curtain.lock * ends[-1]),
            np.full(pieces, bottom - curtain.lock * ends[0]),
        )
    )
    from_axis = (
        curtain.top_at + (curtain.bottom_at - curtain.top_at) * share + curtain.swell * np.sin(np.pi * share)
    )
    if curtain.waves:
        from_axis = from_axis + curtain.wave * np.sin(2 * np.pi * curtain.waves * share)
    height = top + (lowest - top) * share
    angle = np.radians(all_seen)
    x, z = from_axis * np.sin(angle), from_axis * np.cos(angle)
    if curtain.waves:
        # An edge beside the face waves as the edge of the silhouette does.
        right = 1.0 if first < 90 else -1.0
        edge = curtain.wave * np.sin(2 * np.pi * curtain.waves * share)
        side = np.concatenate((np.sin(angle[:count]), np.full(pieces, right), np.full(pieces, -right)))
        x = x + edge * (side - np.sin(angle))
    nodded = look.raised * z * np.clip(1 - share, 0.25, 1)
    hang = math.radians(30 * math.sin(math.radians(look.roll)))
    fall = np.maximum(0.0, -height)
    x = x + fall * math.sin(hang)
    return list(zip(x.tolist(), (-height - nodded).tolist(), strict=True))


@dataclass(frozen=True)
class _Tress:
    """A tail of hair along a spine of places on the head, with half widths."""

    spine: tuple[tuple[float, float, float], ...]
    half_widths: tuple[float, ...]
    tied_at: float = 0.0
    braided: bool = False


def _mirror(tress: _Tress) -> _Tress:
    spine = tuple((-around, height, distance) for around, height, distance in tress.spine)
    return _Tress(spine, tress.half_widths, tress.tied_at, tress.braided)


_PONYTAIL = _Tress(
    (
        (180, 0.78, 0.72),
        (178, 1.06, 1.02),
        (172, 0.72, 1.5),
        (165, 0.0, 1.6),
        (157, -0.7, 1.45),
        (150, -1.2, 1.15),
    ),
    (0.15, 0.24, 0.3, 0.3, 0.22, 0.02),
)
_LOW_PONYTAIL = _Tress(
    ((180, -0.15, 0.95), (176, -0.1, 1.2), (170, -0.5, 1.42), (163, -1.0, 1.35), (157, -1.5, 1.1)),
    (0.15, 0.24, 0.27, 0.22, 0.02),
)
_PIGTAIL = _Tress(
    ((102, 0.42, 0.95), (102, 0.55, 1.22), (102, 0.2, 1.55), (100, -0.35, 1.6), (98, -0.85, 1.35)),
    (0.12, 0.22, 0.28, 0.24, 0.02),
)
_LOW_PIGTAIL = _Tress(
    ((105, -0.25, 0.98), (104, -0.28, 1.15), (102, -0.6, 1.35), (100, -1.0, 1.3), (98, -1.35, 1.1)),
    (0.12, 0.2, 0.25, 0.2, 0.02),
)
_BRAID = _Tress(
    ((100, -0.3, 0.98), (96, -0.7, 1.12), (88, -1.15, 1.16), (80, -1.6, 1.08)),
    (0.19, 0.2, 0.19, 0.14),
    tied_at=1.0,
    braided=True,
)
_TIES: tuple[Colour, ...] = ((226, 76, 84), (70, 160, 176), (244, 190, 74), (150, 96, 190))


def _find_tresses(character: Character) -> tuple[_Tress, ...]:
    hatted = character.hat in FOREHEAD_HATS
    match character.hair:
        case "ponytail":
            tress = _LOW_PONYTAIL if hatted else _PONYTAIL
            return (tress if character.quirks[1] > 0.5 else _mirror(tress),)
        case "pigtails":
            tress = _LOW_PIGTAIL if hatted else _PIGTAIL
            return (tress, _mirror(tress))
        case "braids":
            return (_BRAID, _mirror(_BRAID))
    return ()


def draw_tresses(ink: Ink, character: Character, look: Look, where: Where) -> None:
    """Draw the tails, braids and buns that are at one place of the three."""
    if character.hair == "bun":
        _draw_bun(ink, character, look, where)
    tie = _TIES[int(character.quirks[5] * 3.999)]
    for tress in _find_tresses(character):
        root = look.place(*tress.spine[0])
        rest = look.place(*tress.spine[2])
        if _find_place((root[2] + rest[2]) / 2, hangs=True) != where:
            continue
        points, half_widths = _bend(tress, look)
        colour = character.colours["hair"]
        if tress.braided:
            _draw_braid(ink, points, half_widths, colour, tie)
            continue
        path = make_limb(points, half_widths)
        ink.shape(path, colour, shadow=turn_shadow(look))
        inner = points[5:-3]
        ink.line(inner, shade_strand(colour), 0.85 * ink.line_width)
        ink.shape(make_oval(*points[1], 0.15, 0.13), tie)


def _find_place(depth: float, *, hangs: bool) -> Where:
    if depth > 0.05:
        return "in front"
    return "behind the body" if hangs and depth < -0.5 else "behind the head"


def _bend(tress: _Tress, look: Look) -> tuple[list[Point], list[float]]:
    """The spine as a smooth curve: it hangs down however the head is turned."""
    weights, half_widths = _smooth(tress)
    hang = math.sin(math.radians(30 * math.sin(math.radians(look.roll))))
    root = tress.spine[0][1]
    spine = []
    for around, height, distance in tress.spine:
        x, y, _ = look.place(around, height, distance)
        spine.append((x + max(0.0, root - height) * hang, y))
    points = weights @ np.array(spine)
    return [(x, y) for x, y in points.tolist()], half_widths


@lru_cache(maxsize=16)
def _smooth(tress: _Tress) -> tuple[np.ndarray, list[float]]:
    """Weights of the spine's places at points of a Catmull-Rom curve through them, and its half
    widths."""
    count = len(tress.spine)
    rows = []
    for index in range(count - 1):
        for step in range(5 if index < count - 2 else 6):
            t = step / 5
            cubic = (
                (-t + 2 * t**2 - t**3) / 2,
                (2 - 5 * t**2 + 3 * t**3) / 2,
                (t + 4 * t**2 - 3 * t**3) / 2,
                (-(t**2) + t**3) / 2,
            )
            row = np.zeros(count)
            for offset, weight in zip((-1, 0, 1, 2), cubic, strict=True):
                row[min(max(index + offset, 0), count - 1)] += weight
            rows.append(row)
    weights = np.array(rows)
    return weights, np.maximum(weights @ np.array(tress.half_widths), 0.01).tolist()


def _draw_braid(ink: Ink, points: list[Point], half_widths: list[float], colour: Colour, tie: Colour) -> None:
    links = points[1::3]
    path = make_limb(points, [0.75 * half for half in half_widths])
    for (x, y), half in zip(links, half_widths[1::3], strict=True):
        path.addOval(skia.Rect(x - half, y - 0.17, x + half, y + 0.17))
    end_x, end_y = points[-1]
    tuft = skia.Path()
    add_polygon(
        tuft,
        [
            (end_x - 0.08, end_y),
            (end_x - 0.13, end_y + 0.26),
            (end_x, end_y + 0.34),
            (end_x + 0.13, end_y + 0.26),
            (end_x + 0.08, end_y),
        ],
    )
    ink.shape(tuft, colour)
    ink.shape(path, colour)
    lines = skia.Path()
    for index, ((x, y), half) in enumerate(zip(links, half_widths[1::3], strict=True)):
        side = 1 if index % 2 else -1
        lines.moveTo(x - side * half * 0.95, y - 0.13)
        lines.quadTo(x + side * half * 0.2, y - 0.06, x + side * half * 0.9, y + 0.14)
    ink.stroke(lines, ink.outline_colour(colour), 0.9 * ink.line_width)
    ink.shape(make_oval(end_x, end_y + 0.02, 0.12, 0.08), tie)


def _draw_bun(ink: Ink, character: Character, look: Look, where: Where) -> None:
    x, y, depth = look.place(180, 1.1, 0.4)
    if where != ("in front" if depth > 0.0 else "behind the head"):
        return
    colour = character.colours["hair"]
    size = 0.34 + 0.08 * character.quirks[5]
    ink.shape(make_oval(x, y, size, size * 0.94), colour, shadow=turn_shadow(look))
    swirl = skia.Path()
    swirl.addArc(skia.Rect(x - size * 0.55, y - size * 0.55, x + size * 0.55, y + size * 0.5), 150, 230)
    ink.stroke(swirl, shade_strand(colour), 0.85 * ink.line_width)
