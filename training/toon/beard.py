"""A character's beard: full, short, a moustache, a goatee."""

from __future__ import annotations

import math

import numpy as np
import skia
from numpy.typing import NDArray

from .character import Character
from .face import BEARDS_AROUND_MOUTH, draw_mouth, place_on_muzzle, see_muzzle
from .ink import Ink, Part, Point, add_polygon, make_blob, make_polygon
from .look import Look, turn_shadow

# Where a beard begins on the cheeks: degrees around the head and heights, from an ear to the nose.
_CHEEK_LINES = {
    "beard": ((86, 0.06), (79, -0.1), (70, -0.26), (56, -0.38), (40, -0.45), (26, -0.42), (14, -0.36),
        (0, -0.38)),
    "short beard": ((84, 0.02), (78, -0.24), (70, -0.42), (58, -0.54), (44, -0.58), (30, -0.46),
        (15, -0.37), (0, -0.385)),
}  # fmt: skip
_MOUSTACHE = (
    (0, -0.36), (11, -0.325), (24, -0.39), (34, -0.5), (41, -0.6), (30, -0.57), (18, -0.5), (7, -0.485),
        (0, -0.47),
)  # fmt: skip
_CHIN_TUFT = (
    (-24, -0.74),
    (0, -0.7),
    (24, -0.74),
    (27, -0.92),
    (17, -1.07),
    (0, -1.17),
    (-17, -1.07),
    (-27, -0.92),
)


def draw_beard(
    ink: Ink,
    character: Character,
    look: Look,
    expression: str,
    contour: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Draw a beard, and the mouth in it. `contour` is the outline of the skull, clockwise."""
    beard = character.beard
    hair, skin = character.colours["hair"], character.colours["skin"]
    with ink.of(Part.BEARD):
        if beard in _CHEEK_LINES:
            outline = _trace_beard(beard, look, contour)
            if outline is not None and beard == "beard":
                ink.shape(make_polygon(outline), hair, shadow=turn_shadow(look))
            elif outline is not None:
                stubble = tuple(h * 0.62 + s * 0.38 for h, s in zip(hair, skin, strict=True))
                ink.fill(make_polygon(outline), stubble)
        elif beard == "goatee" and look.place(0, -0.8, 0.8)[2] > -0.3:
            sight = see_muzzle(look)
            ink.shape(make_blob([_place_hair(look, sight, a, h) for a, h in _CHIN_TUFT]), hair)
    if beard in BEARDS_AROUND_MOUTH:
        draw_mouth(ink, character, look, expression)
    if beard in ("moustache", "goatee") and look.place(0, -0.4, 0.95)[2] > -0.3:
        with ink.of(Part.BEARD):
            path = skia.Path()
            for side in (-1, 1):
                if side * look.aside > 0.85:
                    continue  # beyond the nose
                add_polygon(path, _trace_moustache(look, side, 1.15 if beard == "moustache" else 0.8))
            ink.shape(path, hair)


def _trace_beard(
    beard: str, look: Look, contour: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> list[Point] | None:
    """The outline of a beard as it is seen; None if the face is turned away from it."""
    keys = _CHEEK_LINES[beard]
    ends = keys[0][0]
    around = np.linspace(-ends, ends, 47)
    seen = (around + look.yaw + 180) % 360 - 180
    around = around[np.abs(seen) <= 90]
    if len(around) < 3:
        return None
    height = np.interp(np.abs(around), [key[0] for key in reversed(keys)], [key[1] for key in reversed(keys)])
    x, y, _ = look.place_all(
        around, height, np.array([_find_distance(a, h) for a, h in zip(around, height, strict=True)])
    )
    length, fringe = (1.08, 0.035) if beard == "beard" else (1.0, 0.0)
    angle = np.degrees(np.arctan2(contour[1], contour[0]))
    scale = length + fringe * np.abs(np.sin(np.radians(angle * 9)))
    level = np.interp(contour[0], (x[0], x[-1]), (y[0], y[-1]))
    below = (contour[0] > x[0] - 0.03) & (contour[0] < x[-1] + 0.12) & (contour[1] > level) & (contour[1] > 0)
    scale = np.where(below, np.minimum(scale, 1 + (contour[1] - level) * 0.3), 1.0)
    lower_x, lower_y = (contour[0] * scale)[below], (contour[1] * scale)[below]
    # From an ear that is seen from its side, the beard follows the jaw to the chin.
    for end_x, end_y in ((x[0], y[0]), (x[-1], y[-1])):
        share = np.clip(np.abs(lower_x - end_x) / 0.7, 0, 1)
        lower_y = np.minimum(lower_y, end_y + 0.3 + 0.75 * np.sqrt(1 - (1 - share) ** 2))
    lower = zip(lower_x.tolist(), lower_y.tolist(), strict=True)
    return [*zip(x.tolist(), y.tolist(), strict=True), *lower]


def _trace_moustache(look: Look, side: int, size: float) -> list[Point]:
    smooth = []
    count = len(_MOUSTACHE)
    for index in range(count):
        a, b = _MOUSTACHE[index], _MOUSTACHE[(index + 1) % count]
        smooth += [a, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)]
    sight = see_muzzle(look)
    return [
        _place_hair(look, sight, side * around * size, -0.42 + (height + 0.42) * size)
        for around, height in smooth
    ]


def _place_hair(look: Look, sight: tuple[float, float], around: float, height: float) -> Point:
    """Where hair about the mouth is seen: a little in front of the skin."""
    x, y = place_on_muzzle(look, min(max(around, sight[0]), sight[1]), height)
    return x * 1.05, y


def _find_distance(around: float, height: float) -> float:
    """How far the skin is from the head's axis."""
    muzzle = 0.97 - 0.12 * max(0.0, -0.75 - height) * 2
    cheek = math.sqrt(max(0.3, 1.0 - height * height))
    share = min(1.0, abs(around) / 75)
    return muzzle + (cheek - muzzle) * share
