"""A character's head: skull, nose and ears, put together with face, hair and hat."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache

import numpy as np
import skia
from numpy.typing import NDArray

from .beard import draw_beard
from .character import Character
from .face import draw_face
from .glasses import draw_glasses
from .hair import covers_ears, draw_hair, draw_hair_behind_body, draw_hair_behind_head
from .hats import draw_hat, draw_hat_behind
from .ink import Ink, Part, add_polygon, darken, make_arc, make_oval
from .look import Look, turn_shadow

__all__ = ["Look", "draw_head", "draw_head_behind"]

# A head's contour: degrees clockwise from the right of the picture -> distance from its centre.
_FRONTS = {
    "round": ((0, 1.0), (25, 1.0), (45, 1.0), (65, 1.0), (90, 0.99), (150, 1.0), (180, 1.0), (270, 1.0)),
    "oval": ((0, 1.0), (20, 0.97), (40, 0.935), (60, 0.97), (75, 1.01), (90, 1.03), (180, 1.0), (270, 1.02)),
    "square": ((0, 1.0), (25, 1.01), (42, 1.05), (56, 1.08), (70, 1.02), (90, 0.98), (180, 1.0), (270, 0.99)),
}
# The same in profile, the face to the right.
_PROFILE = (
    (-60, 1.0), (-40, 0.98), (-20, 0.97), (-5, 0.955), (8, 0.96), (20, 0.985), (33, 1.03), (43, 1.03),
    (53, 1.06), (62, 1.04), (75, 0.96), (90, 0.9), (110, 0.88), (130, 0.92), (150, 0.97), (165, 1.0),
    (180, 1.03), (205, 1.04), (235, 1.03), (270, 1.0),
)  # fmt: skip
_ANGLES = np.arange(0.0, 360.0, 5.0)


def draw_head_behind(ink: Ink, character: Character, look: Look) -> None:
    """Draw what of a head lies behind the body: long hair seen from the front."""
    with ink.moved(look.x, look.y, look.roll, look.radius):
        draw_hair_behind_body(ink, character, look)


def draw_head(ink: Ink, character: Character, look: Look, expression: str) -> None:
    """Draw a head over the body, all but what `draw_head_behind` drew.

    `expression` is one of `character.EXPRESSIONS`.
    """
    with ink.moved(look.x, look.y, look.roll, look.radius):
        draw_hat_behind(ink, character, look)
        draw_hair_behind_head(ink, character, look)
        ears = () if covers_ears(character) else (-90, 90)
        with ink.of(Part.SKIN):
            for around in ears:
                _draw_ear(ink, character, look, around, near=False)
            contour = trace_contour(character, look)
            skull = _draw_skull(ink, character, look, contour)
        if look.facing > -0.6:
            # Turned aside, a face ends where the head does.
            with ink.clipped(skull) if abs(look.aside) > 0.3 else nullcontext():
                draw_face(ink, character, look, expression)
            if character.beard:
                draw_beard(ink, character, look, expression, contour)
            if character.glasses:
                draw_glasses(ink, character, look)
        draw_hair(ink, character, look)
        with ink.of(Part.SKIN):
            for around in ears:
                _draw_ear(ink, character, look, around, near=True)
        draw_hat(ink, character, look)


def trace_contour(character: Character, look: Look) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The outline of the skull with the face: x and y of points, clockwise from the right."""
    front, profile = _contours(character.face, character.is_child, character.is_female)
    if look.aside < 0:
        profile = np.roll(profile[::-1], 37)
    share = abs(look.aside) ** 1.5
    distance = front + (profile - front) * share
    angle = np.radians(_ANGLES - look.nod * look.aside)
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    # Looking up and down moves the chin of a face that is seen from the front.
    return x, y - 0.35 * look.raised * look.facing * np.clip(y, 0, 1) ** 2


@lru_cache(maxsize=32)
def _contours(face: str, child: bool, female: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    front = _round_off(_mirror(_FRONTS[face]))
    lower = np.clip(np.sin(np.radians(_ANGLES)), 0, 1)
    if child:
        front = front + 0.03 * lower * np.abs(np.cos(np.radians(_ANGLES))) * 2 - 0.03 * lower**4
    elif female:
        front = front - 0.03 * lower * np.abs(np.cos(np.radians(_ANGLES))) * 2
    # Most of what sets a jaw apart from a round one is seen from the side as well.
    jaw = 0.7 * (front - _round_off(_mirror(_FRONTS["round"]))) * (np.cos(np.radians(_ANGLES)) > 0)
    return front, _round_off({angle % 360: distance for angle, distance in _PROFILE}) + jaw


def _mirror(keys: tuple[tuple[int, float], ...]) -> dict[int, float]:
    return dict(keys) | {180 - angle: distance for angle, distance in keys if angle < 90}


def _round_off(keys: dict[int, float]) -> NDArray[np.float64]:
    angles = sorted(keys)
    plain = np.interp(_ANGLES, angles, [keys[angle] for angle in angles], period=360)
    return (np.roll(plain, 1) + 2 * plain + np.roll(plain, -1)) / 4


def _draw_skull(
    ink: Ink, character: Character, look: Look, contour: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> skia.Path:
    path = skia.Path()
    x, y = contour
    add_polygon(path, list(zip(x.tolist(), y.tolist(), strict=True)))
    if look.facing > -0.3:
        bridge, tip = look.place(0, 0.06, 0.9), look.place(0, -0.2, 1.02)
        below, inner = look.place(0, -0.36, 0.9), look.place(0, -0.2, 0.7)
        add_polygon(
            path, [bridge[:2], (tip[0], tip[1] - 0.07), (tip[0], tip[1] + 0.09), below[:2], inner[:2]]
        )
        path.addOval(skia.Rect(tip[0] - 0.1, tip[1] - 0.09, tip[0] + 0.1, tip[1] + 0.09))
    ink.shape(path, character.colours["skin"], shadow=turn_shadow(look))
    return path


def _draw_ear(ink: Ink, character: Character, look: Look, around: int, *, near: bool) -> None:
    x, y, depth = look.place(around, -0.1, 0.98)
    if near != (depth >= 0) or depth < -0.6:
        return
    skin = character.colours["skin"]
    half_width, half_height = 0.11 + 0.06 * max(0.0, depth), 0.2
    outward = -1 if (around < 0) == (look.yaw % 360 < 180) else 1
    if depth < 0.05:
        outward = -1 if x < 0 else 1
    lean = 8 * outward
    with ink.moved(x, y, lean):
        ear = make_oval(0, 0, half_width, half_height)
        if near and look.facing > 0:
            ink.fill(ear, skin)
            span = 105 + 45 * (1 - look.facing)
            middle = 180 if outward < 0 else 0
            arc = make_arc(0, 0, half_width, half_height, middle - span, 2 * span)
            ink.stroke(arc, ink.outline_colour(skin), ink.line_width)
        else:
            ink.shape(ear, skin)
        if depth > 0.2:
            inner = make_arc(
                0.02 * outward, 0.01, half_width * 0.5, half_height * 0.5, 200 if outward < 0 else 220, 120
            )
            ink.stroke(inner, darken(skin, 0.7), ink.line_width * 0.8)
