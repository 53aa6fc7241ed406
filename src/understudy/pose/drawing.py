"""The OpenPose picture of a skeleton: coloured limbs and joints on black.

Knows what ControlNets expect of the picture; knows nothing of the networks themselves.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .skeleton import LIMBS, Skeleton, visible_keypoints

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
    radius = stick_width.stick_width(width, height) if isinstance(stick_width, StickStyle) else stick_width
    canvas = np.zeros((height, width, 3), dtype=np.float32)
    visible = visible_keypoints(keypoints)
    for (start, end), colour in zip(LIMBS, LIMB_COLOURS, strict=True):
        if visible[start] and visible[end]:
            draw_ellipse(canvas, keypoints[start, :2], keypoints[end, :2], radius, colour)
    for point, colour in zip(keypoints[visible, :2], JOINT_COLOURS[visible], strict=True):
        draw_disc(canvas, point, radius, colour)
    return Image.fromarray(np.rint(canvas).astype(np.uint8))


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
