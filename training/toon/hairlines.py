"""Where hair begins: hairlines around the head, and the caps of hair above them."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .ink import Point
from .look import Look

Key = tuple[float, ...]
"""Degrees around the head, height in head radii; with a third number the hairline has a corner
there, and the number (height per degree) bows what lies between two corners upwards."""

SKULL = 1.025
"""How far from the head's centre hair begins, in head radii."""

_SHORT = (
    (68, -0.02, 0), (71, -0.2, 0), (78, -0.2, 0), (83, 0.1), (92, 0.15), (100, 0.02), (105, -0.16),
        (113, -0.37),
    (128, -0.57), (150, -0.69), (180, -0.72),
)  # fmt: skip
_PULLED = (
    (70, -0.08, 0),
    (76, -0.1, 0),
    (84, 0.13),
    (94, 0.12),
    (104, -0.1),
    (118, -0.4),
    (145, -0.62),
    (180, -0.7),
)
_CURLED = ((72, 0.06), (84, 0.12), (95, 0.1), (105, -0.1), (120, -0.42), (145, -0.64), (180, -0.7))
_COVERED = ((72, -0.2), (90, -0.25), (120, -0.4), (180, -0.5))
_PIXIE = (
    (66, -0.34, 0), (75, 0.02), (84, 0.15), (95, 0.12), (103, -0.1), (110, -0.52, 0.012), (128, -0.74, 0.012),
    (154, -0.8, 0.012), (180, -0.84, 0.012),
)  # fmt: skip
_CROPPED_FRONT = (
    (-62, 0.28),
    (-54, 0.47),
    (-42, 0.56, 0),
    (-20, 0.59),
    (20, 0.59),
    (42, 0.56, 0),
    (54, 0.47),
    (62, 0.28),
)
_PULLED_FRONT = ((-64, 0.1), (-52, 0.42), (-30, 0.6), (0, 0.66), (30, 0.6), (52, 0.42), (64, 0.1))
_PARTED_FRONT = ((-64, 0.1), (-54, 0.38), (-30, 0.58), (0, 0.74, 0), (30, 0.58), (54, 0.38), (64, 0.1))
_LONG_FRONT = (
    (-66, -0.2), (-57, 0.12), (-42, 0.42), (-20, 0.64), (8, 0.82, 0), (28, 0.64), (45, 0.42), (57, 0.12),
        (66, -0.2),
)  # fmt: skip

# The hair's front, from the right temple to the left one, and its sides, from a temple backwards.
_HAIRLINES: dict[str, tuple[tuple[Key, ...], tuple[Key, ...]]] = {
    "short": (
        ((-62, 0.24), (-53, 0.45, 0.022), (-27, 0.44, 0.024), (2, 0.47, 0.024), (28, 0.52, 0.02),
            (51, 0.44, 0.012), (62, 0.24)),
        _SHORT,
    ),
    "side-parted": (
        ((-63, 0.14), (-56, 0.36, 0), (-38, 0.44), (-8, 0.55), (16, 0.68), (31, 0.84, 0), (38, 0.62),
            (52, 0.46, 0.01), (63, 0.2)),
        _SHORT,
    ),
    "wavy": (
        ((-68, -0.1), (-58, 0.3, 0.03), (-33, 0.43, 0.034), (-4, 0.47, 0.036), (26, 0.42, 0.034),
            (54, 0.3, 0.03), (68, -0.1)),
        _COVERED,
    ),
    "curly": (
        ((-62, 0.28), (-54, 0.42), (-42, 0.5), (-20, 0.54), (20, 0.54), (42, 0.5), (54, 0.42), (62, 0.28)),
        _CURLED,
    ),
    "afro": (_CROPPED_FRONT, _CURLED),
    "spiky": (
        ((-62, 0.24), (-50, 0.48, 0.024), (-30, 0.46, 0.03), (-8, 0.45, 0.03), (14, 0.45, 0.03),
            (34, 0.47, 0.03), (53, 0.47, 0.02), (62, 0.24)),
        _SHORT,
    ),
    "mohawk": (_CROPPED_FRONT, _SHORT),
    "buzz-cut": (_CROPPED_FRONT, _SHORT),
    "bob": (
        ((-67, -0.2), (-61, 0.28, 0), (-52, 0.42, 0.004), (-26, 0.445, 0.008), (0, 0.45, 0.008),
            (26, 0.445, 0.008), (52, 0.42, 0.004), (61, 0.28, 0), (67, -0.2)),
        _COVERED,
    ),
    "pixie": (
        ((-61, -0.12, 0.0), (-54, 0.16, 0.02), (-43, 0.35, 0.02), (-24, 0.43, 0.016), (4, 0.53, 0.01),
            (36, 0.78, 0), (46, 0.5, 0.008), (59, 0.05, 0)),
        _PIXIE,
    ),
    "long": (_LONG_FRONT, _COVERED),
    "long wavy": (_LONG_FRONT, _COVERED),
    "ponytail": (_PULLED_FRONT, _PULLED),
    "bun": (_PULLED_FRONT, _PULLED),
    "pigtails": (_PARTED_FRONT, _PULLED),
    "braids": (_PARTED_FRONT, _PULLED),
    "bangs": (
        ((-64, 0.06), (-55, 0.4, 0.01), (-34, 0.43, 0.012), (-10, 0.45, 0.012), (14, 0.44, 0.012),
            (37, 0.42, 0.012), (55, 0.4, 0.01), (64, 0.06)),
        _PULLED,
    ),
}  # fmt: skip

# The heights of a hat's edge over the forehead and at the back.
_HAT_LINES = {
    "beanie": (0.5, -0.16),
    "cap": (0.58, 0.02),
    "straw hat": (0.6, 0.5),
    "top hat": (0.62, 0.52),
    "headband": (0.5, 0.05),
}

Hairline = tuple[NDArray[np.float64], NDArray[np.float64]]


@lru_cache(maxsize=512)
def trace_hairline(name: str, mirrored: bool = False, rise: float = 0.0) -> Hairline:
    """Degrees around the head from -180 to 180 and the height there of where hair begins.

    `mirrored` puts what is on the left to the right; `rise` lifts the hair over the forehead.
    """
    front, sides = _HAIRLINES[name]
    if mirrored:
        front = tuple((-key[0], *key[1:]) for key in reversed(front))
    front = tuple((key[0], key[1] + rise if abs(key[0]) < 50 else key[1], *key[2:]) for key in front)
    keys = [*((-key[0], *key[1:]) for key in reversed(sides)), *front, *sides]
    return _join_keys(keys)


@lru_cache(maxsize=32)
def find_hat_line(hat: str, rise: float = 0.0) -> Hairline:
    """The edge of a hat around the head, `rise` above its lower one."""
    front, back = _HAT_LINES[hat]
    around = np.arange(-180.0, 181.0, 6.0)
    return around, (front + back) / 2 + (front - back) / 2 * np.cos(np.radians(around)) + rise


def _join_keys(keys: list[Key]) -> Hairline:
    """Cubic Hermite pieces from key to key."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(keys)]
    around, height = [], []
    for index, (a, b) in enumerate(itertools.pairwise(keys)):
        width, slope = b[0] - a[0], slopes[index]
        start = slope + a[2] if len(a) > 2 else (slope + slopes[index - 1]) / 2 if index else 0.0
        if len(b) > 2:
            end = slope - b[2]
        else:
            end = (slope + slopes[index + 1]) / 2 if index + 1 < len(slopes) else 0.0
        t = np.linspace(0, 1, max(3, round(abs(width) / 4) + 1))[:-1]
        around.append(a[0] + width * t)
        height.append(
            a[1] * (1 + 2 * t) * (1 - t) ** 2
            + b[1] * t**2 * (3 - 2 * t)
            + width * (start * t * (1 - t) ** 2 - end * t**2 * (1 - t))
        )
    around.append(np.array([keys[-1][0]]))
    height.append(np.array([keys[-1][1]]))
    return np.concatenate(around), np.concatenate(height)


def see_hairline(hairline: Hairline, look: Look, distance: float = SKULL) -> list[Point]:
    """The visible part of a hairline, from the left of the picture to the right."""
    around, height = hairline
    seen = (around[:-1] + look.yaw + 180) % 360 - 180
    order = np.argsort(seen)
    seen, height = seen[order], height[:-1][order]
    first, last = np.searchsorted(seen, (-90.0, 90.0))
    ends = np.interp((-90.0, 90.0), seen, height, period=360)
    seen = np.concatenate(([-90.0], seen[first:last], [90.0]))
    height = np.concatenate((ends[:1], height[first:last], ends[1:]))
    from_axis = np.sqrt(np.maximum(distance**2 - height**2, 0.04))
    # At the nape the head is narrower than a ball.
    from_axis *= 1 - 0.3 * np.clip(-0.3 - height, 0, 0.5)
    x, y, _ = look.place_all(seen - look.yaw, height, from_axis)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def make_cap(
    edge: list[Point],
    volume: float,
    *,
    lift: float = 0.0,
    bumps: float = 0.0,
    bump: float = 0.0,
    rim: float = 0.35,
) -> list[Point]:
    """The outline of what lies above an edge that is seen on the head.

    `volume` is its distance from the head's centre, `lift` raises it; `bumps` of a height of
    `bump` run along its outer side. It swells within `rim` radians from where it leaves the skull.
    """
    left, right = edge[0], edge[-1]
    start = np.arctan2(right[1] + lift, right[0])
    end = np.arctan2(left[1] + lift, left[0])
    if start > np.pi / 2:
        start -= 2 * np.pi
    while end > start:
        end -= 2 * np.pi
    angle = np.linspace(start, end, 60 if bumps else 44)
    distance = np.full_like(angle, volume)
    for tip, place in ((start, right), (end, left)):
        rise = max(0.0, volume - np.hypot(place[0], place[1] + lift) - 0.02)
        distance -= rise * np.clip(1 - np.abs(angle - tip) / rim, 0, 1) ** 2
    if bumps:
        distance += bump * np.abs(np.sin((angle + np.pi / 2) * bumps / 2 + 0.6)) - bump * 0.3
    outer = zip((distance * np.cos(angle)).tolist(), (distance * np.sin(angle) - lift).tolist(), strict=True)
    return [*edge, *outer]
