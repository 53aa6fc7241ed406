"""The OpenPose picture of a skeleton: coloured limbs and joints on black, hands and face where asked for.

Knows what ControlNets expect of the picture; knows nothing of the networks themselves.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .skeleton import LIMBS, Skeleton, visible_keypoints
from .whole_body import HAND_LIMBS, WholeBody

JOINT_COLOURS = np.array(
    [
        (255, 0, 0),
        (255, 85, 0),
        (255, 170, 0),
        (255, 255, 0),
        (170, 255, 0),
        (85, 255, 0),
        (0, 255, 0),
        (0, 255, 85),
        (0, 255, 170),
        (0, 255, 255),
        (0, 170, 255),
        (0, 85, 255),
        (0, 0, 255),
        (85, 0, 255),
        (170, 0, 255),
        (255, 0, 255),
        (255, 0, 170),
        (255, 0, 85),
    ],
    dtype=float,
)
"""RGB of each joint: OpenPose's colour wheel in steps of 20 degrees."""

LIMB_COLOURS = 0.6 * JOINT_COLOURS[: len(LIMBS)]
"""RGB of each limb: the colour of the same number, at 0.6 of its brightness."""


HAND_LIMB_COLOURS = 255 * np.array([hsv_to_rgb(number / 20, 1, 1) for number in range(20)])
"""RGB of the 20 limbs of a hand: once around the colour wheel."""

HAND_JOINT_COLOUR, FACE_COLOUR = (0.0, 0.0, 255.0), (255.0, 255.0, 255.0)


class StickStyle(StrEnum):
    """Whose stick width a skeleton picture has: each ControlNet knows the one it was trained on."""

    CONTROLNET = "controlnet"
    """ControlNet 1.x and controlnet_aux: 4 px where the shorter side is 512 px."""
    XINSIR = "xinsir"
    """xinsir's SDXL ControlNet: 4 px, times 2 from 500 px of the longer side, 3 from 1000 px,
    and one more for each further 1000 px up to 7 (ControlNetPlus)."""
    TOON = "toon"
    """The embedded model: the shorter side / 128."""

    def stick_width(self, width: int, height: int) -> float:
        """Half the width of a limb, and the radius of a joint, in pixels."""
        if self is StickStyle.XINSIR:
            longer = max(width, height)
            return 4.0 * (1 if longer < 500 else min(2 + longer // 1000, 7))
        # 4 px at 512 px is size / 128: the embedded model was trained on ControlNet's own look.
        return min(width, height) / 128


def draw_skeleton(
    keypoints: Skeleton,
    width: int,
    height: int,
    stick_width: StickStyle | float = StickStyle.CONTROLNET,
) -> Image.Image:
    """Draw the standard OpenPose picture: 17 elliptical limbs, 18 joints, on black, antialiased.

    `keypoints` are in pixels of the picture, hidden ones and limbs to them are left out.
    `stick_width` is half the width of a limb and the radius of a joint: a style, or pixels.
    """
    return draw_whole_body(WholeBody(keypoints), width, height, stick_width)


def draw_whole_body(
    body: WholeBody,
    width: int,
    height: int,
    stick_width: StickStyle | float = StickStyle.CONTROLNET,
) -> Image.Image:
    """Draw the picture as DWPose does: the skeleton (`draw_skeleton`), over it hands and face.

    Where the body's joints have a radius of 4 px, a finger is a line of 2 px with points of radius 4,
    and the face's points have radius 3 (controlnet_aux).
    """
    radius = stick_width.stick_width(width, height) if isinstance(stick_width, StickStyle) else stick_width
    canvas = np.zeros((height, width, 3), dtype=np.float32)
    _draw_limbs(canvas, body.skeleton, radius)
    for hand in () if body.hands is None else body.hands:
        _draw_hand(canvas, hand, radius)
    for x, y, confidence in () if body.face is None else body.face:
        if confidence > 0:
            draw_disc(canvas, np.array((x, y)), 0.75 * radius, FACE_COLOUR)
    return Image.fromarray(np.rint(canvas).astype(np.uint8))


def _draw_limbs(canvas: NDArray[np.float32], keypoints: Skeleton, radius: float) -> None:
    visible = visible_keypoints(keypoints)
    for (start, end), colour in zip(LIMBS, LIMB_COLOURS, strict=True):
        if visible[start] and visible[end]:
            draw_ellipse(canvas, keypoints[start, :2], keypoints[end, :2], radius, colour)
    for point, colour in zip(keypoints[visible, :2], JOINT_COLOURS[visible], strict=True):
        draw_disc(canvas, point, radius, colour)


def _draw_hand(canvas: NDArray[np.float32], hand: NDArray[np.float64], radius: float) -> None:
    visible = visible_keypoints(hand)
    for (start, end), colour in zip(HAND_LIMBS, HAND_LIMB_COLOURS, strict=True):
        if visible[start] and visible[end]:
            draw_line(canvas, hand[start, :2], hand[end, :2], radius / 4, colour)
    for point in hand[visible, :2]:
        draw_disc(canvas, point, radius, HAND_JOINT_COLOUR)


def draw_disc(
    canvas: NDArray[np.float32],
    centre: NDArray[np.float64],
    radius: float,
    colour: NDArray[np.float64] | tuple[float, float, float],
) -> None:
    """Paint a disc into an (height, width, 3) canvas."""
    across = np.array([radius, 0.0])
    draw_ellipse(canvas, centre - across, centre + across, radius, colour)


def draw_ellipse(
    canvas: NDArray[np.float32],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    half_width: float,
    colour: NDArray[np.float64] | tuple[float, float, float],
) -> None:
    """Paint an ellipse into an (height, width, 3) canvas: `start` and `end` are its far ends.

    The share of a pixel that is covered comes from its distance to the outline, to first order
    f / |grad f| with f the ellipse's implicit function.
    """
    height, width = canvas.shape[:2]
    half_length = float(np.hypot(*(end - start))) / 2
    if half_length < 1e-6:
        return
    centre, along = (start + end) / 2, (end - start) / (2 * half_length)
    reach = np.hypot(half_length * along, half_width * along[::-1]) + 1
    left, top = np.maximum(np.floor(centre - reach).astype(int), 0)
    right, bottom = np.minimum(np.ceil(centre + reach).astype(int), (width, height))
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right) + 0.5 - centre[0]
    y = np.arange(top, bottom)[:, None] + 0.5 - centre[1]
    u = (x * along[0] + y * along[1]) / half_length
    v = (y * along[0] - x * along[1]) / half_width
    level = np.hypot(u, v)
    slope = np.hypot(u / half_length, v / half_width)
    distance = (level - 1) * level / np.maximum(slope, 1e-9)
    covered = np.clip(0.5 - distance, 0, 1)[..., None].astype(np.float32)
    window = canvas[top:bottom, left:right]
    window += covered * (np.asarray(colour, dtype=np.float32) - window)


def draw_line(
    canvas: NDArray[np.float32],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    half_width: float,
    colour: NDArray[np.float64] | tuple[float, float, float],
) -> None:
    """Paint a straight line with round ends into an (height, width, 3) canvas."""
    height, width = canvas.shape[:2]
    left, top = np.maximum(np.floor(np.minimum(start, end) - half_width - 1).astype(int), 0)
    reach = np.ceil(np.maximum(start, end) + half_width + 1).astype(int)
    right, bottom = np.minimum(reach, (width, height))
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right) + 0.5 - start[0]
    y = np.arange(top, bottom)[:, None] + 0.5 - start[1]
    along = end - start
    share = np.clip((x * along[0] + y * along[1]) / max(float(along @ along), 1e-9), 0, 1)
    distance = np.hypot(x - share * along[0], y - share * along[1])
    covered = np.clip(half_width + 0.5 - distance, 0, 1)[..., None].astype(np.float32)
    window = canvas[top:bottom, left:right]
    window += covered * (np.asarray(colour, dtype=np.float32) - window)
